//! What an entity needs is asked for at its name, or at the setting that needs it.

use actor_core::{Entity, handlers};

#[derive(Entity)]
struct WithoutDefault;

#[handlers]
impl WithoutDefault {}

#[derive(Entity, Default)]
#[entity(durable)]
struct WithoutSerialize;

#[handlers]
impl WithoutSerialize {}

fn main() {}
