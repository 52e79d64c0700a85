//! `GET /peers`: who connected lately to which listener, for whoever shows a token ([`super::token`]). The operator asks it to
//! tell whether clients keep their own addresses on the way to the pod, and under which address it appears here itself.

use std::net::IpAddr;
use std::path::Path;

use axum::extract::{ConnectInfo, State};
use axum::routing::get;
use axum::{Json, Router};
use serde::Serialize;

use super::connections::Client;
use super::token::{TokenFile, authorize};
use crate::listen::peers::{ListenerPeers, Peers};

/// What the page is made from. A clone is the same.
#[derive(Clone)]
pub struct PeersAdmin {
    tokens: TokenFile,
    peers: Peers,
}

/// The answer.
#[derive(Serialize)]
struct Answer {
    /// Where this request comes from.
    client: IpAddr,
    /// Where connections came from.
    listeners: Vec<ListenerPeers>,
}

impl PeersAdmin {
    /// With the tokens of a configuration directory.
    #[must_use]
    pub fn new(config_dir: &Path, peers: Peers) -> Self {
        Self { tokens: TokenFile::new(config_dir), peers }
    }

    /// The route, to be merged into the admin server's.
    pub(super) fn router<S>(self) -> Router<S> {
        let authorize = axum::middleware::from_fn_with_state(self.tokens.clone(), authorize);
        Router::new().route("/peers", get(peers)).layer(authorize).with_state(self)
    }
}

async fn peers(State(admin): State<PeersAdmin>, ConnectInfo(Client(client)): ConnectInfo<Client>) -> Json<Answer> {
    Json(Answer { client: client.ip(), listeners: admin.peers.list() })
}
