//! The layer between the operator and the API server: it records what is asked and answered, and lets things go wrong.
//! It lies below the operator's deadlines and retries, where the network would be.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use kube::client::Body;
use serde_json::json;
use tokio::sync::watch;
use tower::{BoxError, Layer, Service, ServiceExt};

use crate::plan::{Ask, Crash, Fault, Moment, Plan, Verb};
use crate::streams;

pub type Answer = UnsyncBoxBody<Bytes, BoxError>;

/// One request and what came of it.
pub struct Exchange {
    pub name: String,
    pub verb: Verb,
    pub sent: Bytes,
    /// Absent: never answered by the API server.
    pub code: Option<u16>,
    /// Empty for a watch.
    pub received: Bytes,
}

/// Older answers to reads, for all operators of one world.
#[derive(Default)]
pub struct Memory(Mutex<HashMap<String, VecDeque<(StatusCode, Bytes)>>>);

/// How many answers to one question are kept.
const REMEMBERED: usize = 3;

impl Memory {
    fn remember(&self, question: &str, code: StatusCode, answer: &Bytes) {
        let mut answers = self.0.lock().unwrap();
        let answers = answers.entry(question.to_owned()).or_default();
        answers.push_back((code, answer.clone()));
        while answers.len() > REMEMBERED {
            answers.pop_front();
        }
    }

    fn oldest(&self, question: &str) -> Option<(StatusCode, Bytes)> {
        self.0.lock().unwrap().get(question)?.front().cloned()
    }
}

/// The layer. Clones are the same.
#[derive(Clone)]
pub struct Faults(Arc<Shared>);

pub struct Shared {
    plan: Plan,
    memory: Arc<Memory>,
    exchanges: Mutex<Vec<Exchange>>,
    occurrences: Mutex<HashMap<String, usize>>,
    befallen: Mutex<BTreeMap<Fault, usize>>,
    number: AtomicU64,
    /// The crash of the plan does not happen any more.
    disarmed: AtomicBool,
    /// How many writes were answered.
    written: watch::Sender<usize>,
    crashed: watch::Sender<bool>,
    away: watch::Sender<bool>,
}

impl Faults {
    pub fn new(plan: Plan, memory: Arc<Memory>) -> Self {
        Self(Arc::new(Shared {
            plan,
            memory,
            exchanges: Mutex::default(),
            occurrences: Mutex::default(),
            befallen: Mutex::default(),
            number: AtomicU64::default(),
            disarmed: AtomicBool::default(),
            written: watch::Sender::new(0),
            crashed: watch::Sender::new(false),
            away: watch::Sender::new(false),
        }))
    }

    /// From now on, or no more, the API server cannot be reached, and open watches break.
    pub fn set_away(&self, away: bool) {
        self.0.away.send_replace(away);
    }

    /// Whether the crash of the plan has happened.
    pub fn has_crashed(&self) -> bool {
        *self.0.crashed.borrow()
    }

    /// Waits until the crash of the plan has happened.
    pub async fn crashed(&self) {
        let _ = self.0.crashed.subscribe().wait_for(|crashed| *crashed).await;
    }

    /// The run has come to its end without the write of the crash: what is undone after it goes undisturbed.
    pub fn disarm(&self) {
        self.0.disarmed.store(true, Ordering::Relaxed);
    }

    /// How many writes the API server has answered.
    pub fn written(&self) -> watch::Receiver<usize> {
        self.0.written.subscribe()
    }

    /// What has gone wrong, how often.
    pub fn befallen(&self) -> BTreeMap<Fault, usize> {
        self.0.befallen.lock().unwrap().clone()
    }

    /// The names of the writes that the API server has heard of, each with its number, in order.
    pub fn writes(&self) -> Vec<String> {
        let mut counts: HashMap<String, usize> = HashMap::new();
        let exchanges = self.0.exchanges.lock().unwrap();
        let writes = exchanges.iter().filter(|exchange| exchange.verb == Verb::Write && exchange.code.is_some());
        writes.map(|exchange| numbered(&mut counts, &exchange.name)).collect()
    }

    /// The names of the reads, in order.
    pub fn reads(&self) -> Vec<String> {
        let exchanges = self.0.exchanges.lock().unwrap();
        exchanges.iter().filter(|exchange| exchange.verb == Verb::Read).map(|exchange| exchange.name.clone()).collect()
    }

    /// Looks at everything that was recorded.
    pub fn each(&self, look: impl FnMut(&Exchange)) {
        self.0.exchanges.lock().unwrap().iter().for_each(look);
    }
}

fn numbered(counts: &mut HashMap<String, usize>, name: &str) -> String {
    let count = counts.entry(name.to_owned()).or_default();
    *count += 1;
    format!("{name} #{count}")
}

impl<S> Layer<S> for Faults {
    type Service = Faulty<S>;

    fn layer(&self, inner: S) -> Faulty<S> {
        Faulty { inner, shared: Arc::clone(&self.0) }
    }
}

#[derive(Clone)]
pub struct Faulty<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Service<Request<Body>> for Faulty<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Answer>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (service, shared) = (self.inner.clone(), Arc::clone(&self.shared));
        Box::pin(async move { shared.exchange(service, request).await })
    }
}

