//! The files of a configuration are written several at a time, and the index after all of them.

use std::collections::BTreeSet;

use http::Method;
use k8s_openapi::api::core::v1::Secret;
use kube::{Client, Config};
use paquebot_config::ShardName;
use paquebot_crds::Mailbox;
use paquebot_crds::conditions::ConditionType as Type;
use serde_json::json;

use crate::support::gate::Gate;
use crate::world::{Operator, Space, eventually, serve_configz};

/// More than are written together.
const FILES: usize = 6;

pub async fn a_slow_file_holds_up_no_other(client: &Client, config: &Config) {
    let space = Space::new(client, "slow").await;
    let port = serve_configz(&space, "mx1").await;
    space.server("mx1").await;
    space.domain("server1.com", "mx1").await;
    let mut files = BTreeSet::from([ShardName::of("server1.com").to_string()]);
    let mut names = (0..).map(|number| format!("box{number}"));
    while files.len() < FILES {
        let name = names.next().unwrap();
        let spec = json!({ "domainRef": { "name": "server1.com" }, "localPart": name });
        space.apply::<Mailbox>(&name, json!({ "spec": spec })).await;
        files.insert(ShardName::of(&format!("{name}@server1.com")).to_string());
    }
    // The first one that is written.
    let slow = format!("mx1-{}", files.pop_first().unwrap());
    let gate = Gate::new();
    gate.hold(Method::PATCH, &format!("/secrets/{slow}"));
    let operator = Operator::start(&gate.before(config, &space), port);
    for file in &files {
        space.exists::<Secret>(&format!("mx1-{file}")).await;
    }
    assert_eq!(gate.held(), (1, 1), "the others did not wait for the slow one");
    assert!(space.get::<Secret>(&slow).await.is_none());
    assert!(space.index("mx1").await.is_none(), "the index speaks of all of them");
    gate.open();
    eventually("the index is written", async || space.index("mx1").await).await;
    assert!(space.get::<Secret>(&slow).await.is_some());
    space.pod("mx1").await;
    space.condition::<Mailbox>("box0", Type::Programmed, "True", "Programmed").await;
    operator.stop().await;
}
