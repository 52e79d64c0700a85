//! Conformance suites that read like the RFCs and run against any SMTP or POP3 server: [`smtp`] and [`pop3`]. A suite is
//! a list of [`Requirement`]s, each one sentence of an RFC section and how to see that it is kept. The program
//! `conformance` (src/bin/conformance.rs) runs them; nothing here knows our server.
//!
//! - [`client`]: octets out, lines in, with deadlines;
//! - [`target`]: the server under test, and what the person who runs the suite knows of it.

pub mod client;
pub mod pop3;
pub mod smtp;
pub mod target;

use std::io::Write as _;

use std::time::{Duration, Instant};

use anyhow::Result;

use self::target::Target;

/// One sentence of an RFC that a server keeps or does not.
#[derive(Clone, Copy)]
pub struct Requirement {
    /// The RFC and its section, such as `RFC 5321 §4.1.1.4`.
    pub section: &'static str,
    /// What has to hold.
    pub sentence: &'static str,
    /// Without this the requirement asks for nothing.
    pub needs: Need,
    /// How to see it.
    pub check: Check,
}

/// What has to be there for a requirement to ask for anything.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Nothing,
    /// A keyword in the EHLO or CAPA answer of a session as the suite opens them.
    Keyword(&'static str),
    /// A keyword in the answer to a client in clear, before STARTTLS or STLS.
    ClearKeyword(&'static str),
    /// A keyword, and the maildrop of the served recipient by POP3.
    KeywordAndMaildrop(&'static str),
    /// The maildrop of the served recipient by POP3.
    Maildrop,
    /// A login.
    Login,
    /// That no login is used: what a stranger may do.
    NoLogin,
}

/// How a requirement is seen to hold.
#[derive(Clone, Copy)]
pub enum Check {
    /// A dialogue from a given state on: what the client says, and how the answer has to begin. See [`smtp::dialogue`].
    Dialogue(smtp::Start, &'static [(&'static str, &'static str)]),
    /// A function.
    Function(fn(&Target) -> Result<()>),
    /// A function of some octets, for requirements that differ in those only.
    Octets(fn(&Target, &[u8]) -> Result<()>, &'static [u8]),
    /// A dialogue with a POP3 server, before or after the login. See [`pop3::dialogue`].
    Pop3(pop3::Start, &'static [(&'static str, &'static str)]),
}

impl Requirement {
    /// A requirement that is seen by a dialogue.
    #[must_use]
    pub const fn dialogue(
        section: &'static str,
        sentence: &'static str,
        start: smtp::Start,
        steps: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self { section, sentence, needs: Need::Nothing, check: Check::Dialogue(start, steps) }
    }

    /// A requirement that is seen by a dialogue with a POP3 server.
    #[must_use]
    pub const fn pop3(
        section: &'static str,
        sentence: &'static str,
        start: pop3::Start,
        steps: &'static [(&'static str, &'static str)],
    ) -> Self {
        Self { section, sentence, needs: Need::Nothing, check: Check::Pop3(start, steps) }
    }

    /// A requirement that is seen by a function.
    #[must_use]
    pub const fn function(section: &'static str, sentence: &'static str, check: fn(&Target) -> Result<()>) -> Self {
        Self { section, sentence, needs: Need::Nothing, check: Check::Function(check) }
    }

    /// A requirement that is seen by a function of some octets.
    #[must_use]
    pub const fn octets(
        section: &'static str,
        sentence: &'static str,
        check: fn(&Target, &[u8]) -> Result<()>,
        octets: &'static [u8],
    ) -> Self {
        Self { section, sentence, needs: Need::Nothing, check: Check::Octets(check, octets) }
    }

    /// The same, where something is there.
    #[must_use]
    pub const fn needs(mut self, need: Need) -> Self {
        self.needs = need;
        self
    }

    /// Asks again while the maildrop is not free: a server sees that the session before has ended when it sees it.
    fn run_when_free(&self, target: &Target) -> Result<()> {
        let deadline = Instant::now() + target.patience;
        loop {
            match self.run(target) {
                Err(error) if format!("{error:#}").contains("[IN-USE]") && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                outcome => return outcome,
            }
        }
    }

    fn run(&self, target: &Target) -> Result<()> {
        match self.check {
            Check::Dialogue(start, steps) => smtp::dialogue(target, start, steps),
            Check::Pop3(start, steps) => pop3::dialogue(target, start, steps),
            Check::Function(check) => check(target),
            Check::Octets(check, octets) => check(target, octets),
        }
    }
}

/// A suite: the parts in the order in which they run.
pub type Parts = &'static [&'static [Requirement]];

/// How many requirements were kept, and how many not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Kept.
    pub passed: u32,
    /// Not kept.
    pub failed: u32,
    /// Not asked, since the server does not offer what they are about.
    pub skipped: u32,
}

/// Names every requirement.
pub fn list(parts: Parts) {
    for requirement in parts.iter().copied().flatten() {
        print(&format!("{:<22} {}\n", requirement.section, requirement.sentence));
    }
}

/// Runs a suite, and prints a line for each requirement whose section or sentence contains `only`.
///
/// # Errors
/// When the server does not answer at all, so that nothing can be said about it.
pub fn run(parts: Parts, target: &Target, only: &str) -> Result<Counts> {
    let offered = target.offered()?;
    let mut counts = Counts::default();
    for requirement in parts.iter().copied().flatten() {
        if !requirement.section.contains(only) && !requirement.sentence.contains(only) {
            continue;
        }
        let line = format!("{:<22} {}", requirement.section, requirement.sentence);
        if let Some(missing) = offered.missing(requirement.needs, target) {
            counts.skipped += 1;
            print(&format!("SKIP  {line} ({missing})\n"));
            continue;
        }
        match requirement.run_when_free(target) {
            Ok(()) => {
                counts.passed += 1;
                print(&format!("PASS  {line}\n"));
            }
            Err(error) => {
                counts.failed += 1;
                print(&format!("FAIL  {line}\n        {error:#}\n"));
            }
        }
    }
    print(&format!("\n{} passed, {} failed, {} skipped\n", counts.passed, counts.failed, counts.skipped));
    Ok(counts)
}

/// Standard output may be gone (a pipe that was closed); the suite goes on all the same.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
