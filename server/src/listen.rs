//! Opens the listeners, bounds connections, hands them to their sessions, and drains them on SIGTERM. Driven by `main`.
//!
//! A session is `async fn run(stream: net::Stream, client: SocketAddr, listener: Arc<Listener>, services: SharedServices)`
//! of [`crate::smtp`] or [`crate::pop3`]. `stream` is under TLS already where the protocol has implicit TLS; `client` is
//! canonical ([`crate::net::canonical`]). The session greets, ends itself when `services.shutdown` is cancelled, and
//! bounds its own time.

pub mod gate;
pub mod peers;
pub mod proxy;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use paquebot_config::{Listener, Protocol};
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::gate::{Gate, Pass, Refusal};
use self::peers::Peers;
use crate::metrics::{ByProtocol, ByProtocolAndResult, Word, protocol_word};
use crate::net::{HANDSHAKE_TIMEOUT, Stream, canonical, handshake_failure};
use crate::relay;
use crate::services::SharedServices;

/// Connections that the kernel keeps for us while we are busy.
const BACKLOG: i32 = 1024;
/// A dead peer is noticed after about two minutes: 60 s, then 4 probes.
const KEEPALIVE: TcpKeepalive =
    TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(4);
/// Keepalive says nothing while octets wait to be acknowledged: a peer that died then is noticed after as long a time.
const UNACKNOWLEDGED: Duration = Duration::from_secs(180);
/// TLS handshakes on implicit-TLS ports that run at once: each costs CPU and some 40 KiB.
const MAX_HANDSHAKES: usize = 256;
/// How long `accept` rests when the process has no file descriptors left: some connection has to end first.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(200);

/// Why a port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error(
    "listener \"{name}\" cannot open {address}: {source}{}",
    if source.kind() == io::ErrorKind::AddrInUse { "; another process has this port" } else { "" }
)]
pub struct BindError {
    name: String,
    address: SocketAddr,
    source: io::Error,
}

/// A port that is open.
#[derive(Debug)]
pub struct Bound {
    listener: Arc<Listener>,
    socket: TcpListener,
    /// What it is bound to, with the port that the system chose where the configuration says 0.
    pub address: SocketAddr,
}

/// Opens every listener's port, or none.
///
/// # Errors
/// [`BindError`] names the listener and the port.
pub fn open(bind: IpAddr, listeners: &[Listener]) -> Result<Vec<Bound>, BindError> {
    listeners.iter().map(|listener| open_one(bind, listener)).collect()
}

fn open_one(bind: IpAddr, listener: &Listener) -> Result<Bound, BindError> {
    let address = SocketAddr::new(bind, listener.port);
    let (socket, address) =
        bind_tcp(address).map_err(|source| BindError { name: listener.name.clone(), address, source })?;
    tracing::info!(listener = listener.name, protocol = ?listener.protocol, %address, "listening");
    Ok(Bound { listener: Arc::new(listener.clone()), socket, address })
}

/// Binds a TCP port. `[::]` takes IPv4 as well, and where the machine has no IPv6, `0.0.0.0` takes its place.
///
/// # Errors
/// What the operating system says.
pub fn bind_tcp(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let bound = match bind_exactly(address) {
        Err(error) if address.ip().is_ipv6() && address.ip().is_unspecified() && lacks_ipv6(&error) => {
            bind_exactly(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))?
        }
        bound => bound?,
    };
    let actual = bound.local_addr()?;
    Ok((bound, actual))
}

fn bind_exactly(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        socket.set_only_v6(false)?;
    }
    // A restart must not wait for old connections in TIME_WAIT.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn lacks_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL | Errno::PROTONOSUPPORT))
}

/// The open ports and the sessions on them.
pub struct Listening {
    accepting: CancellationToken,
    sessions: TaskTracker,
}

