//! HTTP for the operator, probes and people: /healthz, /readyz, /metrics, /configz tell no secret and change nothing;
//! below /queue ([`queue`]) somebody with a token looks after the outbound queue, and /peers ([`peers`]) tells the same who
//! connected lately. Started by `main` before anything else, so that a server that waits for its configuration can say so.

mod connections;
mod maildrops;
mod peers;
pub mod queue;
mod readiness;
mod token;

use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

pub use self::maildrops::MaildropsAdmin;
pub use self::peers::PeersAdmin;
pub use self::queue::QueueAdmin;
pub use self::readiness::Readiness;
use crate::metrics::Metrics;
use crate::reload::SharedStatus;

/// What the pages are made from.
#[derive(Clone)]
pub struct Admin {
    /// Whether mail is served.
    pub readiness: Readiness,
    /// What configuration is in force.
    pub status: SharedStatus,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The outbound queue.
    pub queue: QueueAdmin,
    /// Who connected.
    pub peers: PeersAdmin,
    /// Mail that is to go for good.
    pub maildrops: MaildropsAdmin,
}

/// Answers until the process ends.
///
/// # Errors
/// What the listener says when it cannot go on.
pub async fn serve(listener: TcpListener, admin: Admin) -> std::io::Result<()> {
    let (queue, counted) = (admin.queue.clone().router(), Arc::clone(&admin.metrics));
    let (peers, maildrops) = (admin.peers.clone().router(), admin.maildrops.clone().router());
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/configz", get(configz))
        .with_state(admin)
        .merge(queue)
        .merge(peers)
        .merge(maildrops);
    let service =
        close_after_each(count_refused(router, counted)).into_make_service_with_connect_info::<connections::Client>();
    axum::serve(connections::Bounded::new(listener), service).await
}

/// Counts and logs who showed no right token: guessing is to be seen.
fn count_refused(router: Router, metrics: Arc<Metrics>) -> Router {
    router.layer(middleware::from_fn(move |request: Request, next: Next| {
        let metrics = Arc::clone(&metrics);
        async move {
            let client = request.extensions().get::<ConnectInfo<connections::Client>>().map(|client| client.0.0);
            let path = request.uri().path().to_owned();
            let response = next.run(request).await;
            if response.status() == StatusCode::UNAUTHORIZED {
                metrics.admin_refused.inc();
                let client = client.map(tracing::field::display);
                tracing::warn!(client, path, "an admin request without a right token was refused");
            }
            response
        }
    }))
}

/// One request for each connection: a place is free again with the answer.
fn close_after_each(router: Router) -> Router {
    router.layer(axum::middleware::map_response(async |mut response: Response| {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        response
    }))
}

async fn readyz(State(admin): State<Admin>) -> Response {
    let reasons = admin.readiness.reasons(&admin.status.get()).await;
    if reasons.is_empty() {
        return "ready\n".into_response();
    }
    let text: String = reasons.iter().map(|reason| format!("not ready: {reason}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.metrics.encode() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn configz(State(admin): State<Admin>) -> Response {
    axum::Json(admin.status.get().as_ref()).into_response()
}
