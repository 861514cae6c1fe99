//! Runs workloads by turns, each in a process of its own, and prints the median run of each.

use std::{
    env,
    process::{Command, Stdio},
};

use actor_core::{Failure, Result};

use crate::{arguments::Plan, postgres, report::Line, workload::Workload};

/// Runs one workload here and prints its lines.
pub(crate) fn in_this_process(workload: &Workload, plan: &Plan) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let plan = Plan {
        nodes: *workload.nodes.start(),
        ..plan.clone()
    };
    for line in runtime.block_on((workload.run)(&plan))? {
        println!("{}", serde_json::to_string(&line)?);
    }
    // Whatever still runs is cut off: the process ends here.
    runtime.shutdown_background();
    Ok(())
}

/// Runs each workload as often as planned and prints its median lines.
pub(crate) fn in_child_processes(workloads: &[Workload], plan: &Plan) -> Result<()> {
    let mut runs: Vec<Vec<Vec<Line>>> = vec![Vec::new(); workloads.len()];
    for _ in 0..plan.runs {
        for (workload, runs) in workloads.iter().zip(&mut runs) {
            runs.push(in_child_process(workload, plan)?);
            if runs.len() == plan.runs as usize {
                for line in medians(&std::mem::take(runs)) {
                    println!("{}", serde_json::to_string(&line)?);
                }
            }
        }
    }
    Ok(())
}

fn in_child_process(workload: &Workload, plan: &Plan) -> Result<Vec<Line>> {
    let mut command = Command::new(env::current_exe()?);
    command
        .args(["--child", workload.name])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let mut flag = |name: &str, value: String| {
        command.args([name, &value]);
    };
    flag("--seconds", plan.measured.as_secs_f64().to_string());
    flag("--warm-up", plan.warm_up.as_secs_f64().to_string());
    flag("--concurrency", plan.concurrency.to_string());
    flag("--entities", plan.entities.to_string());
    flag("--nodes", workload.nodes.start().to_string());
    flag("--shards", plan.shards.to_string());
    flag("--lease-ttl", plan.lease_ttl.as_secs_f64().to_string());
    let optional = [("--faults", plan.faults), ("--count", plan.count)];
    for (name, value) in optional {
        if let Some(value) = value {
            flag(name, value.to_string());
        }
    }
    if let Some(url) = &plan.database_url {
        flag("--database-url", postgres::with_schema(url));
    }
    let output = command.output()?;
    if !output.status.success() {
        let text = format!("{} ended with {}", workload.name, output.status);
        return Err(Failure::fatal("child_failed", text));
    }
    let text = String::from_utf8(output.stdout)?;
    Ok(text
        .lines()
        .map(serde_json::from_str)
        .collect::<Result<_, _>>()?)
}

/// Returns, for each subject, the line of the run in the middle.
fn medians(runs: &[Vec<Line>]) -> Vec<Line> {
    let subjects = runs.first().cloned().unwrap_or_default();
    let median = |subject: Line| {
        let mut lines: Vec<Line> = runs
            .iter()
            .filter_map(|lines| {
                lines
                    .iter()
                    .find(|line| line.subject() == subject.subject())
            })
            .cloned()
            .collect();
        lines.sort_by(|a, b| a.ops_per_s().total_cmp(&b.ops_per_s()));
        let runs = lines.len();
        lines.swap_remove(runs / 2).with("runs", runs)
    };
    subjects.into_iter().map(median).collect()
}
