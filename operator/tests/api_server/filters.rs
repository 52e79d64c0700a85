//! Scripts in ConfigMaps follow what the Mailbox names.

use http::Method;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::DeleteParams;
use kube::{Client, Config};
use paquebot_crds::Mailbox;
use paquebot_crds::conditions::ConditionType as Type;
use serde_json::json;

use crate::support::gate::Gate;
use crate::world::{Operator, Space, eventually};

/// A mailbox names another ConfigMap, which cannot be read, and then the first one again; and it is made anew.
pub async fn a_filter_that_is_named_again_is_read_again(client: &Client, config: &Config) {
    let space = Space::new(client, "filters").await;
    let gate = Gate::new();
    let operator = Operator::start(&gate.before(config, &space), 1);
    space.server("mx1").await;
    space.domain("server1.com", "mx1").await;
    for name in ["first", "second"] {
        space.apply::<ConfigMap>(name, json!({ "data": { "script": "keep;" } })).await;
    }
    let naming = async |name: &str| {
        let filter = json!({ "configMapRef": { "name": name, "key": "script" } });
        let spec = json!({ "domainRef": { "name": "server1.com" }, "localPart": "anna", "filter": filter });
        space.apply::<Mailbox>("anna", json!({ "spec": spec })).await;
    };
    naming("first").await;
    space.condition::<Mailbox>("anna", Type::FilterReady, "True", "Compiled").await;
    gate.refuse(Method::GET, "/configmaps/second");
    naming("second").await;
    space.condition::<Mailbox>("anna", Type::FilterReady, "Unknown", "Pending").await;
    eventually("the second one could not be read", async || (operator.metrics.errors.get() > 0).then_some(())).await;
    naming("first").await;
    space.condition::<Mailbox>("anna", Type::FilterReady, "True", "Compiled").await;
    space.api::<Mailbox>().delete("anna", &DeleteParams::default()).await.unwrap();
    eventually("the mailbox is gone", async || space.get::<Mailbox>("anna").await.is_none().then_some(())).await;
    naming("first").await;
    space.condition::<Mailbox>("anna", Type::FilterReady, "True", "Compiled").await;
    operator.stop().await;
}
