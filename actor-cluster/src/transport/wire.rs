//! The bytes of envelopes: one declaration of each form, bincode behind a version byte.
//!
//! Writing and reading borrow text and bytes alike, so one form serves both and what is read is
//! copied once. The order of fields and variants is the format: append, never reorder; the tests
//! hold written-down bytes of each.

use std::{sync::Arc, time::Duration};

use actor_core::{
    RequestContext,
    client::{Invocation, Mode},
    codec::{Codec, CodecError, borrow_row, encode_row},
    context::Waiter,
    entity::Encoded,
    error::Refusal,
    id::{CallId, Epoch, Incarnation, NodeId, ShardId},
    mailbox::{Announcement, Due, Effect, StoredMessage},
    recall::Recall,
    topic::{Position, TopicEvent},
};
use bincode::{BorrowDecode, Encode};

use super::envelope::{Answer, Call, Note, OwnerHint, Request};

#[derive(Encode, BorrowDecode)]
enum RequestForm<'a> {
    Invoke(CallForm<'a>),
    Send(MessageForm<'a>),
    Announce(AnnouncementForm<'a>),
    Report,
}

#[derive(Encode, BorrowDecode)]
struct CallForm<'a> {
    kind: &'a str,
    id: &'a str,
    method: &'a str,
    codec: CodecForm,
    reply: CodecForm,
    args: &'a [u8],
    call: Option<u128>,
    cast: bool,
    epoch: Option<u64>,
    request: Option<ContextForm<'a>>,
    /// Kind and id of each.
    chain: Vec<(&'a str, &'a str)>,
    recall: RecallForm,
}

#[derive(Clone, Copy, Encode, BorrowDecode)]
struct ContextForm<'a> {
    tenant: Option<&'a str>,
    request_id: Option<&'a str>,
    trace: Option<&'a str>,
}

#[derive(Encode, BorrowDecode)]
struct MessageForm<'a> {
    kind: &'a str,
    id: &'a str,
    message: u128,
    method: &'a str,
    codec: CodecForm,
    args: &'a [u8],
    request: Option<ContextForm<'a>>,
    due: Option<DueForm>,
    expires: Option<Duration>,
    recall: Option<RecallForm>,
}

#[derive(Encode, BorrowDecode)]
struct AnnouncementForm<'a> {
    topic: &'a str,
    name: &'a str,
    key: Option<&'a str>,
    body: &'a [u8],
}

#[derive(Encode, BorrowDecode)]
enum DueForm {
    After(Duration),
    At(i64),
}

#[derive(Clone, Copy, Encode, BorrowDecode)]
enum RecallForm {
    Brief,
    Long,
}

#[derive(Clone, Copy, Encode, BorrowDecode)]
enum CodecForm {
    Msgpack,
    Json,
}

