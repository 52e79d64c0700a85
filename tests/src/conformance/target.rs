//! The server under test, as the person who runs the suite describes it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Result, bail};

use super::{Need, pop3, smtp};

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// SMTP or submission.
    Smtp,
    /// POP3.
    Pop3,
}

/// How sessions are protected, where a requirement does not say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Tls {
    /// In clear.
    None,
    /// By STARTTLS or STLS.
    Starttls,
    /// From the first octet on.
    Implicit,
}

/// A login. It cannot be printed.
#[derive(Clone)]
pub struct Login {
    /// The name.
    pub user: String,
    /// The password, which the suite only sends.
    pub password: String,
}

/// A port of a server, and how to use it.
#[derive(Clone)]
pub struct Port {
    /// What is spoken there.
    pub protocol: Protocol,
    /// Its host.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// How sessions are protected.
    pub tls: Tls,
    /// Who logs in.
    pub login: Option<Login>,
}

/// The server under test.
#[derive(Clone)]
pub struct Target {
    /// Where it is.
    pub port: Port,
    /// How long it may take for one answer.
    pub patience: Duration,
    /// The reverse-path of the suite's messages.
    pub sender: String,
    /// A recipient that the server has.
    pub served: String,
    /// One that it would have, in a domain that it serves.
    pub unknown: String,
    /// One elsewhere.
    pub foreign: String,
    /// Where the served recipient's messages can be fetched. For a POP3 suite: the port itself.
    pub maildrop: Option<Port>,
    /// What was taken out of the maildrop so far and not yet looked at.
    pub taken: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// What the server offers.
pub struct Offered {
    keywords: Vec<String>,
    clear_keywords: Vec<String>,
}

impl Target {
    /// Asks the server what it offers.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn offered(&self) -> Result<Offered> {
        match self.port.protocol {
            Protocol::Smtp => {
                let keywords = smtp::Session::ready(self)?.keywords;
                let clear_keywords = match self.port.tls {
                    Tls::Implicit => Vec::new(),
                    Tls::None | Tls::Starttls => smtp::Session::clear(self)?.keywords,
                };
                Ok(Offered { keywords, clear_keywords })
            }
            Protocol::Pop3 => {
                let keywords = pop3::Session::capable(self)?.capabilities;
                let clear_keywords = match self.port.tls {
                    Tls::Implicit => Vec::new(),
                    Tls::None | Tls::Starttls => pop3::Session::clear(self)?.capabilities,
                };
                Ok(Offered { keywords, clear_keywords })
            }
        }
    }

    /// The login.
    ///
    /// # Errors
    /// When the suite was given none.
    pub fn login(&self) -> Result<&Login> {
        match &self.port.login {
            Some(login) => Ok(login),
            None => bail!("this needs --user and --password-file"),
        }
    }

    /// Puts this target's names into a line of a dialogue.
    #[must_use]
    pub fn fill(&self, text: &str) -> String {
        let local_part = |address: &str| address.rsplit_once('@').map_or(String::new(), |(local, _)| local.to_owned());
        let domain = |address: &str| address.rsplit_once('@').map_or(String::new(), |(_, domain)| domain.to_owned());
        text.replace("{sender}", &self.sender)
            .replace("{served}", &self.served)
            .replace("{served-local}", &local_part(&self.served))
            .replace("{served-domain}", &domain(&self.served))
            .replace("{served-domain-upper}", &domain(&self.served).to_uppercase())
            .replace("{unknown}", &self.unknown)
            .replace("{foreign}", &self.foreign)
            .replace("{user}", self.port.login.as_ref().map_or("", |login| &login.user))
            .replace("{password}", self.port.login.as_ref().map_or("", |login| &login.password))
    }
}

impl Offered {
    /// Why a requirement has nothing to ask for; `None` when it has.
    #[must_use]
    pub fn missing(&self, need: Need, target: &Target) -> Option<String> {
        let lacks = |keywords: &[String], keyword: &str| {
            let offered = keywords.iter().any(|line| line.split([' ', '=']).next() == Some(keyword));
            (!offered).then(|| format!("{keyword} is not offered"))
        };
        let no_maildrop = || target.maildrop.is_none().then(|| "no --maildrop was given".to_owned());
        match need {
            Need::Nothing => None,
            Need::Keyword(keyword) => lacks(&self.keywords, keyword),
            Need::ClearKeyword(keyword) => lacks(&self.clear_keywords, keyword),
            Need::KeywordAndMaildrop(keyword) => lacks(&self.keywords, keyword).or_else(no_maildrop),
            Need::Maildrop => no_maildrop(),
            Need::Login => target.port.login.is_none().then(|| "no --user was given".to_owned()),
            Need::NoLogin => target.port.login.is_some().then(|| "for sessions without --user".to_owned()),
        }
    }
}
