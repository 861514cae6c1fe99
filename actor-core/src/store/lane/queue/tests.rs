//! When a batch may begin, and what goes into it.

use std::sync::{Arc, atomic::AtomicUsize, atomic::Ordering};

use super::*;

fn item(activation: u64, bytes: usize, told: &Arc<AtomicUsize>) -> Item {
    let told = Arc::clone(told);
    let data = vec![0; bytes].into();
    let (topic, name) = ("".into(), "".into());
    Item {
        shard: ShardId(0),
        epoch: Epoch(1),
        activation,
        sequence: 1,
        writes: vec![Write::Event {
            topic,
            name,
            key: None,
            data,
        }],
        done: Box::new(move |_| {
            told.fetch_add(1, Ordering::Relaxed);
        }),
    }
}

#[test]
fn above_the_bound_an_item_is_told_at_once_and_its_activation_has_failed() {
    let (queue, told) = (Queue::new(2, 1), Arc::default());
    for activation in [7, 8, 9] {
        queue.push(item(activation, 1, &told));
    }

    assert_eq!((queue.depth(), told.load(Ordering::Relaxed)), (2, 1));
    assert!(queue.has_failed(9) && !queue.has_failed(8));
    queue.forget(9);
    assert!(!queue.has_failed(9));
}

#[test]
fn a_batch_is_bounded_in_items_and_in_bytes_but_never_empty() {
    let (queue, told) = (Queue::new(99, 1), Arc::default());
    for bytes in [50, 5, 5, 5, 5] {
        queue.push(item(1, bytes, &told));
    }

    assert_eq!(queue.take(true, 9, 10).0.len(), 1);
    assert_eq!(queue.take(true, 9, 10).0.len(), 2);
    assert_eq!(queue.take(true, 1, 10).0.len(), 1);
    assert_eq!(queue.take(true, 9, 10).0.len(), 1);
    assert_eq!(queue.take(true, 9, 10).0.len(), 0);
}

fn of_shard(shard: u32, told: &Arc<AtomicUsize>) -> Item {
    Item {
        shard: ShardId(shard),
        ..item(u64::from(shard), 1, told)
    }
}

fn shards(bodies: &[Body]) -> BTreeSet<ShardId> {
    bodies.iter().map(|body| body.shard).collect()
}

#[test]
fn a_batch_begins_beside_others_only_if_it_is_as_large() {
    let (queue, told) = (Queue::new(99, 4), Arc::default());
    (0..3).for_each(|shard| queue.push(of_shard(shard, &told)));
    let (first, _) = queue.take(false, 9, 99);
    (3..5).for_each(|shard| queue.push(of_shard(shard, &told)));

    assert_eq!(queue.take(false, 9, 99).0.len(), 0, "two beside three");
    queue.push(of_shard(5, &told));
    let (second, _) = queue.take(false, 9, 99);
    assert_eq!((first.len(), second.len()), (3, 3));
    queue.push(of_shard(6, &told));
    assert_eq!(queue.take(false, 9, 99).0.len(), 0, "one beside six");
    assert_eq!(queue.take(true, 9, 99).0.len(), 1, "it has waited");
}

#[test]
fn many_items_are_dealt_out_to_two_batches_and_come_back_in_two() {
    let (queue, told) = (Queue::new(999, 4), Arc::default());
    (0..80).for_each(|shard| queue.push(of_shard(shard, &told)));

    let (first, _) = queue.take(false, 512, 9999);
    let (second, _) = queue.take(false, 512, 9999);
    assert_eq!((first.len(), second.len()), (40, 40));
    queue.finished(first.len(), &shards(&first));
    (0..26).for_each(|shard| queue.push(of_shard(shard, &told)));
    assert_eq!(queue.take(false, 512, 9999).0.len(), 26, "a third of all");

    let few = Queue::new(999, 4);
    (0..32).for_each(|shard| few.push(of_shard(shard, &told)));
    assert_eq!(
        few.take(false, 512, 9999).0.len(),
        32,
        "not worth dealing out"
    );

    let alone = Queue::new(999, 1);
    (0..80).for_each(|shard| alone.push(of_shard(shard, &told)));
    assert_eq!(
        alone.take(false, 512, 9999).0.len(),
        80,
        "nobody is beside it"
    );
}

#[test]
fn a_shard_is_in_one_batch_at_a_time() {
    let (queue, told) = (Queue::new(99, 4), Arc::default());
    for shard in [1, 1, 2] {
        queue.push(of_shard(shard, &told));
    }
    let (first, _) = queue.take(true, 1, 99);
    queue.push(of_shard(1, &told));

    let (second, _) = queue.take(true, 9, 99);

    assert_eq!(shards(&second), [ShardId(2)].into());
    assert_eq!(queue.take(true, 9, 99).0.len(), 0);
    assert_eq!(queue.depth(), 2);
    queue.finished(first.len(), &shards(&first));
    assert_eq!(queue.take(true, 9, 99).0.len(), 2);
}
