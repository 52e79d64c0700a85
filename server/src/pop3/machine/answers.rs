//! How what the machine wanted done ([`super::Output`]) went.

use super::{MAX_FAILED_LOGINS, Machine, Security, State, Task};
use crate::credentials::Failure;
use crate::pop3::language::Language;
use crate::pop3::phrase::Phrase;
use crate::pop3::text::Extent;
use crate::pop3::transaction::Transaction;
use crate::store::{MaildropEntry, StoreError};

impl Machine {
    /// The login was right, and its maildrop is open.
    pub fn logged_in(&mut self, entries: Vec<MaildropEntry>) {
        let transaction = Transaction::new(entries);
        let (count, octets) = transaction.total();
        self.say(Phrase::Messages { count, octets });
        self.resume(transaction);
    }

    /// The login was wrong.
    pub fn login_failed(&mut self, failure: Failure) {
        self.state = State::Authorization { user: None };
        // A server that was busy has not looked at the password.
        self.failed_logins += u32::from(failure != Failure::Busy);
        if self.failed_logins >= MAX_FAILED_LOGINS {
            self.end(Phrase::TooManyLogins.err(self.language));
        } else {
            self.refuse(failure.into());
        }
    }

    /// The login was right, and too soon after the last one: it can be tried again after so many seconds.
    pub fn login_too_soon(&mut self, seconds: u64) {
        self.state = State::Authorization { user: None };
        self.refuse(Phrase::TooSoon(seconds));
    }

    /// The login is not right any more. This is not QUIT: nothing is deleted.
    pub fn login_ended(&mut self) {
        self.end(Phrase::LoginEnded.err(self.language));
    }

    /// The login was right, but its maildrop cannot be opened.
    pub fn maildrop_refused(&mut self, error: &StoreError) {
        self.state = State::Authorization { user: None };
        self.refuse(error.into());
    }

    /// TLS has begun: the conversation starts anew, without another greeting (RFC 2595 §4).
    pub fn tls_started(&mut self) {
        self.lines.clear();
        self.settings.security = Security::Tls;
        self.language = Language::Default;
        self.utf8 = false;
        self.state = State::Authorization { user: None };
    }

    /// Whether the message that [`Output::Retrieve`] named can be read. After the reply to success, its text is to be sent.
    /// `octets` are told where they are not those of the listing.
    pub fn message_opened(&mut self, result: Result<Option<u64>, Phrase>) {
        let State::Waiting(Task::Retrieve(transaction, index, extent)) =
            std::mem::replace(&mut self.state, State::Ended)
        else {
            return;
        };
        match result {
            Ok(octets) if extent == Extent::Whole => {
                let octets = octets.or_else(|| transaction.entry(index).map(|entry| entry.octets));
                self.say(Phrase::Octets(octets.unwrap_or_default()));
            }
            // How much TOP sends is not known before.
            Ok(_) => self.say(Phrase::TopFollows),
            Err(phrase) => self.refuse(phrase),
        }
        self.resume(transaction);
    }

    /// How the deletion went; the maildrop is free again.
    pub fn updated(&mut self, result: Result<(), &StoreError>) {
        let State::Waiting(Task::Update { marked }) = self.state else { return };
        match result {
            Ok(()) if marked == 0 => self.end(Phrase::Bye.ok(self.language)),
            Ok(()) => self.end(Phrase::Deleted(marked as u64).ok(self.language)),
            // These two leave everything as it was; after any other failure only the next start of the store knows.
            Err(StoreError::DiskFull | StoreError::NotFound) => self.end(Phrase::NotDeleted.err(self.language)),
            Err(_) => self.end(Phrase::PerhapsDeleted.err(self.language)),
        }
    }
}
