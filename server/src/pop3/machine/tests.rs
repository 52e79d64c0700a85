use proptest::prelude::*;

use super::*;
use crate::credentials::Failure;
use crate::store::StoreError;

fn entry(key: i64, octets: u64) -> MaildropEntry {
    MaildropEntry { key, run: 0xabcd, octets }
}

/// Three messages, as the test store has them.
fn maildrop() -> Vec<MaildropEntry> {
    vec![entry(11, 100), entry(22, 200), entry(33, 5_000_000_000)]
}

fn settings(security: Security) -> Settings {
    Settings { security, clear_text_logins: false, login_delay: 0 }
}

/// Feeds bytes and carries out what the machine asks for, as a session would: the password is `secret`, the text of
/// message n is `text n`. Yields everything that was sent, with what was done in brackets.
struct Driver {
    machine: Machine,
    sent: String,
    deletion_fails: Option<StoreError>,
}

impl Driver {
    fn new(security: Security) -> Self {
        Self::with(settings(security))
    }

    fn with(settings: Settings) -> Self {
        let machine = Machine::new("mail.server1.com", settings);
        let mut driver = Self { machine, sent: String::new(), deletion_fails: None };
        driver.run();
        driver.sent.clear();
        driver
    }

    fn logged_in() -> Self {
        let mut driver = Self::new(Security::Tls);
        driver.say(b"USER tom@server1.com\r\nPASS secret\r\n");
        driver
    }

    /// Feeds bytes; yields what was sent.
    fn say(&mut self, bytes: &[u8]) -> String {
        self.machine.feed(bytes);
        self.run();
        std::mem::take(&mut self.sent)
    }

    fn run(&mut self) {
        loop {
            match self.machine.next_output() {
                Output::NeedBytes => return,
                Output::Close => return self.note("[closed]"),
                Output::Send(bytes) => self.sent.push_str(std::str::from_utf8(&bytes).unwrap()),
                Output::Login { login, password } => {
                    if password_is(password, b"secret") {
                        self.note(&format!("[{login}]"));
                        self.machine.logged_in(maildrop());
                    } else {
                        let busy = login.starts_with("patient");
                        self.machine.login_failed(if busy { Failure::Busy } else { Failure::Rejected });
                    }
                }
                Output::StartTls => {
                    self.note("[tls]");
                    self.machine.tls_started();
                }
                Output::Retrieve { index, extent } => {
                    let text = format!("[message {} {extent:?}]", self.machine.entries_from(index).next().unwrap().key);
                    self.machine.message_opened(Ok(None));
                    let Output::Send(reply) = self.machine.next_output() else { panic!("no reply to RETR") };
                    self.sent.push_str(std::str::from_utf8(&reply).unwrap());
                    self.note(&text);
                }
                Output::Update { keys } => {
                    self.note(&format!("[delete {keys:?}]"));
                    self.machine.updated(self.deletion_fails.as_ref().map_or(Ok(()), Err));
                }
            }
        }
    }

    fn note(&mut self, text: &str) {
        if !self.sent.ends_with("[closed]\n") {
            self.sent.push_str(text);
            self.sent.push('\n');
        }
    }
}

/// `Password` cannot be looked into; `Authenticator` is tested with it elsewhere.
fn password_is(password: Password, expected: &[u8]) -> bool {
    crate::credentials::tests_support::octets(&password) == expected
}

#[test]
fn greeting_has_no_apop_timestamp() {
    let mut machine = Machine::new("mail.server1.com", settings(Security::Clear));
    let Output::Send(greeting) = machine.next_output() else { panic!("no greeting") };
    assert_eq!(greeting, "+OK mail.server1.com POP3 ready\r\n");
}

