//! A world for one run or several after one another: a namespace, its pods, and what the people in it do.

use std::sync::Arc;
use std::time::{Duration, Instant};

use argon2::PasswordHasher;
use k8s_openapi::api::core::v1::Secret;
use kube::Config;
use kube::api::{DeleteParams, ListParams};
use paquebot_crds::conditions::ConditionType as Type;
use paquebot_crds::{MailAlias, MailServer, Mailbox, RelayPolicy};
use paquebot_operator::controllers::health::Health;
use serde_json::json;

use crate::dump::Dump;
use crate::layer::{Faults, Memory};
use crate::operator::Operator;
use crate::plan::Plan;
use crate::pods::{Pods, SERVER};
use crate::secrets::{Needle, take_log};
use crate::support::world::{Space, eventually};

/// How long a world may take to come to rest; the machine may be slow.
pub const PATIENCE: Duration = Duration::from_secs(90);
/// A world in which nothing was written for so long is at rest.
const REST: Duration = Duration::from_millis(1500);

pub struct Stage {
    pub space: Space,
    pub pods: Pods,
    pub memory: Arc<Memory>,
    config: Config,
    needles: Vec<Needle>,
}

/// Clear texts that a person chose; each begins so, and no two are the same.
fn password(namespace: &str, of: &str, round: usize) -> String {
    format!("open-sesame-{of}-{round}-{namespace}")
}

impl Stage {
    pub async fn new(config: &Config, name: &str) -> Self {
        let client = kube::Client::try_from(config.clone()).unwrap();
        let space = Space::new(&client, &format!("faults-{name}")).await;
        let pods = Pods::start(&space).await;
        Self { space, pods, memory: Arc::default(), config: config.clone(), needles: Vec::new() }
    }

    pub fn operator(&self, plan: Plan) -> Operator {
        self.operator_with(plan, Health::default())
    }

    /// One whose liveness has limits of its own.
    pub fn operator_with(&self, plan: Plan, health: Health) -> Operator {
        let faults = Faults::new(plan, Arc::clone(&self.memory));
        Operator::start(&self.config, &self.space.name, self.pods.port, faults, health)
    }

    /// What a person applies at first: a server, a domain, mailboxes with each kind of credentials, an alias, a policy.
    pub async fn install(&mut self) {
        self.set_password("anna", 0).await;
        self.set_hash("kim", 0).await;
        self.space.server(SERVER).await;
        self.space.domain("server1.com", SERVER).await;
        self.space.mailbox("anna", "server1.com").await;
        self.mailbox("kim", "kim", json!({ "passwordHashSecretRef": { "name": "kim", "key": "hash" } })).await;
        self.mailbox("jack", "jack", json!({ "generate": { "secretName": "jack-access" } })).await;
        let target = json!({ "mailboxRef": { "name": "anna" } });
        let alias = json!({ "domainRef": { "name": "server1.com" }, "localPart": "info", "targets": [target] });
        self.space.apply::<MailAlias>("info", json!({ "spec": alias })).await;
        self.policy("192.0.2.0/24").await;
    }

    pub async fn policy(&self, cidr: &str) {
        let policy = json!({ "serverRef": { "name": SERVER }, "from": [{ "cidrs": [cidr] }] });
        self.space.apply::<RelayPolicy>("office", json!({ "spec": policy })).await;
    }

    /// A policy whose mail goes to a smart host.
    pub async fn policy_with_smart_host(&self) {
        let upstream = json!({ "smartHost": "smart.provider.example", "credentialsSecretRef": { "name": "upstream" } });
        let from = json!([{ "cidrs": ["203.0.113.0/24"] }]);
        let policy = json!({ "serverRef": { "name": SERVER }, "from": from, "upstream": upstream });
        self.space.apply::<RelayPolicy>("branch", json!({ "spec": policy })).await;
    }

    /// The login at the smart host. The server has it as well.
    pub async fn set_login(&mut self, round: usize) {
        let clear = password(&self.space.name, "upstream", round);
        let data = json!({ "stringData": { "username": "app", "password": clear } });
        self.space.apply::<Secret>("upstream", data).await;
        self.needles.push(Needle::new(&format!("login {round}"), &clear, &["upstream", "mx1-secrets"]));
    }

    /// How the server has its domains' records published.
    pub async fn dns_mode(&self, mode: &str) {
        let dns = json!({ "resolvers": ["127.0.0.1:1"], "mode": mode });
        let spec = json!({ "hostname": format!("{SERVER}.server1.com"), "dns": dns });
        self.space.apply::<MailServer>(SERVER, json!({ "spec": spec })).await;
    }

    /// A mailbox whose mail goes with it.
    pub async fn mailbox_to_erase(&self, name: &str) {
        let spec = json!({ "domainRef": { "name": "server1.com" }, "localPart": name, "reclaimPolicy": "Delete" });
        self.space.apply::<Mailbox>(name, json!({ "spec": spec })).await;
    }

    pub async fn mailbox(&self, name: &str, local_part: &str, credentials: serde_json::Value) {
        let spec = json!({
            "domainRef": { "name": "server1.com" }, "localPart": local_part, "credentials": credentials,
        });
        self.space.apply::<Mailbox>(name, json!({ "spec": spec })).await;
    }

    pub async fn set_password(&mut self, of: &str, round: usize) {
        let clear = password(&self.space.name, of, round);
        self.space.secret(of, "password", &clear).await;
        self.needles.push(Needle::new(&format!("password {round} of {of}"), &clear, &[of]));
    }

