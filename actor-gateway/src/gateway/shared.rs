//! What all routes of one gateway share: the client, the rules, the bounds.

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use actor_cluster::{
    Node, Settings,
    node::{Cluster, Phase},
};
use actor_core::{Client, Refusal, clock::Instant, hosting::Role};

use super::{Gateway, Guard, Limits, TopicAccess};
use crate::{drain::Drain, metrics::Stuck, session::registry::Sessions};

/// The longest topic name, in bytes.
const TOPIC_BYTES_MAX: usize = 128;

/// Which routes a kind belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    Entities,
    Sagas,
}

/// What all routes share.
pub(crate) struct Shared {
    pub(crate) client: Client,
    /// The node itself, where the gateway was made of it.
    pub(crate) node: Option<Node>,
    pub(crate) guard: Arc<dyn Guard>,
    pub(crate) limits: Limits,
    pub(crate) admin_token: Option<String>,
    pub(crate) drain: Drain,
    pub(crate) sessions: Sessions,
    pub(crate) stuck: Stuck,
    /// Whether the node was once seen ready.
    pub(crate) started: AtomicBool,
    topics: BTreeMap<String, TopicAccess>,
}

impl Shared {
    pub(super) fn new(gateway: Gateway) -> Self {
        crate::metrics::install();
        Self {
            sessions: Sessions::new(&gateway.limits),
            client: gateway.client,
            node: gateway.node,
            guard: gateway.guard,
            limits: gateway.limits,
            admin_token: gateway.admin_token,
            drain: gateway.drain,
            stuck: Stuck::default(),
            started: AtomicBool::new(false),
            topics: gateway.topics,
        }
    }

    /// Checks that there is an exposed kind of this family that has this method. Of one that other
    /// nodes host only its owner knows the methods, and says so.
    ///
    /// What is not exposed looks exactly like what does not exist.
    pub(crate) async fn exposed(
        &self,
        family: Family,
        kind: &str,
        method: &str,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let no_kind = |noun: &str| {
            let text = format!("there is no {noun} {} here", shown(kind));
            Err(Refusal::NotHosted(text.into()))
        };
        let hosting = self.client.hosting();
        let hosted = hosting.hosted(kind).ok();
        let (exposed, role) = match hosted {
            Some(hosted) => (hosted.exposed(), hosted.role()),
            None => match hosting.find_kind(kind, deadline).await {
                Ok(row) => (row.exposed, row.role),
                Err(Refusal::NotHosted(_)) => return no_kind("kind"),
                Err(refusal) => return Err(refusal),
            },
        };
        if !exposed {
            return no_kind("kind");
        }
        match (family, role) {
            (Family::Sagas, Role::Workflow) => return Ok(()),
            (Family::Sagas, _) => return no_kind("workflow"),
            (Family::Entities, Role::Workflow) => return no_kind("entity kind"),
            (Family::Entities, _) => {}
        }
        let Some(hosted) = hosted else { return Ok(()) };
        let mut callable = hosted.methods().iter().filter(|known| known.callable);
        if callable.any(|known| known.name == method) {
            return Ok(());
        }
        let text = format!("kind `{kind}` has no method {}", shown(method));
        Err(Refusal::NotHosted(text.into()))
    }

    /// Checks that the outside may do this with a topic.
    pub(crate) fn open_topic(&self, topic: &str, wants: TopicAccess) -> Result<(), Refusal> {
        if !is_topic(topic) {
            let allowed = "1 to 128 small letters, digits, `/`, `_`, `.` and `-`";
            let text = format!("the topic {} is not one: write {allowed}", shown(topic));
            return Err(Refusal::Decode(text.into()));
        }
        match (self.topics.get(topic), wants) {
            (Some(TopicAccess::Publish), _) | (Some(_), TopicAccess::Listen) => Ok(()),
            (Some(TopicAccess::Listen), TopicAccess::Publish) => Err(Refusal::Forbidden),
            (None, _) => {
                let text = format!("there is no topic {} here", shown(topic));
                Err(Refusal::NotHosted(text.into()))
            }
        }
    }

    /// Returns the node's part in its cluster; nothing where only its client is known.
    pub(crate) fn cluster(&self) -> Cluster {
        self.node.as_ref().map(Node::cluster).unwrap_or_default()
    }

    /// Returns the length of a lease, as far as it is known.
    pub(crate) fn lease_ttl(&self) -> Option<Duration> {
        let node = self.node.as_ref()?;
        Some(node.settings().lease_ttl)
    }

    /// Says whether an operator drained the node, which goes on as a way to the others.
    pub(crate) fn rests(&self) -> bool {
        let phase = self.node.as_ref().map(Node::phase);
        phase == Some(Phase::Resting)
    }

    /// Says whether the node is meant to own nothing.
    pub(crate) fn only_sends(&self) -> bool {
        let settings = self.node.as_ref().map(Node::settings);
        let leased = self
            .client
            .hosting()
            .shards()
            .lease_left(self.client.hosting().now());
        let no_group = self.client.hosting().groups().joined().is_empty();
        let sends = |settings: &Settings| settings.weight == 0 || no_group;
        leased.is_some() && settings.is_some_and(sends)
    }

    /// Returns the open topics.
    pub(crate) fn topics(&self) -> &BTreeMap<String, TopicAccess> {
        &self.topics
    }
}

/// Says whether a name follows the rule of `#[event(topic = …)]`.
fn is_topic(name: &str) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"/_.-".contains(&byte);
    (1..=TOPIC_BYTES_MAX).contains(&name.len()) && name.bytes().all(allowed)
}

/// Returns a name from outside in quotes, cut to what fits a line.
pub(crate) fn shown(name: &str) -> String {
    let start: String = name.chars().take(64).collect();
    let cut = if start.len() < name.len() { "…" } else { "" };
    format!("`{}{cut}`", start.escape_debug())
}
