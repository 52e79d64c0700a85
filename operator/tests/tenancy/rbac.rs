//! The chart's roles for people, asked of the API server's own authorizer.

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::api::{Api, PostParams};
use serde_json::json;

use crate::stage::{ROLES, Stage, bind};

/// Resource, verb, and which of the roles allow it: view, edit, domain admin, platform admin. The first two come together:
/// Kubernetes adds view's rules to its own edit.
const TABLE: [(&str, &str, [bool; 4]); 18] = [
    ("mailservers", "get", [true, false, true, true]),
    ("maildomains", "list", [true, false, true, true]),
    ("mailboxes", "watch", [true, false, true, true]),
    ("relaypolicies", "get", [true, false, true, true]),
    ("mailboxes", "create", [false, true, true, true]),
    ("mailboxes", "patch", [false, true, true, true]),
    ("mailaliases", "delete", [false, true, true, true]),
    ("maildomains", "create", [false, false, true, true]),
    ("maildomains", "delete", [false, false, true, true]),
    ("relaypolicies", "create", [false, false, false, true]),
    ("relaypolicies", "update", [false, false, false, true]),
    ("mailservers", "create", [false, false, false, true]),
    ("mailservers", "patch", [false, false, false, true]),
    // What is observed is the operator's to say.
    ("mailboxes/status", "patch", [false, false, false, false]),
    ("maildomains/status", "update", [false, false, false, false]),
    ("mailservers/status", "patch", [false, false, false, false]),
    // Passwords lie in Secrets, which Kubernetes' own roles give.
    ("secrets", "get", [false, false, false, false]),
    ("secrets", "list", [false, false, false, false]),
];

pub async fn each_role_may_do_its_work_and_no_more(stage: &Stage) {
    let mut home = stage.good.clone();
    home.client = stage.admin.clone();
    for role in ROLES {
        bind(&home, &format!("only-{role}"), role).await;
    }
    for (resource, verb, allowed) in TABLE {
        for (role, expected) in ROLES.into_iter().zip(allowed) {
            let here = may(stage, role, verb, resource, &stage.good.name).await;
            assert_eq!(here, expected, "{role} may {verb} {resource}");
            assert!(
                !may(stage, role, verb, resource, &stage.hostile.name).await,
                "{role} elsewhere: {verb} {resource}"
            );
        }
    }
}

async fn may(stage: &Stage, role: &str, verb: &str, resource: &str, namespace: &str) -> bool {
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let group = if resource == "secrets" { "" } else { "paquebot.dev" };
    let review: SubjectAccessReview = serde_json::from_value(json!({ "spec": {
        "user": format!("only-{role}"),
        "resourceAttributes": { "group": group, "resource": resource, "subresource": subresource, "verb": verb, "namespace": namespace },
    }}))
    .unwrap();
    let api: Api<SubjectAccessReview> = Api::all(stage.admin.clone());
    api.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
}
