//! The client underneath both suites: octets out, lines in, each with a deadline and a bound. It never corrects what a
//! requirement wants to say, and it takes any certificate: who the server is, is not what conformance asks.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

/// The longest line that is taken from a server: far above what RFC 5321 §4.5.3.1.5 and RFC 1939 §3 let it say, since
/// message text comes in lines too.
const LONGEST_LINE: usize = 1 << 20;

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
    /// Between the two, while a handshake takes the socket over.
    Gone,
}

/// One connection to the server under test.
pub struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects; every later read and write may take as long as `patience`.
    ///
    /// # Errors
    /// When the server is not there.
    pub fn open(host: &str, port: u16, patience: Duration) -> Result<Self> {
        let address = (host, port).to_socket_addrs()?.next().context("the host has no address")?;
        let socket = TcpStream::connect_timeout(&address, patience)
            .with_context(|| format!("nobody answers at {host} port {port}"))?;
        socket.set_read_timeout(Some(patience))?;
        socket.set_write_timeout(Some(patience))?;
        socket.set_nodelay(true)?;
        Ok(Self { stream: Stream::Plain(socket), buffer: Vec::new() })
    }

    /// Goes on under TLS.
    ///
    /// # Errors
    /// When the handshake fails, or the server had said something in clear that belongs to nothing.
    pub fn start_tls(&mut self, name: &str) -> Result<()> {
        ensure!(self.buffer.is_empty(), "the server sent octets in clear behind its agreement to TLS");
        let Stream::Plain(mut socket) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            bail!("TLS is on already");
        };
        let name = ServerName::try_from(name.to_owned())?;
        let mut session = ClientConnection::new(any_certificate()?, name)?;
        while session.is_handshaking() {
            session.complete_io(&mut socket).context("the TLS handshake failed")?;
        }
        self.stream = Stream::Tls(Box::new(StreamOwned::new(session, socket)));
        Ok(())
    }

    /// Sends octets as they are.
    ///
    /// # Errors
    /// When the connection is lost.
    pub fn send(&mut self, octets: &[u8]) -> Result<()> {
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

    /// The next line without its CRLF; `None` when the server has closed the connection.
    ///
    /// # Errors
    /// When nothing comes in time, the line is too long, or it does not end with CRLF.
    pub fn line(&mut self) -> Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            if let Some(offset) = self.buffer[searched..].iter().position(|octet| *octet == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=searched + offset).collect();
                line.pop();
                ensure!(line.pop() == Some(b'\r'), "the server ended a line without CR: {}", show(&line));
                return Ok(Some(line));
            }
            searched = self.buffer.len();
            ensure!(searched <= LONGEST_LINE, "the server's line is longer than {LONGEST_LINE} octets");
            if self.fill()? == 0 {
                ensure!(self.buffer.is_empty(), "the server closed within a line: {}", show(&self.buffer));
                return Ok(None);
            }
        }
    }

    /// The next line of a message's text, without its CRLF; a LF alone belongs to it, since a message may be binary.
    ///
    /// # Errors
    /// When the connection ends, nothing comes in time, or the line is too long.
    pub fn text_line(&mut self) -> Result<Vec<u8>> {
        let mut searched: usize = 0;
        loop {
            let from = searched.saturating_sub(1);
            if let Some(offset) = self.buffer[from..].windows(2).position(|pair| pair == b"\r\n") {
                let mut line: Vec<u8> = self.buffer.drain(..from + offset + 2).collect();
                line.truncate(line.len() - 2);
                return Ok(line);
            }
            searched = self.buffer.len();
            ensure!(searched <= LONGEST_LINE, "the server's line is longer than {LONGEST_LINE} octets");
            ensure!(self.fill()? > 0, "the server closed within a message");
        }
    }

    /// Insists that nothing more comes but the end.
    ///
    /// # Errors
    /// When the server says something, or stays.
    pub fn expect_end(&mut self) -> Result<()> {
        match self.line()? {
            None => Ok(()),
            Some(line) => bail!("the server was expected to close, and said: {}", show(&line)),
        }
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
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                bail!("the server did not answer in time")
            }
            Err(error) => return Err(error).context("nothing can be read from the server"),
        };
        self.buffer.extend_from_slice(&piece[..read]);
        Ok(read)
    }
}

/// Octets as a person reads them.
#[must_use]
pub fn show(octets: &[u8]) -> String {
    let text: String = octets.iter().take(200).flat_map(|octet| octet.escape_ascii()).map(char::from).collect();
    if octets.len() > 200 { text + "…" } else { text }
}

fn is_hang_up(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

fn any_certificate() -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Takes every certificate whose key the server holds.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _presented: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
