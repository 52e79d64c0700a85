//! One sentence for each rule about RelayPolicies.

use super::*;

#[test]
fn relay_policies() {
    use Kind::RelayPolicy;
    let cidr = |cidr: &str| json!([{"cidrs": [cidr]}]);
    check(vec![
        case(
            "networks outside the cluster",
            (RelayPolicy, "one/p"),
            "Accepted",
            &[],
            served(vec![policy("one/p", cidr("192.0.2.0/24"), json!({}))]),
        ),
        case(
            "a policy needs its server",
            (RelayPolicy, "one/p"),
            "ServerNotFound",
            &["mail/default"],
            vec![policy("one/p", cidr("192.0.2.0/24"), json!({}))],
        ),
        case(
            "which admits its namespace",
            (RelayPolicy, "one/p"),
            "NamespaceNotAllowed",
            &["RelayPolicy of namespace one"],
            vec![
                object(Kind::MailServer, "mail/default", 0, json!({"hostname": "a.example"})),
                policy("one/p", cidr("192.0.2.0/24"), json!({})),
            ],
        ),
        case(
            "a field that must not be passed over",
            (RelayPolicy, "one/p"),
            "InvalidSpec",
            &["spec.rateLimit"],
            served(vec![policy("one/p", cidr("192.0.2.0/24"), json!({"rateLimit": {}}))]),
        ),
        case(
            "the whole Internet is refused",
            (RelayPolicy, "one/p"),
            "OpenRelayRefused",
            &["0.0.0.0/0", "open relay", "Nothing of the policy"],
            served(vec![policy("one/p", cidr("0.0.0.0/0"), json!({}))]),
        ),
        case(
            "mailboxes of a domain that is missing",
            (RelayPolicy, "one/p"),
            "DomainNotFound",
            &["MailDomain one/other"],
            served(vec![policy("one/p", json!([{"mailboxes": {"domainRef": {"name": "other"}}}]), json!({}))]),
        ),
        case(
            "mailboxes of a domain that is served",
            (RelayPolicy, "one/p"),
            "Accepted",
            &[],
            served(vec![policy("one/p", json!([{"mailboxes": {"domainRef": {"name": "d"}}}]), json!({}))]),
        ),
        case(
            "pods that do not run yet",
            (RelayPolicy, "one/p"),
            "Accepted",
            &["No running pod is selected now."],
            served(vec![policy("one/p", json!([{"podSelector": {"matchLabels": {"app": "x"}}}]), json!({}))]),
        ),
    ]);
}
