//! What the sweeper finds: the singleton that looks after what nobody else does.

use std::time::Duration;

use actor_cluster::sim::{self, Fault, Sim};
use actor_core::Result;

use crate::{diary::runner, kinds::Alarm};

const SECOND: Duration = Duration::from_secs(1);

/// Messages of a shard that nobody can take are counted, and run when somebody can.
#[sim::test(nodes = 3, host(Alarm), seeds = 4)]
async fn messages_in_shards_that_nobody_owns_are_counted(sim: Sim) -> Result<()> {
    sim.advance(5 * SECOND).await;
    let sweeper = runner(&sim, "actor:sweeper", None)
        .await
        .expect("somebody sweeps");
    let victim = (0..3).find(|node| *node != sweeper).expect("three nodes");
    let named = |id: &u64| sim.owner::<Alarm>(id) == Some(victim);
    let id = (0..64).find(named).expect("it owns some");
    sim.entity::<Alarm>(id).set(5_000).await?;

    for node in (0..3).filter(|node| *node != victim) {
        sim.fault(
            node,
            Fault::fail_before().only("take shards").until_cleared(),
        );
    }
    sim.crash(victim);
    sim.advance(125 * SECOND).await;
    let mut stuck = [0; 3];
    for node in (0..3).filter(|node| *node != victim) {
        let cluster = sim.run_on(node, |node| async move { node.cluster() });
        stuck[node] = cluster.await.expect("it lives").stuck_unowned;
    }
    for node in (0..3).filter(|node| *node != victim) {
        sim.clear_faults(node);
    }
    sim.advance(80 * SECOND).await;
    let rung = sim.entity::<Alarm>(id).rung().await?;
    let cluster = sim.run_on(sweeper, |node| async move { node.cluster() });

    let mut expected = [0; 3];
    expected[sweeper] = 1;
    assert_eq!(stuck, expected);
    assert_eq!(rung.len(), 1);
    assert_eq!(cluster.await.expect("it lives").stuck_unowned, 0);
    Ok(())
}
