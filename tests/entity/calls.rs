//! Calls to volatile entities.

use std::{sync::Arc, time::Duration};

use actor_core::{
    CallError, Client, Invocation, RequestContext, codec::Codec, hosting::Hosting,
    store::TaskExecutor,
};
use actor_tests::hosting::{MEMORY, client, host_with};

use super::kinds::{Counter, Gate, Log, SOON, TooMuch};

async fn counters(gate: &Gate, log: &Log) -> (Arc<Hosting>, Client) {
    let (gate, log) = (gate.clone(), log.clone());
    let hosting = host_with::<(Counter,)>(MEMORY, Arc::new(TaskExecutor), |config| {
        config.resources.insert(gate);
        config.resources.insert(log);
    });
    let hosting = hosting.await;
    let client = client(&hosting);
    (hosting, client)
}

// ENT-1, SND-1
#[tokio::test]
async fn calls_reach_their_entity_in_order_and_entities_share_nothing() {
    let (_hosting, client) = counters(&Gate::default(), &Log::default()).await;
    let (a, b) = (client.entity::<Counter>("a"), client.entity::<Counter>("b"));

    assert_eq!(a.add(2).await, Ok(2));
    assert_eq!(a.add(3).await, Ok(5));
    assert_eq!(b.get().await, Ok(0));
}

#[tokio::test]
async fn a_handlers_own_error_reaches_the_caller_typed() {
    let (_hosting, client) = counters(&Gate::default(), &Log::default()).await;

    let refused = client.entity::<Counter>("a").add_at_most(5, 4).await;

    assert_eq!(refused, Err(CallError::Rejected(TooMuch { limit: 4 })));
}

// SND-2, ENT-7
#[tokio::test]
async fn the_first_callers_context_does_not_leak_into_later_calls() {
    let (_hosting, client) = counters(&Gate::default(), &Log::default()).await;
    let tenant = RequestContext {
        tenant: Some("acme".into()),
        ..RequestContext::default()
    };

    let first = client
        .with_request(tenant)
        .entity::<Counter>("a")
        .who()
        .await;
    let second = client.entity::<Counter>("a").who().await;

    assert_eq!(first.as_deref(), Ok("counter/a for Some(\"acme\")"));
    assert_eq!(second.as_deref(), Ok("counter/a for None"));
}

// ENT-2 (first half): running and queued messages count
#[tokio::test]
async fn a_full_mailbox_refuses_with_a_retry_hint() {
    let gate = Gate::default();
    let (_hosting, client) = counters(&gate, &Log::default()).await;
    let entity = client.entity::<Counter>("a");
    entity.wait().cast().await.expect("room");
    gate.entered().await;
    entity.add(1).cast().await.expect("room");
    entity.add(1).cast().await.expect("room");

    let refused = entity.add(1).await;

    assert!(
        matches!(refused, Err(CallError::Overloaded { .. })),
        "{refused:?}"
    );
    gate.open(1);
    let other = client.entity::<Counter>("b").add(1).await;
    assert_eq!(other, Ok(1), "only the full entity refuses");
}

// ENT-3 in our semantics: the panicking call ends as `Crashed`, the next one finds a fresh entity
#[tokio::test]
async fn a_panic_costs_its_call_only_and_the_queue_goes_on() {
    let (_hosting, client) = counters(&Gate::default(), &Log::default()).await;
    let entity = client.entity::<Counter>("a");
    entity.add(7).await.expect("adds");

    let (crashed, after) = tokio::join!(entity.fail(), entity.get());

    assert!(matches!(crashed, Err(CallError::Crashed(_))), "{crashed:?}");
    assert_eq!(after, Ok(0), "volatile state is lost with the panic");
}

#[tokio::test]
async fn a_call_that_did_not_start_in_time_is_taken_back() {
    let gate = Gate::default();
    let (hosting, client) = counters(&gate, &Log::default()).await;
    let entity = client.entity::<Counter>("a");
    entity.wait().cast().await.expect("room");
    gate.entered().await;

    let late = entity.add(1).timeout(Duration::from_millis(30)).await;

    assert_eq!(late, Err(CallError::Timeout { started: false }));
    gate.open(1);
    assert_eq!(
        entity.get().timeout(SOON).await,
        Ok(1),
        "the late call never ran"
    );
    drop(hosting);
}

