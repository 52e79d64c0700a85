//! The certificate and key that the listeners present, read again when they change.
