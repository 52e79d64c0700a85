//! HTTP for probes and Prometheus: /healthz, /readyz, /metrics. Started by `main` before anything else.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::controllers::health::Health;
use crate::metrics::Metrics;

/// What the pages are made from.
#[derive(Clone)]
pub struct Admin {
    /// Whether the process lives.
    pub health: Arc<Health>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// Answers until the process ends.
///
/// # Errors
/// What the operating system says of the socket.
pub async fn serve(listener: TcpListener, admin: Admin) -> std::io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(admin);
    axum::serve(listener, router).await
}

async fn healthz(State(admin): State<Admin>) -> Response {
    match admin.health.illness() {
        None => "ok\n".into_response(),
        Some(illness) => (StatusCode::SERVICE_UNAVAILABLE, format!("{illness}\n")).into_response(),
    }
}

async fn readyz(State(admin): State<Admin>) -> Response {
    match admin.health.unreadiness() {
        Some(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
        None if admin.health.is_leading() => "leading\n".into_response(),
        None => "waiting to lead\n".into_response(),
    }
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
