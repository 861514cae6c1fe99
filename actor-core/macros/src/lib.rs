//! The derives and attributes of the framework.
//!
//! Each macro is one file in three parts: parse the tokens, build a small struct, print it. What is
//! printed is data and calls; the behaviour lives in the crate that owns the trait and re-exports
//! the macro. Every error points at the token to change and says what to write instead, and what is
//! right beside a mistake is still printed, so that one mistake makes one message.

mod attributes;
#[cfg(test)]
mod checking;
mod entity;
mod event;
mod handlers;
mod naming;
mod problems;
mod sim_test;
mod workflow;

use proc_macro::TokenStream;

/// Makes a type an entity, and its typed reference (`CartRef` for `Cart`).
///
/// The type needs `Default`, which makes an entity that was never stored; a durable one also needs
/// `Serialize` and `Deserialize`. Settings go into `#[entity(...)]`:
///
/// | setting | meaning | default | bounds |
/// |---|---|---|---|
/// | `durable` | saves the state before each reply | volatile | |
/// | `version = 2` | the version of the state's shape | 1 | at least 1, needs `durable` |
/// | `passivate = "10m"` | idle time after which it leaves memory | 10 min | at least 1 s |
/// | `mailbox = 100` | the most messages running and queued; over it calls end as `Overloaded` | 4096 | at least 1 |
/// | `key_retention = "24h"` | how long the outcome of a keyed call is remembered | 24 h | at least 1 s |
/// | `takeover = "lease"` | a new owner waits for the lease of one that was declared dead: no two nodes run one entity's handlers at once | `"early"` | `"early"` or `"lease"` |
/// | `expose` | HTTP and WebSocket clients may call it | not exposed | |
/// | `group = "media"` | the group of shards: only nodes that host a kind of it own them; never changed | `default` | `[a-z][a-z0-9-]{0,63}` |
/// | `kind = "name"` | the stable wire name | the type's name in kebab case | `[a-z][a-z0-9-]{0,63}` |
#[proc_macro_derive(Entity, attributes(entity))]
pub fn entity(input: TokenStream) -> TokenStream {
    entity::expand(input.into()).into()
}

/// Makes the methods of an `impl` block what an entity can be asked for.
///
/// * A `pub fn` or `pub async fn` that takes `&self` or `&mut self` is a message: the entity's
///   reference gets a method of the same name and documentation, which returns a `Call`.
/// * A method marked `#[on]` takes `&mut self` and one event, and runs when that event is announced
///   with this entity's key.
/// * Every other function is a helper and stays as it is.
///
/// A message or `#[on]` method may have one more parameter of type `&mut Ctx<Self>`, anywhere.
/// Other arguments are owned values with plain names, and so are results. A return type named
/// `Result` is fallible: its `Err` reaches the caller as `CallError::Rejected` and nothing the
/// method did is kept. `Ctx` and `Result` are recognized by their last path segment.
#[proc_macro_attribute]
pub fn handlers(settings: TokenStream, block: TokenStream) -> TokenStream {
    handlers::expand(&settings.into(), block.into()).into()
}

/// Makes a type an event. It needs `Clone`, `Serialize` and `Deserialize`.
///
/// Settings go into `#[event(...)]`:
///
/// | setting | meaning | default | bounds |
/// |---|---|---|---|
/// | `topic = "orders"` | the topic it is announced on | none, it must be set | `[a-z0-9/_.-]{1,128}` |
/// | `key = cart` | the field that names the entities which receive it | no entity does | implements `Display` |
/// | `name = "order-placed"` | the stable wire name | the type's name in kebab case | `[a-z][a-z0-9-]{0,63}` |
#[proc_macro_derive(Event, attributes(event))]
pub fn event(input: TokenStream) -> TokenStream {
    event::expand(input.into()).into()
}

/// Makes a type a workflow. It needs `Serialize` and `Deserialize`, and an `impl Run`.
///
/// Settings go into `#[workflow(...)]`:
///
/// | setting | meaning | default | bounds |
/// |---|---|---|---|
/// | `output = Receipt` | what a completed run returns | `()` | |
/// | `version = 2` | the version of the recipe; a run keeps the one it began with | 1 | at least 1 |
/// | `expose` | HTTP clients may start it | not exposed | |
/// | `group = "media"` | the group of shards: only nodes that host a kind of it own them; never changed | `default` | `[a-z][a-z0-9-]{0,63}` |
/// | `kind = "checkout"` | the stable wire name | the type's name in kebab case | `[a-z][a-z0-9-]{0,63}` |
#[proc_macro_derive(Workflow, attributes(workflow))]
pub fn workflow(input: TokenStream) -> TokenStream {
    workflow::expand(input.into()).into()
}

/// Makes an `async fn` of one argument, the simulation, a test that runs a whole cluster in virtual
/// time. A failure prints the seed that repeats it.
///
/// | setting | meaning | default | bounds |
/// |---|---|---|---|
/// | `nodes = 3` | how many nodes the cluster has | 1 | 1 to 64 |
/// | `host(Cart, Checkout)` | the kinds every node hosts | none | |
/// | `seeds = 64` | how many seeds are tried | 1 | 1 to 100000 |
#[proc_macro_attribute]
pub fn sim_test(settings: TokenStream, function: TokenStream) -> TokenStream {
    sim_test::expand(settings.into(), &function.into()).into()
}
