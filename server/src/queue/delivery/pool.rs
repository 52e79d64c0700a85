//! Connections that stay open for a moment after an attempt, so that the next messages for the same server need none of
//! their own. Used by [`super`] alone.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::super::client::authentication::Credentials;
use super::super::client::machine::Protection;
use super::super::client::session::{Connection, Dialer};
use super::super::routing::NextHop;

/// How long a connection is kept. Servers wait minutes (RFC 5321 §4.5.3.2.7), but count open connections.
const IDLE: Duration = Duration::from_secs(5);
/// Connections that are kept at most, over all servers.
const MOST: usize = 32;

/// What two messages must have in common to go by one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    address: SocketAddr,
    host: String,
    ehlo_name: String,
    protection: Protection,
    credentials: Option<Credentials>,
}

struct Idle {
    number: u64,
    key: Key,
    connection: Connection,
}

#[derive(Default)]
struct Shelf {
    idle: Vec<Idle>,
    next: u64,
}

/// See the module.
#[derive(Clone, Default)]
pub(in super::super) struct Pool(Arc<Mutex<Shelf>>);

impl Pool {
    /// A connection that was kept, the last one first.
    pub(super) fn take(&self, key: &Key) -> Option<Connection> {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = shelf.idle.iter().rposition(|idle| idle.key == *key)?;
        let mut connection = shelf.idle.remove(found).connection;
        connection.reuse();
        Some(connection)
    }

    /// Keeps a connection for a moment; the oldest makes room.
    pub(super) fn put(&self, key: Key, connection: Connection) {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let number = shelf.next;
        shelf.next += 1;
        shelf.idle.push(Idle { number, key, connection });
        let oldest = (shelf.idle.len() > MOST).then(|| shelf.idle.remove(0));
        drop(shelf);
        let weak = Arc::downgrade(&self.0);
        tokio::spawn(async move {
            if let Some(oldest) = oldest {
                oldest.connection.quit().await;
            }
            tokio::time::sleep(IDLE).await;
            let Some(shelf) = weak.upgrade() else { return };
            let late = {
                let mut shelf = shelf.lock().unwrap_or_else(PoisonError::into_inner);
                let found = shelf.idle.iter().position(|idle| idle.number == number);
                found.map(|at| shelf.idle.remove(at))
            };
            if let Some(late) = late {
                late.connection.quit().await;
            }
        });
    }
}

impl Key {
    /// For a host that is spoken to in this way.
    pub(super) fn new(dialer: &Dialer, hop: &NextHop) -> Self {
        Self {
            address: SocketAddr::new(hop.address, dialer.port),
            host: hop.host.clone(),
            ehlo_name: dialer.ehlo_name.clone(),
            protection: dialer.protection,
            credentials: dialer.credentials.clone(),
        }
    }
}
