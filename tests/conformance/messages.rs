//! The mailbox, dead letters, replies and topics, as they are read and cleaned.

use std::time::Duration;

use actor_core::{
    id::{CallId, ShardId},
    store::{
        Sql, StoreError, Value, Verdict, Write, dead_letters,
        entities::{self, Place},
        mailbox::{self, Due, Message, NewMessage, Stored},
        replies, topics,
    },
};
use actor_tests::{
    Result,
    bed::{Bed, SHARDS},
};

use crate::{
    for_each_backend,
    rows::{event, find, message, reply, send, state},
};

const ALL: u32 = 1000;

fn shards() -> Vec<ShardId> {
    (0..SHARDS).map(ShardId).collect()
}

fn timer(place: &Place, id: u128, after: Duration) -> Write {
    let due = Some(Due::After(after));
    mailbox::insert(place, NewMessage { due, ..message(id) })
}

fn ids(messages: &[Message]) -> Vec<u128> {
    messages.iter().map(|message| message.id.0).collect()
}

/// Returns rows of which each can be read.
fn messages(stored: Vec<Stored>) -> Vec<Message> {
    let read = stored.into_iter().map(|row| row.expect("it can be read"));
    read.collect()
}

async fn ready(bed: &Bed, after: i64, limit: u32) -> Result<Vec<Message>, StoreError> {
    let read = bed.store.read("ready", move |c| {
        Box::pin(async move { mailbox::ready(c, &shards(), after, limit).await })
    });
    read.await.map(messages)
}

async fn timers(bed: &Bed, horizon: Duration) -> Result<Vec<Message>, StoreError> {
    let read = bed.store.read("timers", move |c| {
        Box::pin(async move { mailbox::timers(c, &shards(), horizon, ALL).await })
    });
    read.await.map(messages)
}

async fn commit(bed: &Bed, place: &Place, writes: Vec<Write>) {
    let verdict = bed.commit(place.shard, writes).await;
    assert!(verdict.is_committed(), "{verdict:?}");
}

