//! The configuration contract of one server, from the index.

use paquebot_config::{
    BuildError, Bundle, Content, Domain, Limits, Listener, Outbound, Protocol, Record, Resolvers, ServerConfig,
    Shutdown, TlsConfig, TlsVersion, Update,
};
use paquebot_crds::{MailServerSpec, mail_server};

use super::ports::container_ports;
use crate::directory::{Directory, DirtyFiles, NamespacedName, server_login, smart_host_tls};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    /// The MailServer is not there, or its spec was refused. What is written already stays.
    #[error("MailServer {0} is not accepted")]
    NotAccepted(NamespacedName),
    /// A name that the contract cannot hold.
    #[error("{field}: {source}")]
    Name {
        /// The field.
        field: &'static str,
        /// What is wrong.
        source: paquebot_config::AddressError,
    },
    /// The files cannot be made.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// Everything that a server is told.
///
/// # Errors
/// [`RenderError`] when the MailServer is not accepted.
pub fn content(directory: &Directory, server: &NamespacedName) -> Result<Content, RenderError> {
    let entry = directory.accepted_server(server).ok_or_else(|| RenderError::NotAccepted(server.clone()))?;
    Ok(Content {
        server: server_file(directory, server, &entry.into_inner().spec)?,
        domains: directory.domain_configs(server, None).map(|config| config.into_inner().clone()).collect(),
        relay: directory.relay_rules(server).map(|rule| rule.into_inner().clone()).collect(),
        records: directory.records(server, None).map(|record| record.into_inner().clone()).collect(),
        secrets: directory.secrets(server),
    })
}

/// The files of a server's configuration.
///
/// # Errors
/// [`RenderError`] when the MailServer is not accepted or a file would be too large.
pub fn bundle(directory: &Directory, server: &NamespacedName) -> Result<Bundle, RenderError> {
    Ok(Bundle::build(content(directory, server)?)?)
}

/// Brings a bundle up to date after [`crate::directory::Changes`]: only the files that have changed are written again.
///
/// # Errors
/// As [`bundle`]; the bundle is as it was then.
pub fn refresh(
    bundle: &mut Bundle,
    directory: &Directory,
    server: &NamespacedName,
    dirty: &DirtyFiles,
) -> Result<(), RenderError> {
    let entry = directory.accepted_server(server).ok_or_else(|| RenderError::NotAccepted(server.clone()))?;
    let rules = || directory.relay_rules(server).map(|rule| rule.into_inner().clone()).collect();
    let lines = |shard| -> Vec<Record> {
        let domains = directory.domain_configs(server, Some(shard)).map(|config| Record::Domain((*config).clone()));
        domains.chain(directory.records(server, Some(shard)).map(|record| (*record).clone())).collect()
    };
    bundle.update(Update {
        server: dirty.server.then(|| server_file(directory, server, &entry.into_inner().spec)).transpose()?,
        relay: dirty.relay.then(rules),
        shards: dirty.shards.iter().map(|shard| (*shard, lines(*shard))).collect(),
        secrets: dirty.secrets.then(|| directory.secrets(server)),
    })?;
    Ok(())
}

/// `server.json`, with what Secrets say.
fn server_file(
    directory: &Directory,
    server: &NamespacedName,
    spec: &MailServerSpec,
) -> Result<ServerConfig, RenderError> {
    let mut config = server_config(spec)?;
    config.tenant.clone_from(&server.namespace);
    config.tls.client_authorities = directory.client_authorities(server);
    Ok(config)
}

