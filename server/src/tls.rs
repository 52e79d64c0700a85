//! The certificate and key that the listeners present, read again when they change. `main` loads them from `tls/` beside
//! the contract's files; [`crate::reload`] looks for others each second; sessions take what is in force.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

/// The certificate in force, shared by all listeners. Without one, TLS is not offered.
#[derive(Clone, Default)]
pub struct Certificates(Arc<ArcSwapOption<rustls::ServerConfig>>);

impl Certificates {
    /// What a new TLS session starts from; `None` while there is no usable certificate: then neither STARTTLS nor STLS is
    /// offered.
    #[must_use]
    pub fn server_config(&self) -> Option<Arc<rustls::ServerConfig>> {
        self.0.load_full()
    }

    /// Puts another one in force, for sessions that begin TLS from now on.
    pub fn replace(&self, next: Arc<rustls::ServerConfig>) {
        self.0.store(Some(next));
    }
}