#[test]
fn a_whole_session() {
    let mut driver = Driver::new(Security::Tls);
    let dialogue = [
        ("USER Tom@Server1.com", "+OK the password, please\r\n"),
        ("PASS secret", "[Tom@Server1.com]\n+OK 3 messages (5000000300 octets)\r\n"),
        ("STAT", "+OK 3 5000000300\r\n"),
        ("list", "+OK 3 messages (5000000300 octets)\r\n1 100\r\n2 200\r\n3 5000000000\r\n.\r\n"),
        ("LIST 2", "+OK 2 200\r\n"),
        (
            "UIDL",
            "+OK unique-id listing follows\r\n1 000000000000abcdb\r\n2 000000000000abcd16\r\n3 000000000000abcd21\r\n.\r\n",
        ),
        ("UIDL 3", "+OK 3 000000000000abcd21\r\n"),
        ("RETR 1", "+OK 100 octets\r\n[message 11 Whole]\n"),
        ("TOP 2 10", "+OK the top follows\r\n[message 22 Top(10)]\n"),
        ("DELE 2", "+OK message 2 marked; QUIT deletes it\r\n"),
        ("DELE 2", "-ERR no such message\r\n"),
        ("RETR 2", "-ERR no such message\r\n"),
        ("TOP 2 0", "-ERR no such message\r\n"),
        ("LIST 2", "-ERR no such message\r\n"),
        ("UIDL 2", "-ERR no such message\r\n"),
        ("STAT", "+OK 2 5000000100\r\n"),
        ("LIST", "+OK 2 messages (5000000100 octets)\r\n1 100\r\n3 5000000000\r\n.\r\n"),
        ("RSET", "+OK no message is marked\r\n"),
        ("STAT", "+OK 3 5000000300\r\n"),
        ("DELE 3", "+OK message 3 marked; QUIT deletes it\r\n"),
        ("DELE 1", "+OK message 1 marked; QUIT deletes it\r\n"),
        ("NOOP", "+OK nothing done\r\n"),
        ("QUIT", "[delete [11, 33]]\n+OK 2 messages deleted, bye\r\n[closed]\n"),
    ];
    for (line, expected) in dialogue {
        assert_eq!(driver.say(format!("{line}\r\n").as_bytes()), expected, "{line}");
    }
}

#[test]
fn what_is_not_a_command_is_refused_and_the_session_lives() {
    for line in [
        "RETR",
        "RETR 0",
        "RETR 4",
        "RETR -1",
        "RETR +1",
        "RETR 1 2",
        "RETR 99999999999999999999",
        "RETR  1",
        "TOP 1",
        "TOP 1 -1",
        "TOP 1 x",
        "TOP",
        "DELE",
        "DELE x",
        "LIST 0",
        "LIST 1 1",
        "STAT 1",
        "NOOP 1",
        "QUIT now",
        "XYZ",
        "",
        " ",
        "APOP tom 1234",
        "USER x",
        "PASS x",
        "STLS",
        "AUTH PLAIN",
        "RETR\t1",
        "LI\0ST",
        "NOOP\nNOOP",
        "\u{fc}",
    ] {
        let mut driver = Driver::logged_in();
        let answer = driver.say(format!("{line}\r\n").as_bytes());
        assert!(answer.starts_with("-ERR ") && answer.ends_with("\r\n") && answer.len() < 512, "{line:?}: {answer:?}");
        assert_eq!(driver.say(b"STAT\r\n"), "+OK 3 5000000300\r\n", "{line:?}");
    }
}

#[test]
fn in_transaction_is_needed_for_mail() {
    for line in ["STAT", "LIST", "UIDL", "RETR 1", "TOP 1 1", "DELE 1", "RSET", "NOOP"] {
        let mut driver = Driver::new(Security::Tls);
        assert_eq!(driver.say(format!("{line}\r\n").as_bytes()), "-ERR log in first\r\n", "{line}");
    }
}

#[test]
fn passwords_are_not_taken_in_clear_text() {
    for line in ["USER tom@server1.com", "PASS secret", "AUTH PLAIN", "AUTH PLAIN AHRvbQBzZWNyZXQ="] {
        for security in [Security::Clear, Security::ClearWithStls] {
            let answer = Driver::new(security).say(format!("{line}\r\n").as_bytes());
            let code = if security == Security::Clear { "-ERR [SYS/TEMP]" } else { "-ERR [AUTH]" };
            assert!(answer.starts_with(code), "{line}: {answer}");
        }
    }
}

#[test]
fn what_came_in_clear_after_stls_is_thrown_away() {
    let mut driver = Driver::new(Security::ClearWithStls);
    assert_eq!(driver.say(b"STLS\r\nUSER eve@server1.com\r\nPASS secret\r\n"), "+OK begin TLS\r\n[tls]\n");
    assert_eq!(driver.say(b"PASS secret\r\n"), "-ERR USER comes before PASS\r\n");
    assert!(driver.say(b"STLS\r\n").starts_with("-ERR TLS is in use"));
    assert!(driver.say(b"USER tom@server1.com\r\nPASS secret\r\n").ends_with("+OK 3 messages (5000000300 octets)\r\n"));
}