impl Listening {
    /// Begins to accept; `peers` hears of every client.
    #[must_use]
    pub fn start(bound: Vec<Bound>, services: &SharedServices, peers: Peers) -> Self {
        let accepting = CancellationToken::new();
        let sessions = TaskTracker::new();
        let shared = Arc::new(Shared {
            services: Arc::clone(services),
            gate: Gate::default(),
            peers,
            handshakes: Arc::new(Semaphore::new(MAX_HANDSHAKES)),
            sessions: sessions.clone(),
        });
        for port in bound {
            tokio::spawn(accept_loop(port, Arc::clone(&shared), accepting.clone()));
        }
        Self { accepting, sessions }
    }

    /// Closes the ports; sessions go on.
    pub fn stop_accepting(&self) {
        self.accepting.cancel();
        self.sessions.close();
    }

    /// Waits until every session has ended.
    pub async fn drained(&self) {
        self.sessions.wait().await;
    }

    /// How many sessions there are.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }
}

struct Shared {
    services: SharedServices,
    gate: Gate,
    peers: Peers,
    handshakes: Arc<Semaphore>,
    sessions: TaskTracker,
}

async fn accept_loop(port: Bound, shared: Arc<Shared>, accepting: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = accepting.cancelled() => return,
            accepted = port.socket.accept() => accepted,
        };
        match accepted {
            Ok((tcp, client)) => admit(tcp, canonical(client), &port.listener, &shared),
            Err(error) => {
                tracing::warn!(listener = port.listener.name, %error, "a connection could not be accepted");
                if is_exhaustion(&error) {
                    tokio::time::sleep(EXHAUSTED_PAUSE).await;
                }
            }
        }
    }
}

/// Whether `accept` failed for want of something, and would fail again at once.
fn is_exhaustion(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM))
}

fn admit(tcp: TcpStream, peer: SocketAddr, listener: &Arc<Listener>, shared: &Arc<Shared>) {
    let Some(proxy) = &listener.proxy_protocol else {
        return admit_client(tcp, peer, false, listener, shared);
    };
    if !proxy::is_trusted(proxy, peer.ip()) {
        count_refusal(shared, listener.protocol, "not_a_proxy");
        tracing::debug!(%peer, listener = listener.name, "connection closed: it does not come from a trusted proxy");
        return;
    }
    let connections = shared.services.configuration.snapshot().server.limits.connections;
    // The proxy stands for many clients: until it has said for which, the connection counts in all only.
    match shared.gate.enter_within(peer.ip(), connections, u32::MAX) {
        Ok(pass) => {
            let introduction = introduce(tcp, peer, Arc::clone(listener), Arc::clone(shared), pass);
            shared.sessions.spawn(introduction);
        }
        Err(refusal) => count_refusal(shared, listener.protocol, refusal.word()),
    }
}

/// Lets a proxy say who its client is, and goes on with that one.
async fn introduce(mut tcp: TcpStream, peer: SocketAddr, listener: Arc<Listener>, shared: Arc<Shared>, pass: Pass) {
    let header = tokio::select! {
        () = shared.services.shutdown.cancelled() => return,
        header = tokio::time::timeout(proxy::HEADER_TIMEOUT, proxy::read(&mut tcp)) => header,
    };
    drop(pass);
    match header.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(Some(client)) => admit_client(tcp, canonical(client), true, &listener, &shared),
        Ok(None) => admit_client(tcp, peer, false, &listener, &shared),
        Err(error) => {
            count_refusal(&shared, listener.protocol, "proxy_header");
            tracing::info!(%peer, listener = listener.name, %error, "connection closed: no PROXY protocol header");
        }
    }
}

fn admit_client(tcp: TcpStream, client: SocketAddr, by_proxy: bool, listener: &Arc<Listener>, shared: &Arc<Shared>) {
    shared.peers.saw(&listener.name, client.ip(), by_proxy);
    let protocol = listener.protocol;
    let limits = shared.services.configuration.snapshot().server.limits.clone();
    match shared.gate.enter(client.ip(), &limits) {
        Ok(pass) => {
            // These make a connection better, not possible.
            let _ = tcp.set_nodelay(true);
            let socket = SockRef::from(&tcp);
            let _ = socket.set_tcp_keepalive(&KEEPALIVE);
            let _ = socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
            let connection = serve(tcp, client, Arc::clone(listener), Arc::clone(shared), pass);
            shared.sessions.spawn(connection);
        }
        Err(refusal) => {
            count_refusal(shared, protocol, refusal.word());
            // A flood must not fill the log: it is counted, and shown only to who looks closer.
            tracing::debug!(%client, ?protocol, reason = refusal.word(), "connection turned away");
            turn_away(&tcp, protocol, refusal);
        }
    }
}

