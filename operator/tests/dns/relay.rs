//! BIND listens on addresses of interfaces only, and of the loopback addresses an interface has one. So each server listens
//! on a port of its own there, and its address on the common port is passed on to it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The two sockets of a server.
pub struct Sockets {
    pub udp: UdpSocket,
    pub tcp: TcpListener,
}

impl Sockets {
    /// On this port, or on any with 0; `None`: it is taken for one of the two.
    pub async fn bind(address: &str, port: u16) -> Option<Self> {
        let udp = UdpSocket::bind((address, port)).await.ok()?;
        let tcp = TcpListener::bind((address, udp.local_addr().unwrap().port())).await.ok()?;
        Some(Self { udp, tcp })
    }

    pub fn port(&self) -> u16 {
        self.udp.local_addr().unwrap().port()
    }

    /// Passes everything on to this port of 127.0.0.1.
    pub fn pass_on(self, port: u16) {
        let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        tokio::spawn(datagrams(Arc::new(self.udp), to));
        tokio::spawn(async move {
            while let Ok((mut client, _)) = self.tcp.accept().await {
                tokio::spawn(async move {
                    if let Ok(mut server) = TcpStream::connect(to).await {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
    }
}

async fn datagrams(socket: Arc<UdpSocket>, to: SocketAddr) {
    let mut packet = vec![0; 65_535];
    while let Ok((length, client)) = socket.recv_from(&mut packet).await {
        let (question, socket) = (packet[..length].to_vec(), Arc::clone(&socket));
        tokio::spawn(async move {
            let upstream = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            upstream.send_to(&question, to).await.unwrap();
            let mut answer = vec![0; 65_535];
            if let Ok(Ok(length)) = tokio::time::timeout(PATIENCE, upstream.recv(&mut answer)).await {
                socket.send_to(&answer[..length], client).await.unwrap();
            }
        });
    }
}
