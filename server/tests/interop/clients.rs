//! Clients from Debian, each as a person would call it, over TLS with the certificate checked. What they send is compared
//! with what is in the maildrop, and what they fetch with what was sent.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::debian;
use super::support::client::Client;
use super::support::{Server, content};

/// What is hard for a client to carry, and yet has to arrive.
pub const HARD: &str = "From: tom@server1.com\r\nTo: anna@server1.com\r\nSubject: hard\r\n\
    Date: Mon, 23 Nov 2026 12:00:00 +0000\r\nMessage-ID: <hard@server1.com>\r\nMIME-Version: 1.0\r\n\
    Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n.\r\n..\r\n.dot\r\n\r\n\
    Gr\u{fc}\u{df}e \u{1f4ee}\r\n  trailing  \r\nFrom here\r\nlast\r\n";
/// Its text from the first line of the body on.
fn hard_body() -> &'static str {
    HARD.split_once("\r\n\r\n").unwrap().1
}

/// Everything in anna's maildrop, which is emptied.
pub fn take(server: &Server, user: &str, password: &str) -> Vec<Vec<u8>> {
    let mut client = Client::connect_tls(server.address("pop3s"));
    client.line();
    client.say(&format!("USER {user}"));
    let opened = client.say(&format!("PASS {password}"));
    assert!(opened.starts_with("+OK"), "{opened}");
    let count: usize = client.say("STAT").split(' ').nth(1).unwrap().parse().unwrap();
    let take = |number: usize| {
        assert!(client.say(&format!("RETR {number}")).starts_with("+OK"));
        let message = client.multi_line();
        assert!(client.say(&format!("DELE {number}")).starts_with("+OK"));
        message
    };
    let messages = (1..=count).map(take).collect();
    assert!(client.say("QUIT").starts_with("+OK"));
    messages
}

/// Delivers a message to anna.
fn deliver(server: &Server, text: &str) {
    let mut client = Client::connect(server.address("smtp"));
    client.reply();
    for (command, expected) in [
        ("EHLO client.example", "250"),
        ("MAIL FROM:<tom@server2.com> BODY=8BITMIME", "250"),
        ("RCPT TO:<anna@server1.com>", "250"),
        ("DATA", "354"),
    ] {
        let reply = client.smtp(command);
        assert!(reply.starts_with(expected), "{command}: {reply}");
    }
    let stuffed = text.replace("\r\n.", "\r\n..");
    client.send(stuffed.as_bytes());
    assert!(client.smtp(".").starts_with("250"));
    client.smtp("QUIT");
}

struct World {
    server: Server,
    certificate: String,
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let server = Server::start(content::story());
        let certificate = server.home.certificate_file().to_str().unwrap().to_owned();
        Self { server, certificate, directory: tempfile::tempdir().unwrap() }
    }

    fn port(&self, name: &str) -> String {
        self.server.address(name).port().to_string()
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Runs a program with this on its standard input; it has to succeed.
    fn run(&self, program: &str, arguments: &[&str], input: &str) -> String {
        let mut command = Command::new(program);
        command.args(arguments).env("HOME", self.directory.path()).current_dir(self.directory.path());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // A program that does not read its input has its reason, which its exit code tells.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let complained = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {}\n{said}{complained}", output.status);
        said
    }

    fn expect_hard(&self) {
        let messages = take(&self.server, "anna@server1.com", "anna-password");
        assert_eq!(messages.len(), 1);
        assert!(messages[0].ends_with(HARD.as_bytes()), "{}", String::from_utf8_lossy(&messages[0]));
    }
}

#[test]
fn swaks_sends() {
    debian::need(&["swaks=swaks", "no-tls-for-perl=libnet-ssleay-perl"].map(|pair| {
        // Perl's module has no command: it is there or not.
        if pair.starts_with("no-tls") && Path::new("/usr/lib/x86_64-linux-gnu/perl5/5.36/Net/SSLeay.pm").exists() {
            "sh=dash"
        } else {
            pair
        }
    }));
    let world = World::new();
    let file = world.file("hard.eml", HARD);
    for (port, tls) in [("submission", "--tls"), ("submissions", "--tls-on-connect")] {
        let (port, data) = (world.port(port), format!("@{file}"));
        let from = ["--from", "tom@server1.com", "--to", "anna@server1.com", "--server", "localhost", "--port", &port];
        let login = ["--auth", "PLAIN", "--auth-user", "tom@server1.com", "--auth-password", "tom-password"];
        let how = [
            tls,
            "--tls-verify",
            "--tls-ca-path",
            &world.certificate,
            "--pipeline",
            "--no-data-fixup",
            "--data",
            &data,
        ];
        // The text as it is on the wire: swaks is told not to touch it.
        let wire = HARD.replace("\r\n.", "\r\n..") + ".\r\n";
        world.file("hard.eml", &wire);
        world.run("swaks", &[&from[..], &login[..], &how[..]].concat(), "");
        world.expect_hard();
    }
}

