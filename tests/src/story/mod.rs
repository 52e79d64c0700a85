//! The story that always works (README, `make demo` and the end-to-end suite tell the same one): Tom of server1.com writes
//! to Anna, who is there too, and to Jack at server2.com, another server in another namespace.
//!
//! [`tell`] tells it from an installed chart to the last check, and gives the [`World`] as it is then.

mod dns;
mod install;
mod mail;
mod relay;
mod world;

use anyhow::Result;

use crate::kubernetes::Cluster;
use crate::report::Report;

pub use install::{CHART_NAMESPACE, OPERATOR, OPERATOR_SELECTOR, RELEASE, helm_test, scale_operator};
pub use relay::ClientPod;
pub use world::{Server, World};

/// Tells the story on a cluster.
///
/// # Errors
/// The first step that fails: the later ones build on it.
pub fn tell(cluster: &Cluster, report: &mut Report) -> Result<World> {
    report.chapter("The chart, two mail servers, two domains");
    install::begin_anew(cluster, report)?;
    install::chart(cluster, report)?;
    let world = install::servers(cluster, report)?;

    report.chapter("DNS: what is missing, and what changes when it is published");
    dns::missing_is_named(&world, report)?;
    dns::publish(&world, report)?;
    install::everything_is_ready(&world, report)?;

    report.chapter("Tom writes to Anna and Jack");
    mail::tom_writes(&world, report)?;

    report.chapter("Who may relay");
    relay::stranger_and_friend(&world, report)?;

    report.chapter("A mailbox more, while mail flows");
    mail::newcomer(&world, report)?;

    report.step("kubectl get mail -A", || Ok(((), "all there".to_owned())))?;
    report.show(&cluster.kubectl(&["get", "mail", "-A"])?);
    Ok(world)
}
