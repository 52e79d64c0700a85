//! Where a mail client connects to, how the connection is protected, and who logs in.

use std::net::TcpStream;
use std::sync::Arc;

use anyhow::Result;

use crate::wire::Certificate;

/// Opens connections to one port of one server, wherever it is.
pub trait Dial: Send + Sync {
    /// One connection.
    ///
    /// # Errors
    /// When the server is not there.
    fn dial(&self) -> Result<TcpStream>;
}

impl Dial for std::net::SocketAddr {
    fn dial(&self) -> Result<TcpStream> {
        Ok(TcpStream::connect_timeout(self, std::time::Duration::from_secs(10))?)
    }
}

/// How a connection is protected.
#[derive(Clone, Debug)]
pub enum Security {
    /// Not at all.
    None,
    /// STARTTLS or STLS.
    StartTls(Certificate),
    /// TLS from the first octet.
    Implicit(Certificate),
}

/// One port of one server.
#[derive(Clone)]
pub struct Endpoint {
    dial: Arc<dyn Dial>,
    /// The server's name, for TLS.
    pub name: String,
    /// How connections are protected.
    pub security: Security,
}

impl Endpoint {
    /// A port of the server `name` that `dial` reaches.
    pub fn new(dial: Arc<dyn Dial>, name: &str, security: Security) -> Self {
        Self { dial, name: name.to_owned(), security }
    }

    /// One connection, nothing said yet.
    ///
    /// # Errors
    /// When the server is not there.
    pub fn dial(&self) -> Result<TcpStream> {
        self.dial.dial()
    }
}

/// An address and its password. These are the examples' passwords, known to everybody.
#[derive(Clone)]
pub struct Login {
    /// The mailbox's address.
    pub user: String,
    /// Its password.
    pub password: String,
}

impl Login {
    /// An address and its password.
    #[must_use]
    pub fn new(user: &str, password: &str) -> Self {
        Self { user: user.to_owned(), password: password.to_owned() }
    }
}
