//! A configuration that is bad, a pod that is killed in the middle of a load, an operator that starts anew.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use paquebot_tests::endpoint::{Dial, Endpoint};
use paquebot_tests::forward::Forward;
use paquebot_tests::kubernetes::{PATIENCE, wait};
use paquebot_tests::report::Report;
use paquebot_tests::story::{self, Server, World};
use paquebot_tests::{message, pop3, smtp};
use serde_json::Value;

/// How many senders the load has, and how many messages are accepted before and after the pod is killed.
pub const SENDERS: usize = 4;
pub const BEFORE: usize = 60;
pub const AFTER: usize = 60;

/// A bad configuration is refused whole; the old one keeps serving, and `/configz` says why. The operator heals it.
pub fn bad_configuration(world: &World, report: &mut Report) {
    let (cluster, server) = (&world.cluster, &world.server1);
    let admin = Forward::new(cluster, server.namespace, &format!("pod/{}", server.pod()), &[8080]);
    let config = format!("configmap/{}-config", server.name);
    let before = report.step("the operator is scaled down, and the servers' configuration spoilt by hand", || {
        let before = configz(&*admin.port(8080))?;
        story::scale_operator(cluster, 0)?;
        let object = cluster.get(server.namespace, &config)?;
        let part = |name: &str| object["data"][name].as_str().with_context(|| format!("no {name}"));
        // The server looks again when the index changes; what it then finds does not match.
        let spoilt = part("server.json")?.replace("mx.server1.com", "mx.spoilt.example");
        let index = format!("{}\n", part("index.json")?);
        let patch = serde_json::json!({"data": {"server.json": spoilt, "index.json": index}});
        cluster.kubectl(&["-n", server.namespace, "patch", &config, "--type=merge", "-p", &patch.to_string()])?;
        nudge(world)?;
        Ok((before, "server.json no longer matches its hash".to_owned()))
    });
    report.check("the server refuses it whole, says why, and serves on", || {
        let before = before?;
        let seen = wait("/configz to tell of the refusal", PATIENCE, || {
            let seen = configz(&*admin.port(8080))?;
            ensure!(!seen["error"].is_null(), "{seen}");
            Ok(seen)
        })?;
        ensure!(seen["revision"] == before["revision"], "the revision changed: {before} {seen}");
        let (tom, anna) = (server.login("tom"), server.address("anna"));
        let text = message::text(&tom.user, &[&anna], "under the old configuration", "old");
        smtp::send(&server.submission(), Some(&tom), &tom.user, &[&anna], &text)?;
        pop3::take_all(&server.pop3s(), &server.login("anna"))?;
        Ok(format!("error: {}", seen["error"]))
    });
    report.check("the operator comes back and puts it right", || {
        let started = Instant::now();
        story::scale_operator(cluster, 1)?;
        wait("/configz without an error", PATIENCE, || {
            let seen = configz(&*admin.port(8080))?;
            ensure!(seen["error"].is_null(), "{seen}");
            Ok(())
        })?;
        cluster.wait_condition(server.namespace, "mailserver/mail", "Programmed", "True")?;
        Ok(format!("after {:.1} s", started.elapsed().as_secs_f64()))
    });
}

/// Has the kubelet refresh the pod's volumes at once.
fn nudge(world: &World) -> Result<()> {
    let stamp = format!("paquebot-test/nudged={}", std::process::id());
    let server = &world.server1;
    world.cluster.kubectl(&["-n", server.namespace, "annotate", "pod", &server.pod(), &stamp, "--overwrite"]).map(drop)
}

/// What the server says about its configuration.
pub fn configz(admin: &dyn Dial) -> Result<Value> {
    use std::io::{Read as _, Write as _};
    let mut socket = admin.dial()?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    socket.write_all(b"GET /configz HTTP/1.0\r\nHost: server\r\n\r\n")?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    Ok(serde_json::from_str(body)?)
}

/// What the senders of the load did.
#[derive(Default)]
pub struct Load {
    pub stop: AtomicBool,
    accepted: Mutex<Vec<String>>,
    attempts: AtomicUsize,
    /// Connections that were lost between 354 and the reply to the data.
    cut: AtomicUsize,
}

