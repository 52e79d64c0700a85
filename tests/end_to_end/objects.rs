//! Objects that are wrong: refused by the API server with our sentence, or accepted, explained in a condition, and
//! recovered once the cause is gone.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use paquebot_tests::endpoint::Login;
use paquebot_tests::kubernetes::{Cluster, PATIENCE, wait};
use paquebot_tests::report::Report;
use paquebot_tests::story::World;
use paquebot_tests::{message, pop3, smtp};

/// Manifests that never get in, each with words of the sentence that says why.
const REFUSED: [(&str, &str, &str); 6] = [
    ("a domain in upper case", "MailDomain", "{domain: Server3.COM, serverRef: {name: mail}}"),
    ("a domain without a dot", "MailDomain", "{domain: localhost, serverRef: {name: mail}}"),
    ("an open relay", "RelayPolicy", "{serverRef: {name: mail}, from: [{cidrs: [0.0.0.0/0]}]}"),
    ("a network that is none", "RelayPolicy", "{serverRef: {name: mail}, from: [{cidrs: [198.51.100.0/99]}]}"),
    ("a local part with two dots in a row", "Mailbox", "{domainRef: {name: server1.com}, localPart: a..b}"),
    (
        "two sources of one password",
        "Mailbox",
        "{domainRef: {name: server1.com}, localPart: a, credentials: {passwordSecretRef: {name: a}, generate: {secretName: b}}}",
    ),
];

/// The API server itself refuses them.
pub fn refused_by_the_api_server(cluster: &Cluster, report: &mut Report) {
    for (title, kind, spec) in REFUSED {
        report.check(&format!("the API server refuses {title}"), || {
            let refusal = cluster.apply(&manifest(kind, "server1", "wrong", spec)).err().context("it was accepted")?;
            let refusal = refusal.to_string();
            let sentence = refusal.split("Invalid value: ").last().unwrap_or(&refusal).trim();
            ensure!(refusal.contains("is invalid"), "{refusal}");
            Ok(sentence.chars().take(160).collect())
        });
    }
    report.check("the API server refuses a domain that changes its name", || {
        let spec = "{domain: other.example, serverRef: {name: mail}}";
        let refusal = cluster.apply(&manifest("MailDomain", "server1", "server1.com", spec)).err();
        let refusal = refusal.context("it was accepted")?.to_string();
        ensure!(refusal.contains("cannot be changed"), "{refusal}");
        Ok("domain cannot be changed".to_owned())
    });
}

/// A Mailbox whose domain is missing says so, and recovers when it comes.
pub fn references(world: &World, report: &mut Report) {
    let cluster = &world.cluster;
    report.check("a Mailbox whose domain is missing says so, and recovers when it comes", || {
        cluster.apply(&manifest(
            "Mailbox",
            "server1",
            "early",
            "{domainRef: {name: late.example}, localPart: early}",
        ))?;
        let missing = cluster.wait_condition("server1", "mailbox/early", "Accepted", "False")?;
        ensure!(missing.reason == "DomainNotFound" && missing.message.contains("late.example"), "{missing:?}");
        let spec = "{domain: late.example, serverRef: {name: mail}, dns: {mode: Disabled}}";
        cluster.apply(&manifest("MailDomain", "server1", "late.example", spec))?;
        cluster.wait_condition("server1", "mailbox/early", "Ready", "True")?;
        cluster.kubectl(&["-n", "server1", "delete", "mailbox/early", "maildomain/late.example"])?;
        Ok(format!("Accepted=False {}: {}", missing.reason, missing.message))
    });
    report.check("a MailDomain of a namespace that its server does not admit says so", || {
        let spec = "{domain: intruder.example, serverRef: {name: mail, namespace: server2}}";
        cluster.apply(&manifest("MailDomain", "printers", "intruder", spec))?;
        let refused = cluster.wait_condition("printers", "maildomain/intruder", "Accepted", "False")?;
        ensure!(refused.reason == "NamespaceNotAllowed", "{refused:?}");
        cluster.kubectl(&["-n", "printers", "delete", "maildomain/intruder"])?;
        Ok(format!("Accepted=False {}: {}", refused.reason, refused.message))
    });
}

