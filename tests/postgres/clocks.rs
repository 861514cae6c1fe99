//! Nodes whose time of day is wrong, beside a database that has the right one.

use actor_tests::{
    Result,
    bed::{Backend, Bed, SHARDS},
};

use crate::sessions::{register, take};

/// Leases are judged by the database's clock alone: a node's own decides nothing (architecture D1).
#[tokio::test]
async fn a_node_whose_clock_is_wrong_takes_what_is_free_and_nothing_else() -> Result<()> {
    for wrong_by_ms in [-8_000, 8_000, 3_600_000] {
        let bed = Bed::new(Backend::postgres("")).await?;
        let (wrong, _) = bed.store_of_a_node_that_is_off_by(wrong_by_ms).await?;
        bed.fault.advance_ms(5_000);
        let b = register(&bed.store, "b").await?;

        // Half of the lease is left.
        let early = take(&wrong, "b", b).await?;
        bed.fault.advance_ms(5_001);
        let c = register(&bed.store, "c").await?;
        let late = take(&wrong, "c", c).await?;

        assert_eq!(early, [], "off by {wrong_by_ms} ms");
        assert_eq!(late.len(), SHARDS as usize, "off by {wrong_by_ms} ms");
    }
    Ok(())
}

/// What a node takes for the database's time passes by its monotonic clock: a time of day that
/// steps between two renewals makes no timer early.
#[tokio::test]
async fn a_step_of_a_nodes_clock_is_none_of_the_databases_time() -> Result<()> {
    let bed = Bed::new(Backend::postgres("")).await?;
    let (store, clock) = bed.store_of_a_node_that_is_off_by(-5_000).await?;
    let looked = store.write_lease("renew", |_| Box::pin(async { Ok(()) }));
    looked.await?;

    let before_ms = store.now_ms();
    clock.advance_ms(3_600_000);
    let stepped_ms = store.now_ms() - before_ms;

    assert!((0..600_000).contains(&stepped_ms), "{stepped_ms}");
    Ok(())
}
