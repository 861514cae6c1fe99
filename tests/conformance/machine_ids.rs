//! The 1024 numbers under which nodes make ids: who has one, and when it is free again.

use std::{collections::BTreeSet, time::Duration};

use actor_core::{
    id::{Incarnation, MachineId, NodeId},
    store::{
        StoreError,
        machines::{self, Stretch},
        nodes,
    },
};
use actor_tests::{
    Result,
    bed::{Bed, TTL},
};

use crate::for_each_backend;

const MINUTE: Duration = Duration::from_secs(60);

type Life = (NodeId, Incarnation);

async fn register(bed: &Bed, node: &str) -> Result<Life, StoreError> {
    let name = NodeId::new(node);
    let write = bed.sql(move |c| {
        Box::pin(async move {
            let life = nodes::register(c, &name, "host:1", TTL).await?;
            Ok((name, life))
        })
    });
    write.await
}

async fn lease(bed: &Bed, life: &Life) -> Result<Option<Stretch>, StoreError> {
    let (node, life) = life.clone();
    let write =
        bed.sql(move |c| Box::pin(async move { machines::lease(c, &node, life, MINUTE).await }));
    write.await
}

async fn release(bed: &Bed, life: &Life, last_ms: i64) -> Result<(), StoreError> {
    let (node, life) = life.clone();
    let write =
        bed.sql(move |c| Box::pin(async move { machines::release(c, &node, life, last_ms).await }));
    write.await
}

async fn tombstone(bed: &Bed, life: &Life) -> Result<bool, StoreError> {
    let (node, life) = life.clone();
    let write = bed.sql(move |c| Box::pin(async move { nodes::tombstone(c, &node, life).await }));
    write.await
}

/// Lets this many nodes register and make ids, as fast as the database takes them.
async fn crowd(bed: &Bed, count: u16) -> Result<Vec<(Life, Stretch)>, StoreError> {
    let write = bed.sql(move |c| {
        Box::pin(async move {
            let mut crowd = Vec::new();
            for number in 0..count {
                let name = NodeId::new(format!("n{number}"));
                let life = nodes::register(c, &name, "", 6 * MINUTE).await?;
                let stretch = machines::lease(c, &name, life, MINUTE).await?;
                crowd.push(((name, life), stretch.expect("there is one left")));
            }
            Ok(crowd)
        })
    });
    write.await
}

#[tokio::test]
async fn a_life_keeps_its_number_and_gets_more_time() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let life = register(&bed, "b").await?;

        let first = lease(&bed, &life).await?.expect("free");
        bed.fault.advance_ms(20_000);
        let second = lease(&bed, &life).await?.expect("its own");

        assert_eq!(first.now_ms, bed.store.now_ms() - 20_000);
        assert_eq!(
            (first.from_ms, first.until_ms),
            (first.now_ms, first.now_ms + 60_000)
        );
        assert_eq!(second.machine, first.machine);
        assert_eq!(second.from_ms, first.from_ms);
        assert_eq!(second.until_ms, first.until_ms + 20_000);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_clock_that_steps_back_takes_no_time_back_and_frees_no_number() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let life = register(&bed, "b").await?;
        let first = lease(&bed, &life).await?.expect("free");

        bed.fault.advance_ms(-3_600_000);
        let again = lease(&bed, &life).await?.expect("its own");
        let next = register(&bed, "b").await?;
        let next = lease(&bed, &next).await?.expect("others are free");

        assert_eq!(again.until_ms, first.until_ms);
        assert_eq!(again.now_ms, first.now_ms - 3_600_000);
        assert_ne!(
            next.machine, first.machine,
            "its ids were made later than now"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_number_is_free_when_its_lease_and_its_time_are_over() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let crowd = crowd(&bed, MachineId::COUNT).await?;
        let numbers: BTreeSet<_> = crowd.iter().map(|(_, it)| it.machine).collect();
        let late = register(&bed, "late").await?;
        let (dead, held) = &crowd[500];

        let full = lease(&bed, &late).await?;
        tombstone(&bed, dead).await?;
        let still_full = lease(&bed, &late).await?;
        bed.fault.advance_ms(60_001);
        let freed = lease(&bed, &late).await?.expect("the dead one's");
        let other = register(&bed, "later").await?;
        let none = lease(&bed, &other).await?;

        assert_eq!(numbers.len(), 1024);
        assert_eq!(full, None, "the 1025th is refused");
        assert_eq!(still_full, None, "a deposed node may still make ids");
        assert_eq!(freed.machine, held.machine);
        assert!(freed.from_ms > held.until_ms);
        assert_eq!(none, None, "nodes with a lease keep theirs, used or not");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn nodes_that_leave_in_order_give_their_numbers_back_at_once() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let crowd = crowd(&bed, MachineId::COUNT).await?;
        let late = register(&bed, "late").await?;
        let (left, held) = &crowd[77];

        bed.fault.advance_ms(5);
        release(&bed, left, held.now_ms + 5).await?;
        let too_soon = lease(&bed, &late).await?;
        bed.fault.advance_ms(1);
        let freed = lease(&bed, &late).await?.expect("what was given back");
        let gone = lease(&bed, left).await?;

        assert_eq!(too_soon, None, "its last ids are of this millisecond");
        assert_eq!(freed.machine, held.machine);
        assert_eq!(freed.from_ms, held.now_ms + 6);
        assert_eq!(gone, None, "who gave it back has it no more");
        Ok(())
    })
    .await
}
