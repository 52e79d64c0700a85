//! Logins of smart hosts: from the Secret that somebody else keeps to the server's own, and nowhere else.

use http::Method;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams};
use kube::{Client, Config};
use paquebot_config::{RelayRule, Secrets};
use paquebot_crds::conditions::ConditionType as Type;
use paquebot_crds::{MailDomain, MailServer, RelayPolicy};
use serde_json::{Value, json};

use crate::support::gate::Gate;
use crate::world::{Operator, Space, eventually, serve_configz};

async fn login(space: &Space, name: &str, password: &str) {
    let data = json!({ "stringData": { "username": "app", "password": password } });
    space.apply::<Secret>(name, data).await;
}

/// The logins that were written for the server, as `name password`.
async fn written(space: &Space) -> Vec<String> {
    let secret: Option<Secret> = space.get("mx1-secrets").await;
    let Some(bytes) = secret.and_then(|secret| secret.data?.remove("secrets.json")) else { return Vec::new() };
    let secrets: Secrets = serde_json::from_slice(&bytes.0).unwrap();
    secrets.logins.into_iter().map(|(name, login)| format!("{name} {}", login.password.expose())).collect()
}

async fn until_written(space: &Space, wanted: &[String]) {
    eventually(&format!("the logins are {wanted:?}"), async || (written(space).await == wanted).then_some(())).await;
}

/// The smart host of each rule that was written for the server.
async fn upstreams(space: &Space) -> Vec<Option<String>> {
    let config: Option<ConfigMap> = space.get("mx1-config").await;
    let Some(text) = config.and_then(|config| config.data?.remove("relay.json")) else { return Vec::new() };
    let rules: Vec<RelayRule> = serde_json::from_str(&text).unwrap();
    rules.into_iter().map(|rule| rule.upstream.map(|host| host.host.to_string())).collect()
}

fn server(smart_host: &Value) -> Value {
    let outbound = if smart_host.is_null() { json!({}) } else { json!({ "smartHost": smart_host }) };
    json!({ "spec": { "hostname": "mx1.server1.com", "dns": { "resolvers": ["127.0.0.1:1"] }, "outbound": outbound } })
}

pub async fn logins_follow_their_secrets(client: &Client) {
    let space = Space::new(client, "smart").await;
    let port = serve_configz(&space, "mx1").await;
    let operator = Operator::start(&space, port);
    // The server does without its login, and nobody's change waits for it.
    let smart_host = json!({ "host": "smart.provider.example", "credentialsSecretRef": { "name": "of-server" } });
    space.apply::<MailServer>("mx1", server(&smart_host)).await;
    let words = space.condition::<MailServer>("mx1", Type::Accepted, "False", "SecretNotFound").await;
    assert!(words.contains("of-server") && words.contains("waits in the queue"), "{words}");
    space.pod("mx1").await;
    space.domain("server1.com", "mx1").await;
    space.condition::<MailDomain>("server1.com", Type::Ready, "True", "Ready").await;
    login(&space, "of-server", "server-first").await;
    space.condition::<MailServer>("mx1", Type::Ready, "True", "Ready").await;
    let of_server = |password: &str| format!("smart-host of-server {password}");
    until_written(&space, &[of_server("server-first")]).await;

    // A policy without its login is not in force.
    let upstream = json!({ "smartHost": "policy.provider.example", "credentialsSecretRef": { "name": "of-policy" } });
    let policy =
        json!({ "serverRef": { "name": "mx1" }, "from": [{ "cidrs": ["192.0.2.0/24"] }], "upstream": upstream });
    space.apply::<RelayPolicy>("office", json!({ "spec": policy })).await;
    let words = space.condition::<RelayPolicy>("office", Type::Ready, "False", "SecretNotFound").await;
    assert!(words.contains("of-policy") && words.contains("nothing of the policy is in force"), "{words}");
    assert_eq!(upstreams(&space).await, []);
    space.secret("of-policy", "username", "app").await;
    let words = space.condition::<RelayPolicy>("office", Type::Ready, "False", "SecretKeyMissing").await;
    assert!(words.contains("no key password"), "{words}");
    login(&space, "of-policy", "policy-first").await;
    space.condition::<RelayPolicy>("office", Type::Ready, "True", "Ready").await;
    assert_eq!(upstreams(&space).await, [Some("policy.provider.example".to_owned())]);
    let of_policy = |password: &str| format!("{}/office of-policy {password}", space.name);
    until_written(&space, &[of_policy("policy-first"), of_server("server-first")]).await;

    // Rotation.
    login(&space, "of-policy", "policy-second").await;
    login(&space, "of-server", "server-second").await;
    let second = [of_policy("policy-second"), of_server("server-second")];
    until_written(&space, &second).await;

    // What went meanwhile keeps working, also over a restart.
    space.api::<Secret>().delete("of-policy", &DeleteParams::default()).await.unwrap();
    let words = space.condition::<RelayPolicy>("office", Type::Ready, "False", "SecretNotFound").await;
    assert!(words.contains("last good login stays"), "{words}");
    operator.stop().await;
    let operator = Operator::start(&space, port);
    space.domain("server2.com", "mx1").await;
    space.condition::<MailDomain>("server2.com", Type::Ready, "True", "Ready").await;
    assert_eq!(written(&space).await, second);
    let words = space.condition::<RelayPolicy>("office", Type::Ready, "False", "SecretNotFound").await;
    assert!(words.contains("last good login stays"), "{words}");
    login(&space, "of-policy", "policy-third").await;
    space.condition::<RelayPolicy>("office", Type::Ready, "True", "Ready").await;
    until_written(&space, &[of_policy("policy-third"), of_server("server-second")]).await;

    nobody_else_was_told(&space).await;

    // Nothing is left of logins that nobody names.
    space.api::<RelayPolicy>().delete("office", &DeleteParams::default()).await.unwrap();
    space.apply::<MailServer>("mx1", server(&Value::Null)).await;
    eventually("the Secret is deleted", async || space.get::<Secret>("mx1-secrets").await.is_none().then_some(()))
        .await;
    operator.stop().await;
}