#[test]
fn auth_plain_with_and_without_an_initial_response() {
    // \0tom@server1.com\0secret
    let right = "AHRvbUBzZXJ2ZXIxLmNvbQBzZWNyZXQ=";
    let accepted = "[tom@server1.com]\n+OK 3 messages (5000000300 octets)\r\n";
    assert_eq!(Driver::new(Security::Tls).say(format!("auth plain {right}\r\n").as_bytes()), accepted);
    let mut driver = Driver::new(Security::Tls);
    assert_eq!(driver.say(b"AUTH PLAIN\r\n"), "+ \r\n");
    assert_eq!(driver.say(format!("{right}\r\n").as_bytes()), accepted);
    for (answer, refusal) in [
        ("*", "-ERR AUTH was cancelled\r\n"),
        ("!!", "-ERR the answer is not base64\r\n"),
        (
            "AHRvbQ==",
            "-ERR the answer is not that of the mechanism: a login and its password, and nobody else's name\r\n",
        ),
        ("", "-ERR the answer is not that of the mechanism: a login and its password, and nobody else's name\r\n"),
        // anna\0tom@server1.com\0secret
        (
            "YW5uYQB0b21Ac2VydmVyMS5jb20Ac2VjcmV0",
            "-ERR the answer is not that of the mechanism: a login and its password, and nobody else's name\r\n",
        ),
    ] {
        let mut driver = Driver::new(Security::Tls);
        driver.say(b"AUTH PLAIN\r\n");
        assert_eq!(driver.say(format!("{answer}\r\n").as_bytes()), refusal, "{answer}");
        assert_eq!(driver.say(b"STAT\r\n"), "-ERR log in first\r\n");
    }
    let mut driver = Driver::new(Security::Tls);
    driver.say(b"AUTH PLAIN\r\n");
    let long = format!("{}\r\nQUIT\r\n", "A".repeat(20_000));
    assert!(driver.say(long.as_bytes()).ends_with("+OK bye\r\n[closed]\n"));
    assert!(Driver::new(Security::Tls).say(b"AUTH CRAM-MD5\r\n").starts_with("-ERR "));
}

#[test]
fn failed_logins_are_counted() {
    let mut driver = Driver::new(Security::Tls);
    let attempt = b"USER tom@server1.com\r\nPASS wrong\r\n";
    let refusal = "+OK the password, please\r\n-ERR [AUTH] the login or the password is wrong\r\n";
    assert_eq!(driver.say(attempt), refusal);
    // A server that is busy has not looked at the password.
    for _ in 0..5 {
        let busy = driver.say(b"USER patient@server1.com\r\nPASS wrong\r\n");
        assert!(busy.ends_with("-ERR [SYS/TEMP] too many logins at once; try again later\r\n"), "{busy}");
    }
    assert_eq!(driver.say(attempt), refusal);
    let last = driver.say(b"USER tom@server1.com\r\nPASS wrong\r\nUSER tom@server1.com\r\nPASS secret\r\n");
    assert!(last.ends_with("-ERR [AUTH] too many failed logins; closing\r\n[closed]\n"), "{last}");
}

#[test]
fn a_password_may_hold_spaces() {
    let mut driver = Driver::new(Security::Tls);
    assert!(driver.say(b"USER tom@server1.com\r\nPASS secret \r\n").contains("-ERR [AUTH]"));
}

#[test]
fn what_quit_answers_is_what_became_of_the_marked_messages() {
    for (failure, answer) in [
        (StoreError::DiskFull, "no message was deleted"),
        (StoreError::NotFound, "no message was deleted"),
        (StoreError::Failed("the disk is gone".to_owned()), "all marked messages are deleted or none"),
    ] {
        let mut driver = Driver::logged_in();
        driver.deletion_fails = Some(failure);
        let said = driver.say(b"DELE 1\r\nQUIT\r\n");
        assert!(said.contains("[delete [11]]\n-ERR [SYS/TEMP] ") && said.contains(answer), "{said}");
        assert!(said.ends_with("[closed]\n"), "{said}");
    }
}

