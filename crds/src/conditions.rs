//! Conditions: their types, their stable reasons, and the pure helpers that keep a list of them.
//!
//! The operator's controllers call [`ensure`] at the first sight of an object, [`set_condition`] for each thing they
//! observe, and [`refresh_ready`] last. Types and reasons are an interface that people script against: a name is never
//! changed, and [`reasons`] says which reason may stand beside which type and status.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::Kind;
use crate::schema::MESSAGE_MAXIMUM;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word, as it stands in a status.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => stringify!($variant),)+
                }
            }

            /// The value of a word.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == word)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// What a condition speaks of.
    ConditionType {
        /// The object is valid, allowed, and the first of its name.
        Accepted,
        /// The mailbox's password could be read.
        CredentialsReady,
        /// The mailbox's script could be compiled.
        FilterReady,
        /// The servers' pods reported that they serve this object.
        Programmed,
        /// The domain's owner agreed.
        OwnershipVerified,
        /// The MX records are as wanted.
        MXReady,
        /// The SPF record is as wanted.
        SPFReady,
        /// The DKIM records are as wanted.
        DKIMReady,
        /// The DMARC record is as wanted.
        DMARCReady,
        /// The MTA-STS record and policy are as wanted.
        MTASTSReady,
        /// The TLS report record is as wanted.
        TLSRPTReady,
        /// All wanted records are there.
        DNSReady,
        /// The server sees the clients' own addresses.
        SourceIPPreserved,
        /// The certificate is valid for the hostname.
        CertificateReady,
        /// The server's address leads back to its hostname.
        ReverseDNSReady,
        /// The server's pods serve.
        Available,
        /// The server's pods are being replaced.
        Progressing,
        /// The operator leaves the object alone.
        Paused,
        /// All that is needed for mail to flow.
        Ready,
    }
}

words! {
    /// Why a condition has its status. One word may serve several types.
    Reason {
        /// Nothing was observed yet.
        Pending,
        /// The object is in effect.
        Accepted,
        /// An older MailDomain has this domain.
        DomainConflict,
        /// An older Mailbox or MailAlias has this address.
        AddressConflict,
        /// The parent does not admit this namespace.
        NamespaceNotAllowed,
        /// The MailServer does not exist.
        ServerNotFound,
        /// The MailDomain does not exist, or is not accepted itself.
        DomainNotFound,
        /// The spec asks for what cannot be done.
        InvalidSpec,
        /// The domain's limit of mailboxes or aliases is reached.
        LimitExceeded,
        /// The quota is above the domain's limit.
        QuotaExceedsDomainLimit,
        /// The policy would admit everybody, or the cluster itself.
        OpenRelayRefused,
        /// The alias leads back to itself.
        AliasLoop,
        /// The password was hashed.
        Hashed,
        /// The Secret was made by the operator.
        Generated,
        /// The mailbox has no password.
        ReceiveOnly,
        /// The Secret does not exist.
        SecretNotFound,
        /// The Secret has no such key.
        SecretKeyMissing,
        /// The password is empty.
        EmptyPassword,
        /// The hash is not argon2id in PHC form.
        UnsupportedHash,
        /// The script was compiled.
        Compiled,
        /// There is no script.
        NoFilter,
        /// The script has a mistake.
        ScriptInvalid,
        /// The ConfigMap does not exist.
        ConfigMapNotFound,
        /// The pods serve it.
        Programmed,
        /// No pod is ready.
        NoReadyReplicas,
        /// A pod refused the configuration.
        ReplicaRejected,
        /// Some pods do not serve it yet.
        Propagating,
        /// The proof was found.
        Verified,
        /// No proof is asked for.
        NotRequired,
        /// The proof is not in DNS.
        ChallengeMissing,
        /// The lookup failed; nothing is known.
        LookupFailed,
        /// The records are as wanted.
        RecordsMatch,
        /// Nobody looks.
        Disabled,
        /// A record is not there.
        RecordMissing,
        /// A record differs.
        RecordMismatch,
        /// There are MX records beside the wanted ones.
        ExtraMX,
        /// There is more than one SPF record.
        MultipleSPF,
        /// The SPF record needs more than ten lookups.
        TooManyLookups,
        /// An MX record leads to an alias.
        TargetIsCNAME,
        /// An MX record's host has no address.
        TargetNoAddress,
        /// The server has no address to compare with.
        ServerAddressUnknown,
        /// Lookups are under way.
        Verifying,
        /// The Service keeps clients' addresses.
        TrafficPolicyLocal,
        /// A load balancer says the clients' addresses.
        ProxyProtocol,
        /// The Service hides clients' addresses.
        TrafficPolicyCluster,
        /// Clients appear with a node's address.
        ObservedNodeSourceIP,
        /// Nobody connected yet.
        NoTrafficYet,
        /// The certificate is valid.
        Valid,
        /// The certificate is one that the operator signed.
        SelfSigned,
        /// The certificate's Secret does not exist.
        NotFound,
        /// The certificate has expired.
        Expired,
        /// The certificate is for other names.
        NameMismatch,
        /// The key does not belong to the certificate.
        KeyMismatch,
        /// The certificate is being made.
        Issuing,
        /// The name that the address leads to is the hostname.
        Matches,
        /// The address leads to no name.
        Missing,
        /// The address leads to another name.
        Mismatch,
        /// The server has no public address.
        NoPublicAddress,
        /// The pods are ready.
        PodsReady,
        /// A pod is not ready.
        PodsNotReady,
        /// A volume is not there yet.
        VolumePending,
        /// An image cannot be had.
        ImagePullFailed,
        /// Pods are being replaced.
        RollingOut,
        /// All pods are as wanted.
        Complete,
        /// The operator leaves the object alone.
        Paused,
        /// The operator looks after the object.
        NotPaused,
        /// Everything that is needed is true.
        Ready,
    }
}

