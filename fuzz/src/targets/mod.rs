//! The targets, by what they are about.

mod contract;
mod outbound;
mod pop3;
mod sieve;
mod smtp;

use crate::Target;

const fn target(name: &'static str, run: fn(&[u8]), longest: usize) -> Target {
    Target { name, run, longest }
}

/// Every target.
pub const TARGETS: &[Target] = &[
    target("address", contract::address, 400),
    target("contract", contract::files, 4096),
    target("smtp-command", smtp::command, 1200),
    target("smtp-path", smtp::path, 600),
    target("smtp-server", smtp::server, 8192),
    target("smtp-content", smtp::content, 4096),
    target("smtp-sasl", smtp::sasl, 600),
    target("smtp-reply", outbound::reply, 4096),
    target("smtp-client", outbound::client, 8192),
    target("smtp-dot", outbound::dot, 4096),
    target("mx", outbound::routing, 2048),
    target("convert", outbound::convert, 4096),
    target("srs", outbound::srs, 300),
    target("proxy", smtp::proxy, 600),
    target("dsn", outbound::dsn, 4096),
    target("pop3-server", pop3::server, 4096),
    target("sieve-compile", sieve::script, 4096),
    target("sieve-run", sieve::message, 8192),
    target("pop3-transfer", pop3::transfer, 4096),
];
