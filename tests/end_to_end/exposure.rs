//! How the servers stand towards the world: the operator's probe for an open relay, and whether clients keep their addresses
//! on the way through a Service.

use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};
use paquebot_tests::kubernetes::{Cluster, PATIENCE, wait};
use paquebot_tests::report::Report;
use paquebot_tests::story::World;

/// The operator asks its own servers to relay, and is refused.
pub fn probe(world: &World, report: &mut Report) {
    let cluster = &world.cluster;
    report.check("the operator's probe for an open relay is refused by both servers", || {
        for server in world.servers() {
            let found = cluster.wait_condition(server.namespace, "mailserver/mail", "RelayClosed", "True")?;
            ensure!(found.reason == "ProbeRefused", "{found:?}");
        }
        Ok("RelayClosed=True ProbeRefused".to_owned())
    });
    report.check("a policy that selects the operator does not admit it, so that its probe still tells", || {
        let from = "[{podSelector: {matchLabels: {app.kubernetes.io/part-of: paquebot, app.kubernetes.io/component: operator}}, \
                    namespaceSelector: {}}]";
        let spec = format!("{{serverRef: {{name: mail}}, from: {from}}}");
        cluster.apply(&format!(
            "{{apiVersion: paquebot.dev/v1alpha1, kind: RelayPolicy, metadata: {{name: operator, namespace: server1}}, spec: {spec}}}"
        ))?;
        let policy = cluster.wait_condition("server1", "relaypolicy/operator", "Accepted", "True")?;
        ensure!(policy.message.contains("No running pod is selected"), "{policy:?}");
        cluster.kubectl(&["-n", "server1", "delete", "relaypolicy/operator"])?;
        Ok(policy.message)
    });
}

/// A Service that becomes a NodePort and goes back, and what its clients look like.
pub fn source_addresses(world: &World, report: &mut Report) {
    let cluster = &world.cluster;
    report.check("the node port answers, and a client that comes through the node is recognised as one", || {
        set_service(cluster, r#"{"type":"NodePort","externalTrafficPolicy":"Local"}"#)?;
        let address = node_port(cluster)?;
        wait("a greeting at the node port", PATIENCE, || greeting(address))?;
        let seen = cluster.wait_condition("server1", "mailserver/mail", "SourceIPPreserved", "False")?;
        ensure!(seen.reason == "ObservedNodeSourceIP", "{seen:?}");
        Ok(format!("{}: {}", seen.reason, seen.message))
    });
    report.check("externalTrafficPolicy Cluster is named as what hides clients", || {
        set_service(cluster, r#"{"type":"NodePort","externalTrafficPolicy":"Cluster"}"#)?;
        let hidden = cluster.wait_condition("server1", "mailserver/mail", "SourceIPPreserved", "False")?;
        ensure!(hidden.reason == "TrafficPolicyCluster", "{hidden:?}");
        Ok(hidden.message)
    });
    report.check("the Service goes back to a ClusterIP without node ports", || {
        set_service(cluster, r#"{"type":"ClusterIP","externalTrafficPolicy":"Local"}"#)?;
        wait("the ClusterIP", PATIENCE, || {
            let service = cluster.get("server1", "service/mail")?;
            ensure!(
                service["spec"]["type"] == "ClusterIP" && service["spec"]["ports"][0].get("nodePort").is_none(),
                "{service}"
            );
            Ok(())
        })?;
        let inside = cluster.wait_condition("server1", "mailserver/mail", "SourceIPPreserved", "Unknown")?;
        Ok(format!("{}: {}", inside.reason, inside.message))
    });
}

fn set_service(cluster: &Cluster, service: &str) -> Result<()> {
    let patch = format!(r#"{{"spec":{{"service":{service}}}}}"#);
    cluster.kubectl(&["-n", "server1", "patch", "mailserver/mail", "--type=merge", "-p", &patch]).map(drop)
}

/// Where the SMTP listener of server1 is reached from outside: at the node on which its pod runs.
fn node_port(cluster: &Cluster) -> Result<SocketAddr> {
    let port = wait("the node port", PATIENCE, || {
        let service = cluster.get("server1", "service/mail")?;
        let ports = service["spec"]["ports"].as_array().context("no ports")?;
        let smtp = ports.iter().find(|port| port["name"] == "smtp").context("no smtp")?;
        smtp["nodePort"].as_u64().context("no node port yet")
    })?;
    let pod = cluster.get("server1", "pod/mail-0")?;
    let address: IpAddr = pod["status"]["hostIP"].as_str().and_then(address).context("no host address")?;
    Ok(SocketAddr::new(address, u16::try_from(port)?))
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

fn greeting(address: SocketAddr) -> Result<()> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    ensure!(line.starts_with("220 "), "{line}");
    Ok(())
}
