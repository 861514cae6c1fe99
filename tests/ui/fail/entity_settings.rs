//! A setting that is unknown, repeated, malformed or out of bounds says what to write.

use actor_core::{Entity, handlers};

macro_rules! no_handlers {
    ($($name:ident)*) => { $(#[handlers] impl $name {})* };
}
no_handlers!(Unknown Repeated Flag Unquoted Soon TooShort NoRoom WrongKind Version Unstored);
no_handlers!(WrongTakeover BareTakeover Group);

#[derive(Entity, Default)]
#[entity(persistent)]
struct Unknown;

#[derive(Entity, Default)]
#[entity(expose, expose)]
struct Repeated;

#[derive(Entity, Default)]
#[entity(expose = true)]
struct Flag;

#[derive(Entity, Default)]
#[entity(passivate = 600)]
struct Unquoted;

#[derive(Entity, Default)]
#[entity(passivate = "soon")]
struct Soon;

#[derive(Entity, Default)]
#[entity(passivate = "10ms")]
struct TooShort;

#[derive(Entity, Default)]
#[entity(mailbox = 0)]
struct NoRoom;

#[derive(Entity, Default)]
#[entity(kind = "Wrong_Kind")]
struct WrongKind;

#[derive(Entity, Default)]
#[entity(takeover = "never")]
struct WrongTakeover;

#[derive(Entity, Default)]
#[entity(takeover = lease)]
struct BareTakeover;

#[derive(Entity, Default, serde::Serialize, serde::Deserialize)]
#[entity(durable, version = 0)]
struct Version;

#[derive(Entity, Default)]
#[entity(version = 2)]
struct Unstored;

#[derive(Entity, Default)]
#[entity(group = "Big Memory")]
struct Group;

fn main() {}
