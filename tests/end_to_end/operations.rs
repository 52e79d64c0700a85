//! What administrators do while mail flows: a server's pods are replaced, the operator starts anew, a server is stopped and
//! started, mail goes with its mailbox or stays, a certificate is renewed.

use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use paquebot_tests::endpoint::Login;
use paquebot_tests::forward::Forward;
use paquebot_tests::kubernetes::{PATIENCE, wait};
use paquebot_tests::report::Report;
use paquebot_tests::story::{self, World};
use paquebot_tests::{message, pop3, smtp};

use crate::failures::{AFTER, BEFORE, Load, SENDERS, check_nothing_lost, configz, send_until_stopped};

/// Runs something in the middle of a load, and waits until as much again was accepted after it.
fn under_load(world: &World, load: &Load, act: impl FnOnce() -> Result<String>) -> Result<String> {
    let server = &world.server1;
    pop3::take_all(&server.pop3s(), &server.login("anna"))?;
    thread::scope(|scope| {
        for number in 0..SENDERS {
            scope.spawn(move || send_until_stopped(load, server, number));
        }
        let outcome = (|| {
            let at_least = |count: usize| {
                wait("the load to run", PATIENCE, || {
                    ensure!(load.accepted() >= count, "{} accepted", load.accepted());
                    Ok(())
                })
            };
            at_least(BEFORE)?;
            let saw = act()?;
            at_least(load.accepted() + AFTER)?;
            Ok(saw)
        })();
        load.stop.store(true, Ordering::Relaxed);
        outcome
    })
}

/// What tells one pod from the next: its uid, and how often its container was started again.
fn pod_identity(world: &World) -> Result<(String, u64)> {
    let server = &world.server1;
    let pod = world.cluster.get(server.namespace, &format!("pod/{}", server.pod()))?;
    let uid = pod.pointer("/metadata/uid").and_then(|uid| uid.as_str()).context("no uid")?.to_owned();
    let restarts = pod.pointer("/status/containerStatuses/0/restartCount").and_then(serde_json::Value::as_u64);
    Ok((uid, restarts.unwrap_or_default()))
}

fn patch_server(world: &World, patch: &str) -> Result<()> {
    let server = &world.server1;
    world.cluster.kubectl(&["-n", server.namespace, "patch", "mailserver/mail", "--type=merge", "-p", patch]).map(drop)
}

/// A change of the pod template replaces the pod: sessions end in order, and senders come again.
pub fn rolling_upgrade(world: &World, report: &mut Report) {
    let load = Load::default();
    let outcome = report.step("the server's pod is replaced in the middle of a load", || {
        under_load(world, &load, || {
            let (before, _) = pod_identity(world)?;
            let stamp = format!("{{\"example.test/rolled\": \"{}\"}}", std::process::id());
            let started = Instant::now();
            patch_server(
                world,
                &format!("{{\"spec\": {{\"podTemplate\": {{\"metadata\": {{\"annotations\": {stamp}}}}}}}}}"),
            )?;
            wait("another pod", PATIENCE, || {
                let (uid, _) = pod_identity(world)?;
                ensure!(uid != before, "it is the same pod");
                Ok(())
            })?;
            // The old pod has ended: no session goes through the old forwarded port any more.
            world.server1.reconnect();
            world.cluster.wait_condition("server1", "mailserver/mail", "Available", "True")?;
            world.cluster.wait_condition("server1", "mailserver/mail", "Progressing", "False")?;
            reconnected(world)?;
            Ok(format!("another pod serves after {:.1} s", started.elapsed().as_secs_f64()))
        })
        .map(|saw| ((), saw))
    });
    report.check("nothing was lost, nothing doubled, and no session was cut in DATA", || {
        outcome?;
        ensure!(load.cut() == 0, "{} sessions were cut between 354 and the reply", load.cut());
        check_nothing_lost(&world.server1, &load)
    });
}

/// The forwarded port may have found no pod yet.
fn reconnected(world: &World) -> Result<()> {
    let server = &world.server1;
    wait("the new pod to be reached", PATIENCE, || match smtp::Client::connect(&server.smtp()) {
        Ok(client) => client.quit(),
        Err(error) => {
            server.reconnect();
            Err(error)
        }
    })
}

/// The operator is no part of the way of a message.
pub fn operator_restarts_under_load(world: &World, report: &mut Report) {
    let (cluster, load) = (&world.cluster, Load::default());
    report.check("the operator starts anew in the middle of a load: every message is taken", || {
        let before = pod_identity(world)?;
        let saw = under_load(world, &load, || {
            cluster.kubectl(&["-n", story::CHART_NAMESPACE, "rollout", "restart", story::OPERATOR])?;
            cluster.kubectl(&["-n", story::CHART_NAMESPACE, "rollout", "status", story::OPERATOR, "--timeout=120s"])?;
            Ok("another operator runs".to_owned())
        })?;
        ensure!(load.failed() == 0, "{} messages were not taken", load.failed());
        ensure!(pod_identity(world)? == before, "the server's pod was replaced");
        Ok(format!("{saw}; {}", check_nothing_lost(&world.server1, &load)?))
    });
}

