//! Ids that are asked for in bursts, by threads, by clocks that jump and by nodes that were
//! deposed.

use std::collections::{BTreeMap, BTreeSet};

use actor_core::{
    clock::Rng,
    id::{Incarnation, MachineId, NodeId},
    store::{StoreConfig, TaskExecutor, migrate, nodes},
};

use super::*;

/// Some moment of 2026.
const NOON_MS: i64 = 1_780_000_000_000;

const STRETCH_MS: i64 = 60_000;

/// The row of one number, as the statements of `machines` treat it.
struct Row {
    from_ms: i64,
    until_ms: i64,
}

impl Row {
    fn read(&self, now_ms: i64) -> Stretch {
        Stretch {
            machine: MachineId::new(7).expect("below 1024"),
            from_ms: self.from_ms,
            until_ms: self.until_ms,
            now_ms,
        }
    }

    fn extend(&mut self, now_ms: i64) -> Stretch {
        self.until_ms = self.until_ms.max(now_ms + STRETCH_MS);
        self.read(now_ms)
    }

    fn claim(&mut self, now_ms: i64) -> Option<Stretch> {
        if self.until_ms >= now_ms {
            return None;
        }
        (self.from_ms, self.until_ms) = (now_ms, now_ms + STRETCH_MS);
        Some(self.read(now_ms))
    }
}

/// Moves a clock as clocks move, and as they should not.
fn tick(rng: &Rng, now_ms: i64) -> i64 {
    let by = |bound: u64| rng.below(bound).cast_signed();
    now_ms
        + match rng.below(20) {
            0 => -by(5),
            1 => -by(100_000),
            2 => by(200_000),
            3..10 => 0,
            _ => by(3),
        }
}

#[test]
fn whatever_the_clock_does_ids_grow_and_stay_in_their_stretch() {
    for seed in 1..=40 {
        let rng = Rng::seeded(seed);
        let mut now_ms = NOON_MS;
        let mut row = Row {
            from_ms: now_ms,
            until_ms: now_ms + 500,
        };
        let mut sequence = Sequence::new(row.read(now_ms));
        let (mut last, mut made, mut waited) = (None, 0, 0);
        for _ in 0..300 {
            now_ms = tick(&rng, now_ms);
            for _ in 0..rng.below(10_000) {
                match sequence.next(now_ms) {
                    Next::Made(id) => {
                        assert!(Some(id) > last, "seed {seed}: {id:?} after {last:?}");
                        assert!((row.from_ms..=row.until_ms).contains(&id.made_at_ms()));
                        (last, made) = (Some(id), made + 1);
                    }
                    Next::Wait(wait) => {
                        waited += 1;
                        // Whoever waits that long gets one: nobody waits in vain.
                        let then = now_ms + wait.as_millis() as i64;
                        now_ms = if rng.below(4) == 0 { then } else { now_ms };
                        break;
                    }
                    Next::Over => sequence.extend(row.extend(now_ms)),
                    Next::NoTime => panic!("seed {seed}: {now_ms} is a time"),
                }
            }
        }
        assert!(made > 10_000 && waited > 0, "seed {seed}: {made} {waited}");
    }
}

#[test]
fn more_than_two_milliseconds_worth_in_one_are_not_made() {
    let row = Row {
        from_ms: NOON_MS,
        until_ms: NOON_MS + STRETCH_MS,
    };
    let mut sequence = Sequence::new(row.read(NOON_MS));

    let asked: Vec<_> = (0..20_000).map(|_| sequence.next(NOON_MS)).collect();

    let made = |next: &&Next| matches!(next, Next::Made(_));
    let ids: BTreeSet<_> = asked
        .iter()
        .filter(made)
        .map(|id| format!("{id:?}"))
        .collect();
    assert_eq!(ids.len(), 4096);
    let wait = Next::Wait(Duration::from_millis(1));
    assert!(asked[4096..].iter().all(|next| *next == wait));
    assert!(matches!(sequence.next(NOON_MS + 1), Next::Made(_)));
}