impl Shared {
    async fn exchange<S>(&self, service: S, request: Request<Body>) -> Result<Response<Answer>, BoxError>
    where
        S: Service<Request<Body>, Response = Response<Body>, Error = BoxError>,
    {
        let (parts, body) = request.into_parts();
        let sent = body.collect_bytes().await?;
        let ask = Ask::read(&parts.method, &parts.uri, &sent);
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        self.alive().await;
        let crash = self.crash_at(&ask);
        if crash == Some(Moment::BeforeSent) {
            self.crashed.send_replace(true);
        }
        self.alive().await;
        let fault = self.fault(&ask, number);
        if let Some(answer) = self.instead(&ask, &sent, fault, number).await {
            return answer;
        }
        let question = format!("{} {}", parts.method, parts.uri);
        let response = service.oneshot(Request::from_parts(parts, Body::from(sent.clone()))).await?;
        self.alive().await;
        let code = response.status();
        if ask.verb == Verb::Watch && code.is_success() {
            self.record(&ask, sent, Some(code), Bytes::new());
            return Ok(self.stream(response, fault, number));
        }
        let received = response.into_body().collect().await.map_err(BoxError::from)?.to_bytes();
        if crash == Some(Moment::AfterApplied) {
            self.crashed.send_replace(true);
        }
        self.record(&ask, sent, Some(code), received.clone());
        self.alive().await;
        self.answer(&ask, fault, &question, code, received).await
    }

    /// What is answered without asking the API server.
    async fn instead(
        &self,
        ask: &Ask,
        sent: &Bytes,
        fault: Option<Fault>,
        number: u64,
    ) -> Option<Result<Response<Answer>, BoxError>> {
        let even = number.is_multiple_of(2);
        let answer = match fault {
            _ if *self.away.borrow() && even => Err(broken("the connection was refused")),
            _ if *self.away.borrow() => Ok(failure(StatusCode::SERVICE_UNAVAILABLE)),
            Some(Fault::Refused) => Err(broken("the connection was refused")),
            Some(Fault::ServerError) => Ok(failure(StatusCode::INTERNAL_SERVER_ERROR)),
            Some(Fault::Unavailable) => Ok(failure(StatusCode::SERVICE_UNAVAILABLE)),
            Some(Fault::TooManyRequests) => Ok(failure(StatusCode::TOO_MANY_REQUESTS)),
            Some(Fault::Conflict) => Ok(failure(StatusCode::CONFLICT)),
            Some(Fault::WatchExpired) if even => Ok(failure(StatusCode::GONE)),
            Some(Fault::Silence) if even => std::future::pending().await,
            Some(Fault::Latency) => {
                tokio::time::sleep(Duration::from_millis(number * 37 % 1000)).await;
                return None;
            }
            _ => return None,
        };
        self.record(ask, sent.clone(), None, Bytes::new());
        Some(answer)
    }

    async fn answer(
        &self,
        ask: &Ask,
        fault: Option<Fault>,
        question: &str,
        code: StatusCode,
        received: Bytes,
    ) -> Result<Response<Answer>, BoxError> {
        let older = self.memory.oldest(question);
        if ask.verb == Verb::Read {
            self.memory.remember(question, code, &received);
        }
        match (fault, older) {
            (Some(Fault::Silence), _) => std::future::pending().await,
            (Some(Fault::AnswerLost), _) => Err(broken("the connection broke before the answer")),
            (Some(Fault::AnswerCut), _) => Ok(whole(code, received.slice(..received.len() / 2))),
            (Some(Fault::StaleRead), Some((code, older))) => Ok(whole(code, older)),
            _ => Ok(whole(code, received)),
        }
    }

    fn stream(&self, response: Response<Body>, fault: Option<Fault>, number: u64) -> Response<Answer> {
        let (away, crashed) = (self.away.subscribe(), self.crashed.subscribe());
        response.map(|body| streams::faulty(body, fault, number, away, crashed))
    }

    /// A process that has crashed learns nothing more.
    async fn alive(&self) {
        if *self.crashed.borrow() {
            std::future::pending().await
        }
    }

    fn crash_at(&self, ask: &Ask) -> Option<Moment> {
        if ask.verb != Verb::Write {
            return None;
        }
        let name = numbered(&mut self.occurrences.lock().unwrap(), &ask.name);
        let Crash { write, moment } = self.plan.crash.as_ref()?;
        (*write == name && !self.disarmed.load(Ordering::Relaxed)).then_some(*moment)
    }

    fn fault(&self, ask: &Ask, number: u64) -> Option<Fault> {
        let fault = self.plan.storm.as_ref()?.choose(ask.verb, number)?;
        *self.befallen.lock().unwrap().entry(fault).or_default() += 1;
        Some(fault)
    }

    fn record(&self, ask: &Ask, sent: Bytes, code: Option<StatusCode>, received: Bytes) {
        let code = code.map(|code| code.as_u16());
        let exchange = Exchange { name: ask.name.clone(), verb: ask.verb, sent, code, received };
        self.exchanges.lock().unwrap().push(exchange);
        if ask.verb == Verb::Write && code.is_some() {
            self.written.send_modify(|written| *written += 1);
        }
    }
}

pub fn broken(what: &str) -> BoxError {
    io::Error::new(io::ErrorKind::ConnectionReset, format!("injected: {what}")).into()
}

fn whole(code: StatusCode, bytes: Bytes) -> Response<Answer> {
    let body = Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(code).body(body).unwrap()
}

fn failure(code: StatusCode) -> Response<Answer> {
    let reason = code.canonical_reason().unwrap_or_default().replace(' ', "");
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": "injected", "reason": reason, "code": code.as_u16(),
    });
    let mut response = whole(code, status.to_string().into());
    if code == StatusCode::TOO_MANY_REQUESTS {
        response.headers_mut().insert("retry-after", "1".parse().unwrap());
    }
    response
}
