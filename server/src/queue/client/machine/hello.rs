//! From the greeting until messages can be sent: EHLO, STARTTLS, AUTH.

use super::{Action, Client, Protection, State, Wait};
use crate::queue::client::authentication::Authentication;
use crate::queue::client::capabilities::Capabilities;
use crate::queue::client::reply::Reply;
use crate::queue::status::Refusal;

impl Client {
    pub(super) fn ehlo(&mut self) -> Action {
        self.state = State::Ehlo;
        Action::Send(format!("EHLO {}\r\n", self.ehlo_name).into_bytes(), Wait::Command)
    }

    pub(super) fn on_ehlo(&mut self, reply: &Reply) -> Result<Action, Refusal> {
        self.capabilities = Capabilities::read(reply.lines.get(1..).unwrap_or_default());
        self.after_hello()
    }

    pub(super) fn after_hello(&mut self) -> Result<Action, Refusal> {
        let wants_tls = !self.encrypted && self.protection != Protection::None;
        if wants_tls && self.capabilities.starttls {
            self.state = State::StartTls;
            return Ok(Action::Send(b"STARTTLS\r\n".to_vec(), Wait::Command));
        }
        if wants_tls && self.protection == Protection::Required {
            let text = "the server does not offer STARTTLS, and mail goes to it by TLS only";
            return Err(Refusal::transient(7, 10, text).at(&self.host));
        }
        self.authenticate()
    }

    pub(super) fn authenticate(&mut self) -> Result<Action, Refusal> {
        let Some(credentials) = self.credentials.take() else { return Ok(self.ready()) };
        let refusal = |text: &str| Err(Refusal::transient(7, 0, text).at(&self.host));
        if !self.encrypted {
            return refusal("the server does not offer TLS, and a password is not sent without it");
        }
        let Some((authentication, line)) = Authentication::begin(credentials, &self.capabilities) else {
            return refusal("the server offers neither AUTH PLAIN nor AUTH LOGIN, and a login is configured for it");
        };
        self.state = State::Authentication(authentication);
        Ok(Action::Authenticate(line))
    }

    pub(super) fn ready(&mut self) -> Action {
        self.state = State::Open;
        Action::Ready
    }
}