#[test]
fn msmtp_sends() {
    debian::need(&["msmtp=msmtp"]);
    let world = World::new();
    for (port, starttls) in [("submission", "on"), ("submissions", "off")] {
        let settings = [
            "--host=localhost".to_owned(),
            format!("--port={}", world.port(port)),
            "--tls=on".to_owned(),
            format!("--tls-starttls={starttls}"),
            format!("--tls-trust-file={}", world.certificate),
            "--auth=plain".to_owned(),
            "--user=tom@server1.com".to_owned(),
            "--passwordeval=echo tom-password".to_owned(),
            "--from=tom@server1.com".to_owned(),
        ];
        let mut arguments: Vec<&str> = settings.iter().map(String::as_str).collect();
        arguments.extend(["--", "anna@server1.com"]);
        world.run("msmtp", &arguments, &HARD.replace("\r\n", "\n"));
        world.expect_hard();
    }
}

#[test]
fn curl_sends_and_fetches() {
    debian::need(&["curl=curl"]);
    let world = World::new();
    let file = world.file("hard.eml", HARD);
    for (scheme, port) in [("smtp", "submission"), ("smtps", "submissions")] {
        let url = format!("{scheme}://localhost:{}/client.example", world.port(port));
        let common = ["--silent", "--show-error", "--ssl-reqd", "--cacert", &world.certificate, "--url", &url];
        let mail = ["--mail-from", "tom@server1.com", "--mail-rcpt", "anna@server1.com", "--upload-file", &file];
        world.run("curl", &[&common[..], &mail[..], &["--user", "tom@server1.com:tom-password"]].concat(), "");
        world.expect_hard();
    }
    for (scheme, port) in [("pop3", "pop3"), ("pop3s", "pop3s")] {
        deliver(&world.server, HARD);
        let get = |path: &str, more: &[&str]| {
            let url = format!("{scheme}://localhost:{}/{path}", world.port(port));
            let common = ["--silent", "--show-error", "--ssl-reqd", "--cacert", &world.certificate, "--url", &url];
            world.run("curl", &[&common[..], &["--user", "anna@server1.com:anna-password"], more].concat(), "")
        };
        assert!(get("", &[]).starts_with("1 "));
        assert!(get("1", &[]).ends_with(HARD));
        assert!(get("", &["--request", "TOP 1 0"]).contains("Subject: hard"));
        get("1", &["--request", "DELE", "--head"]);
        assert_eq!(take(&world.server, "anna@server1.com", "anna-password").len(), 0);
    }
}

#[test]
fn mutt_sends() {
    debian::need(&["mutt=mutt"]);
    let world = World::new();
    for (scheme, port) in [("smtp", "submission"), ("smtps", "submissions")] {
        let settings = format!(
            "set smtp_url=\"{scheme}://tom@server1.com@localhost:{}/\"\nset smtp_pass=tom-password\nset ssl_force_tls=yes\n\
             set ssl_starttls=yes\nset certificate_file=\"{}\"\nset from=tom@server1.com\nset use_from=yes\nset copy=no\n\
             set envelope_from_address=tom@server1.com\nset use_envelope_from=yes\nset charset=utf-8\nset send_charset=utf-8\n\
             set allow_8bit=yes\n",
            world.port(port),
            world.certificate
        );
        let settings = world.file("muttrc", &settings);
        let attachment = world.file("a.txt", "attached\n");
        let arguments = ["-n", "-F", &settings, "-s", "from mutt", "-a", &attachment, "--", "anna@server1.com"];
        world.run("mutt", &arguments, &hard_body().replace("\r\n", "\n"));
        let messages = take(&world.server, "anna@server1.com", "anna-password");
        assert_eq!(messages.len(), 1);
        let text = String::from_utf8_lossy(&messages[0]).into_owned();
        assert!(text.contains("Subject: from mutt\r\n") && text.contains("attached\r\n"), "{text}");
        assert!(text.contains("\r\n.\r\n..\r\n.dot\r\n"), "{text}");
    }
}

