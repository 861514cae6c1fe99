//! One fault after another, drawn by a seed, for as long as somebody wants to watch; `tests/run
//! soak` wants half an hour. What the clients were told is what must be true.

use std::{collections::BTreeMap, env, time::Duration};

use actor_tests::{
    Context, Deadline, Result, Seed, Stopwatch,
    proxy::{End, Fate, Way},
};

use super::{
    check,
    load::Load,
    nodes::{Cluster, Plan},
};

/// Names the variable that says how long.
const MINUTES: &str = "ACTOR_SOAK_MINUTES";

/// Without it.
const BRIEFLY: Duration = Duration::from_secs(8);

/// How many sorts of faults a run has at least.
const KINDS_MIN: usize = 3;

/// Longer than the lease of these nodes, and shorter.
const LONG: Duration = Duration::from_millis(3_500);
const SHORT: Duration = Duration::from_millis(600);

struct Chaos {
    cluster: Cluster,
    load: Load,
    rng: fastrand::Rng,
    seen: BTreeMap<&'static str, u32>,
}

async fn pass(time: Duration) {
    Deadline::after(time).wait().await;
}

impl Chaos {
    /// Lets one thing go wrong, and go right again; waits until work goes on.
    async fn one_more(&mut self) -> Result<()> {
        let node = self.rng.usize(..self.cluster.len());
        let name = match self.rng.u8(..9) {
            0 | 1 => self.kill(node).await?,
            2 => {
                self.cluster.freeze(node)?;
                pass(SHORT).await;
                self.cluster.thaw(node)?;
                "frozen for a moment"
            }
            3 => {
                self.cluster.hide(node);
                self.cluster.freeze(node)?;
                pass(LONG).await;
                self.cluster.thaw(node)?;
                self.cluster.ends(node).await?;
                self.cluster.start_again(node).await?;
                "frozen beyond the lease"
            }
            4 => {
                self.cluster.hide(node);
                self.load.left(node).await?;
                self.cluster.terminate(node).await?;
                self.cluster.start_again(node).await?;
                "stopped in order"
            }
            5 => {
                self.cluster.cut_links(End::Reset);
                "all links reset"
            }
            6 => self.bad_links(node).await,
            7 => {
                self.cluster.ways(node).database.end_all(End::Reset);
                "database connections reset"
            }
            _ => {
                self.cluster.ways(node).database.set_both(Fate::Swallow);
                pass(SHORT).await;
                self.cluster.ways(node).database.heal();
                self.cluster.ways(node).database.end_all(End::Reset);
                "database silent for a moment"
            }
        };
        *self.seen.entry(name).or_default() += 1;
        let more = self.rng.u64(20..80);
        self.load.answered(more).await
    }

    async fn kill(&mut self, node: usize) -> Result<&'static str> {
        self.cluster.kill(node).await?;
        if self.rng.bool() {
            let more = self.rng.u64(1..40);
            self.load.answered(more).await?;
        }
        self.cluster.start_again(node).await?;
        Ok("killed")
    }

    async fn bad_links(&mut self, node: usize) -> &'static str {
        let links = &self.cluster.ways(node).links;
        let fate = match self.rng.u8(..3) {
            0 => Fate::Cut,
            1 => Fate::Swallow,
            _ => Fate::Delay(Duration::from_millis(60)),
        };
        match self.rng.u8(..3) {
            0 => links.set(Way::Up, fate),
            1 => links.set(Way::Down, fate),
            _ => links.set_both(fate),
        }
        pass(SHORT * self.rng.u32(1..4)).await;
        self.cluster.ways(node).links.heal();
        "bad links"
    }
}

fn how_long() -> Result<Duration> {
    let Ok(text) = env::var(MINUTES) else {
        return Ok(BRIEFLY);
    };
    let minutes = text.parse::<f64>();
    let minutes = minutes.context(format!("{MINUTES} is {text:?}: accepted is a number"))?;
    Ok(Duration::from_secs_f64(minutes * 60.0))
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_without_end_lose_nothing_and_count_nothing_twice() -> Result<()> {
    let seed = Seed::from_env("--test system chaos")?;
    let cluster = Cluster::start_as(Plan::proxied()).await?;
    let mut chaos = Chaos {
        load: Load::start(&cluster, seed),
        cluster,
        rng: seed.rng(99),
        seen: BTreeMap::new(),
    };
    let (began, limit) = (Stopwatch::start(), how_long()?);

    chaos.load.answered(100).await?;
    // A seed may draw the same few faults for some seconds.
    while began.elapsed() < limit || chaos.seen.len() < KINDS_MIN {
        chaos.one_more().await?;
    }
    chaos.load.answered(100).await?;
    let Chaos {
        mut cluster,
        load,
        seen,
        ..
    } = chaos;
    let repeated = load.finish().await?;

    check(&mut cluster, &load).await?;
    for node in 0..cluster.len() {
        let stuck = cluster.metric(node, "actor_stuck").await?;
        assert_eq!(stuck, 0.0, "what is due and does not move at node {node}");
    }
    println!(
        "{seen:?}, {} answers, {repeated} attempts repeated",
        load.count()
    );
    cluster.stop().await
}
