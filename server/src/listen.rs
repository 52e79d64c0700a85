//! Opens the listeners, bounds connections, hands them to their sessions, and drains them on SIGTERM.
