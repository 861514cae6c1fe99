//! The command line: what to run, and how much of it.

use std::time::Duration;

use actor_core::store::StoreConfig;
use clap::Parser;

use crate::workload::{self, Workload};

/// Runs workloads and prints one JSON object a line.
#[derive(Debug, Parser)]
#[command(name = "bench")]
struct CommandLine {
    /// Names of workloads, or `list`; `NAME@3` is run with three nodes.
    #[arg(required = true)]
    workloads: Vec<String>,
    /// Where the database is; default: a new SQLite file in a temporary folder for each workload.
    ///
    /// `bench postgres -- WORKLOAD …` starts a PostgreSQL server for the run instead.
    #[arg(long)]
    database_url: Option<String>,
    /// How long each workload is measured, in seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// How long each workload runs before it is measured, in seconds.
    #[arg(long, default_value_t = 2.0)]
    warm_up: f64,
    /// Concurrent callers.
    #[arg(long, default_value_t = 64)]
    concurrency: u32,
    /// Entities they call.
    #[arg(long, default_value_t = 1000)]
    entities: u32,
    /// Nodes, each a process: this tool makes the calls, and starts the others.
    ///
    /// Default: as few as the workload can do with. More than one needs PostgreSQL.
    #[arg(long)]
    nodes: Option<u32>,
    /// Shards of the database.
    #[arg(long, default_value_t = 512)]
    shards: u32,
    /// How long a silent node keeps its shards, in seconds.
    #[arg(long, default_value_t = 10.0)]
    lease_ttl: f64,
    /// How many nodes are killed or drained; default 30 kills, 6 drains.
    #[arg(long)]
    faults: Option<u32>,
    /// How often each workload is run; the line printed is the run with the median `ops_per_s`.
    #[arg(long, default_value_t = 1)]
    runs: u32,
    /// What to count up to where a workload counts: timers, casts, idle or resident entities.
    #[arg(long)]
    count: Option<u32>,
    /// Runs one workload in this process. Used by the tool itself.
    #[arg(long, hide = true)]
    child: bool,
}

/// How much to run.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Where the database is, if not in a temporary file.
    pub(crate) database_url: Option<String>,
    /// How long to measure.
    pub(crate) measured: Duration,
    /// How long to run before.
    pub(crate) warm_up: Duration,
    /// Concurrent callers.
    pub(crate) concurrency: u32,
    /// Entities.
    pub(crate) entities: u32,
    /// Nodes.
    pub(crate) nodes: u32,
    /// Shards of the database.
    pub(crate) shards: u32,
    /// How long a silent node keeps its shards.
    pub(crate) lease_ttl: Duration,
    /// Kills or drains, instead of the workload's own number.
    pub(crate) faults: Option<u32>,
    /// Runs of each workload.
    pub(crate) runs: u32,
    /// What to count up to, instead of the workload's own number.
    pub(crate) count: Option<u32>,
}

impl Plan {
    /// Says whether the database is PostgreSQL.
    pub(crate) fn is_postgres(&self) -> bool {
        self.backend() != "sqlite"
    }

    /// Returns the word for the database in a line.
    pub(crate) fn backend(&self) -> &'static str {
        let url = self.database_url.as_deref().unwrap_or_default();
        match url.starts_with("postgres") {
            false => "sqlite",
            true if url.contains("pooler=transaction") => "postgres pooled",
            true => "postgres",
        }
    }
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// The names of the workloads.
    List,
    /// One workload in this process.
    One(Workload),
    /// These in child processes, by turns.
    Rounds(Vec<Workload>),
}

/// The command line, understood.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) wanted: Wanted,
    pub(crate) plan: Plan,
    /// Whether a PostgreSQL server is started for the run.
    pub(crate) throw_away: bool,
}

