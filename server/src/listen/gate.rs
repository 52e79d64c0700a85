//! How many connections there may be, in all and from one client. Pure counting; used by [`crate::listen`] and
//! [`crate::admin`].

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use paquebot_config::Limits;

/// Counts the connections that are open.
#[derive(Debug, Clone, Default)]
pub struct Gate(Arc<Mutex<Counts>>);

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    clients: HashMap<IpAddr, u32>,
}

/// Why a connection is one too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Over all clients.
    TooMany,
    /// From this client.
    TooManyFromClient,
}

impl Refusal {
    /// For metrics and logs.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::TooMany => "too_many",
            Self::TooManyFromClient => "too_many_from_client",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooMany => "too many connections",
            Self::TooManyFromClient => "too many connections from your address",
        })
    }
}

/// One connection's place; free again when it is dropped.
#[derive(Debug)]
pub struct Pass {
    gate: Gate,
    client: IpAddr,
}

impl Gate {
    /// Takes a place. The limits are those in force now; connections that are open already are not touched by lower ones.
    ///
    /// # Errors
    /// [`Refusal`] says which limit is reached.
    pub fn enter(&self, client: IpAddr, limits: &Limits) -> Result<Pass, Refusal> {
        // Loopback is this machine or this pod: sidecars, probes and port-forwards, which stand for many clients.
        let from_client = if client.is_loopback() { u32::MAX } else { limits.per_client_connections };
        self.enter_within(client, limits.connections, from_client)
    }

    /// Takes a place where there may be so many in all, and so many from the client.
    ///
    /// # Errors
    /// [`Refusal`] says which limit is reached.
    pub fn enter_within(&self, client: IpAddr, connections: u32, from_client: u32) -> Result<Pass, Refusal> {
        let client = counted_as(client);
        let mut counts = self.counts();
        if counts.total >= connections {
            return Err(Refusal::TooMany);
        }
        let open = counts.clients.get(&client).copied().unwrap_or(0);
        if open >= from_client {
            return Err(Refusal::TooManyFromClient);
        }
        counts.total += 1;
        counts.clients.insert(client, open + 1);
        drop(counts);
        Ok(Pass { gate: self.clone(), client })
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut counts = self.gate.counts();
        counts.total = counts.total.saturating_sub(1);
        if let Some(open) = counts.clients.get_mut(&self.client) {
            *open -= 1;
            if *open == 0 {
                counts.clients.remove(&self.client);
            }
        }
    }
}

/// One IPv6 client has a network of its own: its /64 is counted.
pub(crate) fn counted_as(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(v6) if v6.is_loopback() => client,
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(connections: u32, per_client_connections: u32) -> Limits {
        Limits { max_message_size: 1, max_recipients: 100, connections, per_client_connections, login_delay_seconds: 0 }
    }

    #[test]
    fn places_are_limited_and_come_back() {
        let gate = Gate::default();
        let (a, b): (IpAddr, IpAddr) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let limits = limits(3, 2);
        let first = gate.enter(a, &limits).unwrap();
        let _second = gate.enter(a, &limits).unwrap();
        assert_eq!(gate.enter(a, &limits).unwrap_err(), Refusal::TooManyFromClient);
        let _third = gate.enter(b, &limits).unwrap();
        assert_eq!(gate.enter(b, &limits).unwrap_err(), Refusal::TooMany);
        drop(first);
        assert!(gate.enter(a, &limits).is_ok());
    }

    #[test]
    fn an_ipv6_network_is_one_client_and_loopback_is_none() {
        let gate = Gate::default();
        let limits = limits(10, 1);
        let _one = gate.enter("2001:db8::1".parse().unwrap(), &limits).unwrap();
        assert!(gate.enter("2001:db8::2".parse().unwrap(), &limits).is_err());
        assert!(gate.enter("2001:db8:0:1::2".parse().unwrap(), &limits).is_ok());
        let _many: Vec<Pass> = (0..5).map(|_| gate.enter("127.0.0.1".parse().unwrap(), &limits).unwrap()).collect();
        assert!(gate.enter("::1".parse().unwrap(), &limits).is_ok());
    }
}