/// A policy names another Secret, which cannot be read, and then the first one again.
pub async fn a_login_that_is_named_again_is_read_again(client: &Client, config: &Config) {
    let space = Space::new(client, "named-again").await;
    let port = serve_configz(&space, "mx1").await;
    let gate = Gate::new();
    let operator = Operator::start(&gate.before(config, &space), port);
    login(&space, "first", "password-first").await;
    login(&space, "second", "password-second").await;
    space.apply::<MailServer>("mx1", server(&Value::Null)).await;
    let naming = |secret: &str| {
        let upstream = json!({ "smartHost": "policy.provider.example", "credentialsSecretRef": { "name": secret } });
        let from = json!([{ "cidrs": ["192.0.2.0/24"] }]);
        json!({ "spec": { "serverRef": { "name": "mx1" }, "from": from, "upstream": upstream } })
    };
    space.apply::<RelayPolicy>("office", naming("first")).await;
    let first = [format!("{}/office first password-first", space.name)];
    until_written(&space, &first).await;
    gate.refuse(Method::GET, "/secrets/second");
    space.apply::<RelayPolicy>("office", naming("second")).await;
    space.condition::<RelayPolicy>("office", Type::Accepted, "Unknown", "Pending").await;
    until_written(&space, &[]).await;
    space.apply::<RelayPolicy>("office", naming("first")).await;
    space.condition::<RelayPolicy>("office", Type::Accepted, "True", "Accepted").await;
    until_written(&space, &first).await;
    operator.stop().await;
}

