//! Items of a batch: each is stored as a whole or not at all, and none suffers for another.

use actor_core::store::{StoreErrorKind, Verdict, mailbox};
use actor_tests::{Result, bed::Bed};

use crate::{
    for_each_backend,
    rows::{find, load, message, reply, send, state, unstorable, version},
};

#[tokio::test]
async fn one_bad_item_fails_alone() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let gate = bed.fault.hold("commit");
        let places: Vec<_> = (0..9).map(|n| bed.cart(&format!("c-{n}"))).collect();
        let submit = |n: usize| match n {
            4 => bed.submit(
                places[n].shard,
                bed.activation(),
                vec![unstorable(&places[n])],
            ),
            _ => bed.submit(
                places[n].shard,
                bed.activation(),
                vec![state(&places[n], 1, "x")],
            ),
        };
        let first = submit(0);
        bed.fault.reached("commit", 1).await;
        let others: Vec<_> = (1..9).map(submit).collect();

        drop(gate);
        first.await?;

        for (n, verdict) in (1..9).zip(others) {
            match verdict.await? {
                Verdict::Failed(error) => assert_eq!((n, error.kind()), (4, StoreErrorKind::Data)),
                verdict => assert!(n != 4 && verdict.is_committed(), "{n}: {verdict:?}"),
            }
            assert_eq!(version(&bed, &places[n]).await?, u64::from(n != 4));
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_row_that_does_not_fit_its_statement_fails_alone() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let (good, bad) = (bed.cart("good"), bed.cart("bad"));
        let mut short = state(&bad, 1, "x");
        if let actor_core::store::Write::Row { values, .. } = &mut short {
            values.pop();
        }
        let gate = bed.fault.hold("commit");
        let first = bed.submit(good.shard, bed.activation(), vec![state(&good, 1, "x")]);
        bed.fault.reached("commit", 1).await;
        let bad = bed.submit(bad.shard, bed.activation(), vec![short]);
        let second = bed.submit(good.shard, bed.activation(), vec![state(&good, 2, "y")]);

        drop(gate);

        assert!(first.await?.is_committed());
        assert!(
            matches!(bad.await?, Verdict::Failed(error) if error.kind() == StoreErrorKind::Bug)
        );
        assert!(second.await?.is_committed());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_call_that_was_done_before_leaves_no_effects() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let (cart, other) = (bed.cart("c-1"), bed.cart("c-2"));
        let done = vec![state(&cart, 1, "one"), reply(&cart, 7, "first")];
        assert!(bed.commit(cart.shard, done).await.is_committed());

        let again = vec![
            state(&cart, 2, "two"),
            send(&other, 70),
            reply(&cart, 7, "second"),
        ];
        let verdict = bed.commit(cart.shard, again).await;

        assert!(
            matches!(verdict, Verdict::Conflict { write: 2 }),
            "{verdict:?}"
        );
        assert_eq!(
            load(&bed, &cart).await?.map(|row| row.state),
            Some(b"one".to_vec())
        );
        let stored = find(&bed, &cart, 7)
            .await?
            .map(|row| (row.hash, row.outcome));
        assert_eq!(stored, Some((u64::MAX - 1, b"first".to_vec())));
        let backlog = bed.sql(|c| Box::pin(mailbox::backlog(c))).await?;
        assert_eq!(backlog.due, 0);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_conflict_leaves_the_rest_of_its_batch_alone() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let (cart, other) = (bed.cart("c-1"), bed.cart("c-2"));
        let gate = bed.fault.hold("commit");
        let first = bed.submit(cart.shard, bed.activation(), vec![reply(&cart, 1, "a")]);
        bed.fault.reached("commit", 1).await;
        let same = |_| {
            let writes = vec![state(&cart, 1, "x"), reply(&cart, 2, "b")];
            bed.submit(cart.shard, bed.activation(), writes)
        };
        let twice: Vec<_> = (0..2).map(same).collect();
        let third = bed.submit(other.shard, bed.activation(), vec![send(&other, 9)]);

        drop(gate);
        first.await?;

        let [won, lost] = twice.try_into().expect("two");
        assert!(won.await?.is_committed());
        // The state conflicts before the reply does: tables are visited in one order.
        assert!(matches!(lost.await?, Verdict::Conflict { write: 0 }));
        assert!(matches!(third.await?, Verdict::Committed(numbers) if numbers == [(0, 1)]));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_state_made_from_an_old_version_is_not_stored() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let cart = bed.cart("c-1");
        for n in 1..=3 {
            assert!(
                bed.commit(cart.shard, vec![state(&cart, n, "x")])
                    .await
                    .is_committed()
            );
        }

        let stale = bed.commit(cart.shard, vec![state(&cart, 3, "y")]).await;
        let unborn = bed.commit(cart.shard, vec![state(&cart, 1, "z")]).await;

        assert!(matches!(stale, Verdict::Conflict { write: 0 }));
        assert!(matches!(unborn, Verdict::Conflict { write: 0 }));
        assert_eq!(version(&bed, &cart).await?, 3);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_message_is_handled_once() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let cart = bed.cart("c-1");
        let Verdict::Committed(numbers) = bed.commit(cart.shard, vec![send(&cart, 5)]).await else {
            panic!("the message is stored");
        };
        let seq = numbers[0].1;

        let handled = |n| vec![state(&cart, n, "x"), mailbox::delete(seq)];
        let first = bed.commit(cart.shard, handled(1)).await;
        let second = bed.commit(cart.shard, handled(2)).await;

        assert!(first.is_committed());
        assert!(matches!(second, Verdict::Conflict { write: 1 }));
        assert_eq!(version(&bed, &cart).await?, 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_message_is_stored_once() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let cart = bed.cart("c-1");

        let first = bed
            .commit(cart.shard, vec![mailbox::insert(&cart, message(5))])
            .await;
        let second = bed
            .commit(cart.shard, vec![mailbox::insert(&cart, message(5))])
            .await;

        assert!(matches!(first, Verdict::Committed(numbers) if numbers.len() == 1));
        // Its sender has what it wanted; only the number is another's.
        assert!(matches!(second, Verdict::Committed(numbers) if numbers.is_empty()));
        Ok(())
    })
    .await
}
