//! POP3 (RFC 1939): the protocol machine without I/O, and its session.
