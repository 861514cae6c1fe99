//! Every envelope survives the wire, its bytes stay what they were, and no bytes do harm.

use actor_core::{EntityId, codec::ROW_BYTES_MAX};

use super::*;

fn waiter(kind: &str, id: &str) -> Waiter {
    Waiter {
        kind: kind.into(),
        id: EntityId::from(id),
    }
}

fn call() -> Call {
    let mut invocation = Invocation::new("cart", "c-1", "add").args(Codec::Msgpack, vec![1, 2, 3]);
    invocation.call = Some(CallId(7));
    invocation.reply = Codec::Json;
    Call {
        invocation,
        epoch: Some(Epoch(4)),
        request: Some(Arc::new(RequestContext {
            tenant: Some("t".into()),
            request_id: None,
            trace: Some("00-1".into()),
        })),
        chain: [waiter("shop", "s-1"), waiter("till", "t")].into(),
    }
}

fn message(due: Option<Due>) -> StoredMessage {
    StoredMessage {
        kind: "cart".into(),
        id: EntityId::from("c-1"),
        message: CallId(u128::MAX),
        method: "add".into(),
        codec: Codec::Json,
        args: Arc::from(&b"{}"[..]),
        request: None,
        due,
        expires: Some(Duration::from_millis(1500)),
        recall: Some(Recall::Long),
    }
}

fn announcement() -> Announcement {
    Announcement {
        topic: "orders".into(),
        name: "OrderPlaced".into(),
        key: Some("c-1".into()),
        data: Arc::from(&b"{\"cart\":\"c-1\"}"[..]),
    }
}

fn refusals() -> Vec<Refusal> {
    vec![
        Refusal::Timeout { started: false },
        Refusal::Timeout { started: true },
        Refusal::Overloaded {
            retry_after: Duration::from_millis(20),
        },
        Refusal::Unavailable("a".into()),
        Refusal::NotHosted("b".into()),
        Refusal::Crashed("c".into()),
        Refusal::Decode("d".into()),
        Refusal::TooLarge("e".into()),
        Refusal::KeyReused,
        Refusal::Cycle("f".into()),
        Refusal::UnknownOutcome("g".into()),
        Refusal::Unauthorized,
        Refusal::Forbidden,
    ]
}

fn answers() -> Vec<Answer> {
    let mut answers: Vec<_> = refusals().into_iter().map(Answer::Refused).collect();
    answers.push(Answer::Outcome(Encoded {
        ok: false,
        bytes: vec![0; 300],
    }));
    answers.push(Answer::Stored(Position {
        epoch: 3,
        offset: u64::MAX,
    }));
    answers.push(Answer::Report(b"{}".to_vec()));
    answers.push(Answer::NotOwner { owner: None });
    answers.push(Answer::NotOwner {
        owner: Some(OwnerHint {
            node: NodeId::new("b"),
            incarnation: Incarnation(2),
            epoch: Epoch(9),
        }),
    });
    answers
}

fn notes() -> Vec<Note> {
    let due = Note::Due {
        shard: ShardId(3),
        kind: "cart".into(),
        id: EntityId::from("c-1"),
        due_in: Duration::from_millis(250),
    };
    let event = Note::Event(TopicEvent {
        topic: "orders".into(),
        position: Position {
            epoch: 1,
            offset: 2,
        },
        name: "OrderPlaced".into(),
        data: Arc::from(&b"{}"[..]),
    });
    vec![due, event]
}

fn requests() -> Vec<Request> {
    let dues = [
        None,
        Some(Due::After(Duration::from_secs(9))),
        Some(Due::At(-5)),
    ];
    let mut requests = vec![
        Request::Invoke(call()),
        Request::Commit(Effect::Announce(announcement())),
        Request::Report,
    ];
    requests.extend(dues.map(|due| Request::Commit(Effect::Send(message(due)))));
    requests
}

#[test]
fn a_call_keeps_everything_but_its_time() {
    let sent = call();

    let bytes = Request::Invoke(sent.clone()).encode();
    let read = Request::decode(&bytes, Duration::from_millis(70)).expect("it is a request");

    let Request::Invoke(read) = read else {
        panic!("a call became something else");
    };
    let (a, b) = (&sent.invocation, &read.invocation);
    assert_eq!((&a.kind, &a.id, &a.method), (&b.kind, &b.id, &b.method));
    assert_eq!((a.codec, a.reply, a.mode), (b.codec, b.reply, b.mode));
    assert_eq!((&a.args, a.call), (&b.args, b.call));
    assert_eq!(b.timeout, Duration::from_millis(70));
    assert_eq!((sent.epoch, sent.request), (read.epoch, read.request));
    assert_eq!(sent.chain, read.chain);
}

