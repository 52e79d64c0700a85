//! HTTP below /queue: a person, or the operator, looks at the outbound queue and acts on it. Every request needs a token
//! ([`super::token`]); what a request says is read in [`request`]. docs/queue.md tells people how.

mod request;

use std::path::Path;
use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path as UrlPath, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use self::request::{LONGEST_PAGE, Request, Wrong};
use super::token::{TokenFile, Who, authorize};
use crate::metrics::{ByResult, Metrics, Word};
use crate::queue::control::Control;
use crate::queue::dsn::header_of;
use crate::store::outgoing::{ListedRecipient, MessageNumber, QueueChange, QueueDestination, QueueFilter, QueueStore};
use crate::store::{MessageId, StoreError};

/// A request says which rows and what about them: some short words.
const LONGEST_REQUEST: usize = 64 * 1024;
/// Requests that look through the queue at once: mail comes first.
const AT_ONCE: usize = 2;
/// Rows that one request changes at most; it answers within seconds.
const CHANGES: usize = 100_000;
/// Octets of a message that are shown.
const LONGEST_BODY: usize = 1024 * 1024;
/// Octets of a header that are shown.
const LONGEST_HEADER: usize = 64 * 1024;

/// What the pages are made from. A clone is the same.
#[derive(Clone)]
pub struct QueueAdmin(Arc<Parts>);

struct Parts {
    tokens: TokenFile,
    metrics: Arc<Metrics>,
    places: Semaphore,
    queue: OnceLock<(Arc<dyn QueueStore>, Control)>,
}

impl QueueAdmin {
    /// With the tokens of a configuration directory. There is no queue yet.
    #[must_use]
    pub fn new(config_dir: &Path, metrics: Arc<Metrics>) -> Self {
        let tokens = TokenFile::new(config_dir);
        Self(Arc::new(Parts { tokens, metrics, places: Semaphore::new(AT_ONCE), queue: OnceLock::new() }))
    }

    /// The queue runs.
    pub fn set_queue(&self, store: Arc<dyn QueueStore>, control: Control) {
        // The second call would be with the same one.
        let _ = self.0.queue.set((store, control));
    }

    /// The routes, to be merged into the admin server's.
    pub(super) fn router<S>(self) -> Router<S> {
        let authorize = axum::middleware::from_fn_with_state(self.0.tokens.clone(), authorize);
        let action = |action: Action| post(move |state, who, body| act(action, state, who, body));
        Router::new()
            .route("/queue", get(list))
            .route("/queue/messages/{id}", get(message))
            .route("/queue/hold", action(Action::Hold))
            .route("/queue/release", action(Action::Release))
            .route("/queue/retry", action(Action::Retry))
            .route("/queue/drop", action(Action::Drop))
            .route("/queue/reroute", action(Action::Reroute))
            .route("/queue/{*rest}", get(unknown).post(unknown))
            .layer(authorize)
            .layer(DefaultBodyLimit::max(LONGEST_REQUEST))
            .with_state(self)
    }

    fn queue(&self) -> Result<(&dyn QueueStore, &Control), Failure> {
        match self.0.queue.get() {
            Some((store, control)) => Ok((store.as_ref(), control)),
            None => Err(Failure(StatusCode::SERVICE_UNAVAILABLE, "the queue does not run yet".to_owned())),
        }
    }
}

