//! How the API server is asked: every answer has a deadline, and only what the API server asks to be asked again is asked
//! again, for a few seconds. Used by `main`; tests put a layer of faults below ([`client_through`]).
//!
//! The library's own retries are turned off: fifteen of them that double their distance take minutes, in which nobody
//! learns that a watch has failed, and after an outage nothing moves for as long as the outage took.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use http_body_util::{BodyExt, Either, Full};
use kube::client::retry::RetryPolicy;
use kube::client::{Body, ClientBuilder};
use kube::{Client, Config};
use tower::retry::RetryLayer;
use tower::{BoxError, Layer, Service, ServiceExt};

use crate::controllers::calls::DEADLINE;

/// Distances of the retries of 429, 503 and 504 where the answer names none, and how many there are.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(2);
const RETRIES: u32 = 4;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The settings cannot be used.
    #[error("the API server's client could not be made: {0}")]
    Kube(#[from] kube::Error),
    /// The retries cannot be.
    #[error("the retries cannot be made: {0}")]
    Retry(#[from] kube::client::retry::InvalidBackoff),
}

/// A client for the controllers.
///
/// # Errors
/// [`ClientError`].
pub fn client(config: Config) -> Result<Client, ClientError> {
    client_through(config, &tower::layer::util::Identity::new())
}

/// A client whose every request goes through a layer, right before it is sent.
///
/// # Errors
/// [`ClientError`].
pub fn client_through<L, B>(mut config: Config, layer: &L) -> Result<Client, ClientError>
where
    L: Layer<Direct>,
    L::Service: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Clone + Send + 'static,
    <L::Service as Service<Request<Body>>>::Future: Send,
    B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    config.default_retry = false;
    let namespace = config.default_namespace.clone();
    let retries = RetryPolicy::new(FIRST_RETRY, LONGEST_RETRY, RETRIES, true)?;
    let direct = Direct(Client::try_from(config)?);
    let builder = ClientBuilder::new(direct, namespace).with_layer(layer).with_layer(&RetryLayer::new(retries));
    Ok(builder.with_layer(&DeadlineLayer(DEADLINE)).build())
}

/// Sends requests as they are.
#[derive(Clone)]
pub struct Direct(Client);

type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl Service<Request<Body>> for Direct {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pending<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, _context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let client = self.0.clone();
        Box::pin(async move { client.send(request).await.map_err(BoxError::from) })
    }
}

/// Gives each answer its deadline: a watch's beginning, and any other answer whole.
struct DeadlineLayer(Duration);

impl<S> Layer<S> for DeadlineLayer {
    type Service = WithDeadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithDeadline(inner, self.0)
    }
}

#[derive(Clone)]
struct WithDeadline<S>(S, Duration);

/// The API server did not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("the API server did not answer within {} seconds", .0.as_secs())]
struct Silent(Duration);

impl<S, B> Service<Request<Body>> for WithDeadline<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, BoxError>>;
    type Error = BoxError;
    type Future = Pending<Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that is ready is taken; the copy may not be.
        let copy = self.0.clone();
        let inner = std::mem::replace(&mut self.0, copy);
        let (whole, deadline) = (!is_watch(&request), self.1);
        Box::pin(async move {
            let answer = tokio::time::timeout(deadline, answer(inner, request, whole)).await;
            answer.map_err(|_| BoxError::from(Silent(deadline)))?
        })
    }
}

async fn answer<S, B>(
    service: S,
    request: Request<Body>,
    whole: bool,
) -> Result<Response<http_body_util::combinators::UnsyncBoxBody<bytes::Bytes, BoxError>>, BoxError>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let (parts, body) = service.oneshot(request).await?.into_parts();
    let body = if whole {
        let bytes = body.collect().await.map_err(Into::into)?.to_bytes();
        Either::Left(Full::new(bytes).map_err(|never: Infallible| match never {}))
    } else {
        Either::Right(body.map_err(Into::into))
    };
    Ok(Response::from_parts(parts, body.boxed_unsync()))
}

fn is_watch(request: &Request<Body>) -> bool {
    let query = request.uri().query().unwrap_or_default();
    query.split('&').any(|pair| matches!(pair, "watch=true" | "watch=1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_are_told_from_lists() {
        let is = |uri: &str| is_watch(&Request::builder().uri(uri).body(Body::empty()).unwrap());
        assert!(is("/api/v1/pods?&watch=true&timeoutSeconds=290"));
        assert!(is("/api/v1/pods?watch=1"));
        assert!(!is("/api/v1/pods?&limit=500"));
        assert!(!is("/api/v1/namespaces/watch/pods"));
    }

    #[tokio::test]
    async fn an_answer_that_never_ends_is_an_error() {
        let never = tower::service_fn(|_: Request<Body>| async {
            let body = http_body_util::StreamBody::new(futures::stream::pending::<
                Result<http_body::Frame<bytes::Bytes>, BoxError>,
            >());
            Ok::<_, BoxError>(Response::new(body.boxed_unsync()))
        });
        let ask = |uri: &'static str| {
            let request = Request::builder().uri(uri).body(Body::empty()).unwrap();
            WithDeadline(never, Duration::from_secs(1)).oneshot(request)
        };
        let error = ask("/api/v1/pods").await.err().unwrap();
        assert!(error.to_string().contains("did not answer within 1 seconds"), "{error}");
        assert!(ask("/api/v1/pods?watch=true").await.is_ok(), "a watch may be silent for as long as nothing happens");
    }
}
