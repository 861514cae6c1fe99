//! Values whose own code panics while it is written down or read: it costs their message, like a
//! panic of the handler.

use std::time::Duration;

use actor_cluster::sim::{self, Sim};
use actor_core::{CallError, Entity, handlers};
use serde::{Deserialize, Serialize};

use crate::rows::{dead, waiting};

const MINUTE: Duration = Duration::from_secs(60);

/// Breaks when it is written, if it is bad, and when it is read, if it is sour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
struct Glass(String);

impl From<String> for Glass {
    fn from(text: String) -> Self {
        assert_ne!(text, "sour", "it breaks");
        Self(text)
    }
}

impl From<Glass> for String {
    fn from(glass: Glass) -> Self {
        assert_ne!(glass.0, "bad", "it breaks");
        glass.0
    }
}

/// Keeps glasses.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
struct Shelf {
    glasses: Vec<Glass>,
}

#[handlers]
impl Shelf {
    /// Puts a glass beside the others.
    pub fn put(&mut self, name: String) {
        self.glasses.push(Glass(name));
    }

    /// Puts a glass beside the others and takes it back.
    pub fn try_put(&mut self, name: String) -> Result<(), String> {
        self.glasses.push(Glass(name));
        Err("no room".into())
    }

    /// Puts a glass beside the others and shows it.
    pub fn show(&mut self, name: String) -> Glass {
        self.glasses.push(Glass("shown".into()));
        Glass(name)
    }

    /// Returns the names of all.
    pub fn names(&self) -> Vec<String> {
        self.glasses.iter().map(|glass| glass.0.clone()).collect()
    }
}

/// Shows glasses and keeps none.
#[derive(Debug, Default, Entity)]
struct Tray;

#[handlers]
impl Tray {
    /// Shows a glass.
    pub fn show(&self, name: String) -> Glass {
        Glass(name)
    }
}

fn crashed<T: std::fmt::Debug, E: std::fmt::Debug>(answer: &Result<T, CallError<E>>) -> bool {
    matches!(answer, Err(CallError::Crashed(why)) if why.contains("it breaks"))
}

#[sim::test(host(Shelf, Tray), seeds = 4)]
async fn a_state_or_outcome_that_panics_when_it_is_written_costs_its_call(sim: Sim) {
    let (shelf, tray) = (sim.entity::<Shelf>("a"), sim.entity::<Tray>("a"));
    shelf.put("first".into()).await.expect("the node answers");

    let put = shelf.put("bad".into()).await;
    let shown = shelf.show("bad".into()).await;
    let carried = tray.show("bad".into()).await;

    assert!(crashed(&put), "{put:?}");
    assert!(crashed(&shown), "{shown:?}");
    assert!(crashed(&carried), "{carried:?}");
    let names = shelf.names().timeout(MINUTE).await;
    assert_eq!(names, Ok(vec!["first".to_owned()]), "nothing was kept");
    let shown = tray.show("good".into()).timeout(MINUTE).await;
    assert_eq!(shown, Ok(Glass("good".into())));
}

#[sim::test(host(Shelf), seeds = 4)]
async fn a_stored_message_whose_state_panics_when_it_is_written_is_given_up(sim: Sim) {
    let shelf = sim.entity::<Shelf>("a");
    shelf.put("bad".into()).cast().await.expect("stored");
    shelf.put("behind".into()).cast().await.expect("stored");

    sim.advance(2 * MINUTE).await;

    let dead = dead(&sim).await;
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(dead[0].attempts, 10);
    assert!(dead[0].error.contains("it breaks"), "{}", dead[0].error);
    assert_eq!(shelf.names().await, Ok(vec!["behind".to_owned()]));
    assert_eq!(waiting(&sim).await, 0);
}

#[sim::test(host(Shelf), seeds = 4)]
async fn a_state_that_panics_when_it_is_read_costs_its_entity(sim: Sim) {
    let (sour, sweet) = (sim.entity::<Shelf>("a"), sim.entity::<Shelf>("b"));
    sour.put("sour".into()).await.expect("the node answers");
    sweet.put("sweet".into()).await.expect("the node answers");
    let restored = sour.try_put("x".into()).await;
    let after = sour.names().timeout(MINUTE).await;
    sim.crash(0);
    sim.restart(0).await;
    sour.put("more".into()).cast().await.expect("stored");

    sim.advance(3 * MINUTE).await;
    let read = sour.names().timeout(MINUTE).await;

    assert_eq!(restored, Err(CallError::Rejected("no room".into())));
    assert!(crashed(&after), "{after:?}");
    assert!(crashed(&read), "{read:?}");
    let dead = dead(&sim).await;
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert!(dead[0].error.contains("it breaks"), "{}", dead[0].error);
    assert_eq!(sweet.names().await, Ok(vec!["sweet".to_owned()]));
    assert_eq!(waiting(&sim).await, 0);
}
