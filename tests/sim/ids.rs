//! Ids that the nodes of a cluster make, each by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use actor_cluster::sim::{self, Sim};
use actor_core::{Result, id::Snowflake};

use crate::kinds::Counter;

const SECOND: Duration = Duration::from_secs(1);

async fn ids(sim: &Sim, node: usize, count: usize) -> Result<Vec<Snowflake>> {
    let made = sim.run_on(node, move |node| async move {
        let client = node.client();
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(client.snowflake().await?);
        }
        Ok::<_, actor_core::Refusal>(ids)
    });
    Ok(made.await.expect("the node lives")?)
}

#[sim::test(nodes = 3, host(Counter), seeds = 4)]
async fn nodes_that_crash_freeze_and_leave_never_make_an_id_twice(sim: Sim) -> Result<()> {
    let mut all: BTreeMap<Snowflake, usize> = BTreeMap::new();
    let mut machines = BTreeSet::new();
    let mut made = 0;
    for round in 0..9 {
        for node in 0..3 {
            if !sim.is_up(node) {
                continue;
            }
            let ids = ids(&sim, node, 6_000).await?;
            assert!(ids.is_sorted(), "ids of a node grow");
            made += ids.len();
            machines.extend(ids.iter().map(|id| id.machine()));
            all.extend(ids.into_iter().map(|id| (id, node)));
        }
        let node = sim.rng().below(3) as usize;
        match round % 3 {
            0 => {
                sim.crash(node);
                sim.restart(node).await;
            }
            1 => {
                sim.freeze(node);
                sim.advance(12 * SECOND).await;
                sim.thaw(node);
                sim.advance(20 * SECOND).await;
            }
            _ => {
                sim.shutdown(node).await.expect("it stops in order");
                sim.restart(node).await;
            }
        }
        sim.advance(Duration::from_millis(sim.rng().below(40_000)))
            .await;
    }

    assert_eq!(all.len(), made, "an id was made twice");
    assert!(made >= 100_000, "{made}");
    assert!(machines.len() >= 3, "{machines:?}");
    Ok(())
}
