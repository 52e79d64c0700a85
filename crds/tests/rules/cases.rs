//! The table: objects, and the sentence with which each bad one is refused.
//!
//! A case writes only what differs from the smallest good object of its kind, as a merge patch of the spec.

use paquebot_crds::Kind::{self, MailAlias, MailDomain, MailServer, Mailbox, RelayPolicy};
use serde_json::{Value, json};

/// One object, and what the API server should say to it.
pub struct Case {
    pub kind: Kind,
    pub name: &'static str,
    /// What differs from [`smallest`], in YAML.
    pub spec: &'static str,
    /// The sentence of the refusal; `None` if the object is good.
    pub refusal: Option<&'static str>,
}

/// A change of an object that exists.
pub struct Change {
    pub kind: Kind,
    pub name: &'static str,
    /// The merge patch of the spec, in YAML.
    pub patch: &'static str,
    /// The sentence of the refusal; `None` if the change is good.
    pub refusal: Option<&'static str>,
}

const fn good(kind: Kind, name: &'static str, spec: &'static str) -> Case {
    Case { kind, name, spec, refusal: None }
}

const fn bad(kind: Kind, name: &'static str, spec: &'static str, refusal: &'static str) -> Case {
    Case { kind, name, spec, refusal: Some(refusal) }
}

/// The smallest good spec of a kind.
pub fn smallest(kind: Kind) -> Value {
    match kind {
        MailServer => json!({"hostname": "mx1.example.net"}),
        MailDomain => json!({"domain": "example.com"}),
        Mailbox => json!({"domainRef": {"name": "example-com"}, "localPart": "anna"}),
        MailAlias => json!({
            "domainRef": {"name": "example-com"},
            "localPart": "info",
            "targets": [{"mailboxRef": {"name": "anna"}}],
        }),
        RelayPolicy => json!({"from": [{"cidrs": ["192.0.2.0/24"]}]}),
    }
}

const RECORD_NAME: &str = "write the name in lower case, at least two labels joined by dots and no dot at the end; \
    labels may have underscores";
const DOMAIN: &str = "write the domain in lower case, at least two labels joined by dots and no dot at the end; \
an international name as its A-label (xn--...)";
const LOCAL_PART: &str =
    "write the part before the @ in lower case, without spaces, quotes or a dot at an end or twice in a row";
const OBJECT_NAME: &str =
    "write the name of a Kubernetes object: lower case letters and digits, with dashes and dots between them";
const NAMESPACE: &str = "write the name of a namespace: lower case letters and digits, with dashes between them";
const ADDRESS: &str = "write an address as local-part@domain, the domain in lower case and with a dot";
const SIZE: &str = "write a size in bytes as a number with a suffix, such as 500Mi or 1.5Gi";
const DURATION: &str = "write a duration with units, largest first: h, m, s, ms, such as 72h or 1h30m (a day is 24h)";
const CIDR: &str = "write each network as address/prefix, such as 192.0.2.0/24 or 2001:db8::/64";
const SELECTOR: &str = "give a selector when from is Selector, and only then";
const STORAGE: &str = "give storage either embedded or postgres, not both";
const LISTENER_NAME: &str = "write the listener's name with lower case letters, digits and single dashes between them, with at least one letter; admin is the port for health and metrics";
const PROXY: &str = "list in trustedCIDRs the load balancers that may send a PROXY header, or set mode to Disabled";
const CREDENTIALS: &str = "give credentials exactly one of passwordSecretRef, passwordHashSecretRef and generate; \
leave credentials out for a mailbox that only receives";
const TARGET: &str = "give each target either a mailboxRef or an address, not both";
const CATCH_ALL: &str = "give catchAll either a mailboxRef or reject: {}, not both";
const ROOM: &str = "a quota of 0 has no room for any message: write a larger size, or leave it out";
const FILTER: &str = "give filter either a sieve script or a configMapRef, not both";
const SOURCE: &str = "give each entry of from one of cidrs, podSelector with namespaceSelector, mailboxes and \
clientCertificates; write several entries for several";
const EVERYBODY: &str = "a network with a prefix shorter than /8 would make the server an open relay: list the networks of your own clients";
const RECIPIENTS: &str = "give recipients either any: {} or a list of domains, not both";

