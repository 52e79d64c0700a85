//! The words of conditions: types, reasons and statuses. A word is never changed.

use std::fmt;

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
        /// The server was seen to refuse strangers' mail for strangers.
        RelayClosed,
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
        /// The operator's probe for an open relay was refused.
        ProbeRefused,
        /// The operator's probe was not refused.
        OpenRelay,
        /// The operator could not probe.
        NotProbed,
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
        /// The object is being deleted, and its mail with it.
        Deleting,
        /// Nobody wants pods now.
        Stopped,
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
