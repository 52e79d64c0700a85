//! `DELETE /maildrops/ADDRESS` and `DELETE /maildrops/@DOMAIN`: erases mail for good, with `?tenant=` that of one tenant
//! ([`crate::store::MailboxName`]), else whoever's it is, for whoever shows a token
//! ([`super::token`]). The operator asks for it when an object with `reclaimPolicy: Delete` goes. A mailbox that is in service
//! keeps its mail: it must leave the configuration, or be suspended, before.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use axum::extract::{Path as UrlPath, RawQuery, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::delete;
use axum::{Extension, Json, Router};
use paquebot_config::{Address, Configuration, Domain, MailboxRecord};
use serde_json::json;
use tokio::sync::Semaphore;

use super::token::{TokenFile, Who, authorize};
use crate::live::LiveConfiguration;
use crate::store::{Store, StoreError, erase};

/// What the page is made from. A clone is the same.
#[derive(Clone)]
pub struct MaildropsAdmin(Arc<Parts>);

struct Parts {
    tokens: TokenFile,
    /// One erasure at a time: mail comes first.
    place: Semaphore,
    store: OnceLock<(Arc<dyn Store>, LiveConfiguration)>,
}

/// Whose mail is to go.
#[derive(Debug, PartialEq, Eq)]
enum Whose {
    Mailbox(Address),
    Domain(Domain),
}

impl MaildropsAdmin {
    /// With the tokens of a configuration directory. There is no mail yet.
    #[must_use]
    pub fn new(config_dir: &Path) -> Self {
        let tokens = TokenFile::new(config_dir);
        Self(Arc::new(Parts { tokens, place: Semaphore::new(1), store: OnceLock::new() }))
    }

    /// The store is open, and a configuration in force.
    pub fn set_store(&self, store: Arc<dyn Store>, configuration: LiveConfiguration) {
        // The second call would be with the same one.
        let _ = self.0.store.set((store, configuration));
    }

    /// The route, to be merged into the admin server's.
    pub(super) fn router<S>(self) -> Router<S> {
        let authorize = axum::middleware::from_fn_with_state(self.0.tokens.clone(), authorize);
        let note = axum::middleware::from_fn(note_refusal);
        Router::new().route("/maildrops/{whose}", delete(erased)).layer(authorize).layer(note).with_state(self)
    }
}

/// Logs who wanted mail erased and was refused: by the token, or because it cannot be.
async fn note_refusal(request: Request, next: Next) -> Response {
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let response = next.run(request).await;
    let status = response.status();
    if !status.is_success() {
        let by = response.extensions().get::<Who>().map(|who| who.0.as_str());
        // Percent-encoded as it came, so that it is one word.
        tracing::warn!(%method, %uri, status = status.as_u16(), by, "mail is not erased: refused");
    }
    response
}

async fn erased(
    State(admin): State<MaildropsAdmin>,
    Extension(who): Extension<Who>,
    UrlPath(whose): UrlPath<String>,
    RawQuery(query): RawQuery,
) -> Response {
    let refuse = |code: StatusCode, message: String| (code, Json(json!({ "error": message }))).into_response();
    // A namespace has no character that a query would have to hide.
    let tenant = query.as_deref().and_then(|query| query.split('&').find_map(|part| part.strip_prefix("tenant=")));
    let Some(parsed) = parse(&whose) else {
        let message = "name a mailbox as ADDRESS, or every mailbox of a domain as @DOMAIN";
        return refuse(StatusCode::BAD_REQUEST, message.to_owned());
    };
    let Some((store, configuration)) = admin.0.store.get() else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the mail store is not open yet".to_owned());
    };
    let _place = admin.0.place.acquire().await;
    if in_service(&configuration.snapshot(), &parsed, tenant) {
        let message =
            format!("{whose} is in service: take it out of the configuration, or suspend it, before its mail goes");
        return refuse(StatusCode::CONFLICT, message);
    }
    let nobodys_too = |address: &Address| is_free_for(&configuration.snapshot(), address, tenant);
    let whose_mail = erase::Whose { tenant, nobodys_too: &nobodys_too };
    let result = match &parsed {
        Whose::Mailbox(address) => erase::address(store.as_ref(), address, &whose_mail).await,
        Whose::Domain(domain) => erase::domain(store.as_ref(), domain, &whose_mail).await,
    };
    match result {
        Ok(messages) => {
            tracing::info!(%whose, messages, by = who.0, "mail was erased for good");
            Json(json!({ "messages": messages })).into_response()
        }
        Err(error @ StoreError::MaildropInUse) => refuse(StatusCode::LOCKED, format!("{error}; ask again")),
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
    }
}

