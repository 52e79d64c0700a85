//! From the Service's ports to those of the containers, which may not be below 1024 without a privilege.

use std::collections::BTreeSet;

use paquebot_crds::mail_server::Listener;

use super::names::ADMIN_PORT;

/// What is added to a port below 1024: 25 becomes 2025.
const OFFSET: u16 = 2000;

/// The container port of each listener, in their order: the listener's own from 1024 on, 2000 more below that. Where two
/// would be the same (25 and 2025), or the admin port's, the later one moves on to the next free port.
#[must_use]
pub fn container_ports(listeners: &[Listener]) -> Vec<u16> {
    let mut taken = BTreeSet::from([ADMIN_PORT]);
    listeners
        .iter()
        .map(|listener| {
            let mut port = if listener.port < 1024 { listener.port + OFFSET } else { listener.port };
            while !taken.insert(port) {
                port = if port == u16::MAX { 1024 } else { port + 1 };
            }
            port
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use paquebot_crds::mail_server::{Protocol, default_listeners};

    use super::*;

    fn ports(listed: &[u16]) -> Vec<u16> {
        container_ports(&listed.iter().map(|port| Listener::new("x", Protocol::Smtp, *port)).collect::<Vec<_>>())
    }

    #[test]
    fn every_listener_gets_a_port_of_its_own_above_1023() {
        assert_eq!(container_ports(&default_listeners()), [2025, 2587, 2465, 2110, 2995]);
        assert_eq!(ports(&[2525, 1024, 65535]), [2525, 1024, 65535], "high ports stay");
        assert_eq!(ports(&[25, 2025]), [2025, 2026], "the later one moves on");
        assert_eq!(ports(&[8080]), [8081], "the admin port is taken");
        assert_eq!(ports(&[65535, 65535]), [65535, 1024], "after the last comes the first");
    }
}
