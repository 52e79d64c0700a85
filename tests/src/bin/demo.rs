//! `make demo`: the story, start to end, on a real Kubernetes.

use std::process::ExitCode;

use paquebot_tests::kubernetes::Cluster;
use paquebot_tests::report::Report;
use paquebot_tests::story;

fn main() -> ExitCode {
    let cluster = Cluster::from_environment();
    let mut report = Report::default();
    let told = story::tell(&cluster, &mut report);
    report.close();
    if told.is_err() {
        return ExitCode::FAILURE;
    }
    report.show(&format!(
        "\nTold in {} s. Everything is still there: look around with\n  {}\n  kubectl get mail -A\n  \
         kubectl -n server1 describe maildomain server1.com\nand take it away with\n  \
         kubectl delete namespace server1 server2 printers; helm -n paquebot-system uninstall paquebot",
        report.elapsed().as_secs(),
        if std::env::var("CONTEXT").is_ok_and(|context| !context.is_empty()) {
            "(your kube context)"
        } else {
            "eval \"$(tests/cluster/cluster env)\""
        }
    ));
    ExitCode::SUCCESS
}
