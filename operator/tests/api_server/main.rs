//! The operator against a real API server (etcd and kube-apiserver alone: no node, no controllers, no garbage
//! collection). The API server is the one that `PAQUEBOT_API_SERVER_KUBECONFIG` names, or one that the test starts and
//! takes down by itself with `tests/cluster/cluster apiserver`.
//!
//! One test, so that one API server serves all scenarios; each has a namespace and an operator of its own. With
//! `SCENARIO=…` only those run whose sentence has it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "a test")]

mod election;
mod exposure;
mod filters;
mod fleet;
mod honesty;
mod operations;
mod reclaim;
mod scenarios;
mod slow_writes;
mod smart_hosts;
#[path = "../support/mod.rs"]
mod support;
mod upgrade;

use support::{server, world};

async fn scenario(sentence: &str, story: impl Future<Output = ()>) {
    if sentence.contains(&std::env::var("SCENARIO").unwrap_or_default()) {
        eprintln!("{sentence}");
        Box::pin(story).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_on_a_real_api_server() {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let api_server = server::ApiServer::start();
    let (client, config) = (api_server.client().await, api_server.config().await);
    world::install_definitions(&client).await;
    scenario(
        "objects become a server, and the second pass writes nothing",
        scenarios::objects_become_a_server(&client),
    )
    .await;
    scenario("passwords follow their Secrets", scenarios::passwords_follow_their_secrets(&client)).await;
    scenario(
        "what an older operator has written is recovered",
        upgrade::secrets_without_their_label_are_recovered(&client),
    )
    .await;
    scenario("logins of smart hosts follow their Secrets", smart_hosts::logins_follow_their_secrets(&client)).await;
    scenario(
        "a login that is named again is read again",
        smart_hosts::a_login_that_is_named_again_is_read_again(&client, &config),
    )
    .await;
    scenario(
        "a filter that is named again is read again",
        filters::a_filter_that_is_named_again_is_read_again(&client, &config),
    )
    .await;
    scenario(
        "authorities of clients' certificates follow their Secret",
        smart_hosts::authorities_follow_their_secret(&client),
    )
    .await;
    scenario(
        "a fleet's passwords are hashed in the open, and one change is one",
        fleet::a_fleet_is_hashed_in_the_open_and_one_change_is_one(&client, &config),
    )
    .await;
    scenario("a slow file holds up no other", slow_writes::a_slow_file_holds_up_no_other(&client, &config)).await;
    scenario("references that appear later heal, and conflicts are settled", scenarios::references_heal(&client)).await;
    scenario("what somebody else has changed is put right", scenarios::drift_is_put_right(&client)).await;
    scenario("what belongs to somebody else is left alone", scenarios::objects_of_others_are_left_alone(&client)).await;
    scenario(
        "an object of the server that the API server refuses holds nobody's change up",
        scenarios::a_refused_workload_holds_nobody_up(&client),
    )
    .await;
    scenario("what is deleted leaves the directory and keeps its mail", scenarios::deletion_retains(&client)).await;
    scenario(
        "objects of a server that is refused have statuses",
        honesty::refused_servers_objects_have_statuses(&client),
    )
    .await;
    scenario(
        "what changed while no operator ran is looked at before it is said",
        honesty::what_changed_meanwhile_is_observed(&client),
    )
    .await;
    scenario(
        "a domain is not on its way with its mailboxes",
        honesty::a_domain_is_not_on_its_way_with_its_mailboxes(&client),
    )
    .await;
    scenario(
        "a refusal is told in the server's own words",
        honesty::a_refusal_is_told_in_the_servers_own_words(&client),
    )
    .await;
    scenario(
        "clients' addresses are measured, and strangers are refused",
        exposure::clients_addresses_are_measured_and_strangers_refused(&client),
    )
    .await;
    scenario("a Service has its variants, and goes back", exposure::a_service_has_its_variants_and_goes_back(&client))
        .await;
    scenario(
        "a paused server is left alone, and resuming catches up",
        operations::a_paused_server_is_left_alone(&client),
    )
    .await;
    scenario("a stopped server has no pods and says so", operations::a_stopped_server_says_so(&client)).await;
    scenario("volumes grow and never shrink", operations::volumes_grow(&client)).await;
    scenario("cert-manager is asked where it is installed", operations::cert_manager_is_asked(&client)).await;
    scenario("mail goes with its object where that is wanted", reclaim::mail_goes_with_its_object(&client)).await;
    scenario("whoever deletes many mailboxes keeps nobody else's mail waiting", reclaim::erasures_take_turns(&client))
        .await;
    scenario(
        "what may stand beside a server comes and goes",
        exposure::what_stands_beside_a_server_comes_and_goes(&client),
    )
    .await;
    scenario("one of two operators leads", election::one_of_two_leads(&client, api_server.kubeconfig())).await;
}
