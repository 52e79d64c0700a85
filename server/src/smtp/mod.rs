//! SMTP (RFC 5321), receiving: the protocol machine without I/O, and its session.
