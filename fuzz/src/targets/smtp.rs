//! Receiving by SMTP: the parsers, and the machine as a whole.

use paquebot_config::{Address, BareLineEndings, Domain};
use paquebot_server::credentials::sasl::{Exchange, Mechanism, Step};
use paquebot_server::listen::proxy::read as proxied;
use paquebot_server::smtp::command::{self, Command, Offers};
use paquebot_server::smtp::content::{Decoder, HeaderReader};
use paquebot_server::smtp::machine::{AcceptedRecipient, Action, Envelope, FutureRelease, Login, Machine, Settings};
use paquebot_server::smtp::path::{self, ForwardPath};
use paquebot_server::smtp::reply::Reply;

use crate::input::Input;

/// Any line is a command or has a reply of the 5yz kind.
pub fn command(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (smtputf8, auth) = (input.flag(), input.flag());
    let offers = Offers { smtputf8, auth, require_tls: auth, future_release: auth };
    match command::parse(input.rest(), offers) {
        Ok(Command::Mail(mail)) => {
            let is_ascii = mail.reverse_path.as_ref().is_none_or(Address::is_ascii);
            assert!(is_ascii || mail.smtputf8 && offers.smtputf8);
        }
        Ok(_) => {}
        Err(error) => assert!((500..600).contains(&error.reply().code())),
    }
}

/// Paths, alone.
pub fn path(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok((inside, rest)) = path::split(&text) {
        assert!(text.contains(inside) && text.contains(rest));
        let _ = path::reverse(inside);
        if let Ok(ForwardPath::Mailbox(address)) = path::forward(inside) {
            assert!(!address.to_string().contains(['\r', '\n']));
        }
    }
}

/// The content of a message: the result does not depend on how its octets are divided, and what is taken has no bare CR
/// or LF.
pub fn content(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let step = usize::from(input.byte()).max(1);
    let bytes = input.rest();
    let whole = decoded(bytes, bytes.len().max(1));
    assert_eq!(decoded(bytes, step), whole);
    let (octets, used, is_over, is_faulty) = whole;
    assert!(used <= bytes.len() && (is_over || used == bytes.len()));
    if is_over && !is_faulty {
        assert!(octets.is_empty() || octets.ends_with(b"\r\n"));
        let lines = octets.split(|byte| *byte == b'\n').rev().skip(1);
        for line in lines {
            let end = line.strip_suffix(b"\r").expect("a bare LF was taken");
            assert!(!end.contains(&b'\r') && !end.contains(&0), "a bare CR or a NUL was taken");
        }
        let passage = |step: usize| {
            let mut reader = HeaderReader::default();
            octets.chunks(step).for_each(|piece| reader.look(piece));
            reader.passage()
        };
        assert_eq!(passage(step), passage(octets.len().max(1)));
    }
}

fn decoded(bytes: &[u8], step: usize) -> (Vec<u8>, usize, bool, bool) {
    let (mut decoder, mut octets, mut used, mut is_over) =
        (Decoder::new(BareLineEndings::Refuse), Vec::new(), 0, false);
    for piece in bytes.chunks(step) {
        let (taken, over) = decoder.decode(piece, &mut octets);
        used += taken;
        if over {
            is_over = true;
            break;
        }
    }
    let is_faulty = decoder.fault().is_some();
    if is_faulty {
        // What was taken before the fault does not count.
        octets.clear();
    }
    (octets, used, is_over, is_faulty)
}

/// An AUTH exchange ends after a few lines, whatever they are.
pub fn sasl(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mechanism = if input.flag() { Mechanism::Plain } else { Mechanism::Login };
    let initial = input.flag().then(|| input.text(200));
    let mut step = Exchange::begin(mechanism, initial.as_deref().map(str::as_bytes));
    for _ in 0..4 {
        match step {
            Step::Challenge(exchange, _) => step = exchange.respond(input.piece(200)),
            Step::Verify(_) | Step::Failed(_) => return,
        }
    }
    panic!("the exchange does not end");
}

/// The machine as a whole: the result does not depend on how the bytes are divided, every reply is one, and nothing comes
/// after the end.
pub fn server(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let (submission, tls, step) = (input.flag(), input.flag(), usize::from(input.byte()).max(1));
    let mut input = input.rest().to_vec();
    if submission {
        // Few inputs would guess a login.
        input.splice(0..0, *b"EHLO c\r\nAUTH PLAIN AHRvbUBzZXJ2ZXIxLmNvbQB0b20=\r\n");
    }
    let whole = converse(&settings(submission), tls, input.chunks(input.len().max(1)));
    let divided = converse(&settings(submission), tls, input.chunks(step));
    // What comes with STARTTLS is thrown away, what comes after it is not: there the division counts.
    assert!(!tls || divided == whole, "it depends on how the bytes are divided");
}