/// The last word to a client that is one too many. The socket is new, so that its buffer takes these few octets at once.
fn turn_away(tcp: &TcpStream, protocol: Protocol, refusal: Refusal) {
    let text = match protocol {
        Protocol::Smtp | Protocol::Submission => format!("421 4.7.0 {refusal}; try again later\r\n"),
        Protocol::Pop3 => format!("-ERR [SYS/TEMP] {refusal}; try again later\r\n"),
        // Nothing can be said before the handshake.
        Protocol::Submissions | Protocol::Pop3s => return,
    };
    let _ = tcp.try_write(text.as_bytes());
}

async fn serve(tcp: TcpStream, client: SocketAddr, listener: Arc<Listener>, shared: Arc<Shared>, pass: Pass) {
    let _pass = pass;
    let protocol = listener.protocol;
    let services = Arc::clone(&shared.services);
    let Some(stream) = begin(tcp, client, protocol, &shared).await else { return };
    let labels = ByProtocol { protocol: protocol_word(protocol) };
    services.metrics.connections.get_or_create(&labels).inc();
    let open = services.metrics.open_connections.get_or_create_owned(&labels);
    open.inc();
    let _closed = OnDrop(move || {
        open.dec();
    });
    match protocol {
        Protocol::Smtp | Protocol::Submission | Protocol::Submissions => {
            // Each boxed: a connection has the size of its own protocol's session, not of the largest.
            Box::pin(crate::smtp::run(stream, client, listener, services)).await;
        }
        Protocol::Pop3 | Protocol::Pop3s => {
            Box::pin(crate::pop3::session::run(stream, client, listener, services)).await;
        }
    }
}

/// Runs at the end of a session, however it ends.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// The connection as its session wants it: under TLS where the protocol has it from the first octet on.
async fn begin(tcp: TcpStream, client: SocketAddr, protocol: Protocol, shared: &Shared) -> Option<Stream> {
    if !matches!(protocol, Protocol::Submissions | Protocol::Pop3s) {
        return Some(Stream::Plain(tcp));
    }
    let certificates = &shared.services.certificates;
    let config = match protocol {
        Protocol::Pop3s => certificates.server_config(),
        _ => certificates.asking_config(relay::names_certificates(&shared.services.configuration.snapshot())),
    };
    let Some(config) = config else {
        count_refusal(shared, protocol, "no_certificate");
        tracing::warn!(%client, ?protocol, "connection closed: there is no certificate to begin TLS with");
        return None;
    };
    let handshake = async {
        // A silent client waits outside; only one that has sent something takes a turn.
        tcp.readable().await?;
        let turn = shared.handshakes.acquire().await.map_err(io::Error::other)?;
        let stream = Stream::Plain(tcp).upgrade(config).await;
        drop(turn);
        stream
    };
    let result = tokio::select! {
        () = shared.services.shutdown.cancelled() => return None,
        result = tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake) => result,
    };
    match result.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok(stream) => Some(stream),
        Err(error) => {
            count_refusal(shared, protocol, handshake_failure(&error));
            tracing::debug!(%client, ?protocol, %error, "TLS handshake failed");
            None
        }
    }
}

fn count_refusal(shared: &Shared, protocol: Protocol, result: &'static str) {
    let labels = ByProtocolAndResult { protocol: protocol_word(protocol), result: Word(result) };
    shared.services.metrics.refused_connections.get_or_create(&labels).inc();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_unspecified_address_takes_ipv4_with_or_without_ipv6() {
        let (listener, address) = bind_tcp("[::]:0".parse().unwrap()).unwrap();
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, address.port())).await.unwrap();
        let (_stream, peer) = listener.accept().await.unwrap();
        assert_eq!(canonical(peer), client.local_addr().unwrap());
        let taken = bind_tcp(SocketAddr::new(address.ip(), address.port())).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    }
}
