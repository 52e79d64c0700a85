//! Who connected lately: for each listener the most recent distinct addresses of clients, as they were judged (what a
//! trusted proxy says included). From these the operator tells whether clients keep their own addresses on the way here.
//! Written by [`super`], once for each connection; read by [`crate::admin`].

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use paquebot_config::{Listener, Protocol};
use serde::Serialize;

/// Addresses that are remembered for each listener: enough to see which kinds of clients there are.
const REMEMBERED: usize = 256;

/// The clients of all listeners. A clone is the same.
#[derive(Debug, Clone, Default)]
pub struct Peers(Arc<OnceLock<Vec<OfListener>>>);

#[derive(Debug)]
struct OfListener {
    name: String,
    protocol: Protocol,
    proxy_protocol: bool,
    recent: Mutex<Recent>,
}

/// What is told of one listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerPeers {
    /// The listener's name.
    pub name: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// Whether a PROXY header is required there.
    pub proxy_protocol: bool,
    /// Its clients, the most recent first.
    pub peers: Vec<Peer>,
}

/// An address from which clients came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// The client's address, as the server judged it.
    pub address: IpAddr,
    /// Whether a PROXY header said so; otherwise the connection itself did.
    pub by_proxy: bool,
    /// Connections since it was seen first, as far as it was not forgotten in between.
    pub connections: u64,
    /// Seconds since the last of them began.
    pub seconds_ago: u64,
}

impl Peers {
    /// Begins to remember the clients of these listeners.
    pub fn open(&self, listeners: &[Listener]) {
        let of = |listener: &Listener| OfListener {
            name: listener.name.clone(),
            protocol: listener.protocol,
            proxy_protocol: listener.proxy_protocol.is_some(),
            recent: Mutex::new(Recent::new(REMEMBERED)),
        };
        // Listeners are opened once in the life of the process.
        let _ = self.0.set(listeners.iter().map(of).collect());
    }

    /// Notes that a client has connected.
    pub fn saw(&self, listener: &str, address: IpAddr, by_proxy: bool) {
        let Some(of) = self.0.get().and_then(|all| all.iter().find(|of| of.name == listener)) else { return };
        let now = Instant::now();
        of.recent.lock().unwrap_or_else(PoisonError::into_inner).note(address, by_proxy, now);
    }

    /// The clients of each listener; none before the listeners are open.
    #[must_use]
    pub fn list(&self) -> Vec<ListenerPeers> {
        let now = Instant::now();
        let list = |of: &OfListener| ListenerPeers {
            name: of.name.clone(),
            protocol: of.protocol,
            proxy_protocol: of.proxy_protocol,
            peers: of.recent.lock().unwrap_or_else(PoisonError::into_inner).list(now),
        };
        self.0.get().into_iter().flatten().map(list).collect()
    }
}

type Key = (IpAddr, bool);

/// The most recent distinct clients: the one that was longest away makes room for a new one.
#[derive(Debug)]
struct Recent {
    most: usize,
    /// How many connections there were in all: gives each its place in the order.
    clock: u64,
    seen: HashMap<Key, Seen>,
    by_age: BTreeMap<u64, Key>,
}

#[derive(Debug, Clone, Copy)]
struct Seen {
    place: u64,
    connections: u64,
    last: Instant,
}

impl Recent {
    fn new(most: usize) -> Self {
        Self { most, clock: 0, seen: HashMap::new(), by_age: BTreeMap::new() }
    }

    fn note(&mut self, address: IpAddr, by_proxy: bool, now: Instant) {
        let key = (address.to_canonical(), by_proxy);
        self.clock += 1;
        let place = self.clock;
        let before = self.seen.get(&key).copied();
        if let Some(before) = before {
            self.by_age.remove(&before.place);
        } else if self.seen.len() >= self.most
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.seen.remove(&oldest);
        }
        let connections = before.map_or(0, |before| before.connections).saturating_add(1);
        self.seen.insert(key, Seen { place, connections, last: now });
        self.by_age.insert(place, key);
    }

    fn list(&self, now: Instant) -> Vec<Peer> {
        let newest_first = self.by_age.values().rev().filter_map(|key| Some((*key, self.seen.get(key)?)));
        newest_first
            .map(|((address, by_proxy), seen)| Peer {
                address,
                by_proxy,
                connections: seen.connections,
                seconds_ago: now.saturating_duration_since(seen.last).as_secs(),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn the_one_that_was_longest_away_is_forgotten() {
        let (mut recent, begin) = (Recent::new(3), Instant::now());
        let at = |seconds| begin + Duration::from_secs(seconds);
        for (last, by_proxy, seconds) in
            [(1, false, 0), (2, false, 1), (1, false, 2), (3, false, 3), (1, true, 4), (2, false, 5)]
        {
            recent.note(address(last), by_proxy, at(seconds));
        }
        let peer = |last, by_proxy, connections, seconds_ago| Peer {
            address: address(last),
            by_proxy,
            connections,
            seconds_ago,
        };
        // 2 was forgotten for the sake of (1, by proxy) and came again in place of 1.
        assert_eq!(recent.list(at(10)), [peer(2, false, 1, 5), peer(1, true, 1, 6), peer(3, false, 1, 7)]);
    }

    #[test]
    fn one_client_has_one_address_however_it_is_written() {
        let (mut recent, now) = (Recent::new(3), Instant::now());
        recent.note("::ffff:192.0.2.1".parse().unwrap(), false, now);
        recent.note(address(1), false, now);
        assert_eq!(recent.list(now).len(), 1);
        assert_eq!(recent.list(now)[0].connections, 2);
    }

    #[test]
    fn nothing_is_remembered_of_a_listener_that_nobody_opened() {
        let peers = Peers::default();
        peers.saw("smtp", address(1), false);
        assert_eq!(peers.list(), []);
    }

    proptest! {
        #[test]
        fn it_holds_the_most_recent_and_no_more(clients in proptest::collection::vec((0_u8..20, any::<bool>()), 0..200)) {
            let (mut recent, now) = (Recent::new(8), Instant::now());
            let mut expected: Vec<(IpAddr, bool)> = Vec::new();
            for (last, by_proxy) in clients {
                let key = (address(last), by_proxy);
                recent.note(key.0, by_proxy, now);
                expected.retain(|other| *other != key);
                expected.insert(0, key);
                expected.truncate(8);
            }
            let listed: Vec<_> = recent.list(now).into_iter().map(|peer| (peer.address, peer.by_proxy)).collect();
            prop_assert_eq!(listed, expected);
            prop_assert_eq!(recent.seen.len(), recent.by_age.len());
        }
    }
}