/// The status of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConditionStatus {
    /// It was observed to be so.
    True,
    /// It was observed not to be so.
    False,
    /// It is not known.
    Unknown,
}

impl ConditionStatus {
    /// The word, as it stands in a status.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl fmt::Display for ConditionStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// The conditions of a kind, in the order in which they are listed.
#[must_use]
pub const fn condition_types(kind: Kind) -> &'static [ConditionType] {
    use ConditionType::{
        Accepted, Available, CertificateReady, CredentialsReady, DKIMReady, DMARCReady, DNSReady, FilterReady,
        MTASTSReady, MXReady, OwnershipVerified, Paused, Programmed, Progressing, Ready, ReverseDNSReady, SPFReady,
        SourceIPPreserved, TLSRPTReady,
    };
    match kind {
        Kind::MailServer => &[
            Accepted,
            CertificateReady,
            Available,
            Progressing,
            Programmed,
            SourceIPPreserved,
            ReverseDNSReady,
            Paused,
            Ready,
        ],
        Kind::MailDomain => &[
            Accepted,
            OwnershipVerified,
            Programmed,
            MXReady,
            SPFReady,
            DKIMReady,
            DMARCReady,
            MTASTSReady,
            TLSRPTReady,
            DNSReady,
            Ready,
        ],
        Kind::Mailbox => &[Accepted, CredentialsReady, FilterReady, Programmed, Ready],
        Kind::MailAlias | Kind::RelayPolicy => &[Accepted, Programmed, Ready],
    }
}

/// The conditions that `Ready` is made of, the first to look at first. A MailDomain is ready before its DNS is: mail
/// inside the cluster works, and `DNSReady` says the rest.
#[must_use]
pub const fn required_for_ready(kind: Kind) -> &'static [ConditionType] {
    use ConditionType::{
        Accepted, Available, CertificateReady, CredentialsReady, FilterReady, OwnershipVerified, Programmed,
    };
    match kind {
        Kind::MailServer => &[Accepted, CertificateReady, Available, Programmed],
        Kind::MailDomain => &[Accepted, OwnershipVerified, Programmed],
        Kind::Mailbox => &[Accepted, CredentialsReady, FilterReady, Programmed],
        Kind::MailAlias | Kind::RelayPolicy => &[Accepted, Programmed],
    }
}

