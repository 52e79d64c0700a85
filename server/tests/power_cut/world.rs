//! The server under test with its volume, its name server and the server that it relays to.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use paquebot_config::{Content, RecipientScope, Record, RelayRule, RelaySource, Resolvers};
use rusqlite::{Connection, OpenFlags};

use crate::dns::Dns;
use crate::ledger::{Found, Maildrop};
use crate::messages::{Token, whole};
use crate::sink::Sink;
use crate::support::{Home, Server, content};
use crate::volume::Volume;
use crate::wire::Wire;

/// Where mail is delivered, as POP3 logins; the password is the local part of the mailbox and `-password`. What is sent to
/// one with a subaddress goes into that folder by a filter.
pub const MAILDROPS: &[&str] =
    &["tom@server1.com", "anna@server1.com", "bert@server1.com", "bert+lists@server1.com", "heap@server1.com"];
/// The mailbox with a folder, and the folder.
pub const BERT: Maildrop = 2;
pub const LISTS: Maildrop = 3;
/// The one that gathers many messages, which one session deletes then.
pub const HEAP: Maildrop = 4;
/// Files by subaddress.
const FILTER: &str = "require [\"fileinto\", \"envelope\", \"subaddress\"]; \
                      if envelope :detail \"to\" \"lists\" { fileinto \"lists\"; }";

/// See the module.
pub struct World {
    pub sink: Sink,
    pub volume: Volume,
    server: Option<Server>,
    // They answer as long as they live.
    _dns: Dns,
    _runtime: tokio::runtime::Runtime,
}

/// A home whose data directory is not on the volume yet.
pub fn home(dns: SocketAddr, sink: SocketAddr) -> Home {
    let mut wanted = content::story();
    let of_mailbox = MAILDROPS.iter().filter(|login| !login.contains('+'));
    wanted.records = of_mailbox.map(|login| content::mailbox(login, &password(login))).collect();
    for record in &mut wanted.records {
        if let Record::Mailbox(mailbox) = record
            && mailbox.address.to_string() == MAILDROPS[BERT]
        {
            mailbox.filter = Some(FILTER.to_owned());
        }
    }
    for listener in &mut wanted.server.listeners {
        listener.clear_text_logins = true;
    }
    wanted.server.outbound.port = sink.port();
    wanted.server.outbound.allowed_networks = vec!["127.0.0.0/8".parse().unwrap()];
    wanted.server.resolvers = Resolvers { addresses: vec![dns] };
    wanted.relay = vec![RelayRule {
        name: "test/loopback".to_owned(),
        from: vec![RelaySource::Networks(vec!["127.0.0.0/8".parse().unwrap()])],
        senders: None,
        recipients: RecipientScope::Any,
        upstream: None,
        rate_limit: None,
        confined: false,
    }];
    Home::new(wanted as Content)
}

fn password(login: &str) -> String {
    format!("{}-password", login.split(['@', '+']).next().unwrap())
}