#[derive(Encode, BorrowDecode)]
enum AnswerForm<'a> {
    Outcome { ok: bool, bytes: &'a [u8] },
    Stored { epoch: u64, offset: u64 },
    NotOwner { owner: Option<(&'a str, u64, u64)> },
    Refused(RefusalForm<'a>),
    Report(&'a [u8]),
}

#[derive(Clone, Copy, Encode, BorrowDecode)]
enum RefusalForm<'a> {
    Timeout { started: bool },
    Overloaded { retry_after: Duration },
    Unavailable(&'a str),
    NotHosted(&'a str),
    Crashed(&'a str),
    Decode(&'a str),
    TooLarge(&'a str),
    KeyReused,
    Cycle(&'a str),
    UnknownOutcome(&'a str),
    Unauthorized,
    Forbidden,
}

#[derive(Encode, BorrowDecode)]
enum NoteForm<'a> {
    Due {
        shard: u32,
        kind: &'a str,
        id: &'a str,
        due_in: Duration,
    },
    Event {
        topic: &'a str,
        epoch: u64,
        offset: u64,
        name: &'a str,
        body: &'a [u8],
    },
    Took(Vec<(u32, u64)>),
    Released,
}

pub(super) fn encode_request(request: &Request) -> Vec<u8> {
    let form: RequestForm<'_> = match request {
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
    Ok(match borrow_row::<RequestForm<'_>>(bytes)? {
        RequestForm::Invoke(form) => Request::Invoke(call_of(form, within)),
        RequestForm::Send(form) => Request::Commit(Effect::Send(message_of(form))),
        RequestForm::Announce(form) => Request::Commit(Effect::Announce(Announcement {
            topic: form.topic.into(),
            name: form.name.into(),
            key: form.key.map(Arc::from),
            data: form.body.into(),
        })),
        RequestForm::Report => Request::Report,
    })
}

pub(super) fn encode_answer(answer: &Answer) -> Vec<u8> {
    let form: AnswerForm<'_> = match answer {
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
    Ok(match borrow_row::<AnswerForm<'_>>(bytes)? {
        AnswerForm::Outcome { ok, bytes } => Answer::Outcome(Encoded {
            ok,
            bytes: bytes.into(),
        }),
        AnswerForm::Stored { epoch, offset } => Answer::Stored(Position { epoch, offset }),
        AnswerForm::NotOwner { owner } => Answer::NotOwner {
            owner: owner.map(|(node, incarnation, epoch)| OwnerHint {
                node: NodeId::new(node),
                incarnation: Incarnation(incarnation),
                epoch: Epoch(epoch),
            }),
        },
        AnswerForm::Refused(form) => Answer::Refused(refusal_of(form)),
        AnswerForm::Report(report) => Answer::Report(report.into()),
    })
}

pub(super) fn encode_note(note: &Note) -> Vec<u8> {
    let form: NoteForm<'_> = match note {
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
    Ok(match borrow_row::<NoteForm<'_>>(bytes)? {
        NoteForm::Due {
            shard,
            kind,
            id,
            due_in,
        } => Note::Due {
            shard: ShardId(shard),
            kind: kind.into(),
            id: id.into(),
            due_in,
        },
        NoteForm::Event {
            topic,
            epoch,
            offset,
            name,
            body,
        } => Note::Event(TopicEvent {
            topic: topic.into(),
            position: Position { epoch, offset },
            name: name.into(),
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

fn call_form(call: &Call) -> CallForm<'_> {
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
        recall: recall_form(invocation.recall),
    }
}

fn call_of(form: CallForm<'_>, within: Duration) -> Call {
    let invocation = Invocation {
        kind: form.kind.into(),
        id: form.id.into(),
        method: form.method.into(),
        codec: codec_of(form.codec),
        reply: codec_of(form.reply),
        args: form.args.into(),
        call: form.call.map(CallId),
        recall: recall_of(form.recall),
        timeout: within,
        mode: if form.cast { Mode::Cast } else { Mode::Call },
    };
    let chain = form.chain.into_iter().map(|(kind, id)| Waiter {
        kind: kind.into(),
        id: id.into(),
    });
    Call {
        invocation,
        epoch: form.epoch.map(Epoch),
        request: form.request.map(context_of),
        chain: chain.collect(),
    }
}

fn message_form(message: &StoredMessage) -> MessageForm<'_> {
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
        recall: message.recall.map(recall_form),
    }
}

fn message_of(form: MessageForm<'_>) -> StoredMessage {
    StoredMessage {
        kind: form.kind.into(),
        id: form.id.into(),
        message: CallId(form.message),
        method: form.method.into(),
        codec: codec_of(form.codec),
        args: form.args.into(),
        request: form.request.map(context_of),
        due: form.due.map(|due| match due {
            DueForm::After(delay) => Due::After(delay),
            DueForm::At(at) => Due::At(at),
        }),
        expires: form.expires,
        recall: form.recall.map(recall_of),
    }
}

fn context_form(context: &RequestContext) -> ContextForm<'_> {
    ContextForm {
        tenant: context.tenant.as_deref(),
        request_id: context.request_id.as_deref(),
        trace: context.trace.as_deref(),
    }
}

fn context_of(form: ContextForm<'_>) -> Arc<RequestContext> {
    let text = |text: Option<&str>| text.map(str::to_owned);
    Arc::new(RequestContext {
        tenant: text(form.tenant),
        request_id: text(form.request_id),
        trace: text(form.trace),
    })
}

fn recall_form(recall: Recall) -> RecallForm {
    match recall {
        Recall::Brief => RecallForm::Brief,
        Recall::Long => RecallForm::Long,
    }
}

fn recall_of(form: RecallForm) -> Recall {
    match form {
        RecallForm::Brief => Recall::Brief,
        RecallForm::Long => Recall::Long,
    }
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

fn refusal_form(refusal: &Refusal) -> RefusalForm<'_> {
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

fn refusal_of(form: RefusalForm<'_>) -> Refusal {
    match form {
        RefusalForm::Timeout { started } => Refusal::Timeout { started },
        RefusalForm::Overloaded { retry_after } => Refusal::Overloaded { retry_after },
        RefusalForm::Unavailable(why) => Refusal::Unavailable(why.into()),
        RefusalForm::NotHosted(what) => Refusal::NotHosted(what.into()),
        RefusalForm::Crashed(why) => Refusal::Crashed(why.into()),
        RefusalForm::Decode(why) => Refusal::Decode(why.into()),
        RefusalForm::TooLarge(what) => Refusal::TooLarge(what.into()),
        RefusalForm::KeyReused => Refusal::KeyReused,
        RefusalForm::Cycle(path) => Refusal::Cycle(path.into()),
        RefusalForm::UnknownOutcome(why) => Refusal::UnknownOutcome(why.into()),
        RefusalForm::Unauthorized => Refusal::Unauthorized,
        RefusalForm::Forbidden => Refusal::Forbidden,
    }
}

#[cfg(test)]
mod tests;