/// The parts that `DNSReady` of a MailDomain is made of, the first to look at first.
pub const DNS_PARTS: [ConditionType; 6] = [
    ConditionType::MXReady,
    ConditionType::SPFReady,
    ConditionType::DKIMReady,
    ConditionType::DMARCReady,
    ConditionType::MTASTSReady,
    ConditionType::TLSRPTReady,
];

/// The reasons that may stand beside a type, by status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reasons {
    /// Beside `True`.
    pub when_true: &'static [Reason],
    /// Beside `False`.
    pub when_false: &'static [Reason],
    /// Beside `Unknown`, apart from [`Reason::Pending`], which every type may have.
    pub when_unknown: &'static [Reason],
}

/// The reasons of each type but `Ready`, which copies those of others.
#[must_use]
pub const fn reasons(condition_type: ConditionType) -> Reasons {
    use Reason as R;
    const NONE: &[Reason] = &[];
    const POD_FAILURES: &[Reason] = &[R::PodsNotReady, R::VolumePending, R::ImagePullFailed];
    const RECORD_FAILURES: &[Reason] = &[
        R::RecordMissing,
        R::RecordMismatch,
        R::ExtraMX,
        R::MultipleSPF,
        R::TooManyLookups,
        R::TargetIsCNAME,
        R::TargetNoAddress,
    ];
    let (when_true, when_false, when_unknown): (&[Reason], &[Reason], &[Reason]) = match condition_type {
        ConditionType::Accepted => (
            &[R::Accepted],
            &[
                R::DomainConflict,
                R::AddressConflict,
                R::NamespaceNotAllowed,
                R::ServerNotFound,
                R::DomainNotFound,
                R::InvalidSpec,
                R::LimitExceeded,
                R::QuotaExceedsDomainLimit,
                R::OpenRelayRefused,
                R::AliasLoop,
            ],
            NONE,
        ),
        ConditionType::CredentialsReady => (
            &[R::Hashed, R::Generated, R::ReceiveOnly],
            &[R::SecretNotFound, R::SecretKeyMissing, R::EmptyPassword, R::UnsupportedHash],
            NONE,
        ),
        ConditionType::FilterReady => (&[R::Compiled, R::NoFilter], &[R::ScriptInvalid, R::ConfigMapNotFound], NONE),
        ConditionType::Programmed => (&[R::Programmed], &[R::NoReadyReplicas, R::ReplicaRejected], &[R::Propagating]),
        ConditionType::OwnershipVerified => {
            (&[R::Verified, R::NotRequired], &[R::ChallengeMissing], &[R::LookupFailed])
        }
        ConditionType::MXReady
        | ConditionType::SPFReady
        | ConditionType::DKIMReady
        | ConditionType::DMARCReady
        | ConditionType::MTASTSReady
        | ConditionType::TLSRPTReady => {
            (&[R::RecordsMatch, R::Disabled], RECORD_FAILURES, &[R::LookupFailed, R::ServerAddressUnknown])
        }
        ConditionType::DNSReady => (
            &[R::RecordsMatch, R::Disabled],
            RECORD_FAILURES,
            &[R::Verifying, R::LookupFailed, R::ServerAddressUnknown],
        ),
        ConditionType::SourceIPPreserved => (
            &[R::TrafficPolicyLocal, R::ProxyProtocol],
            &[R::TrafficPolicyCluster, R::ObservedNodeSourceIP],
            &[R::NoTrafficYet],
        ),
        ConditionType::CertificateReady => {
            (&[R::Valid, R::SelfSigned], &[R::NotFound, R::Expired, R::NameMismatch, R::KeyMismatch], &[R::Issuing])
        }
        ConditionType::ReverseDNSReady => (&[R::Matches], &[R::Missing, R::Mismatch], &[R::NoPublicAddress]),
        ConditionType::Available => (&[R::PodsReady], POD_FAILURES, NONE),
        ConditionType::Progressing => {
            (&[R::RollingOut, R::PodsNotReady, R::VolumePending, R::ImagePullFailed], &[R::Complete], NONE)
        }
        ConditionType::Paused => (&[R::Paused], &[R::NotPaused], NONE),
        ConditionType::Ready => (&[R::Ready], NONE, NONE),
    };
    Reasons { when_true, when_false, when_unknown }
}

