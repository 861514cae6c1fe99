//! What a client sends to entities: calls made ready for their activation, casts, stored messages.
//!
//! Not here: the call that a caller awaits (`call`), and the way to other nodes (`router`).

use std::sync::Arc;

use super::{
    Handlers,
    delivery::{Delivery, Reply, unwritable},
    directory::{Directory, role},
};
use crate::{
    client::{CALL_TIMEOUT, Client, Invocation, Mode},
    clock::Instant,
    codec::Codec,
    error::Refusal,
    id::{CallId, EntityId},
    mailbox::{Effect, StoredMessage},
    recall::Recall,
    router::RoutedCall,
};

impl Client {
    /// Prepares a call's message: context, cycle check, identity, and bytes where it may run again.
    ///
    /// `message` is the id of a call that may be made again at another node.
    pub(crate) fn delivery<K: Handlers>(
        &self,
        id: &EntityId,
        args: K::Args,
        reply: Reply<K>,
        deadline: Option<Instant>,
        call: Option<(CallId, Recall)>,
        message: Option<CallId>,
    ) -> Result<Delivery<K>, Refusal> {
        self.accepting()?;
        let mut delivery = Delivery::new(args, reply);
        delivery.deadline = deadline;
        if self.request.is_some() {
            delivery.rare().request.clone_from(&self.request);
        }
        let mut derived = None;
        if let Some(waiters) = self.waiters_for(K::KIND, id)? {
            delivery.rare().parent = Some(waiters);
        }
        if let Some(origin) = &self.origin
            && call.is_none()
            && origin.derives
        {
            let id = message.unwrap_or_else(|| origin.next_id());
            derived = Some((id, origin.recall));
        }
        let identity = call.or(derived);
        // What a plain `fn` sends is part of its commit, and gone with it.
        if let (Some(_), None) = (message, identity)
            && K::DURABLE.is_some()
            && !K::METHODS[delivery.method].runs_ahead
        {
            delivery.rare().message = message;
        }
        if identity.is_some() || K::DURABLE.is_some() && K::METHODS[delivery.method].runs_ahead {
            delivery.encode().map_err(unwritable)?;
        }
        if let Some((call, recall)) = identity {
            delivery.identify(call, recall);
        }
        Ok(delivery)
    }

    /// Queues a message for a volatile entity.
    pub(crate) async fn cast<K: Handlers>(
        &self,
        directory: &Arc<Directory<K>>,
        id: &EntityId,
        args: K::Args,
        call: Option<(CallId, Recall)>,
    ) -> Result<(), Refusal> {
        if K::DURABLE.is_some() {
            let message = self.message::<K>(id, &args, call)?;
            return self
                .send(message, self.hosting.deadline(CALL_TIMEOUT))
                .await;
        }
        if let Some(router) = self.hosting.route(K::KIND, id.as_str()).cloned() {
            let routed = self.cast_to_route::<K>(id, &args, call)?;
            return router.invoke(routed).await.map(drop);
        }
        self.accepting()?;
        let mut delivery = Delivery::new(args, Reply::Nobody);
        if self.request.is_some() {
            delivery.rare().request.clone_from(&self.request);
        }
        let (mut message, deadline) = (Some(delivery), self.hosting.deadline(CALL_TIMEOUT));
        let shard = self.hosting.shard_of(K::KIND, id.as_str());
        loop {
            match directory.admit(&self.hosting, id, &mut message) {
                Err(refusal) if self.hosting.is_held(K::KIND, shard) => {
                    self.hosting.pause_before_retry(deadline, refusal).await?;
                }
                admitted => return admitted.map(drop),
            }
        }
    }

    /// Queues a message for a volatile entity of a kind that is not hosted here.
    pub(super) async fn cast_elsewhere<K: Handlers>(
        &self,
        id: &EntityId,
        args: &K::Args,
        call: Option<(CallId, Recall)>,
    ) -> Result<(), Refusal> {
        let routed = self.cast_to_route::<K>(id, args, call)?;
        self.hosting.send_elsewhere(routed).await.map(drop)
    }

    fn cast_to_route<K: Handlers>(
        &self,
        id: &EntityId,
        args: &K::Args,
        call: Option<(CallId, Recall)>,
    ) -> Result<RoutedCall, Refusal> {
        let idempotent = K::METHODS[K::method(args)].idempotent;
        let mut invocation = self.invocation::<K>(id, args, Mode::Cast)?;
        if let Some((id, recall)) = call {
            (invocation.call, invocation.recall) = (Some(id), recall);
        }
        self.routed(invocation, role::<K>(), idempotent)
    }

    /// Writes a typed call down for another node.
    pub(super) fn invocation<K: Handlers>(
        &self,
        id: &EntityId,
        args: &K::Args,
        mode: Mode,
    ) -> Result<Invocation, Refusal> {
        let bytes = K::encode_args(args, Codec::Msgpack).map_err(unwritable)?;
        Ok(Invocation {
            kind: K::KIND.into(),
            id: id.clone(),
            method: K::METHODS[K::method(args)].name.into(),
            codec: Codec::Msgpack,
            reply: Codec::Msgpack,
            args: bytes,
            call: None,
            recall: Recall::Long,
            timeout: CALL_TIMEOUT,
            mode,
        })
    }

    /// Writes a message down.
    pub(crate) fn message<K: Handlers>(
        &self,
        id: &EntityId,
        args: &K::Args,
        call: Option<(CallId, Recall)>,
    ) -> Result<StoredMessage, Refusal> {
        if !id.is_valid() {
            return Err(Refusal::Decode(
                "an entity id has 1 to 512 bytes and no NUL".into(),
            ));
        }
        let fresh = || match &self.origin {
            Some(origin) => origin.next_id(),
            None => self.hosting.call_ids().next(),
        };
        // What a handler sends is part of its commit, and gone with it; what others send under
        // derived ids they may send again.
        let again = self.origin.as_ref().filter(|origin| origin.sends_again());
        let recall = match call {
            Some((_, recall)) => Some(recall),
            None => again.map(|origin| origin.recall),
        };
        Ok(StoredMessage {
            kind: K::KIND.into(),
            id: id.clone(),
            message: call.map_or_else(fresh, |(id, _)| id),
            method: K::METHODS[K::method(args)].name.into(),
            codec: Codec::Msgpack,
            args: K::encode_args(args, Codec::Msgpack)
                .map_err(unwritable)?
                .into(),
            request: self.request.clone(),
            due: None,
            expires: None,
            recall,
        })
    }

    /// A draining node takes no new work, but lets what runs reach its end, calls included.
    fn accepting(&self) -> Result<(), Refusal> {
        if self.origin.is_some() {
            return Ok(());
        }
        self.hosting.accepting()
    }

    /// Stores a message, until `deadline`, or keeps it for the commit of the handler that sends it.
    pub(crate) async fn send(
        &self,
        message: StoredMessage,
        deadline: Instant,
    ) -> Result<(), Refusal> {
        let effect = Effect::Send(message);
        let unkept = match &self.origin {
            Some(origin) => origin.keep(effect),
            None => {
                self.accepting()?;
                Some(effect)
            }
        };
        match unkept {
            None => Ok(()),
            Some(effect) => self.hosting.commit_effect(effect, deadline).await.map(drop),
        }
    }
}
