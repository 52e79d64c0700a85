//! The whole operator against a real API server through a layer of faults: what can go wrong between the two does, and
//! the same end state is reached. See `docs/faults.md`.
//!
//! `FAULTS=all` crashes at every write of every scenario and makes more storms; without it a sample is taken that
//! `FAULTS_SEED` decides. `FAULTS_ONLY` runs the parts whose name contains it. One test, so that one API server serves all
//! runs; each has a namespace.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test")]

mod crashes;
mod dump;
mod layer;
mod operator;
mod plan;
mod pods;
mod scenarios;
mod secrets;
mod special;
mod stage;
mod storms;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod table;

use support::{external_dns, server, world};

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_survives_faults() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    secrets::start_logging();
    let api_server = server::ApiServer::start();
    let config = api_server.config().await;
    let client = api_server.client().await;
    world::install_definitions(&client).await;
    external_dns::install(&client).await;
    let failures = table::Run::from_environment(config).all().await;
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
