//! What every session works with: configuration, store, credentials, TLS, metrics.