/// A field that this release does not honour is never silently ignored.
pub fn fields_of_later_releases(world: &World, report: &mut Report) {
    let cluster = &world.cluster;
    report.check(
        "a field that has no effect yet is named in Accepted, one that would be dangerous to ignore is refused",
        || {
            let spec = "{domain: later.example, serverRef: {name: mail}, dns: {mtaSTS: {mode: Enforce}}}";
            cluster.apply(&manifest("MailDomain", "server1", "later", spec))?;
            let ignored = cluster.wait_condition("server1", "maildomain/later", "Accepted", "True")?;
            ensure!(ignored.message.contains("spec.dns.mtaSTS"), "{ignored:?}");
            let spec = "{domain: later.example, serverRef: {name: mail}, dkim: {mode: Enabled}}";
            cluster.apply(&manifest("MailDomain", "server1", "later", spec))?;
            let refused = cluster.wait_condition("server1", "maildomain/later", "Accepted", "False")?;
            ensure!(refused.reason == "InvalidSpec" && refused.message.contains("dkim"), "{refused:?}");
            cluster.kubectl(&["-n", "server1", "delete", "maildomain/later"])?;
            Ok(format!("{} / {}", ignored.message, refused.message))
        },
    );
}

/// Two objects that claim one name: the older has it.
pub fn conflicts(world: &World, report: &mut Report) {
    let cluster = &world.cluster;
    report.check("a second MailDomain of the same domain loses to the older, and says so", || {
        let spec = "{domain: server1.com, serverRef: {name: mail, namespace: server1}}";
        cluster.apply(&manifest("MailDomain", "printers", "thief", spec))?;
        let loser = cluster.wait_condition("printers", "maildomain/thief", "Accepted", "False")?;
        ensure!(loser.reason == "DomainConflict", "{loser:?}");
        // The winner lives in somebody else's namespace: its name is not told.
        ensure!(!loser.message.contains("server1/"), "{loser:?}");
        cluster.wait_condition("server1", "maildomain/server1.com", "Ready", "True")?;
        cluster.kubectl(&["-n", "printers", "delete", "maildomain/thief"])?;
        Ok(format!("Accepted=False {}: {}", loser.reason, loser.message))
    });
    report.check("a second Mailbox of the same address loses to the older", || {
        let spec = "{domainRef: {name: server1.com}, localPart: anna}";
        cluster.apply(&manifest("Mailbox", "server1", "anna-too", spec))?;
        let loser = cluster.wait_condition("server1", "mailbox/anna-too", "Accepted", "False")?;
        ensure!(loser.reason == "AddressConflict" && loser.message.contains("anna"), "{loser:?}");
        pop3::fetch_all(&world.server1.pop3s(), &world.server1.login("anna"))?;
        cluster.kubectl(&["-n", "server1", "delete", "mailbox/anna-too"])?;
        Ok(format!("Accepted=False {}: {}", loser.reason, loser.message))
    });
}

/// A script sorts a mailbox's mail; a wrong one says where it is wrong, and keeps mail in the inbox.
pub fn filters(world: &World, report: &mut Report) {
    let (cluster, server) = (&world.cluster, &world.server1);
    let mailbox = |filter: &str| {
        let credentials = "credentials: {passwordSecretRef: {name: nina-password}}";
        manifest(
            "Mailbox",
            "server1",
            "nina",
            &format!("{{domainRef: {{name: server1.com}}, localPart: nina, {credentials}{filter}}}"),
        )
    };
    report.check("a script with a mistake says its line and column, and mail is kept", || {
        cluster.apply(&mailbox(", filter: {sieve: \"keep;\\nfileinto \\\"junk\\\";\"}"))?;
        let wrong = cluster.wait_condition("server1", "mailbox/nina", "FilterReady", "False")?;
        ensure!(wrong.reason == "ScriptInvalid" && wrong.message.contains("line 2, column 1"), "{wrong:?}");
        Ok(format!("FilterReady=False {}: {}", wrong.reason, wrong.message))
    });
    report.check(
        "a script in a ConfigMap sorts mail into a folder, which POP3 opens by the login's subaddress",
        || {
            cluster.apply(&mailbox(", filter: {configMapRef: {name: nina-filter, key: script}}"))?;
            let missing = cluster.wait_condition("server1", "mailbox/nina", "FilterReady", "False")?;
            ensure!(missing.reason == "ConfigMapNotFound" && missing.message.contains("nina-filter"), "{missing:?}");
            cluster.apply(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: nina-filter, namespace: server1}\n\
             data:\n  script: |\n    require \"fileinto\";\n    \
             if header :contains \"Subject\" \"offer\" { fileinto \"junk\"; }\n",
            )?;
            cluster.wait_condition("server1", "mailbox/nina", "FilterReady", "True")?;
            cluster.wait_condition("server1", "mailbox/nina", "Programmed", "True")?;
            let nina = server.address("nina");
            let text = message::text("shop@elsewhere.test", &[&nina], "An offer", "offer-1");
            smtp::send(&server.smtp(), None, "shop@elsewhere.test", &[&nina], &text)?;
            let junk = Login::new("nina+junk@server1.com", "nina-password");
            let sorted = wait("the message to be in the folder", PATIENCE, || {
                let found = pop3::take_all(&server.pop3s(), &junk)?;
                ensure!(found.len() == 1, "{} messages are in the folder", found.len());
                Ok(found)
            })?;
            ensure!(sorted[0].ends_with(&text), "it is another message");
            let inbox = pop3::fetch_all(&server.pop3s(), &server.login("nina"))?;
            let strays = inbox.iter().filter(|message| message.windows(8).any(|window| window == b"An offer")).count();
            ensure!(strays == 0, "it is in the inbox too");
            cluster.apply(&mailbox(""))?;
            cluster.kubectl(&["-n", "server1", "delete", "configmap/nina-filter"])?;
            Ok(format!("{} octets in nina's folder junk", sorted[0].len()))
        },
    );
}

