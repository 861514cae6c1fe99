//! The order in which a lane stores, numbers and answers.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use actor_core::store::{Item, Sql, StoreErrorKind, Verdict, topics};
use actor_tests::{
    Result,
    bed::{Bed, Bounds},
};

use crate::{
    for_each_backend,
    rows::{event, load, reply, send, state, version},
};

#[tokio::test]
async fn later_items_of_a_failed_activation_are_refused_until_it_is_forgotten() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let (cart, activation) = (bed.cart("c-1"), bed.activation());
        assert!(
            bed.commit(cart.shard, vec![state(&cart, 1, "x")])
                .await
                .is_committed()
        );
        let submit = |n| bed.submit(cart.shard, activation, vec![state(&cart, n, "y")]);

        let (stale, next) = (submit(1), submit(2));

        assert!(matches!(stale.await?, Verdict::Conflict { .. }));
        assert!(matches!(next.await?, Verdict::Refused));
        assert!(matches!(submit(2).await?, Verdict::Refused));
        bed.lanes.forget(activation);
        assert!(submit(2).await?.is_committed());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn several_states_of_one_entity_are_one_row_of_one_commit() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let (cart, activation) = (bed.cart("c-1"), bed.activation());
        let born = bed.commit(cart.shard, vec![state(&cart, 1, "1")]).await;
        assert!(born.is_committed());
        let gate = bed.fault.hold("commit");
        let other = bed.cart("c-2");
        let first = bed.submit(other.shard, bed.activation(), vec![state(&other, 1, "x")]);
        bed.fault.reached("commit", 2).await;
        let submit = |n: u64| {
            let writes = vec![
                state(&cart, n, &n.to_string()),
                reply(&cart, n.into(), "ok"),
            ];
            bed.submit(cart.shard, activation, writes)
        };
        let verdicts: Vec<_> = (2..=6).map(submit).collect();

        drop(gate);
        first.await?;

        for verdict in verdicts {
            assert!(verdict.await?.is_committed());
        }
        let row = load(&bed, &cart).await?.expect("stored");
        assert_eq!((row.version, row.state), (6, b"6".to_vec()));
        assert_eq!(bed.fault.begun("commit"), 3);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn messages_are_numbered_in_the_order_submitted() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let places: Vec<_> = (0..7).map(|n| bed.cart(&format!("c-{n}"))).collect();
        let send = |n: u128| {
            // Ids and places whose own orders differ from the order submitted.
            let place = &places[(n as usize * 5) % 7];
            bed.submit(place.shard, bed.activation(), vec![send(place, 1000 - n)])
        };

        let verdicts: Vec<_> = (0..200).map(send).collect();

        for (n, verdict) in (1..).zip(verdicts) {
            match verdict.await? {
                Verdict::Committed(numbers) => assert_eq!(numbers, [(0, n)]),
                verdict => panic!("{verdict:?}"),
            }
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn offsets_of_a_topic_have_no_gaps() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let cart = bed.cart("c-1");
        let mut verdicts = Vec::new();
        for n in 1..=20_u64 {
            let topic = if n % 2 == 0 { "even" } else { "odd" };
            let mut writes = vec![event(topic, &n.to_string())];
            if n % 5 == 0 {
                // A conflict: state 1 exists after the first of these.
                writes.push(state(&cart, 1, "x"));
            }
            verdicts.push(bed.submit(cart.shard, bed.activation(), writes));
        }
        for verdict in verdicts {
            verdict.await?;
        }

        let odd = bed
            .sql(|c| Box::pin(topics::since(c, "odd", topics::Position::default(), 99)))
            .await?;
        let announced = bed.events();

        let of_odd = announced.iter().filter(|event| &*event.topic == "odd");
        let offsets: Vec<_> = of_odd.map(|event| event.offset).collect();
        // 5 is stored with the state; 15 conflicts, and so do 10 and 20 of the other topic.
        assert_eq!(offsets, (1..=9).collect::<Vec<_>>());
        // A new reader is before the first event of whatever history there is.
        assert_eq!((odd.recovered, odd.events.len()), (true, 9));
        let since = topics::Position {
            epoch: odd.position.epoch,
            offset: 0,
        };
        let odd = bed
            .sql(move |c| Box::pin(topics::since(c, "odd", since, 99)))
            .await?;
        let stored: Vec<_> = odd.events.iter().map(|event| event.offset).collect();
        assert_eq!(
            (odd.recovered, stored, odd.position.offset),
            (true, offsets, 9)
        );
        let data: Vec<_> = odd.events.iter().map(|event| event.data.clone()).collect();
        let expected = [1, 3, 5, 7, 9, 11, 13, 17, 19].map(|n| n.to_string().into_bytes());
        assert_eq!(data, expected);
        assert!(announced.iter().all(|event| event.epoch > 0));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn verdicts_come_in_item_order_and_survive_a_panic() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let told = Arc::new(Mutex::new(Vec::new()));
        let cart = bed.cart("c-1");
        let gate = bed.fault.hold("commit");
        for n in 0..6_u64 {
            let told = Arc::clone(&told);
            // Item 3 conflicts with item 1; item 4 panics.
            let place = bed.cart(&format!("c-{}", if n == 3 { 1 } else { n }));
            bed.lanes.submit(Item {
                shard: place.shard,
                epoch: bed.epoch(place.shard),
                activation: bed.activation(),
                sequence: n,
                writes: vec![state(&place, 1, "x")],
                done: Box::new(move |verdict| {
                    told.lock()
                        .expect("no poison")
                        .push((n, verdict.is_committed()));
                    assert!(n != 4, "on purpose");
                }),
            });
        }

        drop(gate);
        bed.lanes.stop().await;

        let told = told.lock().expect("no poison").clone();
        assert_eq!(
            told.iter().map(|(n, _)| *n).collect::<Vec<_>>(),
            [0, 1, 2, 3, 4, 5]
        );
        assert!(!told[3].1 && told[5].1);
        assert_eq!(version(&bed, &cart).await?, 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() -> Result<()> {
    for_each_backend(async |backend| {
        let bounds = Bounds {
            queue_items_max: 2,
            ..Bounds::default()
        };
        let bed = Bed::with(backend, bounds).await?;
        let cart = bed.cart("c-1");
        let gate = bed.fault.hold("commit");
        let submit = || bed.submit(cart.shard, bed.activation(), vec![event("t", "x")]);
        let first = submit();
        bed.fault.reached("commit", 1).await;

        let (second, third, fourth) = (submit(), submit(), submit());

        let Verdict::Failed(error) = fourth.await? else {
            panic!("over the bound")
        };
        assert_eq!(error.kind(), StoreErrorKind::Overloaded);
        drop(gate);
        for verdict in [first, second, third] {
            assert!(verdict.await?.is_committed());
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn stopping_stores_what_is_queued_and_refuses_the_rest() -> Result<()> {
    for_each_backend(async |backend| {
        let bounds = Bounds {
            batch_items_max: 3,
            ..Bounds::default()
        };
        let bed = Bed::with(backend, bounds).await?;
        let cart = bed.cart("c-1");
        let submit = || bed.submit(cart.shard, bed.activation(), vec![event("t", "x")]);
        let queued: Vec<_> = (0..10).map(|_| submit()).collect();

        bed.lanes.stop().await;
        let late = submit();

        for verdict in queued {
            assert!(verdict.await?.is_committed());
        }
        let Verdict::Failed(error) = late.await? else {
            panic!("too late")
        };
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_busy_database_is_asked_again() -> Result<()> {
    for_each_backend(async |backend| {
        let bounds = Bounds {
            busy_timeout: Duration::ZERO,
            ..Bounds::default()
        };
        let bed = Bed::with(backend, bounds).await?;
        let cart = bed.cart("c-1");
        let other = bed.second_store().await?;
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        let (began, begun) = tokio::sync::oneshot::channel();
        const HOLD: Sql = Sql::same("UPDATE shards SET epoch = epoch");
        let blocking = tokio::spawn(async move {
            let held = other.write("hold", move |c| {
                Box::pin(async move {
                    c.execute(&HOLD, vec![]).await?;
                    let _ = began.send(());
                    let _ = released.await;
                    Ok(())
                })
            });
            held.await
        });
        begun.await?;

        let verdict = bed.submit(cart.shard, bed.activation(), vec![state(&cart, 1, "x")]);
        bed.fault.reached("commit", 2).await;
        drop(release);

        assert!(verdict.await?.is_committed());
        blocking.await??;
        Ok(())
    })
    .await
}
