//! A gate between an operator and the API server: single requests are refused or kept waiting until it opens. It lies
//! where the network would be, below the operator's deadlines and retries.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Method, Request};
use kube::client::Body;
use kube::{Client, Config};
use paquebot_operator::api_client;
use tokio::sync::watch;
use tower::{BoxError, Layer, Service, ServiceExt};

use super::world::Space;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// They fail, as with a broken connection.
    Refused,
    /// They wait until the gate opens.
    Held,
}

struct Rule {
    method: Method,
    /// What the path has in it.
    path: String,
    manner: Manner,
}

/// Everything passes at first. Clones are the same.
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<Vec<Rule>>>);

impl Gate {
    pub fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }

    /// The same namespace, looked at through the gate.
    pub fn before(&self, config: &Config, space: &Space) -> Space {
        let client: Client = api_client::client_through(config.clone(), self).unwrap();
        Space { client, name: space.name.clone() }
    }

    pub fn refuse(&self, method: Method, path: &str) {
        self.add(method, path, Manner::Refused);
    }

    pub fn hold(&self, method: Method, path: &str) {
        self.add(method, path, Manner::Held);
    }

    /// Everything passes again, and what was held goes on.
    pub fn open(&self) {
        self.0.send_modify(Vec::clear);
    }

    fn add(&self, method: Method, path: &str, manner: Manner) {
        self.0.send_modify(|rules| rules.push(Rule { method, path: path.to_owned(), manner }));
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { inner, gate: self.clone() }
    }
}

#[derive(Clone)]
pub struct Gated<S> {
    inner: S,
    gate: Gate,
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
    S::Response: Send,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (service, mut rules) = (self.inner.clone(), self.gate.0.subscribe());
        Box::pin(async move {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let meets = |rule: &Rule| rule.method == method && path.contains(&rule.path);
            if rules.borrow().iter().any(|rule| rule.manner == Manner::Refused && meets(rule)) {
                return Err(format!("{method} {path} is refused at the gate").into());
            }
            rules.wait_for(|rules| !rules.iter().any(|rule| rule.manner == Manner::Held && meets(rule))).await?;
            service.oneshot(request).await
        })
    }
}