/// Lives of nodes get one number after the other, and the former ones never stop asking.
#[test]
fn a_deposed_node_and_its_successors_never_make_the_same_id() {
    let mut lives_in_all = 0;
    for seed in 1..=40 {
        let rng = Rng::seeded(seed);
        let mut now_ms = NOON_MS;
        let mut row = Row {
            from_ms: 0,
            until_ms: 0,
        };
        let mut lives: Vec<Sequence> = Vec::new();
        let mut made: BTreeMap<Snowflake, usize> = BTreeMap::new();
        for _ in 0..400 {
            now_ms = tick(&rng, now_ms);
            if let Some(stretch) = row.claim(now_ms) {
                lives.push(Sequence::new(stretch));
            }
            let newest = lives.len().saturating_sub(1);
            for (life, sequence) in lives.iter_mut().enumerate() {
                // Each node reads another clock.
                let read_ms = tick(&rng, now_ms);
                for _ in 0..rng.below(200) {
                    match sequence.next(read_ms) {
                        Next::Made(id) => {
                            let before = made.insert(id, life);
                            assert_eq!(before, None, "seed {seed}: {id:?} of life {life}");
                        }
                        Next::Over if life == newest && rng.below(2) == 0 => {
                            sequence.extend(row.extend(now_ms));
                        }
                        _ => break,
                    }
                }
            }
        }
        lives_in_all += lives.len();
    }
    assert!(lives_in_all > 200, "{lives_in_all}: nobody was succeeded");
}

#[test]
fn another_number_goes_on_behind_the_last_id() {
    let stretch = |number, from_ms| Stretch {
        machine: MachineId::new(number).expect("below 1024"),
        from_ms,
        until_ms: from_ms + STRETCH_MS,
        now_ms: from_ms,
    };
    let mut sequence = Sequence::new(stretch(900, NOON_MS));
    let Next::Made(before) = sequence.next(NOON_MS + 10) else {
        panic!("the stretch has begun");
    };

    sequence.extend(stretch(3, NOON_MS + 5));

    assert!(matches!(sequence.next(NOON_MS + 10), Next::Wait(_)));
    let Next::Made(after) = sequence.next(NOON_MS + 11) else {
        panic!("its time has come");
    };
    assert!(after > before);
}

async fn snowflakes() -> Arc<Snowflakes> {
    let config = StoreConfig::new("sqlite::memory:");
    let store = Store::open(config, Arc::new(TaskExecutor)).await;
    let store = store.expect("a database in memory opens");
    migrate::run(&store).await.expect("migrations run");
    let name = NodeId::new("a");
    let registered = store.write("register", |c| {
        let ttl = Duration::from_secs(10);
        Box::pin(async move { nodes::register(c, &NodeId::new("a"), "", ttl).await })
    });
    let life: Incarnation = registered.await.expect("registered");
    let shards = Arc::new(Shards::new(1, name, life));
    shards.hold_lease_unlimited();
    Arc::new(Snowflakes::new(store, shards))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_that_ask_at_once_get_ids_of_their_own() {
    let snowflakes = snowflakes().await;
    let asking: Vec<_> = (0..8)
        .map(|_| {
            let snowflakes = snowflakes.clone();
            tokio::spawn(async move {
                let mut ids = Vec::new();
                for _ in 0..5_000 {
                    ids.push(snowflakes.snowflake().await.expect("made"));
                }
                ids
            })
        })
        .collect();

    let mut all = BTreeSet::new();
    for asked in asking {
        let ids = asked.await.expect("the task ends");
        assert!(ids.is_sorted(), "ids of one caller grow");
        all.extend(ids);
    }

    assert_eq!(all.len(), 40_000);
}

#[tokio::test]
async fn a_node_that_stops_or_lost_its_lease_makes_no_ids() {
    let stopping = snowflakes().await;
    let id = stopping.snowflake().await.expect("made");
    let deposed = snowflakes().await;
    deposed.snowflake().await.expect("made");

    let last_ms = stopping.close();
    deposed.shards.revoke_all();

    assert_eq!(last_ms, Some(id.made_at_ms()));
    let refused = stopping.snowflake().await;
    assert_eq!(refused, Err(unavailable("the node is stopping")));
    let refused = deposed.snowflake().await;
    assert_eq!(refused, Err(unavailable("the node's lease is over")));
}
