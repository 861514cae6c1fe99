//! Every setting of a simulation reaches it; what is not set keeps its default.

use std::sync::atomic::{AtomicU64, Ordering};

use actor_cluster::sim::{self, Sim};
use actor_core::{Entity, handlers};

#[derive(Entity, Default)]
struct Cart;

#[handlers]
impl Cart {
    pub fn ping(&self) {}
}

#[derive(Entity, Default)]
struct Basket;

#[handlers]
impl Basket {
    pub fn ping(&self) {}
}

static SEEDS: AtomicU64 = AtomicU64::new(0);

#[sim::test]
async fn without_settings_there_is_one_node(sim: Sim) {
    assert_eq!((sim.nodes(), sim.seed()), (1, 1));
}

#[sim::test(nodes = 2, host(Cart, Basket), seeds = 3)]
async fn with_settings_there_is_what_they_say(sim: Sim) {
    assert_eq!(sim.nodes(), 2);
    sim.entity::<Cart>("a").ping().await.expect("it is hosted");
    let basket = sim.entity::<Basket>("a");
    basket.ping().await.expect("it is hosted");

    let before = SEEDS.fetch_add(sim.seed(), Ordering::SeqCst);

    assert_eq!(before, [0, 1, 3][sim.seed() as usize - 1]);
}

#[sim::test(seeds = 1, nodes = 1, host(Cart,))]
async fn order_and_a_last_comma_do_not_matter(sim: Sim) {
    sim.entity::<Cart>("a").ping().await.expect("it is hosted");
}
