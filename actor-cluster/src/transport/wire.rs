//! The bytes of envelopes: one declaration of each form, bincode behind a version byte.
//!
//! The forms are generic over how they hold text and bytes, so that writing borrows and reading
//! owns, and neither can drift from the other. The order of fields and variants is the format:
//! append, never reorder; the tests hold written-down bytes of each.

use std::{sync::Arc, time::Duration};

use actor_core::{
    RequestContext,
    client::{Invocation, Mode},
    codec::{Codec, CodecError, decode_row, encode_row},
    context::Waiter,
    entity::Encoded,
    error::Refusal,
    id::{CallId, EntityId, Epoch, Incarnation, NodeId, ShardId},
    mailbox::{Announcement, Due, Effect, StoredMessage},
    topic::{Position, TopicEvent},
};
use bincode::{Decode, Encode};

use super::envelope::{Answer, Call, Note, OwnerHint, Request};

/// Text and bytes as they are read.
type Text = Arc<str>;
type Bytes = Vec<u8>;

#[derive(Encode, Decode)]
enum RequestForm<T, B> {
    Invoke(CallForm<T, B>),
    Send(MessageForm<T, B>),
    Announce(AnnouncementForm<T, B>),
    Report,
}

#[derive(Encode, Decode)]
struct CallForm<T, B> {
    kind: T,
    id: T,
    method: T,
    codec: CodecForm,
    reply: CodecForm,
    args: B,
    call: Option<u128>,
    cast: bool,
    epoch: Option<u64>,
    request: Option<ContextForm<T>>,
    /// Kind and id of each.
    chain: Vec<(T, T)>,
}

#[derive(Encode, Decode)]
struct ContextForm<T> {
    tenant: Option<T>,
    request_id: Option<T>,
    trace: Option<T>,
}

#[derive(Encode, Decode)]
struct MessageForm<T, B> {
    kind: T,
    id: T,
    message: u128,
    method: T,
    codec: CodecForm,
    args: B,
    request: Option<ContextForm<T>>,
    due: Option<DueForm>,
    expires: Option<Duration>,
    keyed: bool,
}

#[derive(Encode, Decode)]
struct AnnouncementForm<T, B> {
    topic: T,
    name: T,
    key: Option<T>,
    body: B,
}

#[derive(Encode, Decode)]
enum DueForm {
    After(Duration),
    At(i64),
}

#[derive(Clone, Copy, Encode, Decode)]
enum CodecForm {
    Msgpack,
    Json,
}

#[derive(Encode, Decode)]
enum AnswerForm<T, B> {
    Outcome { ok: bool, bytes: B },
    Stored { epoch: u64, offset: u64 },
    NotOwner { owner: Option<(T, u64, u64)> },
    Refused(RefusalForm<T>),
    Report(B),
}

#[derive(Encode, Decode)]
enum RefusalForm<T> {
    Timeout { started: bool },
    Overloaded { retry_after: Duration },
    Unavailable(T),
    NotHosted(T),
    Crashed(T),
    Decode(T),
    TooLarge(T),
    KeyReused,
    Cycle(T),
    UnknownOutcome(T),
    Unauthorized,
    Forbidden,
}

#[derive(Encode, Decode)]
enum NoteForm<T, B> {
    Due {
        shard: u32,
        kind: T,
        id: T,
        due_in: Duration,
    },
    Event {
        topic: T,
        epoch: u64,
        offset: u64,
        name: T,
        body: B,
    },
    Took(Vec<(u32, u64)>),
    Released,
}

pub(super) fn encode_request(request: &Request) -> Vec<u8> {
    let form: RequestForm<&str, &[u8]> = match request {
        Request::Invoke(call) => RequestForm::Invoke(call_form(call)),
        Request::Commit(Effect::Send(message)) => RequestForm::Send(message_form(message)),
        Request::Commit(Effect::Announce(it)) => RequestForm::Announce(AnnouncementForm {
            topic: &it.topic,
            name: &it.name,
            key: it.key.as_deref(),
            body: &it.data,
        }),
        Request::Report => RequestForm::Report,
    };
    encode_row(&form)
}

pub(super) fn decode_request(bytes: &[u8], within: Duration) -> Result<Request, CodecError> {
    Ok(match decode_row::<RequestForm<Text, Bytes>>(bytes)? {
        RequestForm::Invoke(form) => Request::Invoke(call_of(form, within)),
        RequestForm::Send(form) => Request::Commit(Effect::Send(message_of(form))),
        RequestForm::Announce(form) => Request::Commit(Effect::Announce(Announcement {
            topic: form.topic,
            name: form.name,
            key: form.key,
            data: form.body.into(),
        })),
        RequestForm::Report => Request::Report,
    })
}

