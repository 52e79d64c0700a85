//! Bounds for the HTTP port: so many connections, in all and from one client, each for so long. The kubelet's probes come
//! by the same port as whoever can reach the pod, and must always find a place. Used by [`super::serve`].

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;

use crate::listen::gate::{Gate, Pass};
use crate::net::canonical;

/// Probes, the operator, Prometheus and some people, and clients that mean no good beside them.
const MAX_CONNECTIONS: u32 = 256;
/// The kubelet's three probes, and whatever else is on its node.
const MAX_CONNECTIONS_OF_CLIENT: u32 = 8;
/// A connection is for one request, and every answer is short; who needs longer is slow on purpose.
const LIFETIME: Duration = Duration::from_secs(10);

/// A listener that keeps the bounds.
pub struct Bounded {
    listener: TcpListener,
    gate: Gate,
}

impl Bounded {
    /// Over a port that is open.
    pub fn new(listener: TcpListener) -> Self {
        Self { listener, gate: Gate::default() }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            // axum's own `accept` rests when file descriptors run out.
            let (stream, client) = Listener::accept(&mut self.listener).await;
            let place = self.gate.enter_within(canonical(client).ip(), MAX_CONNECTIONS, MAX_CONNECTIONS_OF_CLIENT);
            // One too many is closed at once: in a queue it would keep others waiting.
            let Ok(place) = place else { continue };
            let end = Box::pin(tokio::time::sleep(LIFETIME));
            return (Connection { stream, end, _place: place }, client);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The address that a request comes from.
#[derive(Debug, Clone, Copy)]
pub struct Client(pub SocketAddr);

impl Connected<IncomingStream<'_, Bounded>> for Client {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self(canonical(*stream.remote_addr()))
    }
}

/// A connection that ends at its time.
pub struct Connection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _place: Pass,
}

impl Connection {
    fn poll_end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_end(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpSocket;

    use super::*;

    async fn connect(from: &str, to: SocketAddr) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from.parse::<IpAddr>().unwrap(), 0)).unwrap();
        socket.connect(to).await.unwrap()
    }

    /// The answer to a request, empty where the connection is closed instead.
    async fn ask(mut stream: TcpStream) -> String {
        let mut answer = Vec::new();
        if stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.is_ok() {
            let _ = stream.read_to_end(&mut answer).await;
        }
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn silent_clients_keep_no_place_from_others_and_none_for_long() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = super::super::close_after_each(Router::new().route("/healthz", get(|| async { "ok\n" })));
        tokio::spawn(async move { axum::serve(Bounded::new(listener), router).await });
        let mut silent = Vec::new();
        for _ in 0..MAX_CONNECTIONS_OF_CLIENT {
            silent.push(connect("127.0.0.2", address).await);
        }
        assert_eq!(ask(connect("127.0.0.2", address).await).await, "");
        // The end of the answer is the end of the connection.
        let answer = ask(connect("127.0.0.1", address).await).await;
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok\n"), "{answer}");
        tokio::time::pause();
        let begin = tokio::time::Instant::now();
        for mut stream in silent {
            // Closed, or reset.
            let _ = stream.write_all(b"G").await;
            assert!(matches!(stream.read(&mut [0; 64]).await, Ok(0) | Err(_)));
        }
        assert!(begin.elapsed() <= LIFETIME + Duration::from_secs(1), "{:?}", begin.elapsed());
        assert!(ask(connect("127.0.0.2", address).await).await.starts_with("HTTP/1.1 200 "));
    }
}