/// What is to be said about one aspect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConditionUpdate {
    /// The aspect.
    pub condition_type: ConditionType,
    /// Its status.
    pub status: ConditionStatus,
    /// Why, in one stable word.
    pub reason: Reason,
    /// Why, in a sentence that names the object and the cure.
    pub message: String,
}

impl ConditionUpdate {
    /// An update with a status of any kind.
    pub fn new(
        condition_type: ConditionType,
        status: ConditionStatus,
        reason: Reason,
        message: impl Into<String>,
    ) -> Self {
        Self { condition_type, status, reason, message: message.into() }
    }

    /// It is so.
    pub fn yes(condition_type: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self::new(condition_type, ConditionStatus::True, reason, message)
    }

    /// It is not so.
    pub fn no(condition_type: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self::new(condition_type, ConditionStatus::False, reason, message)
    }

    /// It is not known.
    pub fn unknown(condition_type: ConditionType, reason: Reason, message: impl Into<String>) -> Self {
        Self::new(condition_type, ConditionStatus::Unknown, reason, message)
    }

    /// Nothing was observed yet.
    #[must_use]
    pub fn pending(condition_type: ConditionType) -> Self {
        Self::unknown(condition_type, Reason::Pending, "Not observed yet.")
    }
}

/// Puts an update into the list: `lastTransitionTime` moves to `now` only when `status` changes.
///
/// `generation` is the `metadata.generation` that the update was computed from. Returns whether anything changed.
pub fn set_condition(
    conditions: &mut Vec<Condition>,
    update: &ConditionUpdate,
    generation: Option<i64>,
    now: Timestamp,
) -> bool {
    let mut wanted = Condition {
        type_: update.condition_type.as_str().to_owned(),
        status: update.status.as_str().to_owned(),
        reason: update.reason.as_str().to_owned(),
        message: bounded(&update.message).to_owned(),
        observed_generation: generation,
        last_transition_time: Time(whole_second(now)),
    };
    match conditions.iter_mut().find(|condition| condition.type_ == wanted.type_) {
        Some(present) => {
            if present.status == wanted.status {
                wanted.last_transition_time = present.last_transition_time.clone();
            }
            let changed = *present != wanted;
            *present = wanted;
            changed
        }
        None => {
            conditions.push(wanted);
            true
        }
    }
}

/// Kubernetes writes times of objects to the second; finer ones would differ after each read.
fn whole_second(now: Timestamp) -> Timestamp {
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

/// The message, cut at the longest that a condition may hold.
fn bounded(message: &str) -> &str {
    let end = message.floor_char_boundary(MESSAGE_MAXIMUM.min(message.len()));
    message.get(..end).unwrap_or_default()
}

/// Gives the list the kind's whole set, in the kind's order: what is missing becomes `Unknown/Pending`, what the kind
/// does not have (left by another release) goes. Returns whether anything changed.
pub fn ensure(conditions: &mut Vec<Condition>, kind: Kind, generation: Option<i64>, now: Timestamp) -> bool {
    let before = conditions.clone();
    let mut whole = Vec::new();
    for condition_type in condition_types(kind) {
        match conditions.iter().find(|condition| condition.type_ == condition_type.as_str()) {
            Some(present) => whole.push(present.clone()),
            None => {
                set_condition(&mut whole, &ConditionUpdate::pending(*condition_type), generation, now);
            }
        }
    }
    *conditions = whole;
    *conditions != before
}

/// The kind's whole set, each `Unknown/Pending`: what a new object gets.
#[must_use]
pub fn initial_conditions(kind: Kind, generation: Option<i64>, now: Timestamp) -> Vec<Condition> {
    let mut conditions = Vec::new();
    ensure(&mut conditions, kind, generation, now);
    conditions
}

/// The condition of a type in a list.
#[must_use]
pub fn find(conditions: &[Condition], condition_type: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|condition| condition.type_ == condition_type.as_str())
}