/// The authorities of clients' certificates, and what is said while they are missing.
pub async fn authorities_follow_their_secret(client: &Client) {
    let space = Space::new(client, "authorities").await;
    let port = serve_configz(&space, "mx1").await;
    let operator = Operator::start(&space, port);
    let tls = json!({ "clientCASecretRef": { "name": "authorities" } });
    let spec = json!({ "hostname": "mx1.server1.com", "dns": { "resolvers": ["127.0.0.1:1"] }, "tls": tls });
    space.apply::<MailServer>("mx1", json!({ "spec": spec })).await;
    let words = space.condition::<MailServer>("mx1", Type::Accepted, "False", "SecretNotFound").await;
    assert!(words.contains("authorities") && words.contains("no client is asked"), "{words}");
    space.pod("mx1").await;
    let from = json!([{ "clientCertificates": [{ "sanDNS": "app.example.com" }] }]);
    let policy = json!({ "serverRef": { "name": "mx1" }, "from": from });
    space.apply::<RelayPolicy>("apps", json!({ "spec": policy })).await;
    space.condition::<RelayPolicy>("apps", Type::Ready, "True", "Ready").await;

    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap().pem();
    space.secret("authorities", "ca.crt", &format!("{certificate}{}", key.serialize_pem())).await;
    space.condition::<MailServer>("mx1", Type::Ready, "True", "Ready").await;
    let told = eventually("the server is told the authorities", async || {
        let config: ConfigMap = space.get("mx1-config").await?;
        let text = config.data?.remove("server.json")?;
        let server: paquebot_config::ServerConfig = serde_json::from_str(&text).unwrap();
        server.tls.client_authorities
    })
    .await;
    assert!(told.contains("BEGIN CERTIFICATE") && !told.contains("PRIVATE"), "{told}");

    // The Secret goes, and what it held stays, also over a restart.
    space.api::<Secret>().delete("authorities", &DeleteParams::default()).await.unwrap();
    let words = space.condition::<MailServer>("mx1", Type::Accepted, "False", "SecretNotFound").await;
    assert!(words.contains("last good authorities stay"), "{words}");
    operator.stop().await;
    let operator = Operator::start(&space, port);
    space.domain("server1.com", "mx1").await;
    space.condition::<MailDomain>("server1.com", Type::Ready, "True", "Ready").await;
    let words = space.condition::<MailServer>("mx1", Type::Accepted, "False", "SecretNotFound").await;
    assert!(words.contains("last good authorities stay"), "{words}");
    let config: ConfigMap = space.exists("mx1-config").await;
    assert!(config.data.unwrap()["server.json"].contains("BEGIN CERTIFICATE"));

    // Another Secret is named, which is not there, while nothing is written: what the first one held does not come back.
    let naming_another = |paused: bool| {
        let tls = json!({ "clientCASecretRef": { "name": "others" } });
        let dns = json!({ "resolvers": ["127.0.0.1:1"] });
        let operations = json!({ "paused": paused });
        json!({ "spec": { "hostname": "mx1.server1.com", "dns": dns, "tls": tls, "operations": operations } })
    };
    space.apply::<MailServer>("mx1", naming_another(true)).await;
    let nobody_is_asked = async || {
        let words = space.condition::<MailServer>("mx1", Type::Accepted, "False", "SecretNotFound").await;
        words.contains("others") && words.contains("no client is asked")
    };
    eventually("the new Secret is missed", async || nobody_is_asked().await.then_some(())).await;
    operator.stop().await;
    let operator = Operator::start(&space, port);
    space.domain("server2.com", "mx1").await;
    space.condition::<MailDomain>("server2.com", Type::Accepted, "True", "Accepted").await;
    space.apply::<MailServer>("mx1", naming_another(false)).await;
    eventually("no client is asked any more", async || {
        let config: ConfigMap = space.get("mx1-config").await?;
        (!config.data?["server.json"].contains("BEGIN CERTIFICATE")).then_some(())
    })
    .await;
    assert!(nobody_is_asked().await);
    operator.stop().await;
}

/// No status, event or ConfigMap holds a password.
async fn nobody_else_was_told(space: &Space) {
    let list = ListParams::default();
    let mut all = serde_json::to_string(&space.api::<Event>().list(&list).await.unwrap().items).unwrap();
    all += &serde_json::to_string(&space.api::<ConfigMap>().list(&list).await.unwrap().items).unwrap();
    all += &serde_json::to_string(&space.api::<RelayPolicy>().list(&list).await.unwrap().items).unwrap();
    all += &serde_json::to_string(&space.api::<MailServer>().list(&list).await.unwrap().items).unwrap();
    for password in ["policy-first", "policy-second", "policy-third", "server-first", "server-second"] {
        assert!(!all.contains(password), "{password} was told");
    }
}
