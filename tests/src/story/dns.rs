//! DNS: the missing records are named, the operator's own zone text is published, the condition turns.

use std::env;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::world::{Server, World};
use crate::kubernetes::{Cluster, PATIENCE, run, wait};
use crate::report::Report;

pub(super) fn missing_is_named(world: &World, report: &mut Report) -> Result<()> {
    for server in world.servers() {
        report.step(&format!("status of {} says which record is missing", server.domain), || {
            let condition =
                world.cluster.wait_condition(server.namespace, &domain_object(server), "DNSReady", "False")?;
            ensure!(condition.reason == "RecordMissing", "{condition:?}");
            ensure!(condition.message.contains("MX") && condition.message.contains(server.domain), "{condition:?}");
            Ok(((), format!("DNSReady=False {}: {}", condition.reason, condition.message)))
        })?;
    }
    Ok(())
}

pub(super) fn publish(world: &World, report: &mut Report) -> Result<()> {
    for server in world.servers() {
        report.step(&format!("status.dns.zoneFile of {} goes into the cluster's DNS", server.domain), || {
            let zone = wait("the zone file", PATIENCE, || {
                let domain = world.cluster.get(server.namespace, &domain_object(server))?;
                let zone = domain.pointer("/status/dns/zoneFile").and_then(|zone| zone.as_str());
                let zone = zone.context("no zone file in the status")?.to_owned();
                ensure!(zone.contains(" A "), "no address for {} yet: {zone}", server.hostname);
                Ok(zone)
            })?;
            zone_command(&world.cluster, &["add", server.domain, "-"], Some(zone.as_bytes()))?;
            Ok(((), format!("{} lines", zone.lines().filter(|line| !line.starts_with(';')).count())))
        })?;
    }
    for server in world.servers() {
        report.step(&format!("status of {} says that they are there", server.domain), || {
            let condition =
                world.cluster.wait_condition(server.namespace, &domain_object(server), "DNSReady", "True")?;
            Ok(((), format!("DNSReady=True {}", condition.reason)))
        })?;
    }
    Ok(())
}

/// Takes the story's zones out of the cluster's DNS again.
pub(super) fn withdraw(cluster: &Cluster) -> Result<()> {
    for domain in ["server1.com", "server2.com"] {
        zone_command(cluster, &["remove", domain], None)?;
    }
    Ok(())
}

fn domain_object(server: &Server) -> String {
    format!("maildomain/{}", server.domain)
}

/// Our own cluster's DNS takes zones by `tests/cluster/cluster zone`. For another one, `ZONE_COMMAND` names a command that
/// takes `add NAME -`, with the records on standard input, and `remove NAME`.
fn zone_command(cluster: &Cluster, arguments: &[&str], input: Option<&[u8]>) -> Result<()> {
    let given = env::var("ZONE_COMMAND").ok().filter(|command| !command.is_empty());
    let foreign = env::var("CONTEXT").is_ok_and(|context| !context.is_empty());
    let text = match (given, foreign) {
        (Some(text), _) => text,
        (None, false) => format!("{} zone", cluster.root.join("tests/cluster/cluster").display()),
        (None, true) => bail!(
            "this cluster's DNS is not ours: set ZONE_COMMAND to a command that takes `add ZONE -` (records on standard \
             input) and `remove ZONE`"
        ),
    };
    let mut words = text.split_whitespace();
    let mut command = Command::new(words.next().context("ZONE_COMMAND is blank")?);
    command.args(words).args(arguments);
    run(command, input).map(drop)
}
