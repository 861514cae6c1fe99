//! A node's links over its life: bound before it is registered, opened when it can serve, closed
//! after it left.

use std::{fmt, sync::Arc, time::Duration};

use actor_core::{
    clock::{Clock, Rng},
    groups::Groups,
    hosting::Hosting,
    id::NodeId,
    shards::Shards,
    store::nodes::NodeRow,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};

use super::{Settings, StartError, cluster::Changes};
use crate::{
    routing::{
        Peers,
        inbound::{Arrivals, Desk},
    },
    transport::{DialFailure, LinkConfig, Links, Peer, PeerId, Transport as _, socket::Sockets},
};

/// How long the nodes that are there may take to say whether they accept this one.
const WELCOME_WITHIN: Duration = Duration::from_secs(2);

/// Links that have their port but serve nobody yet.
pub(super) struct Linked {
    links: Arc<Links>,
    /// What peers dial.
    pub(super) address: String,
}

/// Links of a registered node.
pub(super) struct Met {
    links: Arc<Links>,
    pub(super) peers: Arc<Peers>,
}

/// What is where a former life of this node listened.
pub(super) enum Sought {
    /// That life is no more.
    Gone,
    /// It answered.
    Lives,
    /// Nobody knows.
    Silent,
}

impl Linked {
    /// Takes the port; `None` if the settings name no secret.
    pub(super) async fn bind(
        settings: &Settings,
        name: &NodeId,
        rng: &Rng,
        sockets: Arc<dyn Sockets>,
    ) -> Result<Option<Self>, StartError> {
        let config = LinkConfig::from_settings(settings)
            .map_err(|error| StartError::links(settings, &error))?;
        let Some(config) = config else {
            return Ok(None);
        };
        let rng = Rng::seeded(rng.bits());
        let listen = settings.cluster_listen;
        let bound = Links::bind_on(config, name.clone(), listen, rng, sockets).await;
        let links = bound.map_err(|error| StartError::links(settings, &error))?;
        let listening = links.local_address().to_string();
        let address = settings.cluster_advertise.clone().unwrap_or(listening);
        if is_loopback(&address) && !is_loopback(database_host(&settings.database_url)) {
            return Err(StartError::unreachable(&address));
        }
        Ok(Some(Self {
            links: Arc::new(links),
            address,
        }))
    }

    /// Looks for a former life of this node where it listened.
    pub(super) async fn seek(&self, former: &NodeRow) -> Sought {
        if former.address.is_empty() {
            return Sought::Silent;
        }
        let id = PeerId {
            node: former.node.clone(),
            incarnation: former.incarnation,
        };
        let peer = Peer {
            id: id.clone(),
            address: former.address.as_str().into(),
        };
        match self.links.probe(peer).await {
            Ok(answered) if answered == id => Sought::Lives,
            Ok(_) | Err(DialFailure::Refused | DialFailure::Other(_)) => Sought::Gone,
            Err(_) => Sought::Silent,
        }
    }

    /// Asks the nodes that are there whether they know this one's secret: a node that nobody
    /// accepts would own shards that nobody reaches. Who does not answer says nothing.
    ///
    /// # Errors
    /// When some refuse this node and none accepts it.
    pub(super) async fn is_welcome(&self, rows: &[NodeRow]) -> Result<(), StartError> {
        let mut asked: FuturesUnordered<_> = rows.iter().map(|row| self.knock(row)).collect();
        let give_up = Clock.sleep(WELCOME_WITHIN);
        tokio::pin!(give_up);
        let mut refused = None;
        loop {
            // Dropping what was asked only hangs up.
            let (row, answer) = tokio::select! {
                biased;
                answered = asked.next() => match answered {
                    Some(answered) => answered,
                    None => break,
                },
                () = &mut give_up => break,
            };
            match answer {
                Ok(_) | Err(DialFailure::Other(_)) => return Ok(()),
                Err(why @ (DialFailure::Unauthenticated | DialFailure::Tls(_))) => {
                    refused = Some((row, why));
                }
                Err(_) => {}
            }
        }
        match refused {
            Some((row, why)) => Err(StartError::unwelcome(&row.node, &why)),
            None => Ok(()),
        }
    }

    async fn knock<'a>(&self, row: &'a NodeRow) -> (&'a NodeRow, Result<PeerId, DialFailure>) {
        let peer = Peer {
            id: PeerId {
                node: row.node.clone(),
                incarnation: row.incarnation,
            },
            address: row.address.as_str().into(),
        };
        (row, self.links.probe(peer).await)
    }

    /// Makes what reaches the others, now that this life has its number.
    pub(super) fn meet(self, shards: &Shards, groups: &Arc<Groups>, rng: &Rng) -> Met {
        let me = PeerId {
            node: shards.node().clone(),
            incarnation: shards.incarnation(),
        };
        let rng = Rng::seeded(rng.bits());
        let desk = Arc::new(Desk::default());
        let peers = Peers::new(me, groups.clone(), self.links.clone(), desk, rng);
        Met {
            links: self.links,
            peers: Arc::new(peers),
        }
    }
}

impl Met {
    /// Lets peers in.
    pub(super) fn open(&self, hosting: &Arc<Hosting>, changes: &Changes) {
        let desk = &self.peers.desk;
        desk.staff(hosting, &self.peers, changes);
        let incarnation = self.peers.me.incarnation;
        self.links
            .open(incarnation, Arc::new(Arrivals(desk.clone())));
    }

    /// Ends all links; the port is free when everybody has let go of them.
    pub(super) async fn close(&self, within: Duration) {
        self.links.close(within).await;
    }
}

/// Returns the host of a database address, with its port; empty for a socket file.
fn database_host(url: &str) -> &str {
    let place = url.split_once("://").map_or(url, |(_, place)| place);
    let place = place.split(['/', '?']).next().unwrap_or_default();
    place.rsplit_once('@').map_or(place, |(_, host)| host)
}

/// Says whether `HOST:PORT`, `HOST` or nothing stays on this machine.
fn is_loopback(place: &str) -> bool {
    let host = match place.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => place.split(':').next().unwrap_or_default(),
    };
    let address = host.parse::<std::net::IpAddr>();
    host.is_empty() || host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

impl fmt::Debug for Met {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Met({:?})", self.peers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_on_this_machine() {
        let table = [
            ("postgres://a:b@127.0.0.1:5432/db?schema=x", true),
            ("postgres://a@localhost/db", true),
            ("postgres://a:p@[::1]:5432/db", true),
            ("postgres:///db?host=/run/postgresql", true),
            ("postgres://a:b%40c@db.internal:5432/db", false),
            ("postgres://10.0.0.3/db", false),
            ("postgres://[fd00::3]:5432/db", false),
        ];
        for (url, expected) in table {
            assert_eq!(is_loopback(database_host(url)), expected, "{url}");
        }
        assert!(is_loopback("127.0.0.1:4000") && is_loopback("[::1]:4000"));
        assert!(!is_loopback("10.1.2.3:4000") && !is_loopback("pod-1.nodes:4000"));
    }
}
