//! The chart, the servers, and everything being ready.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::world::World;
use crate::kubernetes::{Cluster, condition, wait};
use crate::report::Report;

/// Where the chart is installed.
pub const CHART_NAMESPACE: &str = "paquebot-system";
/// The release's name.
pub const RELEASE: &str = "paquebot";
/// The operator's Deployment.
pub const OPERATOR: &str = "deployment/paquebot-operator";
/// The operator's pods.
pub const OPERATOR_SELECTOR: &str = "app.kubernetes.io/component=operator,app.kubernetes.io/instance=paquebot";
/// The namespaces that the story makes.
const STORY_NAMESPACES: [&str; 3] = ["server1", "server2", "printers"];

/// Removes what an earlier telling left: its namespaces and its DNS zones.
pub(super) fn begin_anew(cluster: &Cluster, report: &mut Report) -> Result<()> {
    let found = cluster.kubectl(&["get", "namespace", "-o", "name"])?;
    let is_there = |name: &&str| found.lines().any(|line| line.strip_prefix("namespace/") == Some(*name));
    let left: Vec<&str> = STORY_NAMESPACES.into_iter().filter(is_there).collect();
    if left.is_empty() {
        return Ok(());
    }
    report.step("an earlier telling is cleared away", || {
        super::dns::withdraw(cluster)?;
        cluster.delete_namespaces(&left)?;
        Ok(((), format!("namespaces {} deleted", left.join(", "))))
    })
}

pub(super) fn chart(cluster: &Cluster, report: &mut Report) -> Result<()> {
    report.step("helm install", || {
        let chart = cluster.root.join("charts/paquebot");
        let chart = chart.to_str().context("the source tree's path is not UTF-8")?;
        renew_definitions(cluster, chart)?;
        let mut arguments = vec!["upgrade", "--install", RELEASE, chart, "--namespace", CHART_NAMESPACE];
        arguments.extend(["--create-namespace", "--wait", "--timeout=3m"]);
        let settings = chart_settings(cluster);
        arguments.extend(settings.iter().flat_map(|setting| ["--set-string", setting]));
        cluster.helm(&arguments)?;
        let operator = cluster.kubectl(&["-n", CHART_NAMESPACE, "get", OPERATOR, "--no-headers"])?;
        let ready: Vec<&str> = operator.split_whitespace().take(2).collect();
        Ok(((), format!("release {RELEASE}, {} ready", ready.join(" "))))
    })?;
    report.step("every namespace's pods run under Pod Security \"restricted\"", || {
        let label = "pod-security.kubernetes.io/enforce=restricted";
        let said = cluster.kubectl_command(&["label", "namespace", CHART_NAMESPACE, label, "--overwrite"]).output()?;
        // The API server warns on labelling when a running pod would not be admitted.
        let warnings = String::from_utf8_lossy(&said.stderr).into_owned();
        ensure!(said.status.success() && !warnings.contains("violate"), "{warnings}");
        Ok(((), "the API server has no warning".to_owned()))
    })
}

/// Helm makes the definitions where there are none, and never changes those of an earlier telling.
fn renew_definitions(cluster: &Cluster, chart: &str) -> Result<()> {
    let one = ["get", "customresourcedefinition", "mailservers.paquebot.dev", "--ignore-not-found", "-o", "name"];
    if !cluster.kubectl(&one)?.trim().is_empty() {
        cluster.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &format!("{chart}/crds")])?;
    }
    Ok(())
}

/// The images of this source tree. A tag such as `dev` names another image after each build, so what was built last is
/// told to the pods as an annotation, which replaces them when it changes.
fn chart_settings(cluster: &Cluster) -> Vec<String> {
    let mut settings = vec!["mailServer.storage.size=1Gi".to_owned()];
    for (values, image, annotations) in [
        ("operator", "paquebot-operator", "operator.podAnnotations"),
        ("server", "paquebot-server", "mailServer.spec.podTemplate.metadata.annotations"),
    ] {
        settings.push(format!("{values}.image.repository={}/{image}", cluster.registry()));
        settings.push(format!("{values}.image.tag={}", cluster.tag()));
        if let Ok(stamp) = std::fs::read_to_string(cluster.root.join(format!("dist/{image}.tar.stamp"))) {
            settings.push(format!("{annotations}.built-from={}", stamp.trim().get(..16).unwrap_or_default()));
        }
    }
    settings
}

pub(super) fn servers(cluster: &Cluster, report: &mut Report) -> Result<World> {
    report.step("kubectl apply: two MailServers in two namespaces, two domains, three mailboxes", || {
        cluster.apply_example("two-servers/server1.com.yaml")?;
        cluster.apply_example("two-servers/server2.com.yaml")?;
        Ok(((), "examples/two-servers/server{1,2}.com.yaml".to_owned()))
    })?;
    report.show(&cluster.kubectl(&["get", "mail", "-A"])?);
    let world = report.step("both servers are available", || {
        for namespace in ["server1", "server2"] {
            cluster.wait_condition(namespace, "mailserver/mail", "Available", "True")?;
        }
        Ok((World::new(cluster)?, "Available=True, one pod each".to_owned()))
    })?;
    report.step("mailboxes, domains and servers are ready", || {
        for (namespace, object) in [
            ("server1", "mailbox/tom"),
            ("server1", "mailbox/anna"),
            ("server2", "mailbox/jack"),
            ("server1", "maildomain/server1.com"),
            ("server2", "maildomain/server2.com"),
            ("server1", "mailserver/mail"),
            ("server2", "mailserver/mail"),
        ] {
            cluster.wait_condition(namespace, object, "Programmed", "True")?;
            cluster.wait_condition(namespace, object, "Ready", "True")?;
        }
        let tom = condition(&cluster.get("server1", "mailbox/tom")?, "Programmed")?;
        Ok(((), format!("Programmed=True: {}", tom.message)))
    })?;
    Ok(world)
}

pub(super) fn everything_is_ready(world: &World, report: &mut Report) -> Result<()> {
    report.step("the default MailServer of the chart is ready too", || {
        let ready = world.cluster.wait_condition(CHART_NAMESPACE, "mailserver/default", "Ready", "True")?;
        Ok(((), format!("Ready=True {}", ready.reason)))
    })?;
    report.show(&world.cluster.kubectl(&["get", "mail", "-A"])?);
    Ok(())
}

/// `helm test`: the chart's own check.
///
/// # Errors
/// When a test of the chart fails.
pub fn helm_test(cluster: &Cluster) -> Result<String> {
    cluster.helm(&["test", RELEASE, "--namespace", CHART_NAMESPACE, "--timeout=3m"])
}

/// Waits until the operator's pod runs again after its Deployment was scaled.
///
/// # Errors
/// When it does not in time.
pub fn scale_operator(cluster: &Cluster, replicas: u8) -> Result<()> {
    cluster.kubectl(&["-n", CHART_NAMESPACE, "scale", OPERATOR, &format!("--replicas={replicas}")])?;
    wait("the operator's pods", Duration::from_secs(90), || {
        let pods = cluster.kubectl(&["-n", CHART_NAMESPACE, "get", "pods", "-l", OPERATOR_SELECTOR, "-o", "name"])?;
        ensure!(pods.lines().count() == usize::from(replicas), "{pods}");
        Ok(())
    })?;
    cluster.kubectl(&["-n", CHART_NAMESPACE, "rollout", "status", OPERATOR, "--timeout=120s"]).map(drop)
}
