//! The bound on the memory of activations.

use std::sync::Arc;

use actor_core::{
    CallError, Entity, Refusal, client::Invocation, codec::Codec, handlers, store::TaskExecutor,
};
use actor_tests::hosting::{MEMORY, client, host_with};
use serde::{Deserialize, Serialize};

use super::kinds::Gate;

/// A durable text.
#[derive(Debug, Default, Entity, Serialize, Deserialize)]
#[entity(durable)]
struct Note {
    text: String,
}

#[handlers]
impl Note {
    pub fn write(&mut self, bytes: usize) {
        self.text = "x".repeat(bytes);
    }

    pub fn length(&self) -> usize {
        self.text.len()
    }

    /// Makes the text longer and answers with more than anybody asked for.
    pub fn boast(&mut self, bytes: usize) -> String {
        self.text.push('!');
        "x".repeat(bytes)
    }

    pub async fn hold(&self, ctx: &mut actor_core::Ctx<Self>) {
        ctx.resource::<Gate>().pass().await;
    }
}

// RES-1, by memory
#[tokio::test]
async fn large_idle_entities_leave_before_there_are_many() {
    const SIZE: usize = 100 * 1024;
    let hosting = host_with::<Note>(MEMORY, Arc::new(TaskExecutor), |config| {
        config.resident_bytes_max = 1024 * 1024;
    });
    let hosting = hosting.await;
    let client = client(&hosting);

    for id in 0..20 {
        assert_eq!(client.entity::<Note>(id).write(SIZE).await, Ok(()));
        // Each is counted as 16 KiB and twice its state: four fit, and one grows beyond.
        let resident: usize = hosting.kinds().map(|kind| kind.stats().resident).sum();
        assert!(resident <= 5, "{resident} are in memory");
        assert!(hosting.resident_bytes() <= 5 * (2 * SIZE + 17 * 1024));
    }

    for id in 0..20 {
        assert_eq!(client.entity::<Note>(id).length().await, Ok(SIZE));
    }
}

#[tokio::test]
async fn a_new_entity_is_refused_when_busy_ones_fill_the_memory() {
    let gate = Gate::default();
    let given = gate.clone();
    let hosting = host_with::<Note>(MEMORY, Arc::new(TaskExecutor), |config| {
        config.resources.insert(given);
        config.resident_bytes_max = 1024 * 1024;
    });
    let hosting = hosting.await;
    let client = client(&hosting);
    let busy = client.entity::<Note>("busy");
    assert_eq!(busy.write(600 * 1024).await, Ok(()));
    let holder = busy.clone();
    let held = tokio::spawn(async move { holder.hold().await });
    gate.entered().await;

    let refused = client.entity::<Note>("new").length().await;

    assert!(
        matches!(refused, Err(CallError::Overloaded { .. })),
        "{refused:?}"
    );
    gate.open(1);
    assert_eq!(held.await.expect("it ends"), Ok(()));
    assert_eq!(client.entity::<Note>("new").length().await, Ok(0));
}

#[tokio::test]
async fn a_reply_over_the_bound_fails_its_message_before_the_commit() {
    let hosting = host_with::<Note>(MEMORY, Arc::new(TaskExecutor), |_| {}).await;
    let client = client(&hosting);
    let boast = |bytes: usize| {
        let arguments = format!(r#"{{"bytes":{bytes}}}"#).into_bytes();
        let invocation = Invocation::new("note", "a", "boast");
        client.invoke(invocation.args(Codec::Json, arguments))
    };

    let refused = boast(2 * 1024 * 1024).await;

    assert!(matches!(refused, Err(Refusal::TooLarge(_))), "{refused:?}");
    assert_eq!(client.entity::<Note>("a").length().await, Ok(0));
    let answered = boast(1000).await.expect("it is small enough");
    assert_eq!(answered.bytes.len(), 1002);
    assert_eq!(client.entity::<Note>("a").length().await, Ok(1));
}