impl World {
    /// Starts it all, with the store on a volume made by `make`.
    pub fn start(make: impl FnOnce(&Path) -> Volume) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let dns = runtime.block_on(Dns::start());
        dns.mx("elsewhere.example", 10, "mx.elsewhere.example");
        dns.a("mx.elsewhere.example", [127, 0, 0, 1]);
        let sink = Sink::start();
        let home = home(dns.address, sink.address);
        let volume = make(&home.data_dir());
        let server = Some(Server::start_in(home));
        Self { sink, volume, server, _dns: dns, _runtime: runtime }
    }

    pub fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    pub fn smtp(&self) -> SocketAddr {
        self.server().address("smtp")
    }

    pub fn pop3(&self) -> SocketAddr {
        self.server().address("pop3")
    }

    /// Takes the server out, to stop, kill or wait for it.
    pub fn take_server(&mut self) -> Server {
        self.server.take().unwrap()
    }

    /// Starts it again.
    pub fn start_again(&mut self, home: Home) {
        self.sink.next_epoch();
        self.server = Some(Server::start_in(home));
    }

    /// `paquebot-server store check`, beside the server that serves.
    pub fn check(&self) {
        let data = self.server().home.data_dir();
        let mut command = std::process::Command::new(crate::support::binary());
        let output = command.args(["store", "check", "--data-dir"]).arg(data).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }

    /// Returns as soon as a large deletion has been decided on and is not finished. It looks at the store's own rows, so that
    /// how fast the volume is makes no difference; nothing of it is open afterwards.
    pub fn until_deleting(&self, longest: Duration) {
        let path = self.server().home.data_dir().join("mail.db");
        let store = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
        store.busy_timeout(longest).unwrap();
        let mut deletions = store.prepare("SELECT count(*) FROM deletion").unwrap();
        let begun = Instant::now();
        while deletions.query_row([], |row| row.get::<_, i64>(0)).unwrap() == 0 {
            assert!(begun.elapsed() < longest, "no large deletion begins");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// What there is, after [`World::start_again`]; `queued` and `taken` are from before it.
    pub fn find(&self, before: Before) -> Found {
        let maildrops = (0..MAILDROPS.len()).map(|maildrop| fetch_all(self.pop3(), maildrop)).collect();
        Found { maildrops, queued: before.queued, taken: before.taken }
    }
}

/// What is known of queue and other server while ours does not run.
pub struct Before {
    pub queued: HashSet<Token>,
    pub taken: std::collections::HashMap<Token, Vec<u64>>,
    /// Deletions that the next start has to finish.
    pub unfinished: u64,
}

/// Looks at the files of the store while no server runs: counters, references, files, and the queue. It looks at a copy,
/// so that the server is the one who recovers.
pub fn inspect(data: &Path, sink: &Sink) -> Before {
    let copy = tempfile::tempdir().unwrap();
    for name in ["mail.db", "mail.db-wal"] {
        match std::fs::copy(data.join(name), copy.path().join(name)) {
            Err(error) if name == "mail.db" => panic!("mail.db: {error}"),
            _ => {}
        }
    }
    let database = Connection::open(copy.path().join("mail.db")).unwrap();
    let verdict: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    let none = |what: &str, query: &str| {
        let count: i64 = database.query_row(&format!("SELECT count(*) FROM ({query})"), [], |row| row.get(0)).unwrap();
        assert_eq!(count, 0, "{what}");
    };
    none(
        "the counters of a mailbox are wrong",
        "SELECT number FROM maildrop WHERE (messages, octets) IS NOT \
         (SELECT count(*), coalesce(sum(entry.octets), 0) FROM entry WHERE maildrop = number)",
    );
    none(
        "the references of a message are wrong",
        "SELECT number FROM message WHERE message_references <> (SELECT count(*) FROM entry WHERE message = number) \
         + (SELECT count(*) FROM recipient WHERE message = number) \
         + (SELECT count(*) FROM message AS derived WHERE derived.content_of = message.number)",
    );
    none("an entry without its message", "SELECT key FROM entry WHERE message NOT IN (SELECT number FROM message)");
    let mut files = database.prepare("SELECT file, body_octets FROM message WHERE file IS NOT NULL").unwrap();
    let mut rows = files.query([]).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let (name, octets): (String, i64) = (row.get(0).unwrap(), row.get(1).unwrap());
        let length = std::fs::metadata(data.join("bodies").join(&name)).map(|metadata| metadata.len() as i64).ok();
        assert_eq!(length, Some(octets), "the message file {name}");
    }
    let mut queue = database.prepare("SELECT address FROM recipient").unwrap();
    let addresses: Vec<String> = queue.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let token = |address: &String| address.trim_start_matches('t').split('@').next().unwrap().parse().unwrap();
    let queued: HashSet<Token> = addresses.iter().map(token).collect();
    assert_eq!(queued.len(), addresses.len(), "a recipient is in the queue twice");
    let unfinished: i64 = database.query_row("SELECT count(*) FROM deletion", [], |row| row.get(0)).unwrap();
    Before { queued, taken: sink.taken(), unfinished: unfinished as u64 }
}

/// A POP3 session in its TRANSACTION state, and the number of its messages.
pub fn log_in(pop3: SocketAddr, maildrop: Maildrop) -> std::io::Result<(Wire, usize)> {
    let mut wire = Wire::connect(pop3)?;
    wire.line()?;
    wire.pop3(&format!("USER {}", MAILDROPS[maildrop]))?;
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let answer = wire.pop3(&format!("PASS {}", password(MAILDROPS[maildrop])))?;
        if answer.starts_with("+OK") {
            break;
        }
        // A session that was cut may hold its lock for a moment.
        if !answer.contains("[IN-USE]") || Instant::now() > deadline {
            return Err(std::io::Error::other(answer));
        }
        std::thread::sleep(Duration::from_millis(20));
        wire.pop3(&format!("USER {}", MAILDROPS[maildrop]))?;
    }
    let stat = wire.pop3("STAT")?;
    let messages = stat.split(' ').nth(1).and_then(|word| word.parse().ok());
    Ok((wire, messages.ok_or_else(|| std::io::Error::other(stat))?))
}

/// Every message of a maildrop: whole, once, and as large as the listing says.
pub fn fetch_all(pop3: SocketAddr, maildrop: Maildrop) -> HashSet<Token> {
    let (mut wire, messages) = match log_in(pop3, maildrop) {
        // A folder comes with its first message. Whether that was promised the ledger knows.
        Err(refusal) if maildrop == LISTS && refusal.to_string().starts_with("-ERR") => return HashSet::new(),
        opened => opened.unwrap(),
    };
    assert!(wire.pop3("LIST").unwrap().starts_with("+OK"));
    let listing = wire.lines().unwrap();
    assert_eq!(listing.len(), messages);
    assert!(wire.pop3("UIDL").unwrap().starts_with("+OK"));
    let unique: HashSet<String> =
        wire.lines().unwrap().iter().map(|line| line.split(' ').nth(1).unwrap().to_owned()).collect();
    assert_eq!(unique.len(), messages, "unique-ids are unique");
    let mut tokens = HashSet::new();
    for (index, line) in listing.iter().enumerate() {
        let message = wire.retrieve(index + 1).unwrap();
        assert_eq!(*line, format!("{} {}", index + 1, message.len()));
        let token = whole(&message);
        assert!(tokens.insert(token), "{token} is in maildrop {maildrop} twice");
    }
    wire.pop3("QUIT").unwrap();
    tokens
}