#[test]
fn s_nail_sends() {
    debian::need(&["s-nail=s-nail"]);
    let world = World::new();
    for (scheme, port, starttls) in
        [("smtp", "submission", "smtp-use-starttls"), ("smtps", "submissions", "batch-exit")]
    {
        let mta = format!("mta={scheme}://tom%40server1.com:tom-password@localhost:{}", world.port(port));
        let authority = format!("tls-ca-file={}", world.certificate);
        let mut arguments = vec!["-:/", "-S", "v15-compat", "-S", &mta, "-S", starttls, "-S", "smtp-auth=plain"];
        arguments.extend(["-S", &authority, "-S", "tls-verify=strict", "-S", "sendwait", "-S", "ttycharset=utf-8"]);
        arguments.extend(["-r", "tom@server1.com", "-s", "from s-nail", "anna@server1.com"]);
        world.run("s-nail", &arguments, ".dot\nplain\n");
        let messages = take(&world.server, "anna@server1.com", "anna-password");
        assert_eq!(messages.len(), 1);
        let text = String::from_utf8_lossy(&messages[0]).into_owned();
        assert!(text.contains("Subject: from s-nail\r\n") && text.ends_with("\r\n.dot\r\nplain\r\n"), "{text}");
    }
}

/// The one message that a program stored in a maildir or a file, with LF line ends.
fn stored(place: &Path) -> String {
    let file = if place.is_dir() {
        let mut files = std::fs::read_dir(place).unwrap();
        let file = files.next().unwrap().unwrap().path();
        assert!(files.next().is_none(), "more than one message in {}", place.display());
        file
    } else {
        place.to_owned()
    };
    String::from_utf8(std::fs::read(file).unwrap()).unwrap().replace("\r\n", "\n")
}

#[test]
fn fetchmail_fetches() {
    debian::need(&["fetchmail=fetchmail"]);
    let world = World::new();
    for (port, tls) in [("pop3", "sslproto 'TLS1.2+'"), ("pop3s", "ssl")] {
        deliver(&world.server, HARD);
        let output = world.path(port);
        let settings = format!(
            "set no bouncemail\nset invisible\npoll localhost protocol pop3 port {} uidl user 'anna@server1.com' \
             password 'anna-password' {tls} sslcertck sslcertfile '{}' fetchall no keep no rewrite mda 'cat >{}'\n",
            world.port(port),
            world.certificate,
            output.display()
        );
        let settings = world.file("fetchmailrc", &settings);
        std::fs::set_permissions(&settings, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        world.run("fetchmail", &["--nodetach", "--nosyslog", "-f", &settings], "");
        assert!(stored(&output).ends_with(&HARD.replace("\r\n", "\n")), "{}", stored(&output));
        assert_eq!(take(&world.server, "anna@server1.com", "anna-password").len(), 0);
    }
}

#[test]
fn getmail_fetches() {
    debian::need(&["getmail=getmail6"]);
    let world = World::new();
    deliver(&world.server, HARD);
    let settings = format!(
        "[retriever]\ntype = SimplePOP3SSLRetriever\nserver = localhost\nport = {}\nusername = anna@server1.com\n\
         password = anna-password\nca_certs = {}\n[destination]\ntype = MDA_external\npath = /bin/sh\n\
         arguments = (\"-c\", \"cat >{}\")\nallow_root_commands = true\nunixfrom = false\n[options]\ndelete = true\n\
         delivered_to = false\nreceived = false\nverbose = 2\n",
        world.port("pop3s"),
        world.certificate,
        world.path("fetched").display()
    );
    let settings = world.file("getmailrc", &settings);
    let directory = world.directory.path().to_str().unwrap();
    world.run("getmail", &[&format!("--getmaildir={directory}"), &format!("--rcfile={settings}")], "");
    let text = stored(&world.path("fetched"));
    assert!(text.ends_with(&HARD.replace("\r\n", "\n")), "{text}");
    assert_eq!(take(&world.server, "anna@server1.com", "anna-password").len(), 0);
}

#[test]
fn mpop_fetches() {
    debian::need(&["mpop=mpop"]);
    let world = World::new();
    for (port, starttls) in [("pop3", "on"), ("pop3s", "off")] {
        deliver(&world.server, HARD);
        let output = world.path(port);
        for folder in ["cur", "new", "tmp"] {
            std::fs::create_dir_all(output.join(folder)).unwrap();
        }
        let settings = [
            "--host=localhost".to_owned(),
            format!("--port={}", world.port(port)),
            "--tls=on".to_owned(),
            format!("--tls-starttls={starttls}"),
            format!("--tls-trust-file={}", world.certificate),
            "--auth=plain".to_owned(),
            "--user=anna@server1.com".to_owned(),
            "--passwordeval=echo anna-password".to_owned(),
            "--keep=off".to_owned(),
            "--received-header=off".to_owned(),
            format!("--uidls-file={}", world.path("uidls").display()),
            format!("--delivery=maildir,{}", output.display()),
        ];
        world.run("mpop", &settings.iter().map(String::as_str).collect::<Vec<_>>(), "");
        let text = stored(&output.join("new"));
        assert!(text.ends_with(&HARD.replace("\r\n", "\n")), "{text}");
        assert_eq!(take(&world.server, "anna@server1.com", "anna-password").len(), 0);
    }
}
