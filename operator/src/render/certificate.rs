//! What a self-signed certificate must say, and when it is to be made again. The controllers and the `compile` command
//! make it.

use std::time::Duration;

use super::Server;

/// How long a self-signed certificate is valid.
pub const VALIDITY: Duration = Duration::from_hours(365 * 24);
/// How long before its end it is made again.
pub const RENEW_BEFORE: Duration = Duration::from_hours(30 * 24);

/// The DNS names of a server's certificate, the host name first: what clients outside and inside the cluster use.
#[must_use]
pub fn names(server: &Server) -> Vec<String> {
    let (name, namespace) = (&server.name.name, &server.name.namespace);
    let candidates = [
        server.spec.hostname.to_string(),
        name.clone(),
        format!("{name}.{namespace}"),
        format!("{name}.{namespace}.svc"),
        format!("{name}.{namespace}.svc.cluster.local"),
    ];
    let mut names: Vec<String> = Vec::with_capacity(candidates.len());
    for candidate in candidates {
        if !names.contains(&candidate) {
            names.push(candidate);
        }
    }
    names
}
