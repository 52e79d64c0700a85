//! Who may relay: a stranger is refused at RCPT, and the same client is admitted once a RelayPolicy says so.

use anyhow::{Context, Result, ensure};

use super::world::{Server, World};
use crate::kubernetes::{Cluster, PATIENCE, wait};
use crate::report::Report;
use crate::{message, pop3, smtp};

/// A pod from which mail is sent, as a printer or an application in the cluster would.
pub struct ClientPod {
    cluster: Cluster,
    namespace: String,
    name: String,
}

impl ClientPod {
    /// Starts a pod with these labels, and waits until it runs. There is no shell in our image: the pod waits as a server
    /// without configuration, and its own binary is the mail client.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(cluster: &Cluster, namespace: &str, name: &str, labels: &str) -> Result<Self> {
        let image = format!("{}/paquebot-server:{}", cluster.registry(), cluster.tag());
        cluster.apply(&format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: {namespace}, labels: {{{labels}}}}}
spec:
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: 0
  securityContext: {{runAsNonRoot: true, runAsUser: 65532, seccompProfile: {{type: RuntimeDefault}}}}
  containers:
  - name: client
    image: {image}
    args: [serve, --config-dir=/work/no-configuration, --data-dir=/work]
    securityContext: {{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {{drop: [ALL]}}}}
    volumeMounts: [{{name: work, mountPath: /work}}]
  volumes: [{{name: work, emptyDir: {{}}}}]
"#
        ))?;
        let wait_for = ["-n", namespace, "wait", "--for=jsonpath={.status.phase}=Running", "--timeout=60s"];
        cluster.kubectl(&[wait_for.as_slice(), &[&format!("pod/{name}")]].concat())?;
        Ok(Self { cluster: cluster.clone(), namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// Sends a message in clear to port 25 of a server; gives what the client printed.
    ///
    /// # Errors
    /// When the message was not accepted; the error holds the server's words.
    pub fn send(&self, server: &Server, from: &str, to: &str, message: &[u8]) -> Result<String> {
        let target = format!("{}:25", server.service());
        let client =
            ["-n", &self.namespace, "exec", "-i", &self.name, "--", "/usr/bin/paquebot-server", "probe", "send"];
        let mail = ["--server", &target, "--tls", "none", "--from", from, "--to", to];
        self.cluster.kubectl_with(&[client.as_slice(), mail.as_slice()].concat(), message)
    }
}

pub(super) fn stranger_and_friend(world: &World, report: &mut Report) -> Result<()> {
    let (server, jack) = (&world.server1, world.server2.address("jack"));
    report.step("a stranger who would relay through port 25 is refused", || {
        let mut client = smtp::Client::connect(&server.smtp())?;
        client.command("MAIL FROM:<stranger@elsewhere.test>")?.expect(250)?;
        let reply = client.command(&format!("RCPT TO:<{jack}>"))?;
        reply.expect(553)?;
        ensure!(reply.to_string().contains("5.7.1"), "{reply}");
        Ok(((), reply.to_string()))
    })?;
    world.cluster.apply("{apiVersion: v1, kind: Namespace, metadata: {name: printers}}")?;
    let from = server.address("printer");
    let sent = message::text(&from, &[&jack], "Toner is low", "toner");
    let printer = report.step("a printer in the cluster is a stranger too", || {
        let printer = ClientPod::start(&world.cluster, "printers", "printer", "app: printer")?;
        let refusal = printer.send(server, &from, &jack, &sent).err().context("its mail was accepted")?.to_string();
        ensure!(refusal.contains("553"), "{refusal}");
        Ok((printer, "553".to_owned()))
    })?;
    report.step("a RelayPolicy admits it, by its label", || {
        world.cluster.apply_example("two-servers/relay-policy.yaml")?;
        let reply = wait("the printer to be admitted", PATIENCE, || printer.send(server, &from, &jack, &sent))?;
        let policy = world.cluster.wait_condition("printers", "relaypolicy/printers", "Ready", "True")?;
        Ok(((), format!("{}; RelayPolicy Ready=True {}", reply.trim(), policy.reason)))
    })?;
    report.step("but not with somebody else's address as the sender", || {
        let refusal = printer.send(server, "boss@elsewhere.test", &jack, &sent).err().context("it was accepted")?;
        ensure!(refusal.to_string().contains("553"), "{refusal}");
        Ok(((), "553".to_owned()))
    })?;
    report.step("Jack has the printer's message", || {
        let fetched = wait("the printer's message", PATIENCE, || {
            let messages = pop3::fetch_all(&world.server2.pop3s(), &world.server2.login("jack"))?;
            let found = messages.into_iter().find(|fetched| message::check_delivered(fetched, &sent).is_ok());
            found.context("it is not there yet")
        })?;
        Ok(((), format!("{} octets", fetched.len())))
    })
}
