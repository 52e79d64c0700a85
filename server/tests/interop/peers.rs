//! Mail servers from Debian as peers: Postfix, Exim and OpenSMTPD serve `peer.example` with its mailbox jack, relay to us what
//! is for server1.com, and receive from us what our senders write to jack. Each runs on loopback in a mount namespace of its
//! own ([`debian`]); a name server of the test's says where peer.example is.

use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use super::clients::{HARD, take};
use super::debian;
use super::support::client::Client;
use super::support::{Server, content, wait_for};

#[path = "../outbound/dns.rs"]
#[allow(dead_code)]
mod dns;

use dns::Dns;

/// Users of the peers, in their namespace only.
const USERS: [(&str, u32); 7] = [
    ("postfix", 9901),
    ("postdrop", 9902),
    ("Debian-exim", 9903),
    ("opensmtpd", 9904),
    ("opensmtpq", 9905),
    ("jack", JACK),
    ("vmail", 9907),
];
const JACK: u32 = 9906;

/// Which program, and how it is set up.
struct Kind {
    packages: &'static [&'static str],
    /// Writes its configuration below `etc`: directory, its own port, ours.
    configure: fn(&Path, u16, u16),
    program: &'static [&'static str],
    /// Whether it speaks DSN (RFC 3461), so that the sender is told of the delivery.
    dsn: bool,
}

const POSTFIX: Kind = Kind {
    packages: &["postfix"],
    configure: configure_postfix,
    program: &["/usr/lib/postfix/sbin/master", "-d", "-c", "/etc/postfix"],
    dsn: true,
};
const EXIM: Kind = Kind {
    packages: &["exim4-daemon-light", "exim4-base"],
    configure: configure_exim,
    program: &["/usr/sbin/exim4", "-bdf", "-q5s"],
    dsn: true,
};
const OPENSMTPD: Kind = Kind {
    packages: &["opensmtpd"],
    configure: configure_opensmtpd,
    program: &["sh", "-c", "mkdir -p /var/lib/opensmtpd/empty && exec /usr/sbin/smtpd -d -f /etc/smtpd.conf"],
    dsn: false,
};

fn write(directory: &Path, file: &str, text: &str) {
    let path = directory.join("etc").join(file);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
}

fn configure_postfix(directory: &Path, port: u16, ours: u16) {
    let place = directory.display();
    for queue in [
        "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private", "public",
        "maildrop", "saved", "trace", "pid",
    ] {
        let path = directory.join("queue").join(queue);
        std::fs::create_dir_all(&path).unwrap();
        if queue != "pid" {
            chown(&path, Some(9901), None).unwrap();
        }
    }
    std::fs::create_dir_all(directory.join("data")).unwrap();
    chown(directory.join("data"), Some(9901), None).unwrap();
    let main = format!(
        "compatibility_level = 3.6\ncommand_directory = /usr/sbin\ndaemon_directory = /usr/lib/postfix/sbin\n\
         shlib_directory = /usr/lib/postfix\nqueue_directory = {place}/queue\ndata_directory = {place}/data\n\
         maillog_file = {place}/log\nmaillog_file_prefixes = {place}\nmail_owner = postfix\nsetgid_group = postdrop\n\
         inet_interfaces = 127.0.0.1\ninet_protocols = ipv4\nmyhostname = mx.peer.example\nmydestination =\nalias_maps =\n\
         mynetworks = 127.0.0.0/8\nsmtpd_relay_restrictions = permit_mynetworks reject\n\
         smtpd_recipient_restrictions = reject_unlisted_recipient permit\nsmtp_dns_support_level = disabled\n\
         smtp_tls_security_level = may\nsmtputf8_enable = no\n\
         virtual_mailbox_domains = peer.example\nvirtual_mailbox_base = {place}/mail\nvirtual_minimum_uid = 1\n\
         virtual_mailbox_maps = inline:{{ {{ jack@peer.example = jack/ }} }}\nvirtual_uid_maps = static:{JACK}\n\
         virtual_gid_maps = static:{JACK}\ntransport_maps = inline:{{ {{ server1.com = smtp:[127.0.0.1]:{ours} }} }}\n\
         minimal_backoff_time = 2s\nqueue_run_delay = 2s\n"
    );
    write(directory, "postfix/main.cf", &main);
    let services = format!(
        "127.0.0.1:{port} inet n - n - - smtpd\npickup unix n - n 60 1 pickup\ncleanup unix n - n - 0 cleanup\n\
         qmgr unix n - n 300 1 qmgr\ntlsmgr unix - - n 1000? 1 tlsmgr\nrewrite unix - - n - - trivial-rewrite\n\
         bounce unix - - n - 0 bounce\ndefer unix - - n - 0 bounce\ntrace unix - - n - 0 bounce\n\
         verify unix - - n - 1 verify\nflush unix n - n 1000? 0 flush\nproxymap unix - - n - - proxymap\n\
         proxywrite unix - - n - 1 proxymap\nsmtp unix - - n - - smtp\nrelay unix - - n - - smtp\n\
         error unix - - n - - error\nretry unix - - n - - error\ndiscard unix - - n - - discard\n\
         virtual unix - n n - - virtual\nanvil unix - - n - 1 anvil\nscache unix - - n - 1 scache\n\
         postlog unix-dgram n - n - 1 postlogd\n"
    );
    write(directory, "postfix/master.cf", &services);
}

