//! A connection that speaks in lines, plain or under TLS: what the SMTP and POP3 clients stand on.
//!
//! Blocking and small on purpose: nothing here is shared with the server that it tests.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

/// How long one read or write may take. The slowest thing that a server does for us is an fsync of 25 MB.
const PATIENCE: Duration = Duration::from_secs(60);
/// The longest line that we take: RFC 5321 §4.5.3.1.6 and RFC 1939 stay far below it.
const LONGEST_LINE: usize = 64 * 1024;

/// Which certificate we want to see: exactly this one, as the cluster's Secret or the server's file holds it.
#[derive(Clone, Debug)]
pub struct Certificate(CertificateDer<'static>);

impl Certificate {
    /// The first certificate of a PEM text: the server's own.
    ///
    /// # Errors
    /// When the text holds none.
    pub fn from_pem(pem: &[u8]) -> Result<Self> {
        Ok(Self(CertificateDer::from_pem_slice(pem).context("no certificate in the PEM text")?))
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// Between the two, while a handshake takes the socket over.
    Gone,
}

/// A connection that speaks in lines.
pub struct Wire {
    stream: Stream,
    buffer: Vec<u8>,
}

impl Wire {
    /// Speaks in clear over a connection.
    ///
    /// # Errors
    /// When the socket refuses its time limits.
    pub fn plain(socket: TcpStream) -> Result<Self> {
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        socket.set_nodelay(true)?;
        Ok(Self { stream: Stream::Plain(socket), buffer: Vec::new() })
    }

    /// Goes on under TLS, and insists on the certificate.
    ///
    /// # Errors
    /// When the handshake fails, or the server said something in clear that nobody had asked for.
    pub fn start_tls(&mut self, name: &str, certificate: &Certificate) -> Result<()> {
        ensure!(self.buffer.is_empty(), "the server sent bytes in clear after it had agreed to TLS");
        let Stream::Plain(mut socket) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            bail!("TLS is on already");
        };
        let name = ServerName::try_from(name.to_owned())?;
        let mut session = ClientConnection::new(client_config(certificate)?, name)?;
        while session.is_handshaking() {
            session.complete_io(&mut socket).context("the TLS handshake failed")?;
        }
        self.stream = Stream::Tls(Box::new(StreamOwned::new(session, socket)));
        Ok(())
    }

    /// Writes octets as they are.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn write(&mut self, octets: &[u8]) -> Result<()> {
        match &mut self.stream {
            Stream::Plain(socket) => socket.write_all(octets)?,
            Stream::Tls(session) => {
                session.write_all(octets)?;
                session.flush()?;
            }
            Stream::Gone => bail!("the TLS handshake failed before"),
        }
        Ok(())
    }

    /// Reads one line, without its CRLF. A line that ends otherwise is an error, as the RFCs have it.
    ///
    /// # Errors
    /// When the connection is lost, nothing comes in time, or the line is too long.
    pub fn read_line(&mut self) -> Result<Vec<u8>> {
        let mut searched = 0;
        loop {
            if let Some(offset) = self.buffer[searched..].iter().position(|octet| *octet == b'\n') {
                let end = searched + offset;
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.pop();
                ensure!(line.pop() == Some(b'\r'), "a line ends without CR: {}", String::from_utf8_lossy(&line));
                return Ok(line);
            }
            searched = self.buffer.len();
            ensure!(searched <= LONGEST_LINE, "a line is longer than {LONGEST_LINE} octets");
            ensure!(self.fill()? > 0, "the server closed the connection");
        }
    }

    /// Whether the server has closed the connection, once everything it said is read.
    ///
    /// # Errors
    /// When neither a line nor the end comes in time.
    pub fn is_closed(&mut self) -> Result<bool> {
        Ok(self.buffer.is_empty() && self.fill()? == 0)
    }

    fn fill(&mut self) -> Result<usize> {
        let mut piece = [0_u8; 16 * 1024];
        let read = match &mut self.stream {
            Stream::Plain(socket) => socket.read(&mut piece),
            Stream::Tls(session) => session.read(&mut piece),
            Stream::Gone => bail!("the TLS handshake failed before"),
        };
        let read = match read {
            Ok(read) => read,
            Err(error) if is_hang_up(error.kind()) => 0,
            Err(error) => return Err(error).context("nothing came from the server"),
        };
        self.buffer.extend_from_slice(&piece[..read]);
        Ok(read)
    }
}

fn is_hang_up(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

fn client_config(certificate: &Certificate) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Pinned { certificate: certificate.0.clone(), provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Accepts one certificate, whoever signed it, and checks that the server holds its key.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        presented: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if *presented == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General("the server shows another certificate than the one expected".to_owned()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