/// `server.json`, with the ports of the containers.
///
/// # Errors
/// [`RenderError::Name`] for a host name that is none, which the API server refuses before.
pub fn server_config(spec: &MailServerSpec) -> Result<ServerConfig, RenderError> {
    let name = |field, text: &str| Domain::parse(text).map_err(|source| RenderError::Name { field, source });
    let ehlo_name = spec.outbound.ehlo_name.as_ref();
    Ok(ServerConfig {
        hostname: name("spec.hostname", spec.hostname.as_str())?,
        tenant: String::new(),
        listeners: listeners(spec),
        limits: Limits {
            max_message_size: spec.limits.max_message_size.bytes(),
            max_recipients: spec.limits.max_recipients,
            connections: spec.limits.connections,
            per_client_connections: spec.limits.per_client_connections,
            login_delay_seconds: 0,
        },
        outbound: Outbound {
            ehlo_name: ehlo_name.map(|ehlo| name("spec.outbound.ehloName", ehlo.as_str())).transpose()?,
            max_age_seconds: spec.outbound.max_age.whole_seconds(),
            delay_warning_seconds: spec.outbound.delay_warning.whole_seconds(),
            port: 25,
            smart_host: spec.outbound.smart_host.as_ref().map(smart_host).transpose()?,
            allowed_networks: Vec::new(),
            trusted_certificates: None,
        },
        // The pod's own: spec.dns.resolvers are those that the operator checks records with, which may be outside.
        resolvers: Resolvers::default(),
        tls: TlsConfig {
            min_version: match spec.tls.min_version {
                mail_server::TlsVersion::Tls12 => TlsVersion::Tls12,
                mail_server::TlsVersion::Tls13 => TlsVersion::Tls13,
            },
            client_authorities: None,
        },
        shutdown: Shutdown {
            pre_stop_delay_seconds: spec.shutdown.pre_stop_delay.whole_seconds(),
            drain_timeout_seconds: spec.shutdown.drain_timeout.whole_seconds(),
        },
        filters: filters(spec),
    })
}

/// Where all outgoing mail goes. The login that it names may be missing in `secrets.json`: mail waits then.
fn smart_host(host: &mail_server::SmartHost) -> Result<paquebot_config::SmartHost, RenderError> {
    let field = "spec.outbound.smartHost.host";
    Ok(paquebot_config::SmartHost {
        host: Domain::parse(host.host.as_str()).map_err(|source| RenderError::Name { field, source })?,
        port: host.port,
        tls: smart_host_tls(host.tls),
        credentials: host.credentials_secret_ref.as_ref().map(|secret| server_login(&secret.name)),
    })
}

/// The index accepts a MailServer only if the scripts compile.
fn filters(spec: &MailServerSpec) -> paquebot_config::Filters {
    let given = spec.filters.clone().unwrap_or_default();
    paquebot_config::Filters { before: given.before, after: given.after }
}

fn listeners(spec: &MailServerSpec) -> Vec<Listener> {
    let ports = container_ports(&spec.listeners);
    spec.listeners
        .iter()
        .zip(ports)
        .map(|(listener, port)| Listener {
            name: listener.name.clone(),
            protocol: protocol(listener.protocol),
            port,
            clear_text_logins: false,
            bare_line_endings: paquebot_config::BareLineEndings::default(),
            proxy_protocol: proxy_protocol(&listener.proxy_protocol),
        })
        .collect()
}

fn proxy_protocol(given: &mail_server::ProxyProtocol) -> Option<paquebot_config::ProxyProtocol> {
    let trusted = || given.trusted_cidrs.iter().map(paquebot_crds::Cidr::network).collect();
    match given.mode {
        mail_server::ProxyProtocolMode::Disabled => None,
        mail_server::ProxyProtocolMode::Required => Some(paquebot_config::ProxyProtocol { trusted: trusted() }),
    }
}

/// A protocol of the API, as the contract has it.
pub(crate) fn protocol(protocol: mail_server::Protocol) -> Protocol {
    match protocol {
        mail_server::Protocol::Smtp => Protocol::Smtp,
        mail_server::Protocol::Submission => Protocol::Submission,
        mail_server::Protocol::Submissions => Protocol::Submissions,
        mail_server::Protocol::Pop3 => Protocol::Pop3,
        mail_server::Protocol::Pop3s => Protocol::Pop3s,
    }
}
