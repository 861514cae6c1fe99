//! Nodes declared dead before their lease ran out: how many must have seen it, and who is believed.

use actor_core::{
    id::{Incarnation, NodeId},
    store::{
        StoreError,
        nodes::{self, NodeState},
        suspicions::{self, Declared},
    },
};
use actor_tests::{
    Result,
    bed::{Bed, TTL},
};

use crate::for_each_backend;

async fn register(bed: &Bed, node: &'static str) -> Result<Incarnation, StoreError> {
    let write = bed.sql(move |c| {
        Box::pin(async move { nodes::register(c, &NodeId::new(node), "host:1", TTL).await })
    });
    write.await
}

async fn declare(
    bed: &Bed,
    suspect: (&'static str, Incarnation),
    witness: &'static str,
) -> Result<Declared, StoreError> {
    declare_in_life(bed, suspect, (witness, Incarnation(1))).await
}

async fn declare_in_life(
    bed: &Bed,
    suspect: (&'static str, Incarnation),
    witness: (&'static str, Incarnation),
) -> Result<Declared, StoreError> {
    let suspect = (NodeId::new(suspect.0), suspect.1);
    let witness = (NodeId::new(witness.0), witness.1);
    let write = bed.sql(move |c| {
        Box::pin(async move { suspicions::declare(c, &suspect, &witness, TTL).await })
    });
    write.await
}

async fn state(bed: &Bed, node: &str) -> Result<NodeState, StoreError> {
    let rows = bed.sql(|c| Box::pin(nodes::list(c))).await?;
    let row = rows.into_iter().find(|row| row.node.as_str() == node);
    Ok(row.expect("a row").state)
}

#[tokio::test]
async fn among_three_nodes_two_must_have_seen_a_death() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let life = register(&bed, "suspect").await?;
        register(&bed, "first").await?;
        register(&bed, "second").await?;

        let alone = declare(&bed, ("suspect", life), "first").await?;
        let again = declare(&bed, ("suspect", life), "first").await?;
        let up = state(&bed, "suspect").await?;
        let both = declare(&bed, ("suspect", life), "second").await?;
        let late = declare(&bed, ("suspect", life), "first").await?;

        assert_eq!((alone, again), (Declared::Undecided, Declared::Undecided));
        assert_eq!(up, NodeState::Up);
        assert_eq!((both, late), (Declared::Dead, Declared::Ended));
        assert_eq!(state(&bed, "suspect").await?, NodeState::Dead);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn of_two_nodes_the_other_one_is_enough() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let life = register(&bed, "suspect").await?;

        let declared = declare(&bed, ("suspect", life), "a").await?;

        assert_eq!(declared, Declared::Dead);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn nobody_is_declared_dead_for_a_former_life() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let former = register(&bed, "suspect").await?;
        let present = register(&bed, "suspect").await?;

        let declared = declare(&bed, ("suspect", former), "a").await?;

        assert_ne!(former, present);
        assert_eq!(declared, Declared::Ended);
        assert_eq!(state(&bed, "suspect").await?, NodeState::Up);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_witness_that_was_wrong_is_not_believed_again() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let life = register(&bed, "suspect").await?;
        declare(&bed, ("suspect", life), "a").await?;

        let deposed = (NodeId::new("suspect"), life);
        let doubted = bed
            .sql(move |c| Box::pin(async move { suspicions::doubt_witnesses(c, &deposed).await }));
        let doubted = doubted.await?;
        let life = register(&bed, "suspect").await?;
        let declared = declare(&bed, ("suspect", life), "a").await?;

        assert_eq!(doubted, 1);
        assert_eq!(declared, Declared::Undecided);
        assert_eq!(state(&bed, "suspect").await?, NodeState::Up);
        Ok(())
    })
    .await
}

/// It was declared dead itself, or began a new life, and does not know yet.
#[tokio::test]
async fn a_witness_without_a_lease_in_this_life_is_not_believed() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let life = register(&bed, "suspect").await?;
        let by_suspect = declare_in_life(&bed, ("a", Incarnation(1)), ("suspect", life)).await?;

        let by_dead = declare(&bed, ("suspect", life), "a").await?;
        let next = register(&bed, "a").await?;
        let by_former = declare(&bed, ("suspect", life), "a").await?;
        let up = state(&bed, "suspect").await?;
        let by_next = declare_in_life(&bed, ("suspect", life), ("a", next)).await?;

        assert_eq!(by_suspect, Declared::Dead);
        assert_eq!(
            (by_dead, by_former),
            (Declared::Undecided, Declared::Undecided)
        );
        assert_eq!(up, NodeState::Up);
        assert_eq!(by_next, Declared::Dead);
        Ok(())
    })
    .await
}
