//! A line-by-line client for SMTP and POP3, over TCP or TLS: it sends exactly what a test says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use super::DEADLINE;

trait Transport: Read + Write + Send {}
impl<T: Read + Write + Send> Transport for T {}

/// A client's certificate, its own first, and its key.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// A connection to a server.
pub struct Client {
    stream: BufReader<Box<dyn Transport>>,
    tcp: TcpStream,
    /// The server's certificate, once there is TLS.
    pub certificate: Option<Vec<u8>>,
}

impl Client {
    /// Connects; the greeting is not read yet.
    pub fn connect(address: SocketAddr) -> Self {
        let tcp = TcpStream::connect(address).unwrap();
        tcp.set_read_timeout(Some(DEADLINE)).unwrap();
        tcp.set_write_timeout(Some(DEADLINE)).unwrap();
        tcp.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(Box::new(tcp.try_clone().unwrap())), tcp, certificate: None }
    }

    /// Connects with TLS from the first octet on.
    pub fn connect_tls(address: SocketAddr) -> Self {
        let mut client = Self::connect(address);
        client.start_tls();
        client
    }

    /// Begins TLS on this connection. Any certificate will do; it is kept.
    pub fn start_tls(&mut self) {
        self.start_tls_as(None);
    }

    /// Begins TLS, and shows a certificate of one's own to a server that asks.
    pub fn start_tls_as(&mut self, identity: Option<&Identity>) {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate));
        let config = match identity {
            Some((chain, key)) => builder.with_client_auth_cert(chain.clone(), key.clone_key()).unwrap(),
            None => builder.with_no_client_auth(),
        };
        let name = ServerName::try_from("mail.server1.com").unwrap();
        let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut tcp = self.tcp.try_clone().unwrap();
        while connection.is_handshaking() {
            connection.complete_io(&mut tcp).unwrap();
        }
        self.certificate = Some(connection.peer_certificates().unwrap()[0].to_vec());
        self.stream = BufReader::new(Box::new(StreamOwned::new(connection, tcp)));
    }

    /// Sends octets as they are.
    pub fn send(&mut self, octets: &[u8]) {
        self.stream.get_mut().write_all(octets).unwrap();
        self.stream.get_mut().flush().unwrap();
    }

    /// Sends what may not arrive any more.
    pub fn try_send(&mut self, octets: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(octets)?;
        self.stream.get_mut().flush()
    }

    /// The next line without its CRLF; `None` at the end of the connection.
    pub fn line(&mut self) -> Option<String> {
        let mut line = Vec::new();
        match self.stream.read_until(b'\n', &mut line) {
            Ok(0) => None,
            Ok(_) => {
                let line = line.strip_suffix(b"\r\n").unwrap_or_else(|| panic!("no CRLF after {line:?}"));
                Some(String::from_utf8_lossy(line).into_owned())
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("no line in time"),
            Err(_) => None,
        }
    }

    /// Sends a line, and reads one.
    pub fn say(&mut self, line: &str) -> String {
        self.send(format!("{line}\r\n").as_bytes());
        self.line().unwrap_or_else(|| panic!("the connection ended instead of an answer to {line}"))
    }

    /// Reads an SMTP reply of any number of lines: its lines.
    pub fn reply(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        loop {
            let line = self.line().unwrap_or_else(|| panic!("the connection ended after {lines:?}"));
            let last = line.as_bytes().get(3) != Some(&b'-');
            lines.push(line);
            if last {
                return lines;
            }
        }
    }

    /// Sends an SMTP command, reads its reply, and yields the last line.
    pub fn smtp(&mut self, command: &str) -> String {
        self.send(format!("{command}\r\n").as_bytes());
        self.reply().pop().unwrap()
    }

    /// Reads a POP3 multi-line answer up to its dot, without byte-stuffing: its octets.
    pub fn multi_line(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        loop {
            let mut line = Vec::new();
            self.stream.read_until(b'\n', &mut line).unwrap();
            assert!(line.ends_with(b"\r\n"), "{line:?}");
            if line == b".\r\n" {
                return text;
            }
            text.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
        }
    }

    /// Everything until the server ends the connection.
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end as well.
        let _ = self.stream.read_to_end(&mut rest);
        rest
    }
}

#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}
