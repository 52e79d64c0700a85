//! Which kind has which conditions, what `Ready` is made of, and which reason may stand beside which type.

use super::words::{ConditionType, Reason};
use crate::Kind;

/// The conditions of a kind, in the order in which they are listed.
#[must_use]
pub const fn condition_types(kind: Kind) -> &'static [ConditionType] {
    use ConditionType::{
        Accepted, Available, CertificateReady, CredentialsReady, DKIMReady, DMARCReady, DNSReady, FilterReady,
        MTASTSReady, MXReady, OwnershipVerified, Paused, Programmed, Progressing, Ready, RelayClosed, ReverseDNSReady,
        SPFReady, SourceIPPreserved, TLSRPTReady,
    };
    match kind {
        Kind::MailServer => &[
            Accepted,
            CertificateReady,
            Available,
            Progressing,
            Programmed,
            SourceIPPreserved,
            RelayClosed,
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
                R::SecretNotFound,
                R::SecretKeyMissing,
                R::Deleting,
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
        ConditionType::RelayClosed => (&[R::ProbeRefused], &[R::OpenRelay], &[R::NotProbed]),
        ConditionType::CertificateReady => {
            (&[R::Valid, R::SelfSigned], &[R::NotFound, R::Expired, R::NameMismatch, R::KeyMismatch], &[R::Issuing])
        }
        ConditionType::ReverseDNSReady => {
            (&[R::Matches, R::Disabled], &[R::Missing, R::Mismatch], &[R::NoPublicAddress, R::LookupFailed])
        }
        ConditionType::Available => {
            (&[R::PodsReady], &[R::PodsNotReady, R::Stopped, R::VolumePending, R::ImagePullFailed], NONE)
        }
        ConditionType::Progressing => {
            (&[R::RollingOut, R::PodsNotReady, R::VolumePending, R::ImagePullFailed], &[R::Complete], NONE)
        }
        ConditionType::Paused => (&[R::Paused], &[R::NotPaused], NONE),
        ConditionType::Ready => (&[R::Ready], NONE, NONE),
    };
    Reasons { when_true, when_false, when_unknown }
}