/// Passwords: changed ones are picked up, and a broken Secret takes nothing away.
pub fn credentials(world: &World, report: &mut Report) {
    let (cluster, server) = (&world.cluster, &world.server1);
    let logs_in = |password: &str| -> Result<()> {
        let mut client = pop3::Client::connect(&server.pop3s())?;
        client.log_in(&Login::new("nina@server1.com", password))?;
        client.quit()
    };
    report.check("a Secret that lost its key: CredentialsReady=False, and the old password still works", || {
        cluster.kubectl(&[
            "-n",
            "server1",
            "patch",
            "secret/nina-password",
            "--type=json",
            "-p",
            r#"[{"op":"remove","path":"/data/password"},{"op":"add","path":"/data/other","value":"eA=="}]"#,
        ])?;
        let broken = cluster.wait_condition("server1", "mailbox/nina", "CredentialsReady", "False")?;
        ensure!(broken.reason == "SecretKeyMissing" && broken.message.contains("nina-password"), "{broken:?}");
        logs_in("nina-password")?;
        Ok(format!("{}: {}", broken.reason, broken.message))
    });
    report.check("a changed password is picked up, and the old one is refused", || {
        let started = Instant::now();
        cluster.apply(
            "{apiVersion: v1, kind: Secret, metadata: {name: nina-password, namespace: server1}, \
             stringData: {password: another-password}}",
        )?;
        wait("the new password", PATIENCE, || logs_in("another-password"))?;
        let seconds = started.elapsed().as_secs_f64();
        cluster.wait_condition("server1", "mailbox/nina", "CredentialsReady", "True")?;
        ensure!(logs_in("nina-password").is_err(), "the old password still works");
        Ok(format!("effective after {seconds:.2} s"))
    });
    report.check("a mailbox's password is in no object but its Secret", || {
        let everything = cluster.kubectl(&["get", "mail,configmaps,events,statefulsets,pods", "-A", "-o", "yaml"])?;
        // The names of Secrets and of passwords are alike in the examples; this one is unlike any name.
        ensure!(!everything.contains("another-password"), "another-password is to be read in the cluster's objects");
        let logs = cluster.kubectl(&["-n", "server1", "logs", &server.pod()])?;
        ensure!(!logs.contains("another-password"), "another-password is to be read in the server's log");
        let secrets = cluster.get("server1", "secrets")?.to_string();
        let encoded = "YW5vdGhlci1wYXNzd29yZA=="; // base64 of another-password
        ensure!(secrets.matches(encoded).count() == 1, "another-password is in another Secret than its owner's");
        Ok("searched: objects, events, the server's log".to_owned())
    });
}

/// `examples/one-server` is what `make try` runs; it is good on a cluster too.
pub fn one_server_for_both(cluster: &Cluster, report: &mut Report) {
    report.check("examples/one-server: its domains are taken here, and its own server is ready", || {
        cluster.apply_example("one-server")?;
        cluster.wait_condition("mail", "mailserver/mail", "Ready", "True")?;
        for domain in ["server1.com", "server2.com"] {
            let conflict = cluster.wait_condition("mail", &format!("maildomain/{domain}"), "Accepted", "False")?;
            ensure!(conflict.reason == "DomainConflict", "{conflict:?}");
        }
        cluster.delete_namespaces(&["mail"])?;
        Ok("MailServer Ready=True, MailDomains Accepted=False DomainConflict, namespace deleted".to_owned())
    });
}

fn manifest(kind: &str, namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: paquebot.dev/v1alpha1, kind: {kind}, metadata: {{name: {name}, namespace: {namespace}}}, spec: {spec}}}"
    )
}
