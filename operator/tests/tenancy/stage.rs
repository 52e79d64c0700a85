//! The platform and two tenants: namespaces, users, the chart's roles, an operator, a server.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, Role, RoleBinding};
use kube::api::{Api, Patch, PatchParams};
use kube::{Client, Config};
use paquebot_crds::conditions::ConditionType as Type;
use paquebot_crds::{MailAlias, MailDomain, MailServer, Mailbox};
use paquebot_operator::controllers;
use paquebot_operator::controllers::health::Health;
use paquebot_operator::controllers::watches::Scope;
use paquebot_operator::metrics::Metrics;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::world::{Space, serve_configz, settings};

pub const ROLES: [&str; 4] = ["view", "edit", "domain-admin", "platform-admin"];

/// Everything that the scenarios share.
pub struct Stage {
    config: Config,
    pub admin: Client,
    /// The namespace of the server, as its administrators see it.
    pub platform: Space,
    /// The namespaces of the tenants, as their users see them.
    pub good: Space,
    pub hostile: Space,
}

impl Stage {
    pub async fn new(admin: &Client, config: Config) -> Self {
        let platform = Space::new(admin, "platform").await;
        let (good, hostile) = (Space::new(admin, "good").await, Space::new(admin, "hostile").await);
        install_roles(admin).await;
        let mut stage = Self { config, admin: admin.clone(), platform, good, hostile };
        for (user, role, namespace) in [
            ("good", "domain-admin", &stage.good),
            ("hostile", "domain-admin", &stage.hostile),
            // Somebody whom the platform lets make RelayPolicies of their own.
            ("guest", "platform-admin", &stage.hostile),
        ] {
            bind(namespace, user, role).await;
            bind_secrets(namespace, user).await;
        }
        stage.good.client = stage.user("good");
        stage.hostile.client = stage.user("hostile");
        for name in [&stage.platform.name, &stage.good.name, &stage.hostile.name] {
            stage.label(name, "yes").await;
        }
        stage
    }

    /// A client of somebody else.
    pub fn user(&self, name: &str) -> Client {
        let mut config = self.config.clone();
        config.auth_info.impersonate = Some(name.to_owned());
        Client::try_from(config).unwrap()
    }

    pub async fn label(&self, namespace: &str, mail: &str) {
        let patch = json!({ "metadata": { "labels": { "mail": mail } } });
        let api: Api<Namespace> = Api::all(self.admin.clone());
        api.patch(namespace, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    pub async fn start_operator(&self) -> Operator {
        let port = serve_configz(&self.platform, "mx1").await;
        let stop = CancellationToken::new();
        let (health, metrics) = (Arc::new(Health::default()), Arc::new(Metrics::default()));
        let work =
            controllers::run(self.admin.clone(), settings(port), Scope::Cluster, health, metrics, None, stop.clone());
        Operator { stop, task: tokio::spawn(work) }
    }

    /// The server, a domain for everybody, and a tenant who uses both.
    pub async fn furnish(&self) {
        let selector = json!({ "matchLabels": { "mail": "yes" } });
        let spec = json!({ "hostname": "mx1.server1.com", "dns": { "resolvers": ["127.0.0.1:1"] },
            "allowedNamespaces": { "from": "Selector", "selector": selector } });
        self.platform.apply::<MailServer>("mx1", json!({ "spec": spec })).await;
        let spec = json!({ "domain": "shared.example", "serverRef": { "name": "mx1" },
            "allowedNamespaces": { "from": "Selector", "selector": selector }, "limits": { "maxMailboxes": 50 } });
        self.platform.apply::<MailDomain>("shared", json!({ "spec": spec })).await;
        self.domain(&self.good, "good.example").await;
        self.good.secret("anna", "password", "annas-password").await;
        self.good.mailbox("anna", "good.example").await;
        let spec = json!({ "domainRef": self.shared(), "localPart": "anna" });
        self.good.apply::<Mailbox>("shared-anna", json!({ "spec": spec })).await;
        self.domain(&self.hostile, "evil.example").await;
        self.good.condition::<Mailbox>("anna", Type::CredentialsReady, "True", "Hashed").await;
        self.good.condition::<Mailbox>("shared-anna", Type::Accepted, "True", "Accepted").await;
        self.hostile.condition::<MailDomain>("evil.example", Type::Accepted, "True", "Accepted").await;
        let spec = json!({ "domainRef": { "name": "good.example" }, "localPart": "info",
            "targets": [{ "mailboxRef": { "name": "anna" } }] });
        self.good.apply::<MailAlias>("info", json!({ "spec": spec })).await;
        self.good.condition::<MailAlias>("info", Type::Accepted, "True", "Accepted").await;
    }

    async fn domain(&self, tenant: &Space, domain: &str) {
        let server = json!({ "name": "mx1", "namespace": self.platform.name });
        tenant.apply::<MailDomain>(domain, json!({ "spec": { "domain": domain, "serverRef": server } })).await;
    }

    /// A reference to the domain of everybody.
    pub fn shared(&self) -> Value {
        json!({ "name": "shared", "namespace": self.platform.name })
    }
}

/// The operator of all namespaces.
pub struct Operator {
    stop: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), controllers::StartError>>,
}

impl Operator {
    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// The chart's own roles, as `helm install` would make them.
async fn install_roles(admin: &Client) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let rendered = Command::new(root.join("tests/cluster/cluster"))
        .args(["helm", "template", "paquebot"])
        .arg(root.join("charts/paquebot"))
        .args(["--kube-version", "1.34.0", "-s", "templates/tenant-roles.yaml"])
        .output()
        .unwrap();
    assert!(rendered.status.success(), "{}", String::from_utf8_lossy(&rendered.stderr));
    let text = String::from_utf8(rendered.stdout).unwrap();
    let api: Api<ClusterRole> = Api::all(admin.clone());
    let mut made = 0;
    for document in text.split("\n---").filter(|document| document.contains("kind:")) {
        let role: ClusterRole = serde_saphyr::from_str(document.trim_start_matches("---")).unwrap();
        let name = role.metadata.name.clone().unwrap();
        assert!(ROLES.iter().any(|known| name == format!("paquebot-{known}")), "{name}");
        api.patch(&name, &PatchParams::apply("helm").force(), &Patch::Apply(&role)).await.unwrap();
        made += 1;
    }
    assert_eq!(made, ROLES.len());
}

pub async fn bind(space: &Space, user: &str, role: &str) {
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": { "name": format!("{user}-{role}"), "namespace": space.name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": format!("paquebot-{role}") },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
    }))
    .unwrap();
    space.api::<RoleBinding>().create(&Default::default(), &binding).await.unwrap();
}

/// What Kubernetes' own `edit` gives, and ours do not.
async fn bind_secrets(space: &Space, user: &str) {
    let role: Role = serde_json::from_value(json!({
        "metadata": { "name": format!("{user}-secrets"), "namespace": space.name },
        "rules": [{ "apiGroups": [""], "resources": ["secrets", "configmaps"], "verbs": ["*"] }],
    }))
    .unwrap();
    space.api::<Role>().create(&Default::default(), &role).await.unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({
        "metadata": { "name": format!("{user}-secrets"), "namespace": space.name },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": format!("{user}-secrets") },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
    }))
    .unwrap();
    space.api::<RoleBinding>().create(&Default::default(), &binding).await.unwrap();
}