// MSG-3, MSG-4, MSG-5: as many as asked for, of the shards or the entity asked for
#[tokio::test]
async fn messages_are_read_in_order_and_in_pages() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let (one, two) = (bed.cart("c-1"), bed.cart("c-2"));
        for id in 1..=5 {
            let place = if id % 2 == 0 { &two } else { &one };
            commit(&bed, place, vec![send(place, id)]).await;
        }
        commit(&bed, &one, vec![timer(&one, 6, Duration::ZERO)]).await;

        let first = ready(&bed, 0, 3).await?;
        let rest = ready(&bed, first[2].seq, 3).await?;
        let of_two = bed.store.read("two", move |c| {
            Box::pin(async move { mailbox::of_entity(c, &two, 2, ALL).await })
        });

        assert_eq!((ids(&first), ids(&rest)), (vec![1, 2, 3], vec![4, 5]));
        assert_eq!(ids(&messages(of_two.await?)), [4]);
        assert_eq!(
            (first[0].kind.as_str(), first[0].entity.as_str()),
            ("cart", "c-1")
        );
        assert_eq!(
            (first[0].method.as_str(), first[0].args.as_slice()),
            ("add", &b"{}"[..])
        );
        assert_eq!(
            mailbox::parse_codec(&first[0].codec),
            Some(actor_core::codec::Codec::Json)
        );
        let none = bed
            .store
            .read("none", |c| Box::pin(mailbox::ready(c, &[], 0, ALL)));
        assert_eq!(none.await?, []);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn timers_are_found_within_the_horizon_and_never_early() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let cart = bed.cart("c-1");
        let second = Duration::from_secs(1);
        commit(
            &bed,
            &cart,
            vec![timer(&cart, 1, 90 * second), timer(&cart, 2, 30 * second)],
        )
        .await;

        let due_in = |messages: &[Message]| messages.iter().map(|m| m.due_in).collect::<Vec<_>>();
        let near = timers(&bed, 60 * second).await?;
        assert_eq!(
            (ids(&near), due_in(&near)),
            (vec![2], vec![Some(30 * second)])
        );
        bed.fault.advance_ms(40_000);
        let both = timers(&bed, 60 * second).await?;

        assert_eq!(ids(&both), [2, 1]);
        assert_eq!(due_in(&both), [Some(Duration::ZERO), Some(50 * second)]);
        assert_eq!(both[0].due_at, Some(bed.store.now_ms() - 10_000));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_message_past_its_time_says_so() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let cart = bed.cart("c-1");
        let expires = Some(Duration::from_secs(5));
        let write = mailbox::insert(
            &cart,
            NewMessage {
                expires,
                ..message(1)
            },
        );
        commit(&bed, &cart, vec![write]).await;

        assert_ne!(
            ready(&bed, 0, ALL).await?[0].expires_in,
            Some(Duration::ZERO)
        );
        bed.fault.advance_ms(5_000);
        assert_eq!(
            ready(&bed, 0, ALL).await?[0].expires_in,
            Some(Duration::ZERO)
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_row_that_cannot_be_read_hides_no_other() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let cart = bed.cart("c-1");
        let writes = (1..=3).map(|id| send(&cart, id)).collect();
        commit(&bed, &cart, writes).await;
        commit(&bed, &cart, vec![timer(&cart, 4, Duration::ZERO)]).await;
        let change = |sql: &'static str, value: Value| {
            bed.sql(move |c| Box::pin(async move { c.execute(&Sql::same(sql), vec![value]).await }))
        };
        change(
            "UPDATE mailbox SET id = $1 WHERE seq = 1",
            vec![1_u8].into(),
        )
        .await?;
        change(
            "UPDATE mailbox SET attempts = $1 WHERE seq = 2",
            Value::Int(-1),
        )
        .await?;
        let least = Value::Int(i64::MIN);
        change("UPDATE mailbox SET due_at = $1 WHERE seq = 4", least).await?;

        let rows = bed.store.read("ready", |c| {
            Box::pin(async move { mailbox::ready(c, &shards(), 0, ALL).await })
        });
        let rows = rows.await?;
        let timers = timers(&bed, Duration::ZERO).await?;
        let backlog = bed.store.read("backlog", |c| Box::pin(mailbox::backlog(c)));

        let [Err(one), Err(two), Ok(three)] = rows.as_slice() else {
            panic!("{rows:?}")
        };
        assert_eq!((one.seq, one.shard), (1, Some(cart.shard)));
        assert_eq!(one.target, Some(("cart".to_owned(), "c-1".to_owned())));
        assert!(one.why.contains("call id"), "{one:?}");
        assert!(two.why.contains("small number"), "{two:?}");
        assert_eq!(three.id, CallId(3));
        assert_eq!(
            (ids(&timers), timers[0].due_in),
            (vec![4], Some(Duration::ZERO))
        );
        assert_eq!(backlog.await?.due, 4);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn attempts_are_counted_and_failures_recorded() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let cart = bed.cart("c-1");
        commit(&bed, &cart, vec![send(&cart, 1)]).await;

        commit(&bed, &cart, vec![mailbox::count_attempt(1)]).await;
        commit(&bed, &cart, vec![mailbox::count_attempt(1)]).await;
        commit(&bed, &cart, vec![mailbox::record_failure(1, 3, "no stock")]).await;
        let gone = bed
            .commit(cart.shard, vec![mailbox::count_attempt(99)])
            .await;

        let row = &ready(&bed, 0, ALL).await?[0];
        assert_eq!(
            (row.attempts, row.last_error.as_deref()),
            (3, Some("no stock"))
        );
        assert!(matches!(gone, Verdict::Conflict { write: 0 }));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_waits_too_long_is_found() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let cart = bed.cart("c-1");
        let second = Duration::from_secs(1);
        commit(
            &bed,
            &cart,
            vec![send(&cart, 1), timer(&cart, 2, 60 * second)],
        )
        .await;
        let overdue = async |limit: u32| -> Result<Vec<i64>> {
            let read = bed.store.read("overdue", move |c| {
                Box::pin(async move { mailbox::overdue(c, &shards(), 30 * second, limit).await })
            });
            let rows = read.await?;
            let target = Some(("cart".to_owned(), "c-1".to_owned()));
            assert!(rows.iter().all(|row| row.target == target), "{rows:?}");
            Ok(rows.iter().map(|row| row.seq).collect())
        };

        assert!(overdue(ALL).await?.is_empty());
        bed.fault.advance_ms(30_000);
        assert_eq!(overdue(ALL).await?, [1]);
        bed.fault.advance_ms(60_000);
        assert_eq!(overdue(ALL).await?, [1, 2]);
        assert_eq!(overdue(1).await?, [1]);
        let backlog = bed
            .store
            .read("backlog", |c| Box::pin(mailbox::backlog(c)))
            .await?;
        assert_eq!(
            (backlog.due, backlog.age, backlog.scheduled),
            (2, 90 * second, 0)
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_dead_letter_keeps_its_bytes_and_can_be_replayed() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let cart = bed.cart("c-1");
        commit(&bed, &cart, vec![send(&cart, 1), send(&cart, 2)]).await;
        commit(
            &bed,
            &cart,
            vec![mailbox::record_failure(1, 10, "no stock")],
        )
        .await;

        commit(&bed, &cart, dead_letters::bury(1, "given up").into()).await;

        assert_eq!(ids(&ready(&bed, 0, ALL).await?), [2]);
        let dead = bed.sql(|c| Box::pin(dead_letters::list(c, 0, ALL))).await?;
        let [letter] = dead.as_slice() else {
            panic!("one letter")
        };
        assert_eq!((letter.id, letter.attempts), (Some(CallId(1)), 10));
        assert_eq!(
            (letter.error.as_str(), letter.args.as_slice()),
            ("given up", &b"{}"[..])
        );
        let seq = letter.seq;
        let replayed = bed
            .sql(move |c| Box::pin(dead_letters::replay(c, seq)))
            .await?
            .expect("there");
        assert_eq!((replayed.shard, replayed.seq), (cart.shard, 3));
        let back = ready(&bed, 0, ALL).await?;
        assert_eq!((ids(&back), back[1].attempts), (vec![2, 1], 0));
        assert_eq!(bed.sql(|c| Box::pin(dead_letters::count(c))).await?, 0);
        assert_eq!(
            bed.sql(move |c| Box::pin(dead_letters::replay(c, seq)))
                .await?,
            None
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn dead_letters_are_discarded_by_hand_and_pruned_by_age() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let cart = bed.cart("c-1");
        commit(&bed, &cart, vec![send(&cart, 1), send(&cart, 2)]).await;
        commit(&bed, &cart, dead_letters::bury(1, "x").into()).await;
        commit(&bed, &cart, dead_letters::bury(2, "y").into()).await;

        assert!(bed.sql(|c| Box::pin(dead_letters::discard(c, 1))).await?);
        assert!(!bed.sql(|c| Box::pin(dead_letters::discard(c, 1))).await?);
        let day = Duration::from_secs(86_400);
        assert_eq!(
            bed.sql(move |c| Box::pin(dead_letters::prune(c, day, ALL)))
                .await?,
            0
        );
        bed.fault.advance_ms(86_400_000);
        assert_eq!(
            bed.sql(move |c| Box::pin(dead_letters::prune(c, day, ALL)))
                .await?,
            1
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn replies_past_their_time_are_deleted_in_bounded_steps() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let cart = bed.cart("c-1");
        commit(
            &bed,
            &cart,
            (1..=5).map(|id| reply(&cart, id, "x")).collect(),
        )
        .await;
        let delete = || bed.sql(|c| Box::pin(replies::delete_expired(c, 3)));

        assert_eq!(delete().await?, 0);
        bed.fault.advance_ms(600_000);
        assert_eq!(
            (delete().await?, delete().await?, delete().await?),
            (3, 2, 0)
        );
        assert_eq!(find(&bed, &cart, 1).await?, None);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn only_the_newest_events_of_a_topic_are_kept() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        let cart = bed.cart("c-1");
        for topic in ["a", "b"] {
            commit(&bed, &cart, (0..10).map(|_| event(topic, "x")).collect()).await;
        }
        let since = |topic: &'static str, offset: i64| {
            bed.sql(move |c| {
                Box::pin(async move {
                    let epoch = topics::position(c, topic).await?.epoch;
                    let page =
                        topics::since(c, topic, topics::Position { epoch, offset }, 99).await?;
                    Ok((page.recovered, page.events.len()))
                })
            })
        };

        assert_eq!(bed.sql(|c| Box::pin(topics::trim(c, "a", 8))).await?, 2);
        assert_eq!(since("a", 2).await?, (true, 8));
        assert_eq!(since("a", 1).await?, (false, 8), "an event is missing");
        assert_eq!(since("a", 10).await?, (true, 0));
        assert_eq!(
            since("a", 11).await?,
            (false, 0),
            "the future is another history"
        );
        assert_eq!(bed.sql(|c| Box::pin(topics::trim_all(c, 5, 6))).await?, 6);
        assert_eq!(bed.sql(|c| Box::pin(topics::trim_all(c, 5, 6))).await?, 2);
        let list = bed.sql(|c| Box::pin(topics::list(c, "", 9))).await?;
        let offsets: Vec<_> = list
            .iter()
            .map(|(topic, at)| (topic.as_str(), at.offset))
            .collect();
        assert_eq!(offsets, [("a", 10), ("b", 10)]);
        let names = ["b".into(), "none".into(), "'\"é".into()];
        let asked = bed.sql(move |c| {
            let names = names.clone();
            Box::pin(async move { topics::positions(c, &names).await })
        });
        assert_eq!(asked.await?, [("b".into(), list[1].1)]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn entities_of_a_kind_are_listed_in_pages() -> Result<()> {
    for_each_backend(async |backend| {
        let bed = Bed::new(backend).await?;
        for id in ["c-3", "c-1", "c-2"] {
            let cart = bed.cart(id);
            commit(&bed, &cart, vec![state(&cart, 1, "state")]).await;
        }

        let page = bed
            .sql(|c| Box::pin(entities::list(c, "cart", "c-1", 1)))
            .await?;

        let [listed] = page.as_slice() else {
            panic!("one")
        };
        assert_eq!(
            (listed.id.as_str(), listed.version, listed.bytes),
            ("c-2", 1, 5)
        );
        assert_eq!(listed.updated_at, bed.store.now_ms());
        Ok(())
    })
    .await
}