impl Load {
    /// How many messages were answered 250.
    pub fn accepted(&self) -> usize {
        self.accepted.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// How many were not.
    pub fn failed(&self) -> usize {
        self.attempts.load(Ordering::Relaxed).saturating_sub(self.accepted())
    }

    /// How many sessions were cut in DATA.
    pub fn cut(&self) -> usize {
        self.cut.load(Ordering::Relaxed)
    }
}

/// The server's pod is killed in the middle of a load: whatever was answered 250 is there, once, and whole.
pub fn killed_pod(world: &World, report: &mut Report) {
    let server = &world.server1;
    let load = Load::default();
    let outcome = report.step("the server's pod is killed in the middle of a load", || {
        pop3::take_all(&server.pop3s(), &server.login("anna"))?;
        thread::scope(|scope| {
            for number in 0..SENDERS {
                let load = &load;
                scope.spawn(move || send_until_stopped(load, server, number));
            }
            let outcome = kill_in_the_middle(world, &load);
            load.stop.store(true, Ordering::Relaxed);
            outcome
        })
        .map(|saw| ((), saw))
    });
    report.check("every message that was answered 250 is there once, and whole", || {
        outcome?;
        check_nothing_lost(server, &load)
    });
}

pub fn send_until_stopped(load: &Load, server: &Server, sender: usize) {
    let (server, anna) = (server.on_its_own_connection(), server.address("anna"));
    let endpoint = server.smtp();
    for number in 0.. {
        if load.stop.load(Ordering::Relaxed) {
            return;
        }
        load.attempts.fetch_add(1, Ordering::Relaxed);
        let id = format!("load-{sender}-{number}");
        // Without a 250 the message may be lost, and is not counted.
        if send_one(load, &endpoint, &anna, &load_message(&anna, &id)).is_ok() {
            load.accepted.lock().unwrap_or_else(PoisonError::into_inner).push(id);
        } else {
            // The pod may be another one by now.
            server.reconnect();
            thread::sleep(Duration::from_millis(100));
        }
    }
}

/// One message over one connection. That it was lost after 354 is counted.
fn send_one(load: &Load, endpoint: &Endpoint, to: &str, text: &[u8]) -> Result<()> {
    let mut client = smtp::Client::connect(endpoint)?;
    client.command("MAIL FROM:<load@elsewhere.test>")?.expect(250)?;
    client.command(&format!("RCPT TO:<{to}>"))?.expect(250)?;
    client.command("DATA")?.expect(354)?;
    let reply = client.data(text).inspect_err(|_| {
        load.cut.fetch_add(1, Ordering::Relaxed);
    })?;
    reply.expect(250)?;
    // The message is the server's by now, whatever becomes of the session.
    let _ = client.quit();
    Ok(())
}

fn load_message(anna: &str, id: &str) -> Vec<u8> {
    let mut text = message::text("load@elsewhere.test", &[anna], "load", id);
    text.extend_from_slice(&b"All work and no play makes a dull message.\r\n".repeat(200));
    text
}

fn kill_in_the_middle(world: &World, load: &Load) -> Result<String> {
    let accepted = || load.accepted();
    let server = &world.server1;
    wait("the load to run", PATIENCE, || {
        ensure!(accepted() >= BEFORE, "{} accepted", accepted());
        Ok(())
    })?;
    let killed_at = accepted();
    let pod = server.pod();
    world.cluster.kubectl(&["-n", server.namespace, "delete", "pod", &pod, "--grace-period=0", "--force"])?;
    let started = Instant::now();
    server.reconnect();
    wait("the load to run again", PATIENCE, || {
        if accepted() < killed_at + AFTER {
            // The forwarded port may still lead to the old pod.
            if started.elapsed() > Duration::from_secs(5) && smtp::Client::connect(&server.smtp()).is_err() {
                server.reconnect();
            }
            anyhow::bail!("{} accepted", accepted());
        }
        Ok(())
    })?;
    world.cluster.wait_condition(server.namespace, "mailserver/mail", "Available", "True")?;
    let seconds = started.elapsed().as_secs_f64();
    Ok(format!("killed after {killed_at} messages, {AFTER} more were accepted {seconds:.1} s later"))
}

pub fn check_nothing_lost(server: &Server, load: &Load) -> Result<String> {
    let accepted = load.accepted.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let anna = server.address("anna");
    let fetched = pop3::take_all(&server.pop3s(), &server.login("anna"))?;
    let mut seen: HashMap<String, usize> = HashMap::new();
    for message in &fetched {
        let text = String::from_utf8_lossy(message);
        let id = text.split("Message-ID: <").nth(1).and_then(|rest| rest.split('@').next()).context("no Message-ID")?;
        message::check_delivered(message, &load_message(&anna, id)).with_context(|| id.to_owned())?;
        *seen.entry(id.to_owned()).or_default() += 1;
    }
    for id in &accepted {
        let times = seen.get(id).copied().unwrap_or(0);
        ensure!(times == 1, "{id} was answered 250 and is there {times} times");
    }
    ensure!(seen.values().all(|times| *times == 1), "a message is there more than once");
    let attempts = load.attempts.load(Ordering::Relaxed);
    Ok(format!("{attempts} tried, {} answered 250, {} there", accepted.len(), fetched.len()))
}

/// An operator that starts anew finds everything as it is: no server restarts, no configuration changes.
pub fn operator_restarts(world: &World, report: &mut Report) {
    let (cluster, server) = (&world.cluster, &world.server1);
    report.check("an operator that starts anew changes nothing", || {
        let versions = || -> Result<Vec<String>> {
            let list =
                cluster.get(server.namespace, "statefulsets,configmaps,services,secrets,poddisruptionbudgets")?;
            let items = list["items"].as_array().context("no list")?;
            Ok(items
                .iter()
                .map(|item| format!("{} {}", item["metadata"]["name"], item["metadata"]["resourceVersion"]))
                .collect())
        };
        let before = versions()?;
        cluster.kubectl(&["-n", story::CHART_NAMESPACE, "rollout", "restart", story::OPERATOR])?;
        cluster.kubectl(&["-n", story::CHART_NAMESPACE, "rollout", "status", story::OPERATOR, "--timeout=120s"])?;
        // It has taken everything up once it has answered to something new.
        cluster.apply(
            "{apiVersion: paquebot.dev/v1alpha1, kind: Mailbox, metadata: {name: probe, namespace: server2}, \
             spec: {domainRef: {name: server2.com}, localPart: probe}}",
        )?;
        cluster.wait_condition("server2", "mailbox/probe", "Ready", "True")?;
        let after = versions()?;
        ensure!(before == after, "objects were written: {before:?} {after:?}");
        cluster.kubectl(&["-n", "server2", "delete", "mailbox/probe"])?;
        Ok(format!("{} objects have the same resourceVersion as before", after.len()))
    });
}