fn configure_exim(directory: &Path, port: u16, ours: u16) {
    let place = directory.display();
    for name in ["spool", "log"] {
        std::fs::create_dir_all(directory.join(name)).unwrap();
        chown(directory.join(name), Some(9903), Some(9903)).unwrap();
    }
    let text = format!(
        "primary_hostname = mx.peer.example\nspool_directory = {place}/spool\nlog_file_path = {place}/log/%slog\n\
         domainlist local_domains = peer.example\ndaemon_smtp_ports = {port}\nlocal_interfaces = 127.0.0.1\n\
         exim_user = Debian-exim\nexim_group = Debian-exim\nnever_users =\nkeep_environment =\nadd_environment =\n\
         acl_smtp_rcpt = recipient\ndsn_advertise_hosts = *\naccept_8bitmime = true\ntls_advertise_hosts =\n\
         rfc1413_query_timeout = 0s\nhost_lookup =\n\
         begin acl\nrecipient:\n  accept domains = +local_domains\n         endpass\n         message = no such mailbox\n\
         \x20        verify = recipient\n  accept domains = server1.com\n  deny message = relaying is not permitted\n\
         begin routers\nlocal:\n  driver = accept\n  domains = +local_domains\n  local_parts = jack\n  transport = maildir\n\
         remote:\n  driver = manualroute\n  domains = server1.com\n  route_list = * 127.0.0.1\n  self = send\n\
         \x20 transport = smtp\n\
         begin transports\nmaildir:\n  driver = appendfile\n  directory = {place}/mail/jack\n  maildir_format\n\
         \x20 create_directory\n  user = jack\n  group = jack\n\
         smtp:\n  driver = smtp\n  port = {ours}\n  allow_localhost\n  hosts_try_dane =\n\
         begin retry\n* * F,1h,2s\n"
    );
    write(directory, "exim4/exim4.conf", &text);
}

fn configure_opensmtpd(directory: &Path, port: u16, ours: u16) {
    let place = directory.display();
    let text = format!(
        "listen on 127.0.0.1 port {port} hostname mx.peer.example\n\
         table recipients {{ \"jack@peer.example\" }}\n\
         action \"local\" maildir \"{place}/mail/jack\"\n\
         action \"relay\" relay host \"smtp://127.0.0.1:{ours}\" helo mx.peer.example\n\
         match from any for domain \"server1.com\" action \"relay\"\n\
         match from any for rcpt-to <recipients> action \"local\"\n"
    );
    write(directory, "smtpd.conf", &text);
    write(directory, "mailname", "mx.peer.example\n");
    // It refuses a configuration that others may write to.
    std::fs::set_permissions(directory.join("etc/smtpd.conf"), PermissionsExt::from_mode(0o600)).unwrap();
}

/// Our server, a peer, and names.
struct World {
    server: Server,
    peer: Peer,
    // The name server runs in it.
    _runtime: tokio::runtime::Runtime,
}

struct Peer {
    child: Child,
    port: u16,
    directory: tempfile::TempDir,
}

impl World {
    fn start(kind: &Kind) -> Self {
        let package = debian::unpacked(kind.packages);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let dns = runtime.block_on(Dns::start());
        dns.mx("peer.example", 10, "mx.peer.example");
        dns.a("mx.peer.example", [127, 0, 0, 1]);
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut content = content::story();
        content.server.outbound.port = port;
        content.server.resolvers.addresses = vec![dns.address];
        let server = Server::start(content);
        let directory = tempfile::tempdir().unwrap();
        std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
        std::fs::create_dir(directory.path().join("mail")).unwrap();
        chown(directory.path().join("mail"), Some(JACK), Some(JACK)).unwrap();
        (kind.configure)(directory.path(), port, server.address("smtp").port());
        let child = debian::start(&package, directory.path(), &USERS, kind.program);
        let mut peer = Peer { child, port, directory };
        wait_for("the peer's port", || {
            let ended = peer.child.try_wait().unwrap();
            assert!(ended.is_none(), "the peer ended: {}", peer.said());
            std::net::TcpStream::connect(("127.0.0.1", port)).ok()
        });
        Self { server, peer, _runtime: runtime }
    }