#[test]
fn nothing_is_deleted_without_quit() {
    for end in [Machine::shut_down, Machine::timed_out] {
        let mut driver = Driver::logged_in();
        driver.say(b"DELE 1\r\n");
        end(&mut driver.machine);
        let last = driver.say(b"QUIT\r\n");
        assert!(last.starts_with("-ERR [SYS/TEMP]") && last.ends_with("[closed]\n"), "{last}");
        assert!(!last.contains("delete ["), "{last}");
    }
}

#[test]
fn garbage_ends_the_session_after_a_while() {
    let mut driver = Driver::new(Security::Tls);
    let answer = driver.say(&b"GET / HTTP/1.1\r\n".repeat(20));
    assert_eq!(answer.matches("-ERR").count(), 10);
    assert!(answer.ends_with("-ERR too many errors; closing\r\n[closed]\n"), "{answer}");
    let mut driver = Driver::new(Security::Tls);
    assert_eq!(driver.say(&[0xff; 10_000]).matches("-ERR").count(), 1);
}

#[test]
fn errors_are_counted_after_the_login_too() {
    for line in ["USER tom@server1.com", "STLS", "XYZ", "RETR x"] {
        let answer = Driver::logged_in().say(format!("{line}\r\n").repeat(20).as_bytes());
        assert_eq!(answer.matches("-ERR").count(), 10, "{line}: {answer}");
        assert!(answer.ends_with("-ERR too many errors; closing\r\n[closed]\n"), "{line}: {answer}");
    }
}

#[test]
fn a_large_listing_comes_in_pieces() {
    let mut machine = Machine::new("mail.server1.com", settings(Security::Tls));
    machine.next_output();
    machine.feed(b"USER tom@server1.com\r\nPASS secret\r\nLIST\r\n");
    let mut listing = String::new();
    loop {
        match machine.next_output() {
            Output::Login { .. } => machine.logged_in((0..50_000).map(|key| entry(key, 1)).collect()),
            Output::Send(piece) => {
                assert!(piece.len() < 20_000);
                listing.push_str(std::str::from_utf8(&piece).unwrap());
            }
            _ => break,
        }
    }
    assert!(listing.ends_with("\r\n50000 1\r\n.\r\n"));
    assert_eq!(listing.matches("\r\n").count(), 1 + 1 + 1 + 50_000 + 1);
}

mod extensions;

fn script() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        Just("USER tom@server1.com\r\n"),
        Just("PASS secret\r\n"),
        Just("PASS no\r\n"),
        Just("AUTH PLAIN\r\n"),
        Just("AHRvbUBzZXJ2ZXIxLmNvbQBzZWNyZXQ=\r\n"),
        Just("*\r\n"),
        Just("CAPA\r\n"),
        Just("UTF8\r\n"),
        Just("LANG\r\n"),
        Just("LANG de\r\n"),
        Just("LANG x\r\n"),
        Just("STAT\r\n"),
        Just("LIST\r\n"),
        Just("UIDL 2\r\n"),
        Just("RETR 1\r\n"),
        Just("TOP 3 1\r\n"),
        Just("DELE 2\r\n"),
        Just("RSET\r\n"),
        Just("QUIT\r\n"),
        Just("\r\n"),
        Just("\r"),
        Just("\n"),
        Just("NOOP\n"),
        Just("\u{0}\r\n"),
    ];
    proptest::collection::vec(word, 0..25).prop_map(|words| words.concat().into_bytes())
}

proptest! {
    #[test]
    fn the_answers_do_not_depend_on_how_the_bytes_arrive(
        script in script(),
        cuts in proptest::collection::vec(0usize..400, 0..10),
    ) {
        let mut whole = Driver::new(Security::Tls);
        let expected = whole.say(&script);
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(script.len())).collect();
        cuts.sort_unstable();
        cuts.push(script.len());
        let mut pieces = Driver::new(Security::Tls);
        let mut answers = String::new();
        let mut from = 0;
        for cut in cuts {
            if !answers.ends_with("[closed]\n") {
                answers.push_str(&pieces.say(&script[from..cut]));
            }
            from = cut;
        }
        prop_assert_eq!(answers, expected);
    }

    #[test]
    fn octets_of_any_kind_never_panic_and_every_reply_is_a_line(octets in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut driver = Driver::logged_in();
        let answers = driver.say(&octets) + &driver.say(b"\r\n");
        prop_assert!(answers.lines().all(|line| line.len() < 512));
    }
}