/// The objects.
pub const CASES: &[Case] = &[
    // MailServer
    good(MailServer, "only a hostname", "{}"),
    bad(MailServer, "a hostname in upper case", "{hostname: MX1.example.net}", DOMAIN),
    bad(MailServer, "a hostname of one label", "{hostname: localhost}", DOMAIN),
    bad(MailServer, "a hostname with a dot at the end", "{hostname: mx1.example.net.}", DOMAIN),
    good(
        MailServer,
        "two replicas with postgres",
        "{replicas: 2, storage: {postgres: {urlSecretRef: {name: db, key: url}}}}",
    ),
    good(MailServer, "no replica", "{replicas: 0}"),
    bad(
        MailServer,
        "two replicas without postgres",
        "{replicas: 2}",
        "more than one replica needs storage.postgres: an embedded store belongs to one pod",
    ),
    good(MailServer, "a volume size", "{storage: {embedded: {size: 1.5Gi, storageClassName: fast}}}"),
    good(MailServer, "a volume size in bytes", "{storage: {embedded: {size: 1073741824}}}"),
    bad(MailServer, "a size with a wrong suffix", "{storage: {embedded: {size: 20GB}}}", SIZE),
    bad(MailServer, "a negative size", "{storage: {embedded: {size: -1}}}", SIZE),
    bad(MailServer, "no storage", "{storage: {}}", STORAGE),
    bad(
        MailServer,
        "two storages",
        "{storage: {embedded: {}, postgres: {urlSecretRef: {name: db, key: url}}}}",
        STORAGE,
    ),
    good(MailServer, "one listener", "{listeners: [{name: smtp-1, protocol: SMTP, port: 2525}]}"),
    bad(
        MailServer,
        "two listeners of one name",
        "{listeners: [{name: smtp, protocol: SMTP, port: 25}, {name: smtp, protocol: POP3, port: 110}]}",
        "give each listener a name of its own",
    ),
    bad(
        MailServer,
        "two listeners of one port",
        "{listeners: [{name: smtp, protocol: SMTP, port: 25}, {name: pop3, protocol: POP3, port: 25}]}",
        "give each listener a port of its own",
    ),
    bad(MailServer, "a listener in upper case", "{listeners: [{name: SMTP, protocol: SMTP, port: 25}]}", LISTENER_NAME),
    bad(
        MailServer,
        "a listener that takes the admin port's name",
        "{listeners: [{name: admin, protocol: SMTP, port: 25}]}",
        LISTENER_NAME,
    ),
    bad(
        MailServer,
        "a listener with a dash at the end",
        "{listeners: [{name: smtp-, protocol: SMTP, port: 25}]}",
        LISTENER_NAME,
    ),
    bad(
        MailServer,
        "a listener with two dashes",
        "{listeners: [{name: smtp--1, protocol: SMTP, port: 25}]}",
        LISTENER_NAME,
    ),
    bad(
        MailServer,
        "a listener without a letter",
        "{listeners: [{name: '25', protocol: SMTP, port: 25}]}",
        LISTENER_NAME,
    ),
    bad(
        MailServer,
        "a port that is none",
        "{listeners: [{name: smtp, protocol: SMTP, port: 65536}]}",
        "should be less than or equal to 65535",
    ),
    bad(MailServer, "no listener", "{listeners: []}", "should have at least 1 items"),
    bad(
        MailServer,
        "a protocol that is none",
        "{listeners: [{name: imap, protocol: IMAP, port: 143}]}",
        "supported values: \"SMTP\", \"Submission\", \"Submissions\", \"POP3\", \"POP3S\"",
    ),
    good(
        MailServer,
        "PROXY with a trusted network",
        "{listeners: [{name: smtp, protocol: SMTP, port: 25, proxyProtocol: {mode: Required, trustedCIDRs: [192.0.2.0/24, '2001:db8::/64']}}]}",
    ),
    bad(
        MailServer,
        "PROXY without a trusted network",
        "{listeners: [{name: smtp, protocol: SMTP, port: 25, proxyProtocol: {mode: Required}}]}",
        PROXY,
    ),
    bad(
        MailServer,
        "PROXY with an empty list",
        "{listeners: [{name: smtp, protocol: SMTP, port: 25, proxyProtocol: {mode: Required, trustedCIDRs: []}}]}",
        PROXY,
    ),
    bad(
        MailServer,
        "PROXY with what is no network",
        "{listeners: [{name: smtp, protocol: SMTP, port: 25, proxyProtocol: {mode: Required, trustedCIDRs: [balancer]}}]}",
        CIDR,
    ),
    bad(
        MailServer,
        "PROXY from everybody",
        "{listeners: [{name: smtp, protocol: SMTP, port: 25, proxyProtocol: {mode: Required, trustedCIDRs: ['::/0']}}]}",
        "trust only your load balancers: a network with the prefix /0 would let anybody claim any address",
    ),
    good(MailServer, "a node port of a listener", "{service: {type: NodePort, nodePorts: {smtp: 30025}}}"),
    bad(
        MailServer,
        "a node port of no listener",
        "{service: {type: NodePort, nodePorts: {imap: 30143}}}",
        "nodePorts must use the names of listeners",
    ),
    good(MailServer, "a certificate of one's own", "{tls: {secretRef: {name: tls}, minVersion: TLS13}}"),
    bad(MailServer, "a Secret's name with a slash", "{tls: {secretRef: {name: a/b}}}", OBJECT_NAME),
    good(MailServer, "a newer TLS alone", "{tls: {minVersion: TLS13}}"),
    bad(
        MailServer,
        "two certificates",
        "{tls: {secretRef: {name: tls}, selfSigned: {}}}",
        "give tls one of secretRef, certManager and selfSigned, not several",
    ),
    good(
        MailServer,
        "durations",
        "{outbound: {maxAge: 48h, delayWarning: 1h30m}, shutdown: {preStopDelay: '0', drainTimeout: 1.5m}}",
    ),
    bad(MailServer, "a duration in days", "{outbound: {maxAge: 5d}}", DURATION),
    bad(MailServer, "a duration without a unit", "{shutdown: {drainTimeout: '60'}}", DURATION),
    bad(MailServer, "a negative duration", "{dns: {verifyInterval: -15m}}", DURATION),
    good(MailServer, "all namespaces", "{allowedNamespaces: {from: All}}"),
    good(
        MailServer,
        "namespaces by label",
        "{allowedNamespaces: {from: Selector, selector: {matchLabels: {team: mail}}}}",
    ),
    bad(MailServer, "a selector without need", "{allowedNamespaces: {from: All, selector: {}}}", SELECTOR),
    bad(MailServer, "a selector that is missing", "{allowedNamespaces: {from: Selector}}", SELECTOR),
    bad(MailServer, "few recipients", "{limits: {maxRecipients: 99}}", "should be greater than or equal to 100"),
    good(
        MailServer,
        "settings of the pods",
        "{resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {memory: 1Gi}}, podTemplate: {metadata: {labels: {a: b}}, \
         nodeSelector: {disk: ssd}, tolerations: [{key: mail, operator: Exists}], \
         topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}], \
         affinity: {podAntiAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, podAffinityTerm: {topologyKey: host}}]}}}}",
    ),
    bad(
        MailServer,
        "a number that no Kubernetes type can hold",
        "{podTemplate: {topologySpreadConstraints: [{maxSkew: 99999999999, topologyKey: zone, whenUnsatisfiable: DoNotSchedule}]}}",
        "should be less than or equal to 2147483647",
    ),
    // MailDomain
    good(MailDomain, "only a domain", "{}"),
    good(MailDomain, "an international domain", "{domain: xn--mller-kva.example}"),
    bad(MailDomain, "an international domain as written", "{domain: müller.example}", DOMAIN),
    bad(MailDomain, "a domain in upper case", "{domain: Example.com}", DOMAIN),
    bad(MailDomain, "a label with a dash at its end", "{domain: example-.com}", DOMAIN),
    bad(MailDomain, "a domain with a space", "{domain: 'example .com'}", DOMAIN),
    bad(MailDomain, "no domain", "{domain: null}", "spec.domain: Required value"),
    bad(MailDomain, "a server's name as a text", "{serverRef: default}", "must be of type object"),
    bad(MailDomain, "a server's name that is a path", "{serverRef: {name: ../default}}", OBJECT_NAME),
    bad(MailDomain, "a namespace that is a path", "{serverRef: {name: default, namespace: mail/system}}", NAMESPACE),
    bad(MailDomain, "a namespace with a dot", "{serverRef: {name: default, namespace: mail.system}}", NAMESPACE),
    good(MailDomain, "a server of another namespace", "{serverRef: {name: default, namespace: mail-system}}"),
    bad(MailDomain, "a selector without need", "{allowedNamespaces: {selector: {}}}", SELECTOR),
    good(
        MailDomain,
        "limits",
        "{limits: {maxMailboxes: 10, maxAliases: 0, defaultQuota: 500Mi, maxQuota: 2Gi, maxMessageSize: 10M}}",
    ),
    bad(MailDomain, "a quota in words", "{limits: {maxQuota: plenty}}", SIZE),
    good(MailDomain, "another separator", "{subaddressing: {separator: '-'}}"),
    bad(
        MailDomain,
        "a letter as separator",
        "{subaddressing: {separator: x}}",
        "write one character that is neither a letter, a digit nor a dot, such as + or -",
    ),
    good(MailDomain, "a catch-all mailbox", "{catchAll: {mailboxRef: {name: anna}}}"),
    good(MailDomain, "a catch-all that refuses", "{catchAll: {reject: {}}}"),
    bad(MailDomain, "an empty catch-all", "{catchAll: {}}", CATCH_ALL),
    bad(MailDomain, "a catch-all that does both", "{catchAll: {reject: {}, mailboxRef: {name: anna}}}", CATCH_ALL),
    good(
        MailDomain,
        "roles",
        "{roles: {postmaster: [{mailboxRef: {name: tom}}], abuse: [{address: Abuse.Desk@example.net}]}}",
    ),
    bad(MailDomain, "a role that goes nowhere", "{roles: {postmaster: [{}]}}", TARGET),
    bad(MailDomain, "a role's address without a domain", "{roles: {abuse: [{address: abuse@host}]}}", ADDRESS),
    good(MailDomain, "a rotation", "{dkim: {rotation: {period: 720h, overlap: 24h}}}"),
    bad(
        MailDomain,
        "an overlap as long as the period",
        "{dkim: {rotation: {period: 24h, overlap: 1440m}}}",
        "make overlap shorter than period, so that only one key is being replaced at a time",
    ),
    bad(MailDomain, "a rotation in days", "{dkim: {rotation: {period: 30d}}}", DURATION),
    bad(MailDomain, "an SPF include in upper case", "{dns: {spf: {include: [_SPF.example.org]}}}", RECORD_NAME),
    good(
        MailDomain,
        "records",
        "{dns: {mx: [{host: mx1.example.net}, {host: mx2.example.net, preference: 20}], \
         spf: {include: [example.org, _spf.example.org], all: Fail}, dmarc: {policy: Reject, rua: [dmarc@example.com]}}}",
    ),
    bad(MailDomain, "an MX host with a dot at the end", "{dns: {mx: [{host: mx1.example.net.}]}}", DOMAIN),
    bad(
        MailDomain,
        "a policy that is none",
        "{dns: {dmarc: {policy: none}}}",
        "supported values: \"None\", \"Quarantine\", \"Reject\"",
    ),
    // Mailbox
    bad(Mailbox, "a domain's namespace in upper case", "{domainRef: {name: example-com, namespace: Mail}}", NAMESPACE),
    good(Mailbox, "one that only receives", "{}"),
    good(Mailbox, "all characters of a local part", "{localPart: \"a!#$%&'*+/=?^_`{|}~-.9\"}"),
    bad(Mailbox, "a local part in upper case", "{localPart: Anna}", LOCAL_PART),
    bad(Mailbox, "a local part with a domain", "{localPart: anna@example.com}", LOCAL_PART),
    bad(Mailbox, "a local part with two dots", "{localPart: anna..maria}", LOCAL_PART),
    bad(Mailbox, "a local part with a dot in front", "{localPart: .anna}", LOCAL_PART),
    bad(
        Mailbox,
        "a local part of 65 characters",
        "{localPart: aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggggg}",
        "may not be more than 64",
    ),
    good(Mailbox, "a password", "{credentials: {passwordSecretRef: {name: anna}}}"),
    bad(
        Mailbox,
        "a Secret's name with a query",
        "{credentials: {passwordSecretRef: {name: 'anna?watch=1'}}}",
        OBJECT_NAME,
    ),
    bad(Mailbox, "a Secret's name in upper case", "{credentials: {generate: {secretName: Anna}}}", OBJECT_NAME),
    bad(Mailbox, "a domain's name with an empty part", "{domainRef: {name: example..com}}", OBJECT_NAME),
    good(Mailbox, "a hash", "{credentials: {passwordHashSecretRef: {name: anna, key: argon2}}}"),
    good(Mailbox, "a Secret to be made", "{credentials: {generate: {secretName: anna}}}"),
    bad(Mailbox, "no credential source", "{credentials: {}}", CREDENTIALS),
    bad(
        Mailbox,
        "two credential sources",
        "{credentials: {passwordSecretRef: {name: anna}, generate: {secretName: anna}}}",
        CREDENTIALS,
    ),
    good(
        Mailbox,
        "everything",
        "{quota: 2Gi, protocols: {pop3: Disabled}, forwarding: {to: [anna@example.org], keepCopy: false}, \
         sendAs: {allowed: [Sales@example.com]}, retention: {maxAge: 8760h}, suspended: true}",
    ),
    bad(Mailbox, "a quota in gigabytes", "{quota: 2GB}", SIZE),
    bad(Mailbox, "a forwarding address without a domain", "{forwarding: {to: [anna-maria]}}", ADDRESS),
    bad(
        Mailbox,
        "a forwarding address with a local part of 65 characters",
        "{forwarding: {to: [aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggggg@example.org]}}",
        ADDRESS,
    ),
    bad(Mailbox, "a retention in years", "{retention: {maxAge: 1y}}", DURATION),
    good(Mailbox, "a script", "{filter: {sieve: keep;}}"),
    good(Mailbox, "a quota of one byte", "{quota: 1}"),
    good(Mailbox, "a quota that begins with 0", "{quota: 0.5Gi}"),
    good(Mailbox, "a quota with a 0 at its end", "{quota: 10Gi}"),
    bad(Mailbox, "a quota of 0", "{quota: 0}", ROOM),
    bad(Mailbox, "a quota of no gibibytes", "{quota: 0.0Gi}", ROOM),
    bad(MailDomain, "a default quota of 0", "{limits: {defaultQuota: '0'}}", ROOM),
    bad(MailDomain, "a largest quota of 0", "{limits: {maxQuota: 00k}}", ROOM),
    bad(Mailbox, "two scripts", "{filter: {sieve: keep;, configMapRef: {name: s, key: s}}}", FILTER),
    bad(Mailbox, "no script", "{filter: {}}", FILTER),
    // MailAlias
    good(MailAlias, "one mailbox", "{}"),
    good(MailAlias, "a mailbox and an address", "{targets: [{mailboxRef: {name: anna}}, {address: jack@example.org}]}"),
    bad(MailAlias, "a local part in upper case", "{localPart: Info}", LOCAL_PART),
    bad(MailAlias, "a mailbox's name in upper case", "{targets: [{mailboxRef: {name: Anna}}]}", OBJECT_NAME),
    bad(
        MailAlias,
        "a mailbox's namespace with a dot",
        "{targets: [{mailboxRef: {name: anna, namespace: a.b}}]}",
        NAMESPACE,
    ),
    bad(MailAlias, "no target", "{targets: []}", "should have at least 1 items"),
    bad(MailAlias, "an empty target", "{targets: [{}]}", TARGET),
    bad(
        MailAlias,
        "a target that is both",
        "{targets: [{mailboxRef: {name: anna}, address: anna@example.org}]}",
        TARGET,
    ),
    bad(MailAlias, "a target in upper case", "{targets: [{address: anna@EXAMPLE.org}]}", ADDRESS),
    // RelayPolicy
    good(RelayPolicy, "a network", "{}"),
    good(
        RelayPolicy,
        "IPv6 and a host",
        "{from: [{cidrs: ['2001:db8:1234:5678:9abc:def0:1234:5678/128', 198.51.100.7/32]}]}",
    ),
    bad(RelayPolicy, "a server's name with a space", "{serverRef: {name: 'mail server'}}", OBJECT_NAME),
    bad(RelayPolicy, "a server's namespace in upper case", "{serverRef: {name: mail, namespace: Mail}}", NAMESPACE),
    bad(RelayPolicy, "nobody", "{from: []}", "should have at least 1 items"),
    bad(RelayPolicy, "an empty entry", "{from: [{}]}", SOURCE),
    bad(RelayPolicy, "two ways in one entry", "{from: [{cidrs: [192.0.2.0/24], podSelector: {}}]}", SOURCE),
    bad(RelayPolicy, "every IPv4 address", "{from: [{cidrs: [192.0.2.0/24, 0.0.0.0/0]}]}", EVERYBODY),
    bad(RelayPolicy, "every IPv6 address", "{from: [{cidrs: ['::/0']}]}", EVERYBODY),
    bad(RelayPolicy, "half of the IPv4 addresses", "{from: [{cidrs: [128.0.0.0/1]}]}", EVERYBODY),
    bad(RelayPolicy, "the IPv6 addresses of the Internet", "{from: [{cidrs: ['2000::/3']}]}", EVERYBODY),
    good(RelayPolicy, "a private network", "{from: [{cidrs: [10.0.0.0/8, 'fd00::/8']}]}"),
    bad(RelayPolicy, "an address without a prefix", "{from: [{cidrs: [192.0.2.1]}]}", CIDR),
    bad(RelayPolicy, "a network with a zero in front", "{from: [{cidrs: [192.0.2.0/024]}]}", CIDR),
    bad(RelayPolicy, "an IPv4 network in IPv6 clothes", "{from: [{cidrs: ['::ffff:192.0.2.0/120']}]}", CIDR),
    good(
        RelayPolicy,
        "pods, mailboxes and certificates",
        "{from: [{podSelector: {matchLabels: {app: shop}}, namespaceSelector: {matchExpressions: [{key: team, operator: Exists}]}}, \
         {mailboxes: {domainRef: {name: example-com}}}, {clientCertificates: [{sanDNS: app.example.com}]}]}",
    ),
    bad(
        RelayPolicy,
        "a certificate's name in upper case",
        "{from: [{clientCertificates: [{sanDNS: App.example.com}]}]}",
        DOMAIN,
    ),
    good(RelayPolicy, "senders", "{senders: {domains: [example.com], addresses: [shop@example.org]}}"),
    bad(
        RelayPolicy,
        "empty senders",
        "{senders: {}}",
        "list at least one domain or address in senders, or leave senders out",
    ),
    bad(RelayPolicy, "a sender without a domain", "{senders: {addresses: [shop@host]}}", ADDRESS),
    good(RelayPolicy, "recipients of a domain", "{recipients: {domains: [example.org]}}"),
    bad(RelayPolicy, "no recipients", "{recipients: {}}", RECIPIENTS),
    bad(
        RelayPolicy,
        "any recipient, and those of a domain",
        "{recipients: {any: {}, domains: [example.org]}}",
        RECIPIENTS,
    ),
];

