//! Two operators, one Lease.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Client;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;

use crate::world::Space;

/// An operator process, and what its log says.
struct Process {
    child: Child,
    leads: watch::Receiver<bool>,
}

impl Process {
    fn start(space: &Space, kubeconfig: &Path, name: &str) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_paquebot-operator"))
            .args(["--admin-port", "0", "--watch-namespace", &space.name, "--lease-namespace", &space.name])
            .args(["--pod-name", name, "--log-format", "json"])
            .env("KUBECONFIG", kubeconfig)
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (sender, leads) = watch::channel(false);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                if line.contains("this process leads") {
                    let _ = sender.send(true);
                }
            }
        });
        Self { child, leads }
    }

    async fn wait_to_lead(&mut self) {
        let leads = self.leads.wait_for(|leads| *leads);
        tokio::time::timeout(Duration::from_secs(60), leads).await.expect("it never led").unwrap();
    }

    fn terminate(&self) {
        let id = self.child.id().unwrap().to_string();
        let done = std::process::Command::new("kill").args(["-TERM", &id]).status().unwrap();
        assert!(done.success());
    }
}

pub async fn one_of_two_leads(client: &Client, kubeconfig: &Path) {
    let space = Space::new(client, "election").await;
    let mut first = Process::start(&space, kubeconfig, "first");
    first.wait_to_lead().await;
    let mut second = Process::start(&space, kubeconfig, "second");
    assert!(!*second.leads.borrow());
    first.terminate();
    assert!(first.child.wait().await.unwrap().success());
    second.wait_to_lead().await;
    // Somebody else has the Lease, whatever the second believes: it ends, and does not call that a success.
    let theirs = json!({ "spec": { "holderIdentity": "somebody", "renewTime": MicroTime(Timestamp::now()) } });
    let leases = space.api::<Lease>();
    leases.patch("paquebot-operator", &PatchParams::default(), &Patch::Merge(&theirs)).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(60), second.child.wait()).await;
    assert!(!ended.expect("it works on without the Lease").unwrap().success());
}