/// An answer that is no success: a code and a sentence.
struct Failure(StatusCode, String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

impl From<Wrong> for Failure {
    fn from(Wrong(sentence): Wrong) -> Self {
        Self(StatusCode::BAD_REQUEST, sentence)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

async fn unknown() -> Failure {
    let known = "GET /queue, GET /queue/messages/ID, POST /queue/hold, release, retry, drop and reroute";
    Failure(StatusCode::NOT_FOUND, format!("there is nothing here; there are {known}"))
}

async fn list(State(admin): State<QueueAdmin>, RawQuery(query): RawQuery) -> Result<Json<Value>, Failure> {
    let request = Request::from_query(&query.unwrap_or_default())?;
    let (filter, limit, now) = (request.filter()?, request.limit()?, Timestamp::now());
    let (store, _) = admin.queue()?;
    let _place = admin.0.places.acquire().await;
    let rows = store.list_queue(filter.clone(), now, request.after, limit).await?;
    let counts = store.count_queue(filter, now).await?;
    let next = if rows.len() == limit { rows.last().map(|row| row.row.key) } else { None };
    let recipients: Vec<Value> = rows.iter().map(shown).collect();
    Ok(Json(json!({ "counts": counts, "recipients": recipients, "next": next })))
}

fn shown(listed: &ListedRecipient) -> Value {
    let (row, recipient) = (&listed.row, &listed.row.recipient);
    json!({
        "key": row.key,
        "message": listed.message_id.as_str(),
        "sender": listed.sender,
        "recipient": recipient.address.to_string(),
        "tenant": recipient.tenant,
        "destination": recipient.address.domain().as_str(),
        "route": recipient.route.as_ref().map(crate::store::envelope::Route::to_text),
        "state": listed.state,
        "attempts": row.attempts,
        "lastError": row.last_error,
        "nextAttempt": listed.due,
        "receivedAt": listed.received_at,
        "octets": listed.octets,
        "priority": listed.priority,
        "delayReported": row.warned,
    })
}

async fn message(
    State(admin): State<QueueAdmin>,
    UrlPath(id): UrlPath<String>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Failure> {
    let wants_body = match query.as_deref().unwrap_or_default() {
        "" | "body=false" => false,
        "body=true" => true,
        _ => return Err(Wrong("the query may only say body=true or body=false".to_owned()).into()),
    };
    let (store, _) = admin.queue()?;
    let _place = admin.0.places.acquire().await;
    let id = MessageId::from_stored(id);
    let gone = || Failure(StatusCode::NOT_FOUND, "no message of this id waits in the queue".to_owned());
    let number = store.find_queued(id.clone()).await?.ok_or_else(gone)?;
    let known = match store.queued_message(number).await {
        Err(StoreError::NotFound) => return Err(gone()),
        other => other?,
    };
    let filter = QueueFilter { message: Some(id), ..QueueFilter::default() };
    let rows = store.list_queue(filter, Timestamp::now(), 0, LONGEST_PAGE).await?;
    let recipients: Vec<Value> = rows.iter().map(shown).collect();
    let beginning = beginning(store, number, if wants_body { LONGEST_BODY } else { LONGEST_HEADER }).await?;
    let header = header_of(&beginning, LONGEST_HEADER);
    let mut answer = json!({
        "message": known.id.as_str(),
        "sender": known.reverse_path.as_ref().map_or_else(|| "<>".to_owned(), ToString::to_string),
        "senderTenant": known.sender_tenant,
        "receivedAt": known.received_at,
        "octets": known.octets,
        "envelopeId": known.declared.envelope_id,
        "priority": known.declared.priority,
        "requireTls": known.declared.require_tls,
        "smtputf8": known.declared.smtputf8,
        "holdUntil": known.declared.hold_until,
        "deliverBy": known.declared.deliver_by.map(|by| by.at),
        "recipients": recipients,
        "header": String::from_utf8_lossy(header),
    });
    if wants_body {
        let body = beginning.get(header.len() + 2..).unwrap_or_default();
        answer["body"] = String::from_utf8_lossy(body).into();
        answer["bodyIsWhole"] = (beginning.len() as u64 >= known.octets).into();
    }
    Ok(Json(answer))
}

async fn beginning(store: &dyn QueueStore, number: MessageNumber, most: usize) -> Result<Vec<u8>, StoreError> {
    let mut reader = store.read_queued(number).await?;
    let mut beginning = Vec::new();
    while beginning.len() < most
        && let Some(piece) = reader.next().await?
    {
        beginning.extend_from_slice(&piece);
    }
    beginning.truncate(most);
    Ok(beginning)
}

/// What a person does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Hold,
    Release,
    Retry,
    Drop,
    Reroute,
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::Hold => "hold",
            Self::Release => "release",
            Self::Retry => "retry",
            Self::Drop => "drop",
            Self::Reroute => "reroute",
        }
    }

    fn change(self, request: &Request) -> Result<QueueChange, Wrong> {
        if request.notify.is_some() && self != Self::Drop {
            return Err(Wrong("notify belongs to drop".to_owned()));
        }
        if request.to.is_some() && self != Self::Reroute {
            return Err(Wrong("to belongs to reroute".to_owned()));
        }
        let now = Timestamp::now();
        Ok(match self {
            Self::Hold => QueueChange::Hold,
            Self::Release => QueueChange::Release { now },
            Self::Retry => QueueChange::Retry { now },
            Self::Drop => {
                let missing = "say whether the senders get a report: \"notify\": true or false";
                QueueChange::Drop { notify: request.notify.ok_or_else(|| Wrong(missing.to_owned()))? }
            }
            Self::Reroute => QueueChange::Reroute { route: request.route()? },
        })
    }
}

async fn act(
    action: Action,
    State(admin): State<QueueAdmin>,
    Extension(Who(who)): Extension<Who>,
    body: Bytes,
) -> Result<Json<Value>, Failure> {
    let request: Request = serde_json::from_slice(&body)
        .map_err(|error| Wrong(format!("the request is not the JSON that is wanted here: {error}")))?;
    let (filter, change) = (request.selection()?, action.change(&request)?);
    admin.queue()?;
    // It goes on when the client does not wait for the answer.
    let changed = tokio::spawn(async move { change_all(&admin, action, filter, change, request.after, &who).await });
    match changed.await {
        Ok(answer) => answer.map(Json),
        Err(error) => Err(Failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())),
    }
}

/// Page by page, so that mail is committed in between.
async fn change_all(
    admin: &QueueAdmin,
    action: Action,
    filter: QueueFilter,
    change: QueueChange,
    mut after: i64,
    who: &str,
) -> Result<Value, Failure> {
    let (store, control) = admin.queue()?;
    let _place = admin.0.places.acquire().await;
    let now = Timestamp::now();
    let (mut touched, mut seen, mut next) = (0, 0, None);
    loop {
        let rows = store.list_queue(filter.clone(), now, after, LONGEST_PAGE).await?;
        let Some(last) = rows.last() else { break };
        after = last.row.key;
        seen += rows.len();
        let is_last = rows.len() < LONGEST_PAGE;
        let keys = rows.into_iter().map(|row| row.row.key).collect();
        let (count, destinations) = store.change_queue(keys, change.clone()).await?;
        touched += count;
        tell(control, action, count, destinations);
        admin.0.metrics.queue_actions.get_or_create(&ByResult { result: Word(action.word()) }).inc_by(count);
        if is_last {
            break;
        }
        if seen >= CHANGES {
            next = Some(after);
            break;
        }
    }
    tracing::info!(who, action = action.word(), touched, ?filter, ?change, "the queue was changed by hand");
    Ok(json!({ "touched": touched, "next": next }))
}

fn tell(control: &Control, action: Action, count: u64, destinations: Vec<QueueDestination>) {
    match action {
        _ if count == 0 => {}
        Action::Hold => {}
        Action::Drop => control.dropped(),
        Action::Release | Action::Retry | Action::Reroute => control.changed(destinations),
    }
}
