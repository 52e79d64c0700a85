//! A connection to a mail server, plain or under TLS, read by lines. Used by `send` and `fetch`.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::ProbeError;
use crate::tls::AnyCertificate;

/// The longest line that a server may send: far beyond what any sends.
const MAX_LINE: u64 = 1 << 20;

/// How a connection is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum TlsMode {
    /// Not at all.
    None,
    /// By STARTTLS (SMTP) or STLS (POP3).
    Starttls,
    /// From the first octet on.
    Implicit,
}

/// Which servers are believed to be who they say.
pub enum Trust {
    /// Those with a certificate of a public authority.
    Public,
    /// Those with a certificate of an authority in this PEM text, from this file.
    Authorities(Vec<u8>, PathBuf),
    /// All: there is encryption, but no identity.
    Anybody,
}

/// A server and how to reach it.
pub struct Target {
    /// The mode; `send` and `fetch` do the STARTTLS dialogue.
    pub tls: TlsMode,
    /// For one session.
    pub timeout: Duration,
    host: String,
    addresses: Vec<SocketAddr>,
    config: Arc<ClientConfig>,
}

impl Target {
    /// A server by name, at one of these addresses.
    ///
    /// # Errors
    /// When the authorities hold no certificate.
    pub fn new(
        host: String,
        addresses: Vec<SocketAddr>,
        tls: TlsMode,
        trust: Trust,
        timeout: Duration,
    ) -> Result<Self, ProbeError> {
        Ok(Self { tls, timeout, host, addresses, config: Arc::new(client_config(trust)?) })
    }

    /// Connects, under TLS where that is implicit.
    ///
    /// # Errors
    /// What the network or the handshake says.
    pub async fn connect(&self) -> io::Result<Connection> {
        let tcp = TcpStream::connect(&self.addresses[..]).await?;
        let own_address = tcp.local_addr()?;
        let connection = Connection { stream: BufReader::new(Box::new(tcp)), own_address };
        if self.tls == TlsMode::Implicit { self.encrypt(connection).await } else { Ok(connection) }
    }

    /// Begins TLS on a connection.
    ///
    /// # Errors
    /// What the handshake says.
    pub async fn encrypt(&self, connection: Connection) -> io::Result<Connection> {
        let name = ServerName::try_from(self.host.clone()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(Arc::clone(&self.config));
        let stream = connector.connect(name, connection.stream.into_inner()).await?;
        Ok(Connection { stream: BufReader::new(Box::new(stream)), own_address: connection.own_address })
    }
}

trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// An open connection.
pub struct Connection {
    stream: BufReader<Box<dyn Duplex>>,
    /// Our end of it.
    pub own_address: SocketAddr,
}

impl Connection {
    /// Sends octets.
    ///
    /// # Errors
    /// What the network says.
    pub async fn write(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.write_all(octets).await?;
        self.stream.flush().await
    }

    /// The next line, its line end included.
    ///
    /// # Errors
    /// What the network says; `UnexpectedEof` where the server has closed; `InvalidData` for a line without end.
    pub async fn line(&mut self) -> io::Result<Vec<u8>> {
        let mut line = Vec::new();
        (&mut self.stream).take(MAX_LINE).read_until(b'\n', &mut line).await?;
        if line.ends_with(b"\n") {
            return Ok(line);
        }
        let kind =
            if line.len() as u64 == MAX_LINE { io::ErrorKind::InvalidData } else { io::ErrorKind::UnexpectedEof };
        Err(io::Error::new(kind, "the server closed the connection in the middle of a line"))
    }
}

fn client_config(trust: Trust) -> Result<ClientConfig, ProbeError> {
    let builder = ClientConfig::builder();
    let mut roots = RootCertStore::empty();
    match trust {
        Trust::Anybody => {
            let verifier = Arc::new(AnyCertificate::new(Arc::clone(builder.crypto_provider())));
            return Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth());
        }
        Trust::Public => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Trust::Authorities(pem, path) => {
            let certificates = CertificateDer::pem_slice_iter(&pem).flatten();
            if roots.add_parsable_certificates(certificates).0 == 0 {
                return Err(ProbeError::Authorities(path));
            }
        }
    }
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}
