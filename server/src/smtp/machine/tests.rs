use proptest::prelude::*;

use super::*;
use crate::smtp::path::ForwardPath;
use crate::smtp::testing::address;
use crate::store::envelope::BodyType;

mod chunks;
mod dialogues;
mod extensions;
mod splitting;

fn settings() -> Settings {
    Settings {
        hostname: Domain::parse("mx1.server1.com").unwrap(),
        submission: false,
        starttls: true,
        smtputf8: false,
        max_message_size: 10_000,
        max_recipients: 3,
        bare_line_endings: BareLineEndings::Refuse,
        future_release: None,
    }
}

fn submission() -> Settings {
    let future_release = Some(FutureRelease { longest: 3_600, latest: "2026-11-23T13:00:00Z".parse().unwrap() });
    Settings { submission: true, future_release, ..settings() }
}

/// Drives a machine and answers its questions as a server would that has three mailboxes and one login.
struct World {
    machine: Machine,
    replies: String,
    spool: Option<Vec<u8>>,
    messages: Vec<(Envelope, Vec<u8>)>,
    closed: bool,
    broken_disk: bool,
}

impl World {
    fn new(settings: Settings, tls: bool) -> Self {
        let machine = Machine::new(settings, tls);
        let mut world = Self {
            machine,
            replies: String::new(),
            spool: None,
            messages: Vec::new(),
            closed: false,
            broken_disk: false,
        };
        world.settle();
        world
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.machine.feed(bytes);
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(action) = self.machine.next_action() {
            assert!(!self.closed, "{action:?} after the end");
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Reply(reply) => {
                let mut wire = Vec::new();
                reply.write(&mut wire);
                self.replies.push_str(&String::from_utf8(wire).unwrap());
            }
            Action::StartTls => self.machine.tls_started(),
            Action::Authenticate(credentials) => {
                let login = match credentials.login.as_str() {
                    "tom@server1.com" => Login::Accepted(address("tom@server1.com")),
                    "patient" => Login::Refused(Reply::new(454, 7, 0, "busy")),
                    _ => Login::Refused(Reply::new(535, 7, 8, "no")),
                };
                self.machine.authentication_answered(login);
            }
            Action::CheckSender(mail) => {
                let refused =
                    mail.reverse_path.as_ref().is_some_and(|sender| sender.domain().as_str() == "bad.example");
                // Nobody's mail is urgent here.
                let priority = mail.priority.map(|priority| priority.min(0));
                let verdict = if refused { Err(Reply::new(553, 7, 1, "no")) } else { Ok(Mail { priority, ..mail }) };
                self.machine.sender_answered(verdict);
            }
            Action::CheckRecipient(asked) => self.machine.recipient_answered(recipient(asked.path)),
            Action::OpenSpool(_) => {
                self.spool = Some(Vec::new());
                self.machine.spool_answered(Ok(()));
            }
            Action::Content(_) if self.broken_disk => self.machine.content_failed(Reply::new(452, 3, 1, "full")),
            Action::Content(octets) => self.spool.as_mut().unwrap().extend_from_slice(&octets),
            Action::Discard | Action::Reset => self.spool = None,
            Action::Commit(envelope) => {
                let content = self.spool.take().unwrap();
                assert_eq!(envelope.octets, content.len() as u64);
                self.messages.push((envelope, content));
                self.machine.commit_answered(Reply::new(250, 0, 0, "taken"));
            }
            Action::Close => self.closed = true,
        }
    }

    /// The codes of the replies since the last call, without text: `250 2.1.0`.
    fn codes(&mut self) -> Vec<String> {
        let replies = std::mem::take(&mut self.replies);
        let last_lines = replies.lines().filter(|line| line.as_bytes()[3] == b' ');
        last_lines
            .map(|line| {
                let mut words = line.split(' ');
                let (code, next) = (words.next().unwrap(), words.next().unwrap_or(""));
                let enhanced = next.split('.').count() == 3 && next.bytes().all(|b| b.is_ascii_digit() || b == b'.');
                if enhanced { format!("{code} {next}") } else { code.to_owned() }
            })
            .collect()
    }
}

fn recipient(path: ForwardPath) -> Result<AcceptedRecipient, Reply> {
    let address = match path {
        ForwardPath::Postmaster => address("postmaster@server1.com"),
        ForwardPath::Mailbox(address) => address,
    };
    let known = ["postmaster", "tom", "anna", "bob", "sam"].contains(&address.local_part().as_str());
    match address.domain().as_str() {
        "server1.com" if known => Ok(AcceptedRecipient { address, max_message_size: None, route: None }),
        name if name.ends_with("many.example") => {
            Ok(AcceptedRecipient { address, max_message_size: None, route: None })
        }
        "small.example" => Ok(AcceptedRecipient { address, max_message_size: Some(20), route: None }),
        "server1.com" => Err(Reply::new(550, 1, 1, "unknown")),
        _ => Err(Reply::new(553, 7, 1, "not served")),
    }
}

/// Plays lines `C: …` and `S: code`, as RFC 5321 writes examples. `C:` lines get their CRLF here.
fn play(world: &mut World, dialogue: &str) {
    for (number, line) in dialogue.lines().map(str::trim).enumerate().filter(|(_, line)| !line.is_empty()) {
        if let Some(command) = line.strip_prefix("C:") {
            assert_eq!(world.codes(), Vec::<String>::new(), "unexpected before line {number}: {line}");
            world.feed(format!("{}\r\n", command.strip_prefix(' ').unwrap_or(command)).as_bytes());
        } else if let Some(expected) = line.strip_prefix("S: ") {
            // Several replies to one packet are divided by commas.
            let expected: Vec<&str> = expected.split(", ").collect();
            assert_eq!(world.codes(), expected, "line {number}: {line}");
        } else if line == "(closed)" {
            assert!(world.closed, "still open at line {number}");
        } else {
            panic!("line {number}: {line}");
        }
    }
    assert_eq!(world.codes(), Vec::<String>::new(), "at the end");
}

fn after_greeting(settings: Settings, tls: bool) -> World {
    let mut world = World::new(settings, tls);
    assert_eq!(world.codes(), ["220"]);
    world
}