fn settings(submission: bool) -> Settings {
    Settings {
        hostname: Domain::parse("mx1.server1.com").expect("a name"),
        submission,
        starttls: true,
        smtputf8: true,
        max_message_size: 2_000,
        max_recipients: 3,
        bare_line_endings: BareLineEndings::Refuse,
        future_release: submission
            .then(|| FutureRelease { longest: 3_600, latest: "2026-11-23T13:00:00Z".parse().expect("a time") }),
    }
}

/// What a conversation came to: the replies, and the messages with their envelopes.
type Outcome = (Vec<u8>, Vec<(Envelope, Vec<u8>)>);

fn converse<'a>(settings: &Settings, tls: bool, pieces: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut host = Host {
        machine: Machine::new(settings.clone(), tls),
        replies: Vec::new(),
        spool: None,
        messages: Vec::new(),
        is_closed: false,
    };
    host.settle();
    for piece in pieces {
        host.machine.feed(piece);
        host.settle();
    }
    for line in host.replies.split_inclusive(|byte| *byte == b'\n') {
        let is_reply = line.len() >= 5 && line[..3].iter().all(u8::is_ascii_digit) && line.ends_with(b"\r\n");
        assert!(is_reply && line.len() <= 512, "{:?}", String::from_utf8_lossy(line));
    }
    (host.replies, host.messages)
}

/// Answers a machine's questions as a server would.
struct Host {
    machine: Machine,
    replies: Vec<u8>,
    spool: Option<Vec<u8>>,
    messages: Vec<(Envelope, Vec<u8>)>,
    is_closed: bool,
}

impl Host {
    fn settle(&mut self) {
        while let Some(action) = self.machine.next_action() {
            assert!(!self.is_closed, "{action:?} after the end");
            self.carry_out(action);
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Reply(reply) => reply.write(&mut self.replies),
            Action::StartTls => self.machine.tls_started(),
            Action::Authenticate(credentials) => {
                let login = match Address::parse(&credentials.login) {
                    Ok(mailbox) if mailbox.domain().as_str() == "server1.com" => Login::Accepted(mailbox),
                    _ => Login::Refused(Reply::new(535, 7, 8, "no")),
                };
                self.machine.authentication_answered(login);
            }
            Action::CheckSender(mail) => {
                let is_bad = mail.reverse_path.as_ref().is_some_and(|path| path.domain().as_str() == "bad.example");
                self.machine.sender_answered(if is_bad { Err(Reply::new(553, 7, 1, "no")) } else { Ok(mail) });
            }
            Action::CheckRecipient(asked) => self.machine.recipient_answered(recipient(asked.path)),
            Action::OpenSpool(_) => {
                self.spool = Some(Vec::new());
                self.machine.spool_answered(Ok(()));
            }
            Action::Content(octets) => {
                self.spool.as_mut().expect("content without a spool").extend_from_slice(&octets);
            }
            Action::Discard | Action::Reset => self.spool = None,
            Action::Commit(envelope) => {
                let content = self.spool.take().expect("a message without content");
                assert_eq!(envelope.octets, content.len() as u64);
                assert!(!envelope.recipients.is_empty());
                self.messages.push((envelope, content));
                self.machine.commit_answered(Reply::new(250, 0, 0, "taken"));
            }
            Action::Close => self.is_closed = true,
        }
    }
}

fn recipient(path: ForwardPath) -> Result<AcceptedRecipient, Reply> {
    match path {
        ForwardPath::Mailbox(address) if address.domain().as_str() == "server1.com" => {
            Ok(AcceptedRecipient { address, max_message_size: None, route: None })
        }
        ForwardPath::Mailbox(address) if address.domain().as_str() == "small.example" => {
            Ok(AcceptedRecipient { address, max_message_size: Some(20), route: None })
        }
        _ => Err(Reply::new(553, 7, 1, "not served")),
    }
}

/// A PROXY protocol header says who the client is, or is refused; what follows it is left to be read.
pub fn proxy(bytes: &[u8]) {
    let mut stream = bytes;
    // A slice is never waited for.
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let client = match std::future::Future::poll(std::pin::pin!(proxied(&mut stream)), &mut context) {
        std::task::Poll::Ready(client) => client,
        std::task::Poll::Pending => panic!("it waits for more than there is"),
    };
    if client.is_ok() {
        let is_header = bytes.starts_with(b"PROXY ") || bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n");
        assert!(is_header && stream.len() < bytes.len());
    }
}
