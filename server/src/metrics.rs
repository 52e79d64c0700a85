//! What the server counts, for Prometheus. One [`Metrics`] for the process; `/metrics` of [`crate::admin`] writes it out.
//! Labels have few, fixed values: never an address, a domain or a client.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

/// A fixed word as the value of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Word(pub &'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), fmt::Error> {
        self.0.encode(encoder)
    }
}

/// The label `protocol`: smtp, submission, submissions, pop3, pop3s.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByProtocol {
    /// The listener's protocol.
    pub protocol: Word,
}

/// The label `result`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByResult {
    /// How it ended.
    pub result: Word,
}

/// The label `state`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByState {
    /// What state it is in.
    pub state: Word,
}

/// The label `holder`: mailbox or policy.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByHolder {
    /// Whose limit it was.
    pub holder: Word,
}

/// The labels `protocol` and `result`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByProtocolAndResult {
    /// The listener's protocol.
    pub protocol: Word,
    /// How it ended.
    pub result: Word,
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Connections that were accepted and given to a session.
    pub connections: Family<ByProtocol, Counter>,
    /// Connections that are open now.
    pub open_connections: Family<ByProtocol, Gauge>,
    /// Connections that were turned away, by `result`: too_many, too_many_from_client, no_certificate, handshake,
    /// client_certificate.
    pub refused_connections: Family<ByProtocolAndResult, Counter>,
    /// Logins by `result`: accepted, rejected, not_permitted, busy.
    pub logins: Family<ByProtocolAndResult, Counter>,
    /// Recipients at RCPT by `result`: local, relay, unknown, not_allowed, refused, deferred.
    pub recipients: Family<ByResult, Counter>,
    /// Messages and recipients that were put off because a rate limit was reached, by `holder`.
    pub rate_limited: Family<ByHolder, Counter>,
    /// Messages at the end of DATA by `result`: accepted, refused, deferred.
    pub messages: Family<ByResult, Counter>,
    /// Octets of accepted messages.
    pub message_octets: Counter,
    /// Copies put into maildrops.
    pub delivered: Counter,
    /// Attempts to send to other servers, per recipient, by `result`: sent, deferred, bounced; and reports of failures
    /// that nobody could be sent: unreported.
    pub outbound: Family<ByResult, Counter>,
    /// Recipients that wait in the queue.
    pub queued: Gauge,
    /// Of them, those that were tried before (deferred) and those that a person holds (held).
    pub queued_by_state: Family<ByState, Gauge>,
    /// When the oldest message in the queue was accepted, in seconds since 1970; 0 without one.
    pub oldest_queued: Gauge,
    /// Destinations with mail that are not tried for a while.
    pub resting_destinations: Gauge,
    /// Attempts that are being made.
    pub outbound_attempts: Gauge,
    /// What people did with recipients in the queue, by `result`: hold, release, retry, drop, reroute.
    pub queue_actions: Family<ByResult, Counter>,
    /// Admin requests without a right token.
    pub admin_refused: Counter,
    /// Messages fetched by RETR.
    pub fetched: Counter,
    /// Messages deleted by POP3 sessions.
    pub deleted: Counter,
    /// When the certificate in force ends, in seconds since 1970; 0 without one.
    pub certificate_not_after: Gauge,
    /// Configurations and certificates read, by `result`: accepted, refused.
    pub reloads: Family<ByResult, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All at zero.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("paquebot"),
            connections: Family::default(),
            open_connections: Family::default(),
            refused_connections: Family::default(),
            logins: Family::default(),
            recipients: Family::default(),
            rate_limited: Family::default(),
            messages: Family::default(),
            message_octets: Counter::default(),
            delivered: Counter::default(),
            outbound: Family::default(),
            queued: Gauge::default(),
            queued_by_state: Family::default(),
            oldest_queued: Gauge::default(),
            resting_destinations: Gauge::default(),
            outbound_attempts: Gauge::default(),
            queue_actions: Family::default(),
            admin_refused: Counter::default(),
            fetched: Counter::default(),
            deleted: Counter::default(),
            certificate_not_after: Gauge::default(),
            reloads: Family::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The running version", build);
        registry.register("connections", "Connections given to a session", self.connections.clone());
        registry.register("open_connections", "Connections open now", self.open_connections.clone());
        registry.register("refused_connections", "Connections turned away", self.refused_connections.clone());
        registry.register("logins", "Logins by result", self.logins.clone());
        registry.register("recipients", "Recipients at RCPT by result", self.recipients.clone());
        registry.register("rate_limited", "Put off because a rate limit was reached", self.rate_limited.clone());
        registry.register("messages", "Messages at the end of DATA by result", self.messages.clone());
        registry.register("message_octets", "Octets of accepted messages", self.message_octets.clone());
        registry.register("delivered", "Copies put into maildrops", self.delivered.clone());
        registry.register("outbound", "Attempts to send to other servers by result", self.outbound.clone());
        registry.register("queued_recipients", "Recipients that wait in the queue", self.queued.clone());
        registry.register("queued_recipients_by_state", "Of them, by state", self.queued_by_state.clone());
        let help = "When the oldest message in the queue was accepted, in seconds since 1970";
        registry.register("oldest_queued_seconds", help, self.oldest_queued.clone());
        registry.register(
            "resting_destinations",
            "Destinations that are not tried now",
            self.resting_destinations.clone(),
        );
        registry.register("outbound_attempts", "Attempts that are being made", self.outbound_attempts.clone());
        registry.register("queue_actions", "Recipients that people changed in the queue", self.queue_actions.clone());
        registry.register("admin_refused", "Admin requests without a right token", self.admin_refused.clone());
        registry.register("fetched", "Messages fetched by POP3", self.fetched.clone());
        registry.register("deleted", "Messages deleted by POP3 sessions", self.deleted.clone());
        let help = "When the certificate in force ends, in seconds since 1970";
        registry.register("certificate_not_after_seconds", help, self.certificate_not_after.clone());
        registry.register("reloads", "Configurations and certificates read by result", self.reloads.clone());
    }

    /// All values in the OpenMetrics text format.
    ///
    /// # Errors
    /// When the text cannot be written, which a `String` never does.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// A word for [`ByProtocol`].
#[must_use]
pub fn protocol_word(protocol: paquebot_config::Protocol) -> Word {
    use paquebot_config::Protocol;
    Word(match protocol {
        Protocol::Smtp => "smtp",
        Protocol::Submission => "submission",
        Protocol::Submissions => "submissions",
        Protocol::Pop3 => "pop3",
        Protocol::Pop3s => "pop3s",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_appear_under_their_names() {
        let metrics = Metrics::new();
        metrics.logins.get_or_create(&ByProtocolAndResult { protocol: Word("pop3"), result: Word("accepted") }).inc();
        let text = metrics.encode().unwrap();
        assert!(text.contains("paquebot_logins_total{protocol=\"pop3\",result=\"accepted\"} 1"), "{text}");
        assert!(text.contains("paquebot_build_info{version="), "{text}");
    }
}