/// The changes.
pub const CHANGES: &[Change] = &[
    Change {
        kind: MailDomain,
        name: "another domain",
        patch: "{domain: example.org}",
        refusal: Some("the domain cannot be changed: create another MailDomain; the mail of this one is kept"),
    },
    Change { kind: MailDomain, name: "another server", patch: "{serverRef: {name: other}}", refusal: None },
    Change {
        kind: Mailbox,
        name: "another local part",
        patch: "{localPart: maria}",
        refusal: Some("localPart cannot be changed: create another Mailbox; the mail of this one is kept"),
    },
    Change {
        kind: Mailbox,
        name: "another domain",
        patch: "{domainRef: {name: example-org}}",
        refusal: Some("domainRef cannot be changed: create another Mailbox; the mail of this one is kept"),
    },
    Change { kind: Mailbox, name: "another quota", patch: "{quota: 3Gi}", refusal: None },
    Change { kind: MailAlias, name: "another local part", patch: "{localPart: sales}", refusal: None },
    Change { kind: MailServer, name: "a larger volume", patch: "{storage: {embedded: {size: 40Gi}}}", refusal: None },
    Change {
        kind: MailServer,
        name: "another storage class",
        patch: "{storage: {embedded: {storageClassName: slow}}}",
        refusal: Some(
            "storage.embedded.storageClassName cannot be changed: volumes stay where they were made; move the mail to another \
             MailServer",
        ),
    },
    Change { kind: MailServer, name: "the same volume", patch: "{storage: {embedded: {size: 20Gi}}}", refusal: None },
    Change { kind: MailServer, name: "another hostname", patch: "{hostname: mx2.example.net}", refusal: None },
];

/// The spec of a case: the smallest good one, and what the case says on top.
pub fn spec(kind: Kind, difference: &str) -> Value {
    let mut spec = smallest(kind);
    merge(&mut spec, &serde_saphyr::from_str(difference).unwrap_or_else(|error| panic!("{difference}: {error}")));
    spec
}

/// A merge patch (RFC 7396).
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        let entries = target.as_object_mut().unwrap();
        if value.is_null() {
            entries.remove(key);
        } else {
            merge(entries.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}