/// Stopped, a server has no pods and keeps its mail.
pub fn stopped_and_started(world: &World, report: &mut Report) {
    let (cluster, server) = (&world.cluster, &world.server1);
    report.check("a stopped server has no pod and says so; started again, it has its mail", || {
        let anna = server.address("anna");
        let text = message::text("friend@elsewhere.test", &[&anna], "before the stop", "before-the-stop");
        smtp::send(&server.smtp(), None, "friend@elsewhere.test", &[&anna], &text)?;
        patch_server(world, r#"{"spec": {"operations": {"stopped": true}}}"#)?;
        let stopped = cluster.wait_condition("server1", "mailserver/mail", "Available", "False")?;
        ensure!(stopped.reason == "Stopped", "{stopped:?}");
        wait("the pod to end", Duration::from_secs(120), || {
            let pods = cluster.kubectl(&[
                "-n",
                "server1",
                "get",
                "pods",
                "--ignore-not-found",
                &server.pod(),
                "-o",
                "name",
            ])?;
            ensure!(pods.trim().is_empty(), "{pods}");
            Ok(())
        })?;
        patch_server(world, r#"{"spec": {"operations": {"stopped": false}}}"#)?;
        cluster.wait_condition("server1", "mailserver/mail", "Available", "True")?;
        server.reconnect();
        reconnected(world)?;
        let fetched = pop3::take_all(&server.pop3s(), &server.login("anna"))?;
        ensure!(fetched.iter().any(|message| message.ends_with(&text)), "the message is gone");
        Ok(format!("Available=False {}: {}", stopped.reason, stopped.message))
    });
}

/// `reclaimPolicy: Delete` erases, `Retain` keeps.
pub fn erased_and_kept(world: &World, report: &mut Report) {
    let (cluster, server) = (&world.cluster, &world.server1);
    let make = |name: &str, policy: &str| -> Result<()> {
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: {name}-password, namespace: server1}}, \
             stringData: {{password: {name}-password}}}}"
        ))?;
        cluster.apply(&format!(
            "{{apiVersion: paquebot.dev/v1alpha1, kind: Mailbox, metadata: {{name: {name}, namespace: server1}}, \
             spec: {{domainRef: {{name: server1.com}}, localPart: {name}, reclaimPolicy: {policy}, \
             credentials: {{passwordSecretRef: {{name: {name}-password}}}}}}}}"
        ))?;
        cluster.wait_condition("server1", &format!("mailbox/{name}"), "Ready", "True").map(drop)
    };
    report.check("a Mailbox that is deleted takes its mail along with Delete, and leaves it with Retain", || {
        let policies = [("brief", "Delete"), ("lasting", "Retain")];
        for (name, policy) in policies {
            make(name, policy)?;
            let address = server.address(name);
            let text = message::text("friend@elsewhere.test", &[&address], "to keep or not", &format!("keep-{name}"));
            smtp::send(&server.smtp(), None, "friend@elsewhere.test", &[&address], &text)?;
        }
        let started = Instant::now();
        for (name, _) in policies {
            cluster.kubectl(&["-n", "server1", "delete", &format!("mailbox/{name}"), "--timeout=60s"])?;
        }
        let seconds = started.elapsed().as_secs_f64();
        let mut counts = Vec::new();
        for (name, policy) in policies {
            make(name, policy)?;
            let login = Login::new(&server.address(name), &format!("{name}-password"));
            counts.push(pop3::fetch_all(&server.pop3s(), &login)?.len());
        }
        ensure!(counts == [0, 1], "the mailboxes have {counts:?} messages");
        for (name, _) in policies {
            cluster.kubectl(&[
                "-n",
                "server1",
                "delete",
                &format!("mailbox/{name}"),
                &format!("secret/{name}-password"),
            ])?;
        }
        Ok(format!("both were gone after {seconds:.1} s; made anew, they have {counts:?} messages"))
    });
}

/// The last step: the certificate that the clients of this suite trust is gone afterwards.
pub fn certificate_without_restart(world: &World, report: &mut Report) {
    let (cluster, server) = (&world.cluster, &world.server1);
    report.check("a renewed certificate is served without a restart", || {
        let admin = Forward::new(cluster, server.namespace, &format!("pod/{}", server.pod()), &[8080]);
        let served = || -> Result<String> {
            let seen = configz(&*admin.port(8080))?;
            let digest = seen.pointer("/certificate/sha256").and_then(|digest| digest.as_str());
            Ok(digest.context("no certificate")?.to_owned())
        };
        let (before, pod) = (served()?, pod_identity(world)?);
        // A session that is open stays open.
        let mut session = smtp::Client::connect(&server.submission())?;
        let started = Instant::now();
        cluster.kubectl(&["-n", "server1", "delete", &format!("secret/{}-tls", server.name)])?;
        wait("another certificate", PATIENCE, || {
            ensure!(served()? != before, "it is the same certificate");
            Ok(())
        })?;
        let seconds = started.elapsed().as_secs_f64();
        session.command("NOOP")?.expect(250)?;
        ensure!(pod_identity(world)? == pod, "the pod was restarted");
        if smtp::Client::connect(&server.submission()).is_ok() {
            bail!("the old certificate is still shown");
        }
        cluster.wait_condition("server1", "mailserver/mail", "CertificateReady", "True")?;
        Ok(format!("served {seconds:.1} s after the Secret was deleted, by the same process"))
    });
}