impl Arguments {
    /// Reads the command line; ends the program where clap does (`--help`, unknown flags).
    pub(crate) fn from_command_line() -> Result<Self, String> {
        let (words, throw_away) = without_postgres(std::env::args().collect());
        let line = CommandLine::parse_from(words);
        let plan = line.plan()?;
        if throw_away && plan.database_url.is_some() {
            return Err("postgres starts a server; --database-url names another".to_owned());
        }
        let wanted = if line.workloads == ["list"] {
            Wanted::List
        } else {
            let words = line.workloads.iter();
            let workloads: Result<Vec<_>, _> = words
                .map(|word| line.workload(word, &plan, throw_away))
                .collect();
            let workloads = workloads?;
            match (line.child, &workloads[..]) {
                (true, [only]) => Wanted::One(only.clone()),
                (_, several) => Wanted::Rounds(several.to_vec()),
            }
        };
        Ok(Self {
            wanted,
            plan,
            throw_away,
        })
    }
}

/// Takes `postgres` and the `--` after it out of the words of a command line, if it begins with
/// them.
fn without_postgres(mut words: Vec<String>) -> (Vec<String>, bool) {
    let throw_away = words.get(1).is_some_and(|word| word == "postgres");
    if throw_away {
        words.remove(1);
        if words.get(1).is_some_and(|word| word == "--") {
            words.remove(1);
        }
    }
    (words, throw_away)
}

impl CommandLine {
    fn plan(&self) -> Result<Plan, String> {
        let seconds = |flag: &str, value: f64, least: f64| {
            Duration::try_from_secs_f64(value)
                .ok()
                .filter(|seconds| (least..=3600.0).contains(&seconds.as_secs_f64()))
                .ok_or_else(|| format!("{flag} is {value}; accepted are {least} to 3600"))
        };
        let at_least_one = |flag: &str, value: u32| match value {
            0 => Err(format!("{flag} is 0; accepted is 1 or more")),
            more => Ok(more),
        };
        let optional = |flag: &str, value: Option<u32>| {
            value.map(|value| at_least_one(flag, value)).transpose()
        };
        let url = self.database_url.clone();
        if let Some(url) = &url {
            let checked = StoreConfig::new(url.as_str()).check();
            checked.map_err(|error| format!("--database-url is not accepted: {error}"))?;
        }
        Ok(Plan {
            database_url: url,
            measured: seconds("--seconds", self.seconds, 0.01)?,
            warm_up: seconds("--warm-up", self.warm_up, 0.0)?,
            concurrency: at_least_one("--concurrency", self.concurrency)?,
            entities: at_least_one("--entities", self.entities)?,
            // Each workload has its own number.
            nodes: 1,
            shards: at_least_one("--shards", self.shards)?,
            lease_ttl: seconds("--lease-ttl", self.lease_ttl, 1.0)?,
            faults: optional("--faults", self.faults)?,
            runs: at_least_one("--runs", self.runs)?,
            count: optional("--count", self.count)?,
        })
    }

    /// Finds a workload, `NAME` or `NAME@NODES`, and the number of its nodes.
    fn workload(&self, word: &str, plan: &Plan, throw_away: bool) -> Result<Workload, String> {
        let (name, nodes) = match word.split_once('@') {
            Some((name, nodes)) => (name, Some(nodes.parse().unwrap_or(0))),
            None => (word, self.nodes),
        };
        let mut workload = named(name)?;
        let (least, most) = (*workload.nodes.start(), *workload.nodes.end());
        let nodes = nodes.unwrap_or(least);
        if !workload.nodes.contains(&nodes) {
            return Err(format!(
                "the number of nodes of {name} is {nodes}; accepted are {least} to {most}"
            ));
        }
        // Bare actors have no database.
        let without = nodes == 1 || name == "ractor_cluster_call";
        if !(without || throw_away || plan.is_postgres()) {
            return Err(format!(
                "{name} with {nodes} nodes needs PostgreSQL: `bench postgres -- {word}`"
            ));
        }
        workload.nodes = nodes..=nodes;
        Ok(workload)
    }
}

fn named(name: &str) -> Result<Workload, String> {
    workload::ALL
        .iter()
        .find(|workload| workload.name == name)
        .cloned()
        .ok_or_else(|| {
            let names: Vec<_> = workload::ALL.iter().map(|workload| workload.name).collect();
            format!(
                "workload is {name}; accepted are list, {}",
                names.join(", ")
            )
        })
}