#[tokio::test]
async fn a_call_that_started_says_so_at_its_deadline() {
    let gate = Gate::default();
    let (_hosting, client) = counters(&gate, &Log::default()).await;

    let late = client
        .entity::<Counter>("a")
        .wait()
        .timeout(Duration::from_millis(30))
        .await;

    assert_eq!(late, Err(CallError::Timeout { started: true }));
}

// SND-10
#[tokio::test]
async fn a_volatile_cast_returns_while_the_handler_still_runs() {
    let gate = Gate::default();
    let (_hosting, client) = counters(&gate, &Log::default()).await;
    let entity = client.entity::<Counter>("a");

    entity.wait().cast().await.expect("accepted");

    gate.entered().await;
    gate.open(1);
    assert_eq!(entity.get().await, Ok(1));
}

#[tokio::test]
async fn a_call_that_leads_back_to_a_waiting_entity_ends_as_a_cycle() {
    let (_hosting, client) = counters(&Gate::default(), &Log::default()).await;

    let to_itself = client.entity::<Counter>("a").ask("a".into()).await;
    let through_another = client.entity::<Counter>("a").ask_back("b".into()).await;

    let text = to_itself.expect_err("a cycle").to_string();
    assert!(text.starts_with("cycle:"), "{text}");
    let text = through_another.expect_err("a cycle").to_string();
    assert!(
        text.contains("counter/a -> counter/b -> counter/a"),
        "{text}"
    );
}

#[tokio::test]
async fn a_call_by_name_has_one_meaning_in_both_codecs() {
    let (_hosting, client) = counters(&Gate::default(), &Log::default()).await;
    let json = Invocation::new("counter", "a", "add").args(Codec::Json, br#"{"amount":2}"#.into());
    let args = Codec::Msgpack.encode(&std::collections::BTreeMap::from([("amount", 3)]));
    let msgpack =
        Invocation::new("counter", "a", "add").args(Codec::Msgpack, args.expect("encodes"));

    let first = client.invoke(json).await.expect("runs");
    let second = client.invoke(msgpack).await.expect("runs");

    assert_eq!(first.bytes, b"2");
    assert_eq!(Codec::Msgpack.decode::<u64>(&second.bytes), Ok(5));
}

#[tokio::test]
async fn bad_calls_by_name_say_what_is_wrong() {
    let (_hosting, client) = counters(&Gate::default(), &Log::default()).await;
    let call = |kind: &str, method: &str, args: &str| {
        client.invoke(Invocation::new(kind, "a", method).args(Codec::Json, args.as_bytes().into()))
    };

    for (kind, method, args, expected, names) in [
        ("nobody", "add", "{}", "not_hosted", "nobody"),
        ("counter", "steal", "{}", "not_hosted", "steal"),
        ("counter", "add", "{", "decode", "counter.add"),
        (
            "counter",
            "add",
            r#"{"amount":"x"}"#,
            "decode",
            "counter.add",
        ),
        ("counter", "add", r#"{"amont":1}"#, "decode", "amont"),
        ("counter", "add", "{}", "decode", "amount"),
    ] {
        let refusal = call(kind, method, args).await.expect_err("bad");
        assert_eq!(refusal.kind(), expected, "{kind} {method} {args}");
        assert!(refusal.to_string().contains(names), "{refusal}");
    }
    let empty = client
        .invoke(Invocation::new("counter", "", "get"))
        .await
        .expect_err("bad id");
    assert_eq!(empty.kind(), "decode");
}

#[tokio::test]
async fn casts_of_one_sender_run_in_the_order_sent() {
    let log = Log::default();
    let (_hosting, client) = counters(&Gate::default(), &log).await;
    let entity = client.entity::<Counter>("a");

    entity.note("one".into()).cast().await.expect("accepted");
    entity.note("two".into()).cast().await.expect("accepted");
    entity.get().await.expect("answers");

    assert_eq!(log.lines(), ["one", "two"]);
}