#[test]
fn stored_messages_and_events_cross_unchanged() {
    for request in requests() {
        let Request::Commit(effect) = &request else {
            continue;
        };

        let read = Request::decode(&request.encode(), Duration::ZERO).expect("it is a request");

        assert!(matches!(read, Request::Commit(read) if read == *effect));
    }
}

#[test]
fn every_answer_and_note_crosses_unchanged() {
    for answer in answers() {
        assert_eq!(Answer::decode(&answer.encode()).as_ref(), Ok(&answer));
    }
    for note in notes() {
        assert_eq!(Note::decode(&note.encode()).as_ref(), Ok(&note));
    }
}

#[test]
fn every_kind_of_refusal_is_among_those_tried() {
    let kinds: std::collections::BTreeSet<_> = refusals().iter().map(Refusal::kind).collect();

    // All of `CallError` but the handler's own; a new kind needs a form and a place in the list.
    assert_eq!(kinds.len(), 12);
}

#[test]
fn the_bytes_stay_what_they_were() {
    // Written down: nodes of two versions speak these to each other.
    let call = "01 00 0463617274 03632d31 03616464 00 01 03010203 01 07 00 01 04 \
                01 01 0174 00 01 0430302d31 02 0473686f70 03732d31 0474696c6c 0174 01";
    let not_owner = "01 02 01 0162 02 09";
    let due = "01 00 03 0463617274 03632d31 00 fc80b2e60e";
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let written = |text: &str| text.replace(' ', "");

    assert_eq!(hex(&Request::Invoke(self::call()).encode()), written(call));
    assert_eq!(
        hex(&answers()[answers().len() - 1].encode()),
        written(not_owner)
    );
    assert_eq!(hex(&notes()[0].encode()), written(due));
    assert_eq!(hex(&Request::Report.encode()), "0103");
    assert_eq!(hex(&Answer::Report(b"{}".to_vec()).encode()), "0104027b7d");
}

#[test]
fn bytes_cut_short_or_changed_never_do_harm() {
    let corpus = requests().iter().map(Request::encode).collect::<Vec<_>>();
    let answers = answers().iter().map(Answer::encode).collect::<Vec<_>>();
    let notes = notes().iter().map(Note::encode).collect::<Vec<_>>();
    let read = |bytes: &[u8]| {
        let request = Request::decode(bytes, Duration::ZERO).is_ok();
        (
            request,
            Answer::decode(bytes).is_ok(),
            Note::decode(bytes).is_ok(),
        )
    };
    let mut cut = 0;
    for bytes in corpus.iter().chain(&answers).chain(&notes) {
        for end in 0..bytes.len() {
            // A prefix of one form may be another; what counts is that it is read or refused.
            let (request, ..) = read(&bytes[..end]);
            cut += usize::from(!request);
            for flip in [1_u8, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[end] ^= flip;
                read(&changed);
            }
        }
    }
    assert!(cut > 100, "only {cut} prefixes were refused as requests");
    for bytes in &corpus {
        assert!(Request::decode(&bytes[..bytes.len() - 1], Duration::ZERO).is_err());
        assert!(Request::decode(&[&bytes[..], &[0]].concat(), Duration::ZERO).is_err());
    }
}

#[test]
fn a_length_that_promises_too_much_is_refused() {
    // An outcome that claims to hold more bytes than any row may.
    let mut bytes = vec![1, 0, 1, 253];
    bytes.extend_from_slice(&(ROW_BYTES_MAX as u64 + 1).to_le_bytes());

    assert!(Answer::decode(&bytes).is_err());
    bytes[0] = 2;
    assert!(Answer::decode(&bytes).is_err(), "another version");
}

#[test]
fn a_list_that_promises_too_much_is_refused() {
    let mut call = call();
    call.chain = Arc::default();
    let mut bytes = Request::Invoke(call).encode();
    assert_eq!(bytes.pop(), Some(1), "how late it may be repeated");
    assert_eq!(bytes.pop(), Some(0), "the length of an empty chain");

    for claimed in [1 << 40, ROW_BYTES_MAX as u64 / 32 + 1] {
        let mut claiming = [&bytes[..], &[253]].concat();
        claiming.extend_from_slice(&claimed.to_le_bytes());
        assert!(
            Request::decode(&claiming, Duration::ZERO).is_err(),
            "{claimed}"
        );
    }
}
