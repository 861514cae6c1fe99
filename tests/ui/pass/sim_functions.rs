//! A simulation is an `async fn` of one argument; it returns nothing or a result of any error.

use actor_cluster::sim;

#[sim::test]
async fn nothing_is_returned(sim: sim::Sim) {
    assert_eq!(sim.nodes(), 1);
}

#[sim::test]
async fn the_argument_may_be_ignored(_: sim::Sim) {}

#[sim::test]
async fn the_argument_may_be_changed(mut sim: sim::Sim) {
    let seed = sim.seed();
    sim = sim.clone();
    assert_eq!(sim.seed(), seed);
}

#[sim::test]
async fn a_result_of_the_framework(_: sim::Sim) -> actor_core::Result<()> {
    Ok(())
}

#[sim::test]
async fn a_result_of_another_error(_: sim::Sim) -> Result<(), std::num::ParseIntError> {
    assert_eq!("7".parse::<u8>()?, 7);
    Ok(())
}

/// Docs and other attributes stay.
#[sim::test]
#[expect(
    unused_variables,
    reason = "it shows that attributes reach the function"
)]
pub async fn attributes_are_kept(sim: sim::Sim) {}
