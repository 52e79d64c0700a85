//! A gate between an operator and the API server: single requests are refused or kept waiting until it opens. It lies
//! where the network would be, below the operator's deadlines and retries.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
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
pub struct Gate(Arc<Shared>);

struct Shared {
    rules: watch::Sender<Vec<Rule>>,
    /// How many requests are held now, and how many ever were.
    waiting: AtomicUsize,
    held: AtomicUsize,
}

/// A request while it is held. Whoever asks may give up.
struct Waiting(Arc<Shared>);

impl Waiting {
    fn new(shared: &Arc<Shared>) -> Self {
        shared.waiting.fetch_add(1, Ordering::Relaxed);
        shared.held.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(shared))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    pub fn new() -> Self {
        let rules = watch::Sender::new(Vec::new());
        Self(Arc::new(Shared { rules, waiting: AtomicUsize::default(), held: AtomicUsize::default() }))
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

    /// How many requests are held now, and how many have been ever.
    pub fn held(&self) -> (usize, usize) {
        (self.0.waiting.load(Ordering::Relaxed), self.0.held.load(Ordering::Relaxed))
    }

    /// Everything passes again, and what was held goes on.
    pub fn open(&self) {
        self.0.rules.send_modify(Vec::clear);
    }

    fn add(&self, method: Method, path: &str, manner: Manner) {
        self.0.rules.send_modify(|rules| rules.push(Rule { method, path: path.to_owned(), manner }));
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
        let (service, shared) = (self.inner.clone(), Arc::clone(&self.gate.0));
        Box::pin(async move {
            let (method, path) = (request.method().clone(), request.uri().path().to_owned());
            let meets = |rule: &Rule| rule.method == method && path.contains(&rule.path);
            let is = |rules: &Vec<Rule>, manner| rules.iter().any(|rule| rule.manner == manner && meets(rule));
            if is(&shared.rules.borrow(), Manner::Refused) {
                return Err(format!("{method} {path} is refused at the gate").into());
            }
            if is(&shared.rules.borrow(), Manner::Held) {
                let _waiting = Waiting::new(&shared);
                shared.rules.subscribe().wait_for(|rules| !is(rules, Manner::Held)).await?;
            }
            service.oneshot(request).await
        })
    }
}
