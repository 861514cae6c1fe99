//! `GET /ws`: from the upgrade of a request to the last byte of its socket.

use std::sync::Arc;

use actor_core::{clock::Clock, codec::Codec};
use axum::{
    extract::{
        FromRequestParts, Request, State,
        ws::{Message, WebSocket, WebSocketUpgrade},
    },
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream::SplitStream};
use ractor::{Actor, ActorRef};
use serde::Serialize;
use tokio::{
    select,
    sync::{Semaphore, mpsc, oneshot},
};
use tokio_tungstenite::tungstenite;

use super::{
    Birth, Notice, Session,
    answer::Wire,
    outbound::{Close, Outbound, Writer},
    registry::Admitted,
    requests,
};
use crate::{
    drain::Drain,
    gateway::Shared,
    rejection::Rejection,
    request::{self, Caller},
    topics,
};

/// The subprotocols, the preferred one first.
const PROTOCOLS: [&str; 2] = ["actor.v1.json", "actor.v1.msgpack"];

/// Bytes read from a socket at once. The library's default of 128 KiB is taken by each idle socket.
const READ_BUFFER: usize = 4 * 1024;

/// Bytes gathered before they are written.
const WRITE_BUFFER: usize = 16 * 1024;

/// Bytes a socket may hold unwritten: one answer of the largest size, and room around it.
const WRITE_BUFFER_MAX: usize = 4 * 1024 * 1024;

/// How long a closed socket is read on, so that the client gets the close and not a reset.
const LINGER: std::time::Duration = std::time::Duration::from_secs(1);

/// Opens a socket.
pub(crate) async fn upgrade(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Result<Response, Rejection> {
    let (mut parts, _) = request.into_parts();
    let caller = request::caller(&parts.extensions)?;
    let drain = topics::drain(&mut parts, &shared).await;
    let upgrade = WebSocketUpgrade::from_request_parts(&mut parts, &()).await;
    let upgrade = upgrade
        .map_err(|error| Rejection::new("decode", error.body_text()).with_status(error.status()))?;
    let place = shared.sessions.socket(&drain)?;
    let limits = &shared.limits;
    let upgrade = upgrade
        .protocols(PROTOCOLS)
        .max_message_size(limits.message_bytes_max)
        .max_frame_size(limits.message_bytes_max)
        .read_buffer_size(READ_BUFFER)
        .write_buffer_size(WRITE_BUFFER)
        .max_write_buffer_size(WRITE_BUFFER_MAX)
        .on_failed_upgrade(|error| tracing::debug!(%error, "a socket was not upgraded"));
    let packed = upgrade
        .selected_protocol()
        .is_some_and(|name| *name == *PROTOCOLS[1]);
    let wire = Wire(if packed { Codec::Msgpack } else { Codec::Json });
    Ok(upgrade
        .on_upgrade(move |socket| {
            run(
                socket,
                Opening {
                    shared,
                    caller,
                    drain,
                    wire,
                    place,
                },
            )
        })
        .into_response())
}

/// What a socket begins with.
struct Opening {
    shared: Arc<Shared>,
    caller: Caller,
    drain: Drain,
    wire: Wire,
    place: Admitted,
}

/// The first thing a client hears.
#[derive(Serialize)]
struct Welcome {
    session: String,
    node: String,
    reconnect_ms: u64,
}

/// Serves one socket to its end.
async fn run(socket: WebSocket, opening: Opening) {
    let Opening {
        shared,
        caller,
        drain,
        wire,
        place,
    } = opening;
    let hosting = shared.client.hosting().clone();
    let reconnect = shared.sessions.reconnect_after(hosting.rng());
    let (sink, mut stream) = socket.split();
    let (outbound, queue) = mpsc::channel(shared.limits.outbox_max.max(1));
    let welcome = Welcome {
        session: format!("{:016x}", hosting.rng().bits()),
        node: hosting.shards().node().to_string(),
        reconnect_ms: u64::try_from(reconnect.as_millis()).unwrap_or(u64::MAX),
    };
    // The queue is empty and has room: this cannot fail.
    drop(outbound.try_send(Outbound::Frame(wire.notification("welcome", &welcome))));
    let birth = Birth {
        shared: shared.clone(),
        caller,
        wire,
        outbound,
    };
    let spawned = match shared.sessions.supervisor(hosting.root()) {
        Ok(supervisor) => Session::spawn_linked(None, Session, birth, supervisor)
            .await
            .ok(),
        Err(_) => None,
    };
    let Some((session, ended)) = spawned else {
        tracing::warn!("a socket got no session: the node is stopping");
        return;
    };
    let limits = &shared.limits;
    let writer = Writer {
        sink,
        queue,
        wire,
        write_timeout: limits.write_timeout,
        ping_every: limits.ping_every,
        reconnect,
    };
    let (close, closing) = oneshot::channel();
    let mut writing = std::pin::pin!(writer.run(closing));
    let reason = select! {
        biased;
        reason = &mut writing => reason,
        reason = attend(&shared, &session, &mut stream, wire, &drain, ended) => {
            // A writer that ended meanwhile does not listen.
            let _ = close.send(reason);
            writing.await
        }
    };
    session.stop(None);
    if reason != Close::Gone {
        linger(stream).await;
    }
    drop(place);
}

/// Reads, and watches what else may end the socket.
async fn attend(
    shared: &Shared,
    session: &ActorRef<Notice>,
    stream: &mut SplitStream<WebSocket>,
    wire: Wire,
    drain: &Drain,
    ended: ractor::concurrency::JoinHandle<()>,
) -> Close {
    let drained = async {
        drain.begun().await;
        drop(session.cast(Notice::Drain));
        Clock.sleep(shared.limits.drain_patience).await;
    };
    // Each arm ends the socket, so that none is begun again.
    select! {
        biased;
        _ = ended => Close::Failed,
        reason = read(shared, session, stream, wire) => reason,
        () = drained => Close::Restart,
    }
}

/// Hands messages to the session; pauses while it has too many.
async fn read(
    shared: &Shared,
    session: &ActorRef<Notice>,
    stream: &mut SplitStream<WebSocket>,
    wire: Wire,
) -> Close {
    let inbox = Arc::new(Semaphore::new(shared.limits.inbox_max.max(1)));
    loop {
        let next = select! {
            biased;
            next = stream.next() => next,
            () = Clock.sleep(shared.limits.idle_timeout) => return Close::Silent,
        };
        let message = match next {
            Some(Ok(message)) => message,
            Some(Err(error)) => return reason_of(error),
            None => return Close::Gone,
        };
        let bytes = match &message {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
            Message::Ping(_) | Message::Pong(_) => continue,
            Message::Close(_) => return Close::Gone,
        };
        let request = requests::read(wire.0, bytes);
        let Ok(permit) = inbox.clone().acquire_owned().await else {
            return Close::Failed;
        };
        if session.cast(Notice::Received(request, permit)).is_err() {
            return Close::Failed;
        }
    }
}

fn reason_of(error: axum::Error) -> Close {
    let cause = error.into_inner().downcast::<tungstenite::Error>();
    match cause.as_deref() {
        Ok(tungstenite::Error::Capacity(_)) => Close::TooLarge,
        _ => Close::Gone,
    }
}

/// Reads what is still on its way and throws it away.
async fn linger(mut stream: SplitStream<WebSocket>) {
    let rest = async { while let Some(Ok(_)) = stream.next().await {} };
    select! {
        biased;
        () = rest => {}
        () = Clock.sleep(LINGER) => {}
    }
}
