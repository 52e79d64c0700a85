//! Looks at how one server stands towards the world: asks its pods who connected, and probes their SMTP ports for an open
//! relay, one connection after another. Started by the engine, at most once at a time for each server; the engine learns
//! what was seen as an input.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use kube::Client;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::configz::{NoAnswer, Poller};
use super::propagation::Need;
use super::token::Token;
use crate::directory::NamespacedName;
use crate::exposure::dialogue::{Dialogue, Finding, LONGEST_LINE, Next, Plan, Replies};
use crate::exposure::peers::Peers;
use crate::exposure::relay_closed::Probed;

/// One conversation; a server that is slow on purpose is left.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What is to be looked at.
pub struct Look {
    /// The MailServer.
    pub server: NamespacedName,
    /// The token, where it is known.
    pub token: Option<Token>,
    /// The pods, with their addresses.
    pub pods: Vec<(NamespacedName, IpAddr)>,
    /// The relay rules and ports that the pods serve.
    pub rules: Option<[Need; 2]>,
    /// What to probe; `None`: it is not the time.
    pub probe: Option<Probe>,
}

/// How to probe.
pub struct Probe {
    /// What to say.
    pub plan: Plan,
    /// Where.
    pub ports: Vec<ProbePort>,
}

/// A port to probe.
pub struct ProbePort {
    /// The listener's name.
    pub listener: String,
    /// The container's port.
    pub port: u16,
    /// Whose PROXY header is believed there, where one is required.
    pub trusted: Option<Vec<IpNet>>,
}

/// What was seen.
pub struct Looked {
    /// The MailServer.
    pub server: NamespacedName,
    /// The token, to be kept.
    pub token: Option<Token>,
    /// The relay rules and ports that the pods served.
    pub rules: Option<[Need; 2]>,
    /// What the pods say of their clients.
    pub peers: Vec<Peers>,
    /// What the probe found; `None`: nobody probed.
    pub probed: Option<Vec<Probed>>,
    /// Under which addresses the operator appears at the pods.
    pub own: Vec<IpAddr>,
}

/// Looks.
pub async fn run(client: Client, poller: Poller, look: Look) -> Looked {
    let Look { server, token, pods, rules, probe } = look;
    let mut looked =
        Looked { server, token, rules, peers: Vec::new(), probed: probe.is_some().then(Vec::new), own: Vec::new() };
    for (pod, address) in pods {
        let peers = ask(&client, &poller, &mut looked, address).await;
        let seen = peers.as_ref().map(|peers| peers.client);
        looked.own.extend(seen);
        looked.peers.extend(peers);
        let Some(probe) = &probe else { continue };
        for port in &probe.ports {
            let finding =
                tokio::time::timeout(TIMEOUT, converse(address, port, &probe.plan, seen, &mut looked.own)).await;
            let finding = finding.unwrap_or_else(|_| Finding::Unclear("it did not answer in time".to_owned()));
            let listener = port.listener.clone();
            looked.probed.get_or_insert_default().push(Probed { pod: pod.name.clone(), listener, finding });
        }
    }
    looked.own.sort();
    looked.own.dedup();
    looked
}

/// Asks a pod who connected. A token that is not the pod's is read again, once.
async fn ask(client: &Client, poller: &Poller, looked: &mut Looked, address: IpAddr) -> Option<Peers> {
    let known = looked.token.clone();
    let is_known = known.is_some();
    let token = match known {
        Some(token) => token,
        None => read_token(client, looked).await?,
    };
    let answer = match poller.peers(address, &token).await {
        Err(NoAnswer::WrongToken) if is_known => poller.peers(address, &read_token(client, looked).await?).await,
        answer => answer,
    };
    match answer {
        Ok(peers) => Some(peers),
        Err(error) => {
            tracing::debug!(server = %looked.server, %address, ?error, "a pod did not say who connected");
            if error == NoAnswer::WrongToken {
                looked.token = None;
            }
            None
        }
    }
}

async fn read_token(client: &Client, looked: &mut Looked) -> Option<Token> {
    let read = Token::read(client.clone(), &looked.server).await;
    if let Err(error) = &read {
        tracing::debug!(server = %looked.server, %error, "the server's token could not be read");
    }
    looked.token = read.ok();
    looked.token.clone()
}

/// Holds the conversation. What goes wrong makes it unclear. `seen`: the operator's address as the pod sees it, where it has
/// said so; something between them may change addresses.
async fn converse(
    address: IpAddr,
    port: &ProbePort,
    plan: &Plan,
    seen: Option<IpAddr>,
    own: &mut Vec<IpAddr>,
) -> Finding {
    let broken = |error: std::io::Error| Finding::Unclear(format!("the connection failed: {error}"));
    let remote = SocketAddr::new(address, port.port);
    let mut stream = match TcpStream::connect(remote).await {
        Ok(stream) => stream,
        Err(error) => return broken(error),
    };
    let local = match stream.local_addr() {
        Ok(local) => SocketAddr::new(local.ip().to_canonical(), local.port()),
        Err(error) => return broken(error),
    };
    own.push(local.ip());
    let seen = seen.unwrap_or_else(|| local.ip());
    if let Some(trusted) = &port.trusted {
        if !trusted.iter().any(|network| network.contains(&seen)) {
            return Finding::Unclear(
                "it requires a PROXY header and does not trust the operator to send one".to_owned(),
            );
        }
        if let Err(error) = stream.write_all(proxy_header(SocketAddr::new(seen, local.port()), remote).as_bytes()).await
        {
            return broken(error);
        }
    }
    talk(stream, plan).await.unwrap_or_else(broken)
}

