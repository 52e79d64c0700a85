//! What a session answers at AUTH, MAIL and RCPT.

use std::net::SocketAddr;

use paquebot_config::Configuration;

use super::{Session, Transaction, out_of_step, path};
use crate::credentials::sasl::Credentials;
use crate::credentials::{Access, Identity};
use crate::metrics::{ByResult, Word};
use crate::relay::Client;
use crate::smtp::command::{Mail, Recipient};
use crate::smtp::machine::{AcceptedRecipient, Login};
use crate::smtp::policy;
use crate::smtp::reply::Reply;
use crate::smtp::sasl;
use crate::store::envelope::Route;

impl Session {
    pub(super) async fn authenticate(&mut self, credentials: Credentials) -> Login {
        let Credentials { login, password } = credentials;
        let verified = self.services.authenticator.verify(self.client.ip(), Access::Submission, &login, password).await;
        match verified {
            Ok(identity) => {
                tracing::info!(mailbox = %identity.mailbox, "logged in");
                let mailbox = identity.mailbox.clone();
                self.user = Some(identity);
                Login::Accepted(mailbox)
            }
            Err(failure) => {
                // The login may be a password in the wrong field, so it is not logged.
                tracing::info!(reason = %failure, "login refused");
                Login::Refused(sasl::refusal(failure))
            }
        }
    }

    pub(super) async fn check_sender(&mut self, mail: Mail) -> Result<Mail, Reply> {
        let configuration = self.services.configuration.snapshot();
        let client = relay_client(&configuration, self.client, self.user.as_ref())?;
        let mail = policy::sender(&configuration, client, &mail).inspect_err(|reply| {
            tracing::info!(from = %path(mail.reverse_path.as_ref()), %reply, "sender refused");
        })?;
        if !self.services.store.has_room(mail.size.unwrap_or(0)).await {
            return Err(policy::disk_full());
        }
        self.transaction = Some(Transaction { configuration, mail: mail.clone(), begun: jiff::Timestamp::now() });
        Ok(mail)
    }

    pub(super) async fn check_recipient(&mut self, recipient: &Recipient) -> Result<AcceptedRecipient, Reply> {
        let verdict = self.admit(recipient).await;
        let result = match &verdict {
            Ok((_, remote)) => {
                if *remote {
                    "relay"
                } else {
                    "local"
                }
            }
            Err(reply) if reply.code() < 500 => "deferred",
            Err(reply) if reply.code() == 553 => "not_allowed",
            Err(reply) if reply.code() == 550 => "unknown",
            Err(_) => "refused",
        };
        self.services.metrics.recipients.get_or_create(&ByResult { result: Word(result) }).inc();
        if let Err(reply) = &verdict {
            tracing::info!(to = %recipient.path, %reply, "recipient refused");
        }
        verdict.map(|(recipient, _)| recipient)
    }

    /// Decides about a recipient; with it comes whether its domain is elsewhere.
    async fn admit(&mut self, recipient: &Recipient) -> Result<(AcceptedRecipient, bool), Reply> {
        let transaction = self.transaction.as_ref().ok_or_else(out_of_step)?;
        let configuration = &transaction.configuration;
        let client = relay_client(configuration, self.client, self.user.as_ref())?;
        let admission = policy::recipient(configuration, client, &transaction.mail, &recipient.path)?;
        // Of several maildrops one that is full must not refuse the others' mail.
        if let [maildrop] = admission.plan.local.as_slice()
            && admission.plan.is_one_maildrop()
            && let Some(quota) = maildrop.quota
        {
            let usage = self.services.store.usage(&maildrop.address).await;
            let usage = usage.map_err(|error| self.store_failure(&error))?;
            policy::quota(quota, usage, transaction.mail.size)?;
        }
        if let Some(rule) = &admission.rule {
            tracing::info!(to = %admission.recipient, rule, "relaying admitted");
        }
        let remote = configuration.domain(admission.recipient.domain()).is_none();
        let policy::Admission { recipient: address, max_message_size, rule, .. } = admission;
        let upstream =
            |name: &String| configuration.relay.iter().any(|rule| rule.name == *name && rule.upstream.is_some());
        let route = rule.filter(|name| upstream(name)).map(Route::Rule);
        Ok((AcceptedRecipient { address, max_message_size, route }, remote))
    }
}

/// The client as the relay decision sees it. A login has no rights left once its password was changed, or its mailbox
/// deleted or suspended.
fn relay_client<'a>(
    configuration: &'a Configuration,
    client: SocketAddr,
    user: Option<&Identity>,
) -> Result<Client<'a>, Reply> {
    let ended = || Reply::new(530, 7, 0, "your login is not valid any more; connect and log in again");
    let mailbox = user.map(|user| user.mailbox_in(configuration).ok_or_else(ended)).transpose()?;
    Ok(Client { address: client.ip(), mailbox })
}
