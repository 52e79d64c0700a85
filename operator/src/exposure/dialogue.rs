//! The probe's conversation with an SMTP port (RFC 5321): it asks whether a message for a domain that nobody serves would
//! be taken, and never sends one. Replies go in, commands come out; [`crate::controllers::exposure_worker`] does the I/O.

/// The longest reply line that is read; RFC 5321 section 4.5.3.1.5 says 512.
pub const LONGEST_LINE: usize = 2048;
/// The most lines of one reply.
pub const MOST_LINES: usize = 128;
/// What is quoted of a reply.
const QUOTED: usize = 160;

/// What the probe says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The name in EHLO.
    pub name: String,
    /// The reverse-paths, tried one after another.
    pub senders: Vec<String>,
    /// The recipient, in a domain that the server does not serve.
    pub recipient: String,
}

/// A whole reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The reply code.
    pub code: u16,
    /// The text of its last line.
    pub text: String,
}

impl std::fmt::Display for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let printable = self.text.chars().filter(|c| !c.is_control()).take(QUOTED);
        write!(f, "{} {}", self.code, printable.collect::<String>())
    }
}

/// What is not SMTP.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("what it answered is no SMTP reply")]
pub struct NoReply;

/// Puts replies together from lines.
#[derive(Debug, Default)]
pub struct Replies {
    code: Option<u16>,
    lines: usize,
}

