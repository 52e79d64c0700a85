//! What a session answers at AUTH, MAIL and RCPT.

use paquebot_config::{Configuration, MailboxRecord, Protocol, RelayRule};

use super::{Session, Transaction, out_of_step, path};
use crate::credentials::Access;
use crate::credentials::sasl::Credentials;
use crate::metrics::{ByHolder, ByResult, Word};
use crate::rate::{Claim, Demand, Holder};
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
        self.verify_certificate();
        let is_submission = matches!(self.listener.protocol, Protocol::Submission | Protocol::Submissions);
        if is_submission && self.user.is_none() && !self.is_identified() {
            return Err(Reply::new(530, 7, 0, "your certificate is not accepted any more; authenticate"));
        }
        let configuration = self.services.configuration.snapshot();
        let client = self.relay_client(&configuration)?;
        let mail = policy::sender(&configuration, client, &mail).inspect_err(|reply| {
            tracing::info!(from = %path(mail.reverse_path.as_ref()), %reply, "sender refused");
        })?;
        if !self.services.store.has_room(mail.size.unwrap_or(0)).await {
            return Err(policy::disk_full());
        }
        self.spend(client.mailbox, None, Demand { message: true, recipient: false })?;
        self.transaction =
            Some(Transaction { configuration, mail: mail.clone(), begun: jiff::Timestamp::now(), counted: Vec::new() });
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
        let client = self.relay_client(configuration)?;
        let admission = policy::recipient(configuration, client, &transaction.mail, &recipient.path)?;
        // Of several maildrops one that is full must not refuse the others' mail.
        if let [maildrop] = admission.plan.local.as_slice()
            && admission.plan.is_one_maildrop()
            && let Some(quota) = maildrop.quota
        {
            let usage = self.services.store.usage(&maildrop.name()).await;
            let usage = usage.map_err(|error| self.store_failure(&error))?;
            policy::quota(quota, usage, transaction.mail.size)?;
        }
        let named = |name: &str| configuration.relay.iter().find(|rule| rule.name == name);
        let found = admission.rule.as_deref().and_then(named);
        let message = found.is_some_and(|rule| !transaction.counted.contains(&rule.name));
        self.spend(client.mailbox, found, Demand { message, recipient: true })?;
        if let Some(rule) = &admission.rule {
            tracing::info!(to = %admission.recipient, rule, "relaying admitted");
        }
        let remote = configuration.domain(admission.recipient.domain()).is_none();
        let policy::Admission { recipient: address, max_message_size, rule, .. } = admission;
        let has_upstream = found.is_some_and(|rule| rule.upstream.is_some());
        let counts = found.is_some_and(|rule| rule.rate_limit.is_some());
        let counted = rule.clone().filter(|name| counts && !transaction.counted.contains(name));
        let route = rule.filter(|_| has_upstream).map(Route::Rule);
        if let (Some(name), Some(transaction)) = (counted, &mut self.transaction) {
            transaction.counted.push(name);
        }
        Ok((AcceptedRecipient { address, max_message_size, route }, remote))
    }
}

impl Session {
    /// The client as the relay decision sees it. A login has no rights left once its password was changed, or its mailbox
    /// deleted or suspended.
    fn relay_client<'a>(&'a self, configuration: &'a Configuration) -> Result<Client<'a>, Reply> {
        let ended = || Reply::new(530, 7, 0, "your login is not valid any more; connect and log in again");
        let user = self.user.as_ref();
        let mailbox = user.map(|user| user.mailbox_in(configuration).ok_or_else(ended)).transpose()?;
        Ok(Client { address: self.client.ip(), mailbox, certified: self.certified() })
    }

    /// Counts against the limits of the sender's mailbox, and of the rule that admits, which many clients may share:
    /// against both or none.
    fn spend(&self, mailbox: Option<&MailboxRecord>, rule: Option<&RelayRule>, demand: Demand) -> Result<(), Reply> {
        let of_rule = rule
            .and_then(|rule| Some(Claim { holder: Holder::Rule(rule.name.clone()), limit: rule.rate_limit?, demand }));
        // The owner of a mailbox has paid for the message at MAIL.
        let demand = if demand.recipient { Demand { message: false, ..demand } } else { demand };
        let of_mailbox = mailbox.and_then(|mailbox| {
            let holder = Holder::Mailbox(mailbox.address.canonical());
            Some(Claim { holder, limit: mailbox.rate_limit?, demand })
        });
        let claims = of_mailbox.into_iter().chain(of_rule).collect();
        self.services.rates.take(claims).map_err(|exhausted| {
            let word = if matches!(exhausted.holder, Holder::Mailbox(_)) { "mailbox" } else { "policy" };
            self.services.metrics.rate_limited.get_or_create(&ByHolder { holder: Word(word) }).inc();
            policy::rate_limited(&exhausted)
        })
    }
}