/// Whether the list says `True` of a type.
#[must_use]
pub fn is_true(conditions: &[Condition], condition_type: ConditionType) -> bool {
    find(conditions, condition_type).is_some_and(|condition| condition.status == ConditionStatus::True.as_str())
}

/// `Ready`, as the conditions say it: the first that is False copied with reason and message, else the first that is
/// not known, else True.
#[must_use]
pub fn ready(kind: Kind, conditions: &[Condition]) -> ConditionUpdate {
    summary(ConditionType::Ready, required_for_ready(kind), conditions)
        .unwrap_or_else(|| ConditionUpdate::yes(ConditionType::Ready, Reason::Ready, ready_message(kind)))
}

/// `DNSReady`, as the conditions of the single records say it: the first that is False copied, else the first that is
/// not known, else True; `Disabled` when nobody looks at any.
#[must_use]
pub fn dns_ready(conditions: &[Condition]) -> ConditionUpdate {
    summary(ConditionType::DNSReady, &DNS_PARTS, conditions).unwrap_or_else(|| {
        let disabled = DNS_PARTS
            .iter()
            .all(|part| find(conditions, *part).is_some_and(|condition| condition.reason == Reason::Disabled.as_str()));
        if disabled {
            ConditionUpdate::yes(ConditionType::DNSReady, Reason::Disabled, "DNS records are not looked at.")
        } else {
            ConditionUpdate::yes(ConditionType::DNSReady, Reason::RecordsMatch, "All wanted DNS records are published.")
        }
    })
}

const fn ready_message(kind: Kind) -> &'static str {
    match kind {
        Kind::MailServer => "The server serves.",
        Kind::MailDomain => "The domain is served; DNSReady says whether the world can find it.",
        Kind::Mailbox => "The mailbox receives mail.",
        Kind::MailAlias => "The alias is in effect.",
        Kind::RelayPolicy => "The policy is in effect.",
    }
}

/// The first part that is False, else the first that is Unknown or missing; `None` if all are True.
fn summary(whole: ConditionType, parts: &[ConditionType], conditions: &[Condition]) -> Option<ConditionUpdate> {
    let with_status = |status: ConditionStatus| {
        parts.iter().find_map(|part| {
            let condition = match find(conditions, *part) {
                Some(condition) => condition.clone(),
                // A part that nobody reported is not known.
                None if status == ConditionStatus::Unknown => return Some(ConditionUpdate::pending(whole)),
                None => return None,
            };
            (condition.status == status.as_str()).then(|| {
                let reason = Reason::from_word(&condition.reason).unwrap_or(Reason::Pending);
                ConditionUpdate::new(whole, status, reason, condition.message)
            })
        })
    };
    with_status(ConditionStatus::False).or_else(|| with_status(ConditionStatus::Unknown))
}

/// Recomputes `Ready` from the rest of the list. Call it last. Returns whether anything changed.
pub fn refresh_ready(conditions: &mut Vec<Condition>, kind: Kind, generation: Option<i64>, now: Timestamp) -> bool {
    let update = ready(kind, conditions);
    set_condition(conditions, &update, generation, now)
}
