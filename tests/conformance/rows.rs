//! Small makers of the rows that the suite stores, and what it reads back.

use std::{sync::Arc, time::Duration};

use actor_core::{
    codec::Codec,
    id::CallId,
    store::{
        StoreError, Write,
        entities::{self, Place, State, StateRow},
        mailbox::{self, NewMessage},
        replies::{self, Reply, ReplyRow},
    },
};
use actor_tests::bed::Bed;

/// The `version`-th state of an entity, made from the one before.
pub(crate) fn state(place: &Place, version: u64, bytes: &str) -> Write {
    let state = State {
        version,
        base: version - 1,
        shape: 1,
        state: bytes.as_bytes().into(),
    };
    entities::store(place, state)
}

/// A state that no database takes: it has no bytes where the schema demands some.
pub(crate) fn unstorable(place: &Place) -> Write {
    let mut write = state(place, 1, "x");
    if let Write::Row { values, .. } = &mut write {
        values[6] = actor_core::store::Value::Null;
    }
    write
}

/// The outcome of call `id`.
pub(crate) fn reply(place: &Place, id: u128, outcome: &str) -> Write {
    let reply = Reply {
        id: CallId(id),
        hash: u64::MAX - 1,
        ok: true,
        outcome: outcome.as_bytes().into(),
        keep: Duration::from_secs(600),
    };
    replies::store(place, reply)
}

/// Message `id`, ready at once.
pub(crate) fn message(id: u128) -> NewMessage {
    NewMessage {
        id: CallId(id),
        method: "add".into(),
        codec: Codec::Json,
        args: b"{}".as_slice().into(),
        context: Arc::new([]),
        due: None,
        expires: None,
    }
}

/// Stores message `id`, ready at once.
pub(crate) fn send(place: &Place, id: u128) -> Write {
    mailbox::insert(place, message(id))
}

/// An event on a topic.
pub(crate) fn event(topic: &str, data: &str) -> Write {
    Write::Event {
        topic: topic.into(),
        name: "said".into(),
        key: Some("k".into()),
        data: data.as_bytes().into(),
    }
}

/// Returns the stored state.
pub(crate) async fn load(bed: &Bed, place: &Place) -> Result<Option<StateRow>, StoreError> {
    let place = place.clone();
    let read = bed.store.read("load", move |c| {
        Box::pin(async move { entities::load(c, &place).await })
    });
    read.await
}

/// Returns the stored state's version; 0 if there is none.
pub(crate) async fn version(bed: &Bed, place: &Place) -> Result<u64, StoreError> {
    Ok(load(bed, place).await?.map_or(0, |row| row.version))
}

/// Returns the stored outcome of call `id`.
pub(crate) async fn find(
    bed: &Bed,
    place: &Place,
    id: u128,
) -> Result<Option<ReplyRow>, StoreError> {
    let place = place.clone();
    let read = bed.store.read("find", move |c| {
        Box::pin(async move { replies::find(c, &place, CallId(id)).await })
    });
    read.await
}
