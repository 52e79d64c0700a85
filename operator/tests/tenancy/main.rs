//! Tenants on a real API server: with the roles of the chart, as users that the API server tells apart, one of them hostile.
//! What each may do is a table ([`rbac`]); what the hostile one tries is another ([`attacks`]), and the other tenant sees
//! nothing of it. [`handshakes`]: who admits whom, and what becomes of it when that changes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test")]

mod attacks;
mod handshakes;
mod rbac;
mod stage;
#[path = "../support/mod.rs"]
mod support;

use support::{server, world};

#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_kept_apart() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let api_server = server::ApiServer::start();
    let config = api_server.config().await;
    let client = api_server.client().await;
    world::install_definitions(&client).await;
    let stage = stage::Stage::new(&client, config).await;
    eprintln!("what each role may do");
    rbac::each_role_may_do_its_work_and_no_more(&stage).await;
    let operator = stage.start_operator().await;
    stage.furnish().await;
    eprintln!("app passwords follow their Secrets, and say which is missing");
    handshakes::app_passwords(&stage).await;
    eprintln!("what a hostile tenant tries is refused");
    attacks::each_is_refused(&stage).await;
    eprintln!("rings of aliases are refused");
    attacks::rings(&stage).await;
    eprintln!("a thousand objects of one tenant keep no change of another out");
    attacks::a_flood_keeps_nobody_out(&stage).await;
    eprintln!("limits that are lowered, conflicts that heal, and admissions that are revoked");
    handshakes::limits_and_conflicts(&stage).await;
    handshakes::revocation(&stage).await;
    attacks::nobody_was_told_of_others(&stage).await;
    operator.stop().await;
}