/// Version 1 of the PROXY protocol: the operator speaks for itself.
fn proxy_header(client: SocketAddr, server: SocketAddr) -> String {
    match (client.ip(), server.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => format!("PROXY TCP4 {from} {to} {} {}\r\n", client.port(), server.port()),
        (IpAddr::V6(from), IpAddr::V6(to)) => format!("PROXY TCP6 {from} {to} {} {}\r\n", client.port(), server.port()),
        _ => "PROXY UNKNOWN\r\n".to_owned(),
    }
}

async fn talk(stream: TcpStream, plan: &Plan) -> std::io::Result<Finding> {
    let mut stream = BufReader::new(stream);
    let (mut dialogue, mut replies) = (Dialogue::new(plan.clone()), Replies::default());
    loop {
        let mut line = Vec::new();
        let longest = u64::try_from(LONGEST_LINE).unwrap_or(u64::MAX);
        (&mut stream).take(longest).read_until(b'\n', &mut line).await?;
        let Some(line) = line.strip_suffix(b"\n") else {
            return Ok(Finding::Unclear("it closed the connection, or its reply has no end".to_owned()));
        };
        let line = String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line));
        let reply = match replies.line(&line) {
            Ok(Some(reply)) => reply,
            Ok(None) => continue,
            Err(error) => return Ok(Finding::Unclear(error.to_string())),
        };
        match dialogue.reply(&reply) {
            Next::Send(command) => stream.get_mut().write_all(format!("{command}\r\n").as_bytes()).await?,
            Next::End(finding) => {
                // What was found stands, whether or not it hears the farewell.
                let _ = stream.get_mut().write_all(b"QUIT\r\n").await;
                return Ok(finding);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A server that answers each line with the next of these, and what it was told.
    async fn server(answers: &'static [&'static str]) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let told = tokio::spawn(async move {
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            let mut told = String::new();
            for answer in answers {
                stream.get_mut().write_all(answer.as_bytes()).await.unwrap();
                if answer.len() > 2 && !answer.ends_with('\n') {
                    return told;
                }
                if stream.read_line(&mut told).await.unwrap() == 0 {
                    break;
                }
            }
            let _ = stream.read_to_string(&mut told).await;
            told
        });
        (port, told)
    }

    async fn probe(port: u16, trusted: Option<&str>) -> (Finding, Vec<IpAddr>) {
        let plan = Plan {
            name: "operator.invalid".to_owned(),
            senders: vec!["a@x.invalid".to_owned()],
            recipient: "b@x.invalid".to_owned(),
        };
        let trusted = trusted.map(|network| vec![network.parse().unwrap()]);
        let (mut own, port) = (Vec::new(), ProbePort { listener: "smtp".to_owned(), port, trusted });
        (converse("127.0.0.1".parse().unwrap(), &port, &plan, None, &mut own).await, own)
    }

    #[tokio::test]
    async fn the_probe_talks_smtp_and_never_sends_a_message() {
        let (port, told) = server(&["220-mx\r\n220 here\r\n", "250 mx\r\n", "250 ok\r\n", "250 taken\r\n"]).await;
        let (finding, own) = probe(port, None).await;
        assert!(matches!(finding, Finding::Taken { .. }), "{finding:?}");
        assert_eq!(own, ["127.0.0.1".parse::<IpAddr>().unwrap()]);
        let told = told.await.unwrap();
        assert_eq!(told, "EHLO operator.invalid\r\nMAIL FROM:<a@x.invalid>\r\nRCPT TO:<b@x.invalid>\r\nQUIT\r\n");
    }

    #[tokio::test]
    async fn a_proxy_header_is_sent_only_to_who_trusts_the_operator() {
        let (port, told) = server(&["", "220 mx\r\n", "250 mx\r\n", "250 ok\r\n", "553 no\r\n", "250 ok\r\n"]).await;
        assert_eq!(probe(port, Some("127.0.0.0/8")).await.0, Finding::Refused);
        assert!(told.await.unwrap().starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "));
        let (port, told) = server(&["220 mx\r\n"]).await;
        assert!(matches!(probe(port, Some("192.0.2.0/24")).await.0, Finding::Unclear(_)));
        assert_eq!(told.await.unwrap(), "", "nothing was said");
    }

    #[tokio::test]
    async fn what_goes_wrong_is_unclear() {
        let endless: &'static str = Box::leak(format!("220 {}\r\n", "x".repeat(LONGEST_LINE)).into_boxed_str());
        for answers in [vec!["220 m"], vec![endless], vec!["220 mx\r\n", "garbage\r\n"]] {
            let (port, _told) = server(answers.leak()).await;
            let (finding, _) = probe(port, None).await;
            assert!(matches!(finding, Finding::Unclear(_)), "{finding:?}");
        }
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = closed.local_addr().unwrap().port();
        drop(closed);
        assert!(matches!(probe(port, None).await.0, Finding::Unclear(_)));
    }
}
