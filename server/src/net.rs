//! The byte stream under a session: plain TCP or TLS, and the step from one to the other. Made by [`crate::listen`], used
//! by the sessions of [`crate::smtp`] and [`crate::pop3`].

use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a TLS handshake may take. A client on a slow link needs two or three round trips; 30 s is ample, and keeps
/// silent connections from staying for ever.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection from a client.
#[derive(Debug)]
pub enum Stream {
    /// As TCP gives it.
    Plain(TcpStream),
    /// Under TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Whether what is sent here is encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    /// The TLS version and cipher suite, for `Received` fields and logs; `None` on plain TCP.
    #[must_use]
    pub fn tls_description(&self) -> Option<String> {
        let Self::Tls(stream) = self else { return None };
        let (_, connection) = stream.get_ref();
        let version = match connection.protocol_version()? {
            rustls::ProtocolVersion::TLSv1_2 => "TLS1.2",
            rustls::ProtocolVersion::TLSv1_3 => "TLS1.3",
            _ => "TLS",
        };
        let suite = connection.negotiated_cipher_suite()?.suite();
        Some(format!("{version} {}", suite.as_str().unwrap_or("unknown cipher suite")))
    }

    /// The certificates that the client has shown, its own first; none of them is verified.
    #[must_use]
    pub fn client_certificates(&self) -> &[CertificateDer<'static>] {
        let Self::Tls(stream) = self else { return &[] };
        stream.get_ref().1.peer_certificates().unwrap_or_default()
    }

    /// Turns a plain connection into a TLS one: the server's side of the handshake, at most [`HANDSHAKE_TIMEOUT`] long.
    /// Bytes that the session had read before it called this belong to nobody: it throws them away (RFC 3207 §4.2,
    /// RFC 2595 §4), or a man in the middle could put commands in front of the encrypted ones.
    ///
    /// # Errors
    /// What the handshake says; [`io::ErrorKind::TimedOut`]; [`io::ErrorKind::InvalidInput`] under TLS already.
    pub async fn upgrade(self, config: Arc<rustls::ServerConfig>) -> io::Result<Self> {
        let Self::Plain(tcp) = self else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the connection is under TLS already"));
        };
        let handshake = TlsAcceptor::from(config).accept(tcp);
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(stream) => Ok(Self::Tls(Box::new(stream?))),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long")),
        }
    }
}

impl Stream {
    /// Waits for octets and hands them, at most `SPACE`, to `take`; `None` at the end of the stream. The space for them
    /// lives on the stack and only while they are there: a connection that waits has no buffer.
    ///
    /// # Errors
    /// What the connection says.
    pub async fn receive<const SPACE: usize, T>(&mut self, take: impl FnOnce(&[u8]) -> T) -> io::Result<Option<T>> {
        let mut take = Some(take);
        std::future::poll_fn(|cx| {
            let mut space = [const { MaybeUninit::<u8>::uninit() }; SPACE];
            let mut buffer = ReadBuf::uninit(&mut space);
            std::task::ready!(Pin::new(&mut *self).poll_read(cx, &mut buffer))?;
            let octets = buffer.filled();
            let take = take.take().filter(|_| !octets.is_empty());
            Poll::Ready(Ok(take.map(|take| take(octets))))
        })
        .await
    }
}

/// What a failed handshake is counted as: `client_certificate` where it is the certificate that the client has shown.
#[must_use]
pub fn handshake_failure(error: &io::Error) -> &'static str {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref::<rustls::Error>());
    match cause {
        Some(rustls::Error::InvalidCertificate(_)) => "client_certificate",
        _ => "handshake",
    }
}

/// How long the end of a connection may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Octets of a client that goes on talking that are read away before its connection is cut.
const CLOSE_DISCARD: usize = 256 * 1024;

impl Stream {
    /// Ends the connection so that the client sees the last reply: a socket that is closed with unread bytes in it answers
    /// with a reset, which can overtake what was sent.
    pub async fn close(mut self) {
        let farewell = async {
            self.flush().await?;
            self.shutdown().await?;
            let mut discarded = 0;
            while discarded < CLOSE_DISCARD {
                match self.receive::<4096, _>(<[u8]>::len).await? {
                    None => break,
                    Some(count) => discarded += count,
                }
            }
            io::Result::Ok(())
        };
        // The client may be gone already, which is the end as well.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, farewell).await;
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
        }
    }
}

/// The client's address as people write it: an IPv4 client of a dual-stack socket appears as IPv4, so that networks in
/// relay rules and per-client limits mean what they say.
#[must_use]
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
