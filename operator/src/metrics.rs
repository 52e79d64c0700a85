//! What the operator counts. The engine writes, the admin HTTP reads.

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Around the 0.8 s that the kubelet takes, and the 60 to 90 s that it takes when nobody nudges it.
const EFFECTIVE_BUCKETS: [f64; 12] = [0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 15.0, 60.0, 120.0];

/// The counters.
pub struct Metrics {
    registry: Registry,
    /// Passes over MailServers.
    pub passes: Counter,
    /// Kubernetes objects that were written.
    pub objects_written: Counter,
    /// Statuses that were written.
    pub status_writes: Counter,
    /// Secrets of mailboxes that were read.
    pub secret_reads: Counter,
    /// Looks at the DNS records of a domain.
    pub dns_looks: Counter,
    /// Probes for an open relay, one for each port of each pod.
    pub relay_probes: Counter,
    /// MailServers that took a stranger's mail for strangers when last probed.
    pub open_relays: Gauge,
    /// MailServers of which the probe cannot tell, because a RelayPolicy admits the operator itself.
    pub blind_probes: Gauge,
    /// Failures that are tried again.
    pub errors: Counter,
    /// Seconds from the watch's report of an object until every ready pod reported that it serves it.
    pub effective_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("paquebot_operator");
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let passes = counter("passes", "Passes over MailServers");
        let objects_written = counter("objects_written", "Kubernetes objects that were written");
        let status_writes = counter("status_writes", "Statuses that were written");
        let secret_reads = counter("secret_reads", "Secrets of mailboxes that were read");
        let dns_looks = counter("dns_looks", "Looks at the DNS records of a domain");
        let relay_probes = counter("relay_probes", "Probes for an open relay");
        let errors = counter("errors", "Failures that are tried again");
        let open_relays = Gauge::default();
        let help = "MailServers that took a stranger's mail for strangers when last probed";
        registry.register("open_relays", help, open_relays.clone());
        let blind_probes = Gauge::default();
        let help =
            "MailServers of which the probe for an open relay cannot tell, because a RelayPolicy admits the operator";
        registry.register("blind_probes", help, blind_probes.clone());
        // Objects that were there before the process began are left out: nobody knows since when.
        let effective_seconds = Histogram::new(EFFECTIVE_BUCKETS);
        let help = "Seconds from the watch's report of an object until every ready pod serves it";
        registry.register("effective_seconds", help, effective_seconds.clone());
        Self {
            registry,
            relay_probes,
            open_relays,
            blind_probes,
            passes,
            objects_written,
            status_writes,
            secret_reads,
            dns_looks,
            errors,
            effective_seconds,
        }
    }
}

impl Metrics {
    /// The text that Prometheus reads.
    ///
    /// # Errors
    /// When the text cannot be written.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
