//! The byte stream under a session: plain TCP or TLS, and the step from one to the other.
