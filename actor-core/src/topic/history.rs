//! Reading what was announced on a topic. Not here: the tables (`store::topics`), and who is told.

use std::sync::Arc;

use super::{Position, TopicEvent};
use crate::store::{Store, StoreError, topics};

/// Events of a topic, from its history.
#[derive(Debug)]
pub(crate) struct History {
    /// Where the topic stands, not before the last of `events`.
    pub(crate) position: Position,
    /// Whether nothing is missing between the position asked for and the first event.
    pub(crate) recovered: bool,
    /// Oldest first.
    pub(crate) events: Vec<Arc<TopicEvent>>,
}

/// Reads at most `limit` events after `since`; without it, only where the topic stands.
pub(crate) async fn read(
    store: &Store,
    topic: &Arc<str>,
    since: Option<Position>,
    limit: u32,
) -> Result<History, StoreError> {
    let (name, since) = (topic.clone(), since.map(stored));
    let read = store.read("topic history", move |connection| {
        Box::pin(async move {
            match since {
                Some(since) => topics::since(connection, &name, since, limit).await,
                None => topics::now(connection, &name).await,
            }
        })
    });
    let page = read.await?;
    let mut position = Position::from(page.position);
    let event = |row: topics::EventRow| {
        let offset = row.offset.cast_unsigned();
        // Events that were stored between the two reads stand behind the first.
        position.offset = position.offset.max(offset);
        Arc::new(TopicEvent {
            topic: topic.clone(),
            position: Position { offset, ..position },
            name: row.name.into(),
            data: row.data.into(),
        })
    };
    let events = page.events.into_iter().map(event).collect();
    Ok(History {
        position,
        recovered: page.recovered,
        events,
    })
}

fn stored(position: Position) -> topics::Position {
    topics::Position {
        epoch: position.epoch.cast_signed(),
        offset: position.offset.cast_signed(),
    }
}

impl From<topics::Position> for Position {
    fn from(position: topics::Position) -> Self {
        Self {
            epoch: position.epoch.cast_unsigned(),
            offset: position.offset.cast_unsigned(),
        }
    }
}
