//! The end-to-end suite on a real Kubernetes: the story, then what must hold when things go wrong. `make e2e` runs it.

use std::process::ExitCode;

use paquebot_tests::kubernetes::Cluster;
use paquebot_tests::report::Report;
use paquebot_tests::story;

fn main() -> ExitCode {
    let cluster = Cluster::from_environment();
    let mut report = Report::default();
    if let Ok(world) = story::tell(&cluster, &mut report) {
        let _ = world;
    }
    report.close();
    if report.all_passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