fn parse(text: &str) -> Option<Whose> {
    match text.strip_prefix('@') {
        Some(domain) => Domain::parse(domain).ok().map(Whose::Domain),
        None => Address::parse(text).ok().map(Whose::Mailbox),
    }
}

/// Whether mail may still come, or be fetched. What another tenant has now is in service, but not the mail in question.
fn in_service(configuration: &Configuration, whose: &Whose, tenant: Option<&str>) -> bool {
    let is_meant = |mailbox: &MailboxRecord| tenant.is_none_or(|tenant| tenant == mailbox.tenant);
    let serves = |domain: &Domain| configuration.domain(domain).is_some_and(|domain| !domain.suspended);
    match whose {
        Whose::Mailbox(address) => {
            serves(address.domain())
                && configuration.mailbox(address).is_some_and(|mailbox| !mailbox.suspended && is_meant(mailbox))
        }
        Whose::Domain(domain) if tenant.is_some() => {
            let mut mailboxes = configuration.mailboxes().filter(|mailbox| mailbox.address.domain() == domain);
            serves(domain) && mailboxes.any(|mailbox| !mailbox.suspended && is_meant(mailbox))
        }
        Whose::Domain(domain) => serves(domain),
    }
}

/// Whether what is nobody's at an address may go with a tenant's mail: nobody else has the address, or its domain, and the
/// tenant's own mailbox is not in service.
fn is_free_for(configuration: &Configuration, address: &Address, tenant: Option<&str>) -> bool {
    let Some(tenant) = tenant else { return true };
    let domain = address.domain();
    if configuration.tenant_of_domain(domain).is_some_and(|owner| owner != tenant) {
        return false;
    }
    let is_others = |mailbox: &MailboxRecord| mailbox.address.domain() == domain && mailbox.tenant != tenant;
    let mailbox = Whose::Mailbox(address.clone());
    !in_service(configuration, &mailbox, Some(tenant)) && !configuration.mailboxes().any(is_others)
}

#[cfg(test)]
mod tests {
    use paquebot_config::Record;

    use super::*;

    #[test]
    fn a_mailbox_or_a_whole_domain_is_named() {
        let mailbox = Address::parse("anna@server1.com").unwrap();
        assert_eq!(parse("anna@server1.com"), Some(Whose::Mailbox(mailbox)));
        assert_eq!(parse("@server1.com"), Some(Whose::Domain(Domain::parse("server1.com").unwrap())));
        for wrong in ["", "@", "anna", "a b@server1.com", "@a b", "@anna@server1.com"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_nobodys_is_kept_for_who_has_the_address() {
        use crate::smtp::testing::{configuration_of, content, mailbox};
        let with = |tenant: &str, suspended| {
            let mut content = content(Vec::new());
            let address = Address::parse("anna@server1.com").unwrap();
            content.records.retain(|record| !matches!(record, Record::Mailbox(old) if old.address == address));
            for record in &mut content.records {
                if let Record::Mailbox(other) = record {
                    other.tenant = tenant.to_owned();
                }
            }
            let anna = MailboxRecord { tenant: tenant.to_owned(), suspended, ..mailbox("anna@server1.com") };
            content.records.push(Record::Mailbox(anna));
            configuration_of(content)
        };
        let is_free = |configuration: &Configuration, whose: &str| {
            is_free_for(configuration, &Address::parse(whose).unwrap(), Some("b"))
        };
        for (tenant, suspended, expected) in
            [("a", false, false), ("a", true, false), ("", true, false), ("b", false, false), ("b", true, true)]
        {
            assert_eq!(is_free(&with(tenant, suspended), "anna@server1.com"), expected, "{tenant} {suspended}");
        }
        assert!(!is_free(&with("a", false), "gone@server1.com"), "the domain is another's");
        assert!(is_free(&with("a", false), "anna@server9.com"));
        let mut without_mailboxes = content(Vec::new());
        without_mailboxes.records.clear();
        for domain in &mut without_mailboxes.domains {
            domain.tenant = "a".to_owned();
            domain.catch_all = paquebot_config::CatchAll::Reject;
        }
        assert!(!is_free(&configuration_of(without_mailboxes), "gone@server1.com"), "the domain is another's");
    }
}
