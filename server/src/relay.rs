//! May this client send to this recipient? Pure; asked by the SMTP session at RCPT.
