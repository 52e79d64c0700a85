//! What is logged: what was asked for, without what would give secrets away.

use tracing_subscriber::EnvFilter;

/// When an answer cannot be understood, kube's client warns with the whole of it, also when it is a Secret; and each call
/// that fails is an error to it, at hundreds a second while the API server is away. What went wrong is in the error that it
/// returns, which we log.
const NEVER: &str = "kube_client::client=off";

/// The filter for tracing's directives, `info` where they cannot be understood.
#[must_use]
pub fn filter(directives: &str) -> EnvFilter {
    let filter = EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new("info"));
    match NEVER.parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    }
}