    /// A hash that somebody else has made, cheaply.
    pub async fn set_hash(&mut self, of: &str, round: usize) {
        let clear = password(&self.space.name, of, round);
        let parameters = argon2::Params::new(8, 1, 1, None).unwrap();
        let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, parameters);
        let salt = format!("salt of round {round:04}");
        let hash = argon2.hash_password_with_salt(clear.as_bytes(), salt.as_bytes()).unwrap();
        self.space.secret(of, "hash", &hash.to_string()).await;
    }

    pub async fn delete<K>(&self, name: &str)
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        self.space.api::<K>().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// Waits until an operator knows what is there.
    pub async fn knows(&self, operator: &Operator) {
        eventually("the operator has made a pass", async || {
            (operator.health.unreadiness().is_none() && operator.metrics.passes.get() > 0).then_some(())
        })
        .await;
    }

    /// Waits until the world is as in an undisturbed run.
    pub async fn reaches(&self, wanted: &Dump, operators: &[&Operator]) -> Result<(), String> {
        let begin = Instant::now();
        let mut written: Vec<_> = operators.iter().map(|operator| operator.faults.written()).collect();
        loop {
            written.iter_mut().for_each(|written| drop(written.borrow_and_update()));
            let there = Dump::of(&self.space).await.map_err(|error| error.to_string())?;
            let differences = wanted.differences(&there);
            if differences.is_empty() {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                let said = self.last_words();
                return Err(format!("another end state: {}\n  {said}", differences.join("\n    ")));
            }
            let changes = written.iter_mut().map(|written| Box::pin(written.changed()));
            let _ = tokio::time::timeout(Duration::from_millis(400), futures::future::select_all(changes)).await;
        }
    }

    /// Waits until the world is right and nothing is written any more; that is the end state of an undisturbed run.
    pub async fn rests(&self, operators: &[&Operator]) -> Result<Dump, String> {
        let begin = Instant::now();
        let mut wrong = Vec::new();
        loop {
            if begin.elapsed() > PATIENCE {
                let last: Vec<String> = operators.iter().flat_map(|operator| operator.faults.writes()).collect();
                let last = &last[last.len().saturating_sub(12)..];
                return Err(format!(
                    "it does not come to rest; the last writes are {last:?}; {}",
                    wrong.join("\n    ")
                ));
            }
            let mut quiet = true;
            for operator in operators {
                let mut written = operator.faults.written();
                written.borrow_and_update();
                quiet &= tokio::time::timeout(REST, written.changed()).await.is_err();
            }
            if quiet {
                let dump = Dump::of(&self.space).await.map_err(|error| error.to_string())?;
                wrong = dump.wrong();
                wrong.extend(self.unfinished().await);
                if wrong.is_empty() {
                    return Ok(dump);
                }
            }
        }
    }

    /// What of a server's status is still to be written: some seconds after its pods are ready its ports are looked at, and
    /// some seconds after a change it is told how many pods serve the newest configuration.
    async fn unfinished(&self) -> Option<String> {
        let server: MailServer = self.space.get(SERVER).await?;
        let status = server.status.unwrap_or_default();
        let probed = status.conditions.iter().any(|condition| condition.type_ == Type::RelayClosed.as_str());
        let index = self.space.index(SERVER).await?;
        let told = status.configuration.is_some_and(|configuration| {
            configuration.revision == index.revision.as_str()
                && configuration.replicas_programmed == status.ready_replicas
        });
        (!probed || !told).then(|| format!("{SERVER} was probed: {probed}, tells of the newest revision: {told}"))
    }

    /// What the operators logged last of themselves.
    fn last_words(&self) -> String {
        let log = take_log(&self.space.name);
        let own: Vec<&str> = log.lines().filter(|line| line.contains(" paquebot_operator")).collect();
        own[own.len().saturating_sub(30)..].join("\n  ")
    }

    /// The Secrets that are made once and never again, as they are now.
    pub async fn made_once(&self) -> Vec<(String, String)> {
        let secrets = self.space.api::<Secret>().list(&ListParams::default()).await.unwrap();
        let once = secrets.into_iter().filter_map(|secret| {
            let name = secret.metadata.name?;
            let kept = [format!("{SERVER}-keys"), format!("{SERVER}-tls"), "jack-access".to_owned()].contains(&name);
            kept.then(|| (name, format!("{:?}", secret.data)))
        });
        once.collect()
    }

    /// Looks for each clear text in everything that the operators sent, received, logged and counted.
    pub async fn leaks(&self, operators: &[(&Faults, String)]) -> Vec<String> {
        let mut needles = self.needles.clone();
        for (name, keys) in [("jack-access", &["password"][..]), ("mx1-keys", &["token", "srs"])] {
            let secret: Option<Secret> = self.space.get(name).await;
            let data = secret.and_then(|secret| secret.data).unwrap_or_default();
            for key in keys.iter().filter_map(|key| Some((key, data.get(*key)?))) {
                let clear = String::from_utf8(key.1.0.clone()).unwrap();
                needles.push(Needle::new(&format!("{} of {name}", key.0), &clear, &[name]));
            }
        }
        let log = take_log(&self.space.name);
        let mut found = Vec::new();
        for needle in &needles {
            if needle.is_in(&log) {
                let line = log.lines().find(|line| needle.is_in(line)).unwrap_or_default();
                found.push(format!("{} is in the log: {line}", needle.what));
            }
            for (faults, metrics) in operators {
                if needle.is_in(metrics) {
                    found.push(format!("{} is in the metrics", needle.what));
                }
                faults.each(|exchange| {
                    let holds = |bytes: &[u8]| needle.is_in(&String::from_utf8_lossy(bytes));
                    if !needle.may_pass(&exchange.name) && (holds(&exchange.sent) || holds(&exchange.received)) {
                        found.push(format!("{} is in {}", needle.what, exchange.name));
                    }
                });
            }
        }
        found
    }
}
