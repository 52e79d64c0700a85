//! What the queue asks of the world: the time, connections, DNS and chance. [`Environment::real`] is the one that is
//! served with; a simulation hands in its own, so that days pass in seconds and a seed repeats them. Sleeping is tokio's:
//! its clock can be paused.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::resolver::{Dns, NameServers};

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// Bytes both ways.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Opens connections.
#[async_trait]
pub trait Network: Send + Sync {
    /// Opens one; whoever asks bounds the time.
    async fn connect(&self, to: SocketAddr) -> std::io::Result<Box<dyn Stream>>;

    /// Whether an address is one of this machine's own.
    fn is_this_machine(&self, _address: IpAddr) -> bool {
        false
    }
}

/// Gives numbers that nobody foresees, or that a seed gives.
pub trait Chance: Send + Sync {
    /// Any number.
    fn number(&self) -> u64;
}

/// All of it. A clone is the same.
#[derive(Clone)]
pub struct Environment {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Connections.
    pub network: Arc<dyn Network>,
    /// DNS.
    pub dns: Arc<dyn Dns>,
    /// Chance.
    pub chance: Arc<dyn Chance>,
}

impl Environment {
    /// The system's.
    #[must_use]
    pub fn real() -> Self {
        let system = Arc::new(System);
        Self { clock: system.clone(), network: system.clone(), dns: Arc::new(NameServers::default()), chance: system }
    }
}

/// The operating system.
struct System;

impl Clock for System {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

#[async_trait]
impl Network for System {
    async fn connect(&self, to: SocketAddr) -> std::io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(to).await?;
        // Commands are small and wait for replies.
        let _ = stream.set_nodelay(true);
        Ok(Box::new(stream))
    }

    fn is_this_machine(&self, address: IpAddr) -> bool {
        // From here to an own address it is no way: both ends have the same. Nothing is sent for that.
        let any = if address.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
        let way = UdpSocket::bind((any, 0)).and_then(|socket| {
            socket.connect((address, 9))?;
            socket.local_addr()
        });
        address.is_loopback() || way.is_ok_and(|local| local.ip() == address)
    }
}

impl Chance for System {
    fn number(&self) -> u64 {
        // Without any, the order of equals and the jitter are only less random.
        getrandom::u64().unwrap_or(0)
    }
}
