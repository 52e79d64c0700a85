//! From manifests to a directory that the server's side of the contract reads.

use std::collections::BTreeMap;
use std::fs;

use jiff::Timestamp;
use paquebot_config::{Address, Resolution, directory as contract};

use super::output::{Job, Outcome};
use super::passwords::Passwords;

const STORY: &str = "
apiVersion: paquebot.dev/v1alpha1
kind: MailServer
metadata: {name: mail, namespace: mail}
spec: {hostname: mx.server1.com}
---
apiVersion: paquebot.dev/v1alpha1
kind: MailDomain
metadata: {name: server1.com, namespace: mail}
spec: {domain: server1.com, roles: {postmaster: [{mailboxRef: {name: tom}}]}}
---
apiVersion: paquebot.dev/v1alpha1
kind: MailDomain
metadata: {name: server2.com, namespace: mail}
spec: {domain: server2.com}
---
apiVersion: v1
kind: List
items:
- apiVersion: paquebot.dev/v1alpha1
  kind: Mailbox
  metadata: {name: tom, namespace: mail}
  spec: {domainRef: {name: server1.com}, localPart: tom, credentials: {passwordSecretRef: {name: tom}}}
- apiVersion: paquebot.dev/v1alpha1
  kind: Mailbox
  metadata: {name: anna, namespace: mail}
  spec: {domainRef: {name: server1.com}, localPart: anna}
- apiVersion: paquebot.dev/v1alpha1
  kind: Mailbox
  metadata: {name: jack, namespace: mail}
  spec: {domainRef: {name: server2.com}, localPart: jack}
---
apiVersion: v1
kind: Secret
metadata: {name: tom, namespace: mail}
stringData: {password: tom-password}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: other, namespace: mail}
";

struct Scene {
    directory: tempfile::TempDir,
}

impl Scene {
    fn new(manifests: &str) -> Self {
        let scene = Self { directory: tempfile::tempdir().unwrap() };
        fs::create_dir_all(scene.directory.path().join("manifests/deeper")).unwrap();
        scene.write(manifests);
        scene
    }

    fn write(&self, manifests: &str) {
        fs::write(self.directory.path().join("manifests/deeper/all.yaml"), manifests).unwrap();
    }

    fn job(&self) -> Job {
        Job {
            manifests: self.directory.path().join("manifests"),
            out: Some(self.directory.path().join("out")),
            server: None,
            ports: BTreeMap::new(),
            strict: false,
        }
    }

    async fn run(&self, job: &Job) -> Result<Outcome, String> {
        let files = job.read().map_err(|error| error.to_string())?;
        job.run(&files, &mut Passwords::new(1), Timestamp::now()).await.map_err(|error| error.to_string())
    }

    fn read(&self) -> paquebot_config::Configuration {
        contract::read(&self.directory.path().join("out"), "0.1.0").unwrap()
    }

    fn file(&self, name: &str) -> Vec<u8> {
        fs::read(self.directory.path().join("out").join(name)).unwrap()
    }
}

#[tokio::test]
async fn the_story_becomes_a_configuration_that_is_read_back() {
    let scene = Scene::new(STORY);
    let mut job = scene.job();
    job.ports.insert("smtp".to_owned(), 2525);
    let outcome = scene.run(&job).await.unwrap();
    assert_eq!(outcome.problems, []);
    assert_eq!(outcome.skipped.len(), 1, "the Deployment: {:?}", outcome.skipped);
    let read = scene.read();
    assert_eq!(read.counts(), (2, 3, 1), "domains, mailboxes, and the alias of the role");
    let ports: Vec<u16> = read.server.listeners.iter().map(|listener| listener.port).collect();
    assert_eq!(ports, [2525, 2587, 2465, 2110, 2995], "one was given, the others are those of a container");
    let tom = read.mailbox(&Address::parse("tom@server1.com").unwrap()).unwrap();
    assert!(tom.verifiers[0].expose().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
    let postmaster = Address::parse("postmaster@server1.com").unwrap();
    assert!(matches!(read.resolve(&postmaster), Resolution::Alias(alias) if alias.targets == [tom.address.clone()]));
    let all: Vec<u8> = contract_files(&scene);
    assert!(!String::from_utf8_lossy(&all).contains("tom-password"), "no clear password leaves the manifests");
}

fn contract_files(scene: &Scene) -> Vec<u8> {
    let files = fs::read_dir(scene.directory.path().join("out")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.is_file()).flat_map(|path| fs::read(path).unwrap()).collect()
}

#[tokio::test]
async fn a_second_run_over_the_same_manifests_changes_nothing() {
    let scene = Scene::new(STORY);
    scene.run(&scene.job()).await.unwrap();
    let before = (scene.file("index.json"), scene.file("tls/tls.crt"), scene.file("tls/tls.key"));
    scene.run(&scene.job()).await.unwrap();
    assert!(before == (scene.file("index.json"), scene.file("tls/tls.crt"), scene.file("tls/tls.key")));
}

#[tokio::test]
async fn a_changed_password_is_picked_up() {
    let scene = Scene::new(STORY);
    scene.run(&scene.job()).await.unwrap();
    let tom = Address::parse("tom@server1.com").unwrap();
    let before = scene.read().mailbox(&tom).unwrap().verifiers.clone();
    scene.write(&STORY.replace("tom-password", "another"));
    scene.run(&scene.job()).await.unwrap();
    assert_ne!(scene.read().mailbox(&tom).unwrap().verifiers, before);
}

#[tokio::test]
async fn what_is_refused_is_said_and_the_rest_is_written() {
    let scene =
        Scene::new(&STORY.replace("localPart: anna", "localPart: Anna").replace("name: tom}}}", "name: nobody}}}"));
    let outcome = scene.run(&scene.job()).await.unwrap();
    let problems: Vec<String> = outcome.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 2, "{problems:#?}");
    assert!(
        problems[0].contains("Mailbox mail/anna: Invalid: spec.localPart: write the part before the @"),
        "{problems:#?}"
    );
    assert!(problems[1].contains("Mailbox mail/tom: SecretNotFound: "), "{problems:#?}");
    assert_eq!(scene.read().counts(), (2, 2, 1));
}