pub(super) fn encode_answer(answer: &Answer) -> Vec<u8> {
    let form: AnswerForm<&str, &[u8]> = match answer {
        Answer::Outcome(Encoded { ok, bytes }) => AnswerForm::Outcome { ok: *ok, bytes },
        Answer::Stored(Position { epoch, offset }) => AnswerForm::Stored {
            epoch: *epoch,
            offset: *offset,
        },
        Answer::NotOwner { owner } => AnswerForm::NotOwner {
            owner: owner
                .as_ref()
                .map(|it| (it.node.as_str(), it.incarnation.0, it.epoch.0)),
        },
        Answer::Refused(refusal) => AnswerForm::Refused(refusal_form(refusal)),
        Answer::Report(report) => AnswerForm::Report(report),
    };
    encode_row(&form)
}

pub(super) fn decode_answer(bytes: &[u8]) -> Result<Answer, CodecError> {
    Ok(match decode_row::<AnswerForm<Text, Bytes>>(bytes)? {
        AnswerForm::Outcome { ok, bytes } => Answer::Outcome(Encoded { ok, bytes }),
        AnswerForm::Stored { epoch, offset } => Answer::Stored(Position { epoch, offset }),
        AnswerForm::NotOwner { owner } => Answer::NotOwner {
            owner: owner.map(|(node, incarnation, epoch)| OwnerHint {
                node: NodeId::new(node),
                incarnation: Incarnation(incarnation),
                epoch: Epoch(epoch),
            }),
        },
        AnswerForm::Refused(form) => Answer::Refused(refusal_of(form)),
        AnswerForm::Report(report) => Answer::Report(report),
    })
}

pub(super) fn encode_note(note: &Note) -> Vec<u8> {
    let form: NoteForm<&str, &[u8]> = match note {
        Note::Due {
            shard,
            kind,
            id,
            due_in,
        } => NoteForm::Due {
            shard: shard.0,
            kind,
            id: id.as_str(),
            due_in: *due_in,
        },
        Note::Event(event) => NoteForm::Event {
            topic: &event.topic,
            epoch: event.position.epoch,
            offset: event.position.offset,
            name: &event.name,
            body: &event.data,
        },
        Note::Took(shards) => {
            let pairs = shards.iter().map(|(shard, epoch)| (shard.0, epoch.0));
            NoteForm::Took(pairs.collect())
        }
        Note::Released => NoteForm::Released,
    };
    encode_row(&form)
}

pub(super) fn decode_note(bytes: &[u8]) -> Result<Note, CodecError> {
    Ok(match decode_row::<NoteForm<Text, Bytes>>(bytes)? {
        NoteForm::Due {
            shard,
            kind,
            id,
            due_in,
        } => Note::Due {
            shard: ShardId(shard),
            kind,
            id: EntityId::from(&*id),
            due_in,
        },
        NoteForm::Event {
            topic,
            epoch,
            offset,
            name,
            body,
        } => Note::Event(TopicEvent {
            topic,
            position: Position { epoch, offset },
            name,
            data: body.into(),
        }),
        NoteForm::Took(pairs) => {
            let shards = pairs.into_iter();
            Note::Took(
                shards
                    .map(|(shard, epoch)| (ShardId(shard), Epoch(epoch)))
                    .collect(),
            )
        }
        NoteForm::Released => Note::Released,
    })
}

fn call_form(call: &Call) -> CallForm<&str, &[u8]> {
    let Call {
        invocation,
        epoch,
        request,
        chain,
    } = call;
    CallForm {
        kind: &invocation.kind,
        id: invocation.id.as_str(),
        method: &invocation.method,
        codec: codec_form(invocation.codec),
        reply: codec_form(invocation.reply),
        args: &invocation.args,
        call: invocation.call.map(|call| call.0),
        cast: invocation.mode == Mode::Cast,
        epoch: epoch.map(|epoch| epoch.0),
        request: request.as_deref().map(context_form),
        chain: chain.iter().map(|it| (&*it.kind, it.id.as_str())).collect(),
    }
}

fn call_of(form: CallForm<Text, Bytes>, within: Duration) -> Call {
    let invocation = Invocation {
        kind: form.kind,
        id: EntityId::from(&*form.id),
        method: form.method,
        codec: codec_of(form.codec),
        reply: codec_of(form.reply),
        args: form.args,
        call: form.call.map(CallId),
        timeout: within,
        mode: if form.cast { Mode::Cast } else { Mode::Call },
    };
    let chain = form.chain.into_iter().map(|(kind, id)| Waiter {
        kind,
        id: EntityId::from(&*id),
    });
    Call {
        invocation,
        epoch: form.epoch.map(Epoch),
        request: form.request.map(context_of),
        chain: chain.collect(),
    }
}