impl Replies {
    /// Takes a line without its CRLF; yields the reply that it ends.
    ///
    /// # Errors
    /// [`NoReply`] when it cannot be a line of a reply.
    pub fn line(&mut self, line: &str) -> Result<Option<Reply>, NoReply> {
        let (digits, rest) = line.split_at_checked(3).ok_or(NoReply)?;
        let code: u16 = digits.parse().map_err(|_| NoReply)?;
        let is_first = self.code.is_none();
        self.lines += 1;
        let same = is_first || self.code == Some(code);
        if !(200..600).contains(&code)
            || !digits.bytes().all(|b| b.is_ascii_digit())
            || !same
            || self.lines > MOST_LINES
        {
            return Err(NoReply);
        }
        match rest.as_bytes().first() {
            Some(b'-') => {
                self.code = Some(code);
                Ok(None)
            }
            None | Some(b' ') => {
                *self = Self::default();
                Ok(Some(Reply { code, text: rest.trim().to_owned() }))
            }
            Some(_) => Err(NoReply),
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The recipient was refused for good.
    Refused,
    /// The recipient was taken: the reply to RCPT, and the reverse-path that it was taken with.
    Taken {
        /// The reply to RCPT.
        reply: Reply,
        /// The reverse-path.
        sender: String,
    },
    /// Neither: why.
    Unclear(String),
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// This command is to be sent, with CRLF.
    Send(String),
    /// The conversation is over: QUIT, without waiting for the answer.
    End(Finding),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Greeting,
    Hello,
    Mail,
    Recipient,
    Reset,
}

/// The conversation.
#[derive(Debug)]
pub struct Dialogue {
    plan: Plan,
    step: Step,
    /// Which reverse-path is tried.
    attempt: usize,
    refused: bool,
    unclear: Option<String>,
}

impl Dialogue {
    /// Waits for the greeting.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        Self { plan, step: Step::Greeting, attempt: 0, refused: false, unclear: None }
    }

    /// Takes the reply to what was sent last.
    pub fn reply(&mut self, reply: &Reply) -> Next {
        let good = (200..300).contains(&reply.code);
        match self.step {
            Step::Greeting if reply.code == 220 => self.send(Step::Hello, format!("EHLO {}", self.plan.name)),
            Step::Greeting | Step::Hello if !good => {
                Next::End(Finding::Unclear(format!("it did not let the operator in: {reply}")))
            }
            Step::Greeting => Next::End(Finding::Unclear(format!("its greeting is none: {reply}"))),
            Step::Hello => self.mail(),
            Step::Mail if good => self.send(Step::Recipient, format!("RCPT TO:<{}>", self.plan.recipient)),
            Step::Mail => {
                self.unclear = Some(format!("it refused the sender: {reply}"));
                self.next_sender()
            }
            Step::Recipient if good => {
                let sender = self.plan.senders.get(self.attempt).cloned().unwrap_or_default();
                Next::End(Finding::Taken { reply: reply.clone(), sender })
            }
            Step::Recipient => {
                if (500..600).contains(&reply.code) {
                    self.refused = true;
                } else {
                    self.unclear = Some(format!("it would not decide: {reply}"));
                }
                self.send(Step::Reset, "RSET".to_owned())
            }
            Step::Reset => self.next_sender(),
        }
    }

    fn mail(&mut self) -> Next {
        match self.plan.senders.get(self.attempt) {
            Some(sender) => {
                let command = format!("MAIL FROM:<{sender}>");
                self.send(Step::Mail, command)
            }
            None => Next::End(self.finding()),
        }
    }

    fn next_sender(&mut self) -> Next {
        self.attempt += 1;
        self.mail()
    }

    /// One refusal of the recipient is enough: a sender that was not even listened to relays nothing.
    fn finding(&mut self) -> Finding {
        match self.unclear.take() {
            _ if self.refused => Finding::Refused,
            Some(why) => Finding::Unclear(why),
            None => Finding::Unclear("nothing was asked".to_owned()),
        }
    }

    fn send(&mut self, step: Step, command: String) -> Next {
        self.step = step;
        Next::Send(command)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plan() -> Plan {
        Plan {
            name: "operator.invalid".to_owned(),
            senders: vec!["a@probe.invalid".to_owned(), "postmaster@server1.com".to_owned()],
            recipient: "b@probe.invalid".to_owned(),
        }
    }

    /// The commands of a conversation with these replies, and what came of it.
    fn talk(answers: &[&str]) -> (Vec<String>, Option<Finding>) {
        let (mut dialogue, mut replies, mut commands) = (Dialogue::new(plan()), Replies::default(), Vec::new());
        for line in answers {
            let Some(reply) = replies.line(line).unwrap() else { continue };
            match dialogue.reply(&reply) {
                Next::Send(command) => commands.push(command),
                Next::End(finding) => return (commands, Some(finding)),
            }
        }
        (commands, None)
    }

    #[test]
    fn a_server_that_refuses_both_senders_recipient_is_closed() {
        let answers =
            ["220 mx", "250-mx", "250 SIZE", "250 ok", "553 5.7.1 no", "250 ok", "250 ok", "553 5.7.1 no", "250"];
        let (commands, finding) = talk(&answers);
        assert_eq!(finding, Some(Finding::Refused));
        let expected = [
            "EHLO operator.invalid",
            "MAIL FROM:<a@probe.invalid>",
            "RCPT TO:<b@probe.invalid>",
            "RSET",
            "MAIL FROM:<postmaster@server1.com>",
            "RCPT TO:<b@probe.invalid>",
            "RSET",
        ];
        assert_eq!(commands, expected, "no message is ever sent");
    }

    #[test]
    fn a_recipient_that_is_taken_from_either_sender_is_an_open_relay() {
        for (answers, sender) in [
            (&["220 mx", "250 mx", "250 ok", "250 2.1.5 ok"][..], "a@probe.invalid"),
            (
                &["220 mx", "250 mx", "250 ok", "550 no", "250 ok", "250 ok", "251 will forward"],
                "postmaster@server1.com",
            ),
            (&["220 mx", "250 mx", "550 who?", "250 ok", "250 ok"], "postmaster@server1.com"),
        ] {
            let Some(Finding::Taken { sender: with, .. }) = talk(answers).1 else { panic!("{answers:?}") };
            assert_eq!(with, sender);
        }
    }

    #[test]
    fn what_says_neither_is_unclear() {
        for answers in [
            &["421 4.7.0 too many connections"][..],
            &["554 no"],
            &["250 what"],
            &["220 mx", "421 going"],
            &["220 mx", "250 mx", "451 later", "451 later"],
            &["220 mx", "250 mx", "250 ok", "451 later", "250 ok", "250 ok", "451 later", "250 ok"],
        ] {
            assert!(matches!(talk(answers).1, Some(Finding::Unclear(_))), "{answers:?}");
        }
        let mixed = ["220 mx", "250 mx", "250 ok", "550 no", "250 ok", "550 not you"];
        assert_eq!(talk(&mixed).1, Some(Finding::Refused));
    }

    #[test]
    fn what_is_no_reply() {
        for lines in
            [&["hello"][..], &["25"], &["250x"], &["250-a", "251 b"], &["100 a"], &["+50 a"], &["é2"], &["999 a"]]
        {
            let mut replies = Replies::default();
            let end = lines.iter().map(|line| replies.line(line)).find(|answer| !matches!(answer, Ok(None)));
            assert_eq!(end, Some(Err(NoReply)), "{lines:?}");
        }
        let mut endless = Replies::default();
        assert!((0..=MOST_LINES).any(|_| endless.line("250-more").is_err()));
    }

    proptest! {
        #[test]
        fn any_server_is_left_after_a_bounded_talk(lines in proptest::collection::vec("[2-5][0-9]{2}[ -]\\PC{0,20}|\\PC{0,20}", 0..80)) {
            let (mut dialogue, mut replies, mut commands) = (Dialogue::new(plan()), Replies::default(), 0);
            for line in lines {
                let Ok(reply) = replies.line(&line) else { break };
                let Some(reply) = reply else { continue };
                match dialogue.reply(&reply) {
                    Next::Send(command) => {
                        prop_assert!(!command.contains(['\r', '\n']) && !command.starts_with("DATA"));
                        commands += 1;
                    }
                    Next::End(_) => break,
                }
            }
            prop_assert!(commands <= 1 + 3 * plan().senders.len());
        }
    }
}