    /// Someone at peer.example writes to a recipient, through the peer.
    fn through_peer(&self, recipient: &str, parameters: [&str; 2]) {
        let mut client = Client::connect(std::net::SocketAddr::from(([127, 0, 0, 1], self.peer.port)));
        client.reply();
        client.smtp("EHLO client.example");
        let from = format!("MAIL FROM:<jack@peer.example>{}", parameters[0]);
        let to = format!("RCPT TO:<{recipient}>{}", parameters[1]);
        for (command, expected) in [(from.as_str(), "250"), (&to, "250"), ("DATA", "354")] {
            let reply = client.smtp(command);
            assert!(reply.starts_with(expected), "{command}: {reply}\n{}", self.peer.said());
        }
        client.send(HARD.replace("\r\n.", "\r\n..").as_bytes());
        assert!(client.smtp(".").starts_with("250"), "{}", self.peer.said());
        client.smtp("QUIT");
    }

    /// Tom writes to a recipient, through us.
    fn through_us(&self, recipient: &str) {
        use base64::Engine as _;
        let login = base64::engine::general_purpose::STANDARD.encode("\0tom@server1.com\0tom-password");
        let mut client = Client::connect_tls(self.server.address("submissions"));
        client.reply();
        let commands = [
            ("EHLO client.example".to_owned(), "250"),
            (format!("AUTH PLAIN {login}"), "235"),
            ("MAIL FROM:<tom@server1.com> BODY=8BITMIME".to_owned(), "250"),
            (format!("RCPT TO:<{recipient}>"), "250"),
            ("DATA".to_owned(), "354"),
        ];
        for (command, expected) in commands {
            let reply = client.smtp(&command);
            assert!(reply.starts_with(expected), "{command}: {reply}");
        }
        client.send(HARD.replace("\r\n.", "\r\n..").as_bytes());
        assert!(client.smtp(".").starts_with("250"));
        client.smtp("QUIT");
    }
}

impl Peer {
    /// The messages in jack's maildir, with CRLF line ends.
    fn messages(&self) -> Vec<String> {
        let maildir: PathBuf = self.directory.path().join("mail/jack/new");
        let files = std::fs::read_dir(maildir).into_iter().flatten();
        files
            .map(|file| String::from_utf8_lossy(&std::fs::read(file.unwrap().path()).unwrap()).replace('\n', "\r\n"))
            .collect()
    }

    /// What it printed and logged.
    fn said(&self) -> String {
        let read = |file: &str| std::fs::read_to_string(self.directory.path().join(file)).unwrap_or_default();
        [read("output"), read("log"), read("log/mainlog"), read("log/paniclog")].concat()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("--- the peer said\n{}", self.said());
        }
        // All of them end their children at SIGTERM.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Both ways, octet by octet; and what comes back when there is no such mailbox.
fn both_ways(kind: &Kind) {
    let world = World::start(kind);
    world.through_peer("anna@server1.com", [" BODY=8BITMIME", ""]);
    let received = wait_for("the message for anna", || take(&world.server, "anna@server1.com", "anna-password").pop());
    assert!(received.ends_with(HARD.as_bytes()), "{}", String::from_utf8_lossy(&received));
    assert!(received.starts_with(b"Return-Path: <jack@peer.example>\r\n"));

    world.through_us("jack@peer.example");
    let delivered = wait_for("the message for jack", || world.peer.messages().pop());
    assert!(delivered.ends_with(HARD), "{delivered}");

    // We refuse: the peer tells its sender.
    world.through_peer("nobody@server1.com", ["", ""]);
    let bounce =
        wait_for("the peer's bounce", || world.peer.messages().into_iter().find(|text| text.contains("5.1.1")));
    assert!(bounce.contains("nobody@server1.com"), "{bounce}");

    // The peer refuses: we tell ours.
    world.through_us("nobody@peer.example");
    let bounce = wait_for("our bounce", || take(&world.server, "tom@server1.com", "tom-password").pop());
    let bounce = String::from_utf8_lossy(&bounce).into_owned();
    assert!(
        bounce.contains("Final-Recipient: rfc822; nobody@peer.example") && bounce.contains("Status: 5."),
        "{bounce}"
    );

    if kind.dsn {
        world.through_peer(
            "anna@server1.com",
            [" RET=HDRS ENVID=ID-1", " NOTIFY=SUCCESS ORCPT=rfc822;first@peer.example"],
        );
        let report = wait_for("the report of success", || {
            world.peer.messages().into_iter().find(|text| text.contains("Original-Envelope-I") && text.contains("ID-1"))
        });
        let action = report.lines().find(|line| line.starts_with("Action: ")).unwrap_or_default();
        assert!(action.contains("relayed") || action.contains("delivered"), "{report}");
    }
}

#[test]
fn postfix() {
    both_ways(&POSTFIX);
}

#[test]
fn exim() {
    both_ways(&EXIM);
}

#[test]
fn opensmtpd() {
    both_ways(&OPENSMTPD);
}
