//! Dead letters: look, replay, discard.

use std::sync::Arc;

use actor_core::{
    codec::Codec,
    store::{
        dead_letters::{self, DeadLetter},
        mailbox::parse_codec,
    },
};
use axum::{Json, extract::State};
use serde_json::{Value, json};

use super::{Asked, store};
use crate::{gateway::Shared, rejection::Rejection, request::Segments};

/// The most bytes of arguments that are shown.
const SHOWN_BYTES_MAX: usize = 4096;

/// Lists dead letters, the oldest first.
pub(in crate::dashboard) async fn list(
    State(shared): State<Arc<Shared>>,
    Asked(page): Asked,
) -> Result<Json<Value>, Rejection> {
    let after = match page.after.as_str() {
        "" => 0,
        text => number("after", text)?,
    };
    let limit = page.limit() as u32;
    let rows = shared
        .client
        .hosting()
        .store()
        .read("dead letters", move |connection| {
            Box::pin(async move {
                let rows = dead_letters::list(connection, after, limit).await?;
                Ok((rows, dead_letters::count(connection).await?))
            })
        });
    let (rows, count) = rows.await.map_err(store)?;
    let next = rows
        .last()
        .filter(|_| rows.len() == page.limit())
        .map(|row| row.seq.to_string());
    let rows: Vec<Value> = rows.iter().map(show).collect();
    Ok(Json(
        json!({"count": count, "dead_letters": rows, "next": next}),
    ))
}

fn show(letter: &DeadLetter) -> Value {
    let codec = parse_codec(&letter.codec).unwrap_or(Codec::Msgpack);
    let args = if letter.args.len() > SHOWN_BYTES_MAX {
        Value::String(format!("{} bytes", letter.args.len()))
    } else {
        // Transcoded for people's eyes only; a replay uses the bytes.
        let unreadable = |_| Value::String(format!("{} unreadable bytes", letter.args.len()));
        codec.decode(&letter.args).unwrap_or_else(unreadable)
    };
    json!({
        "seq": letter.seq,
        "what": letter.what,
        "shard": letter.shard,
        "kind": letter.kind,
        "id": letter.entity,
        "method": letter.method,
        "args": args,
        "attempts": letter.attempts,
        "error": letter.error,
        "died_at_ms": letter.died_at,
    })
}

/// Puts a dead letter back into its mailbox.
pub(in crate::dashboard) async fn replay(
    State(shared): State<Arc<Shared>>,
    Segments(seq): Segments<String>,
) -> Result<Json<Value>, Rejection> {
    let seq = number("dead letter", &seq)?;
    let hosting = shared.client.hosting();
    let replayed = hosting
        .store()
        .write("replay dead letter", move |connection| {
            Box::pin(async move { dead_letters::replay(connection, seq).await })
        });
    let Some(replayed) = replayed.await.map_err(store)? else {
        return Err(gone(seq));
    };
    tracing::info!(seq, "an operator replays a dead letter");
    // The poll finds it within seconds; this is sooner.
    if let Err(error) = hosting.poll(0).await {
        tracing::warn!(%error, "a replayed message waits for the next poll");
    }
    Ok(Json(
        json!({"seq": seq, "mailbox_seq": replayed.seq, "shard": replayed.shard}),
    ))
}

/// Deletes a dead letter for good.
pub(in crate::dashboard) async fn discard(
    State(shared): State<Arc<Shared>>,
    Segments(seq): Segments<String>,
) -> Result<Json<Value>, Rejection> {
    let seq = number("dead letter", &seq)?;
    let discarded = shared
        .client
        .hosting()
        .store()
        .write("discard dead letter", move |connection| {
            Box::pin(async move { dead_letters::discard(connection, seq).await })
        });
    if !discarded.await.map_err(store)? {
        return Err(gone(seq));
    }
    tracing::info!(seq, "an operator discards a dead letter");
    Ok(Json(json!({"seq": seq, "discarded": true})))
}

fn number(name: &str, text: &str) -> Result<i64, Rejection> {
    let wrong = |_| Rejection::new("decode", format_args!("`{name}` is not a number"));
    text.parse().map_err(wrong)
}

fn gone(seq: i64) -> Rejection {
    Rejection::new("not_hosted", format_args!("there is no dead letter {seq}"))
}
