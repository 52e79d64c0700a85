//! The end-to-end suite on a real Kubernetes: the story, then real input, then what must hold when things go wrong.
//! `make e2e` runs it. The story's steps build on each other; a check that fails later on does not stop the suite.

mod exposure;
mod failures;
mod input;
mod objects;
mod operations;

use std::process::ExitCode;

use paquebot_tests::kubernetes::Cluster;
use paquebot_tests::report::Report;
use paquebot_tests::story::{self, World};

fn main() -> ExitCode {
    let cluster = Cluster::from_environment();
    let mut report = Report::default();
    if let Ok(world) = story::tell(&cluster, &mut report) {
        after_the_story(&world, &mut report);
    }
    report.close();
    if report.all_passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn after_the_story(world: &World, report: &mut Report) {
    report.check("helm test", || {
        story::helm_test(&world.cluster)?;
        Ok("a message went through the chart's own MailServer".to_owned())
    });
    report.chapter("Real input");
    input::real_messages(world, report);
    input::garbage(world, report);
    report.chapter("Objects that are wrong, and how they recover");
    objects::refused_by_the_api_server(&world.cluster, report);
    objects::references(world, report);
    objects::fields_of_later_releases(world, report);
    objects::conflicts(world, report);
    objects::filters(world, report);
    objects::credentials(world, report);
    objects::one_server_for_both(&world.cluster, report);
    report.chapter("Exposure");
    exposure::probe(world, report);
    exposure::source_addresses(world, report);
    report.chapter("Failures");
    failures::bad_configuration(world, report);
    failures::killed_pod(world, report);
    failures::operator_restarts(world, report);
    report.chapter("Operations");
    operations::rolling_upgrade(world, report);
    operations::operator_restarts_under_load(world, report);
    operations::stopped_and_started(world, report);
    operations::erased_and_kept(world, report);
    operations::certificate_without_restart(world, report);
    match world.cluster.kubectl(&["get", "mail", "-A"]) {
        Ok(table) => report.show(&table),
        Err(error) => report.show(&format!("{error:#}")),
    }
}