fn message_form(message: &StoredMessage) -> MessageForm<&str, &[u8]> {
    MessageForm {
        kind: &message.kind,
        id: message.id.as_str(),
        message: message.message.0,
        method: &message.method,
        codec: codec_form(message.codec),
        args: &message.args,
        request: message.request.as_deref().map(context_form),
        due: message.due.map(|due| match due {
            Due::After(delay) => DueForm::After(delay),
            Due::At(at) => DueForm::At(at),
        }),
        expires: message.expires,
        keyed: message.keyed,
    }
}

fn message_of(form: MessageForm<Text, Bytes>) -> StoredMessage {
    StoredMessage {
        kind: form.kind,
        id: EntityId::from(&*form.id),
        message: CallId(form.message),
        method: form.method,
        codec: codec_of(form.codec),
        args: form.args.into(),
        request: form.request.map(context_of),
        due: form.due.map(|due| match due {
            DueForm::After(delay) => Due::After(delay),
            DueForm::At(at) => Due::At(at),
        }),
        expires: form.expires,
        keyed: form.keyed,
    }
}

fn context_form(context: &RequestContext) -> ContextForm<&str> {
    ContextForm {
        tenant: context.tenant.as_deref(),
        request_id: context.request_id.as_deref(),
        trace: context.trace.as_deref(),
    }
}

fn context_of(form: ContextForm<Text>) -> Arc<RequestContext> {
    let text = |text: Option<Text>| text.map(|text| text.to_string());
    Arc::new(RequestContext {
        tenant: text(form.tenant),
        request_id: text(form.request_id),
        trace: text(form.trace),
    })
}

fn codec_form(codec: Codec) -> CodecForm {
    match codec {
        Codec::Msgpack => CodecForm::Msgpack,
        Codec::Json => CodecForm::Json,
    }
}

fn codec_of(form: CodecForm) -> Codec {
    match form {
        CodecForm::Msgpack => Codec::Msgpack,
        CodecForm::Json => Codec::Json,
    }
}

fn refusal_form(refusal: &Refusal) -> RefusalForm<&str> {
    match refusal {
        Refusal::Rejected(never) => match *never {},
        Refusal::Timeout { started } => RefusalForm::Timeout { started: *started },
        Refusal::Overloaded { retry_after } => RefusalForm::Overloaded {
            retry_after: *retry_after,
        },
        Refusal::Unavailable(why) => RefusalForm::Unavailable(why),
        Refusal::NotHosted(what) => RefusalForm::NotHosted(what),
        Refusal::Crashed(why) => RefusalForm::Crashed(why),
        Refusal::Decode(why) => RefusalForm::Decode(why),
        Refusal::TooLarge(what) => RefusalForm::TooLarge(what),
        Refusal::KeyReused => RefusalForm::KeyReused,
        Refusal::Cycle(path) => RefusalForm::Cycle(path),
        Refusal::UnknownOutcome(why) => RefusalForm::UnknownOutcome(why),
        Refusal::Unauthorized => RefusalForm::Unauthorized,
        Refusal::Forbidden => RefusalForm::Forbidden,
        // A kind that was added without a form: the one answer that promises nothing.
        other => RefusalForm::UnknownOutcome(other.kind()),
    }
}

fn refusal_of(form: RefusalForm<Text>) -> Refusal {
    let text = |text: Text| Box::<str>::from(&*text);
    match form {
        RefusalForm::Timeout { started } => Refusal::Timeout { started },
        RefusalForm::Overloaded { retry_after } => Refusal::Overloaded { retry_after },
        RefusalForm::Unavailable(why) => Refusal::Unavailable(text(why)),
        RefusalForm::NotHosted(what) => Refusal::NotHosted(text(what)),
        RefusalForm::Crashed(why) => Refusal::Crashed(text(why)),
        RefusalForm::Decode(why) => Refusal::Decode(text(why)),
        RefusalForm::TooLarge(what) => Refusal::TooLarge(text(what)),
        RefusalForm::KeyReused => Refusal::KeyReused,
        RefusalForm::Cycle(path) => Refusal::Cycle(text(path)),
        RefusalForm::UnknownOutcome(why) => Refusal::UnknownOutcome(text(why)),
        RefusalForm::Unauthorized => Refusal::Unauthorized,
        RefusalForm::Forbidden => Refusal::Forbidden,
    }
}

#[cfg(test)]
mod tests;
