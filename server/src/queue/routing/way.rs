//! Which way a recipient's mail goes: by its domain's MX hosts, or through a smart host. Pure. Used by
//! [`super::super::delivery`].

use paquebot_config::{Configuration, SmartHost};

use crate::store::envelope::Route;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// RFC 5321 §5.
    MailExchangers,
    /// One host takes it, whatever DNS says about the recipient's domain.
    Host {
        /// Which, and how it is spoken to.
        host: SmartHost,
        /// Whether whoever runs the server named it: he may name one on this machine. Others may not.
        by_administrator: bool,
    },
}

impl Way {
    /// The way for a recipient with this route. A rule or an upstream that is gone leaves the server's own way.
    #[must_use]
    pub fn of(configuration: &Configuration, route: Option<&Route>) -> Self {
        match route {
            Some(Route::Host { host, port, tls }) => {
                let host = SmartHost { host: host.clone(), port: *port, tls: *tls, credentials: None };
                return Self::Host { host, by_administrator: true };
            }
            Some(Route::Rule(name)) => {
                let rule = configuration.relay.iter().find(|rule| rule.name == *name);
                if let Some(upstream) = rule.and_then(|rule| rule.upstream.clone()) {
                    return Self::Host { host: upstream, by_administrator: false };
                }
            }
            Some(Route::Maildrop) | None => {}
        }
        match configuration.server.outbound.smart_host.clone() {
            Some(host) => Self::Host { host, by_administrator: true },
            None => Self::MailExchangers,
        }
    }
}