#[tokio::test]
async fn strict_writes_nothing_if_anything_is_refused() {
    let scene = Scene::new(&STORY.replace("localPart: anna", "localPart: Anna"));
    let outcome = scene.run(&Job { strict: true, ..scene.job() }).await.unwrap();
    assert_eq!(outcome.written, None);
    assert!(!scene.directory.path().join("out").exists());
}

#[tokio::test]
async fn what_cannot_be_compiled_says_why_and_leaves_the_last_good_state() {
    let scene = Scene::new(STORY);
    scene.run(&scene.job()).await.unwrap();
    let before = scene.file("index.json");
    let second = "\n---\napiVersion: paquebot.dev/v1alpha1\nkind: MailServer\nmetadata: {name: two, namespace: b}\nspec: {hostname: b.example}\n";
    let table = [
        ("a file that is not YAML", STORY.replace("{password: tom-password}", "{password: tom-password"), "not YAML"),
        ("a MailServer that an API server would refuse", STORY.replace("mx.server1.com", "MX"), "spec.hostname: "),
        ("no MailServer", STORY.replace("kind: MailServer", "kind: MailAlias"), "no MailServer"),
        ("two MailServers", format!("{STORY}{second}"), "choose one with --server"),
        (
            "a MailServer that is refused",
            STORY
                .replace("{hostname: mx.server1.com}", "{hostname: mx.server1.com, outbound: {dane: {mode: Enabled}}}"),
            "not accepted",
        ),
    ];
    for (sentence, manifests, message) in table {
        scene.write(&manifests);
        let error = scene.run(&scene.job()).await.unwrap_err();
        assert!(error.contains(message), "{sentence}: {error}");
        assert!(!error.contains("tom-password"), "{sentence}: {error}");
        assert_eq!(scene.file("index.json"), before, "{sentence}");
    }
}

#[tokio::test]
async fn what_an_api_server_would_refuse_is_refused() {
    let table = [
        ("an unknown field of the spec", "localPart: anna}", "localPart: anna, quotta: 1Gi}", "quotta"),
        (
            "an unknown field beside the spec",
            "kind: MailServer",
            "kind: MailServer\nspce: {}",
            "spce: there is no such field",
        ),
        ("a missing name", "metadata: {name: anna, ", "metadata: {", "metadata.name: "),
        ("a bad namespace", "{name: anna, namespace: mail}", "{name: anna, namespace: Mail}", "metadata.namespace: "),
        (
            "a kind that is none",
            "kind: MailDomain\nmetadata: {name: server2.com",
            "kind: MailDomian\nmetadata: {name: server2.com",
            "no such kind",
        ),
        (
            "another version",
            "paquebot.dev/v1alpha1\nkind: MailDomain",
            "paquebot.dev/v9\nkind: MailDomain",
            "write paquebot.dev/v1alpha1",
        ),
        (
            "a Secret that is none",
            "stringData: {password: tom-password}",
            "stringData: tom-password",
            "stringData a map of texts",
        ),
        ("a local part in upper case", "localPart: anna", "localPart: Anna", "spec.localPart: "),
    ];
    for (sentence, from, to, expected) in table {
        assert!(STORY.contains(from), "{sentence}");
        let scene = Scene::new(&STORY.replacen(from, to, 1));
        let outcome = scene.run(&Job { out: None, ..scene.job() }).await.unwrap();
        let problems: Vec<String> = outcome.problems.iter().map(ToString::to_string).collect();
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{sentence}: {problems:#?}");
    }
}

#[tokio::test]
async fn several_servers_are_checked_together() {
    let second = STORY
        .replace("namespace: mail", "namespace: two")
        .replace("server1.com", "server3.com")
        .replace("server2.com", "server4.com");
    let named =
        format!("{STORY}\n---\n{second}").replace("spec: {domain: ", "spec: {serverRef: {name: mail}, domain: ");
    let scene = Scene::new(&named);
    let outcome = scene.run(&Job { out: None, ..scene.job() }).await.unwrap();
    assert_eq!(outcome.problems, []);
    assert_eq!(outcome.accepted.len(), 12);
}
