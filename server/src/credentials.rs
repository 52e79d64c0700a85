//! Who is this? Passwords are verified here, off the I/O threads, under a limit, with a short memory of successes. Called
//! by the SMTP and POP3 sessions; the verifiers come from the configuration in force.

mod preparation;
pub mod sasl;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use argon2::password_hash::PasswordVerifier;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params};
use jiff::Timestamp;
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use paquebot_config::{Address, AppPassword, Configuration, Domain, LocalPart, MailboxRecord, Scope, Verifier};
use sha2::{Digest, Sha256};
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::listen::gate::counted_as;
use crate::live::LiveConfiguration;
use crate::metrics::{ByProtocolAndResult, Metrics, Word};
use crate::store::{Folder, MailboxName, MaildropName};

/// How long a login takes that fails, at least: it makes guessing slow. A share of it is added for each verifier of the
/// mailbox that has the most, whoever logs in, and what took longer is answered at the next multiple: so the time of an
/// answer tells neither whether the login exists nor how many passwords open it.
const FAILURE_DELAY: Duration = Duration::from_secs(2);
/// The share of it for a verifier, as a divisor: 100 ms, two Argon2 of the operator's strength.
const VERIFIERS_IN_DELAY: u32 = 20;
/// How long a login waits for its turn to be verified before the client is told to try again. There is one turn for all
/// verifiers of its mailbox.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a success is remembered: a client that polls each minute costs one Argon2 in five.
const MEMORY: Duration = Duration::from_secs(300);
/// How many successes are remembered: 32 octets each.
const MEMORIES: u64 = 20_000;
/// The longest password that is looked at. Longer ones are wrong.
const MAX_PASSWORD: usize = 1024;
/// The most memory, in KiB, that a verifier may ask for. Tenants choose it, so it is bounded for one and for all together.
const MAX_MEMORY_COST: u32 = 64 * 1024;
/// Memory, in KiB, of all verifications that run at once: a quarter of a small pod's.
const MEMORY_BUDGET: u32 = 128 * 1024;
/// Client networks whose logins are kept in turn, and how long each is remembered: longer than a login waits and runs.
const CLIENTS: u64 = 20_000;
const CLIENT_MEMORY: Duration = Duration::from_secs(60);
/// Maildrops whose last login is remembered for LOGIN-DELAY, and how long at most.
const PACED_MAILDROPS: u64 = 100_000;
const LONGEST_PACE: Duration = Duration::from_secs(24 * 3600);
/// The most passes and lanes that a verifier may ask for.
const MAX_TIME_COST: u32 = 64;

/// What a client sent as its password. It cannot be printed, and its memory is wiped.
pub struct Password(Zeroizing<Vec<u8>>);

impl Password {
    /// Takes the octets as they came.
    #[must_use]
    pub fn new(octets: Vec<u8>) -> Self {
        Self(Zeroizing::new(octets))
    }

    fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// What the client wants to do once it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Fetch mail by POP3.
    Pop3,
    /// Send mail by submission.
    Submission,
}

impl Access {
    fn word(self) -> Word {
        match self {
            Self::Pop3 => Word("pop3"),
            Self::Submission => Word("submission"),
        }
    }
}

/// A client that has proven who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its mailbox, as the configuration writes the address.
    pub mailbox: Address,
    /// The folder that the login's subaddress names; the inbox where there is none.
    pub folder: Folder,
    /// Whose the mailbox was at the login.
    tenant: Box<str>,
    access: Access,
    /// The digest of the verifier that its password belongs to.
    verifier: [u8; 32],
    /// From when on the password opens nothing, in seconds since 1970; `None`: it does not end.
    ends_at: Option<i64>,
}

impl Identity {
    /// What the login opens.
    #[must_use]
    pub fn maildrop(&self) -> MaildropName {
        let mailbox = MailboxName { address: self.mailbox.clone(), tenant: self.tenant.clone() };
        MaildropName { mailbox, folder: self.folder.clone() }
    }

    /// The mailbox, if the login would still be right: the password was not changed since, and the mailbox may do what
    /// was logged in for.
    #[must_use]
    pub fn mailbox_in<'a>(&self, configuration: &'a Configuration) -> Option<&'a MailboxRecord> {
        Some(self.found_in(configuration, Timestamp::now())?.0)
    }

    /// Whether the login is still right in another configuration; from then on it ends when that one says.
    #[must_use]
    pub fn renew(&mut self, configuration: &Configuration, now: Timestamp) -> bool {
        let Some((_, ends_at)) = self.found_in(configuration, now) else { return false };
        self.ends_at = ends_at;
        true
    }

    /// Whether the time is over for which its password opens anything.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.ends_at.is_some_and(|end| now.as_second() >= end)
    }

    /// The mailbox, and when the password ends.
    fn found_in<'a>(
        &self,
        configuration: &'a Configuration,
        now: Timestamp,
    ) -> Option<(&'a MailboxRecord, Option<i64>)> {
        let mailbox = configuration.mailbox(&self.mailbox).filter(|mailbox| mailbox.tenant == *self.tenant)?;
        let mut verifiers = verifiers(mailbox, self.access, now);
        let (_, ends_at) = verifiers.find(|(verifier, _)| digest(verifier.expose()) == self.verifier)?;
        is_permitted(self.access, mailbox, configuration).then_some((mailbox, ends_at))
    }
}

/// Why a login fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No such login, or the wrong password: the client is not told which (SMTP 535 5.7.8, POP3 `[AUTH]`).
    #[error("the login or the password is wrong")]
    Rejected,
    /// The password is right, but the mailbox may not do this, or is suspended (SMTP 535 5.7.8, POP3 `[AUTH]`).
    #[error("this mailbox may not use this protocol, or is suspended; its administrator can tell")]
    NotPermitted,
    /// Too many logins at once: try again (SMTP 454 4.7.0, POP3 `[SYS/TEMP]`).
    #[error("too many logins at once; try again later")]
    Busy,
}

impl Failure {
    fn word(self) -> Word {
        match self {
            Self::Rejected => Word("rejected"),
            Self::NotPermitted => Word("not_permitted"),
            Self::Busy => Word("busy"),
        }
    }
}

/// Verifies logins against the configuration in force. A clone shares limits and memory.
#[derive(Clone)]
pub struct Authenticator {
    configuration: LiveConfiguration,
    metrics: Option<Arc<Metrics>>,
    failure_delay: Duration,
    /// KiB of [`MEMORY_BUDGET`] that are free.
    memory_left: Arc<Semaphore>,
    /// What a verification takes of it at least, so that there are no more at once than cores.
    smallest_share: u32,
    /// One verification at a time for each client network, so that who guesses on many connections keeps only itself from
    /// logging in.
    clients: Cache<IpAddr, Arc<Semaphore>>,
    /// Keys of what was verified: see [`Authenticator::memory_key`].
    memory: Cache<[u8; 32], ()>,
    /// When a maildrop was opened last, where logins have to keep a distance.
    last_logins: Cache<MaildropName, Instant>,
    /// Makes the keys of `memory` worthless outside this process.
    secret: Arc<Zeroizing<[u8; 32]>>,
    /// Verified against where there is no mailbox, so that it costs the same.
    decoy: Arc<str>,
    /// Tells the time, by which app passwords end.
    time: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Authenticator {
    /// One for the process.
    #[must_use]
    pub fn new(configuration: LiveConfiguration) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
        Self {
            configuration,
            metrics: None,
            failure_delay: FAILURE_DELAY,
            memory_left: Arc::new(Semaphore::new(MEMORY_BUDGET as usize)),
            smallest_share: MEMORY_BUDGET / u32::try_from(cores).unwrap_or(u32::MAX).clamp(1, MEMORY_BUDGET),
            clients: Cache::builder()
                .max_capacity(CLIENTS)
                .time_to_idle(CLIENT_MEMORY)
                .eviction_policy(EvictionPolicy::lru())
                .build(),
            memory: Cache::builder().max_capacity(MEMORIES).time_to_live(MEMORY).build(),
            last_logins: Cache::builder().max_capacity(PACED_MAILDROPS).time_to_live(LONGEST_PACE).build(),
            secret: Arc::new(Zeroizing::new(random())),
            decoy: decoy().into(),
            time: Arc::new(Timestamp::now),
        }
    }

    /// Goes by another clock than the system's; for tests.
    #[must_use]
    pub fn with_time(mut self, time: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.time = Arc::new(time);
        self
    }

    /// Now, by the clock after which app passwords end.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.time)()
    }

    /// Counts logins.
    #[must_use]
    pub fn with_metrics(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Changes how long a failure takes; for tests that fail often.
    #[must_use]
    pub fn with_failure_delay(mut self, delay: Duration) -> Self {
        self.failure_delay = delay;
        self
    }

    /// Takes note of a login to a maildrop.
    ///
    /// # Errors
    /// Seconds to wait, where the login before it was less than `delay` ago (RFC 2449 §6.5). That one goes on counting.
    pub async fn keep_distance(&self, maildrop: MaildropName, delay: Duration) -> Result<(), u64> {
        if delay.is_zero() {
            return Ok(());
        }
        if let Some(last) = self.last_logins.get(&maildrop).await {
            let left = delay.saturating_sub(last.elapsed());
            if !left.is_zero() {
                return Err(left.as_secs() + u64::from(left.subsec_nanos() > 0));
            }
        }
        self.last_logins.insert(maildrop, Instant::now()).await;
        Ok(())
    }

    /// Verifies a login of `client`, which is the full address of a mailbox; for POP3 its subaddress names a folder. A failure takes its time, so that guessing is
    /// slow.
    ///
    /// # Errors
    /// [`Failure`]; a session allows a few of them and ends then.
    pub async fn verify(
        &self,
        client: IpAddr,
        access: Access,
        login: &str,
        password: Password,
    ) -> Result<Identity, Failure> {
        let begun = Instant::now();
        let result = self.decide(client, access, login, password).await;
        let word = result.as_ref().map_or_else(|failure| failure.word(), |_| Word("accepted"));
        if let Some(metrics) = &self.metrics {
            let labels = ByProtocolAndResult { protocol: access.word(), result: word };
            metrics.logins.get_or_create(&labels).inc();
        }
        if result.is_err() {
            let most = self.configuration.snapshot().most_verifiers();
            tokio::time::sleep_until(begun + answered_after(self.failure_delay, most, begun.elapsed())).await;
        }
        result
    }

    async fn decide(
        &self,
        client: IpAddr,
        access: Access,
        login: &str,
        password: Password,
    ) -> Result<Identity, Failure> {
        let configuration = self.configuration.snapshot();
        let found = preparation::names(login).into_iter().find_map(|login| find_login(&configuration, access, &login));
        let (mailbox, folder) = found.map_or((None, Folder::inbox()), |(mailbox, folder)| (Some(mailbox), folder));
        let own: Vec<_> = mailbox.map(|mailbox| verifiers(mailbox, access, self.now())).into_iter().flatten().collect();
        let usable = own.iter().map(|(own, _)| own.expose()).filter(|own| memory_cost(own).is_some());
        let mut candidates: Vec<Arc<str>> = usable.map(Into::into).collect();
        let opens_something = !candidates.is_empty();
        if !opens_something {
            candidates.push(Arc::clone(&self.decoy));
        }
        let verifier = self.find_match(client, candidates, password).await?.ok_or(Failure::Rejected)?;
        // The decoy's password is nobody's, but a match with it must not open anything either.
        let mailbox = mailbox.filter(|_| opens_something).ok_or(Failure::Rejected)?;
        if is_permitted(access, mailbox, &configuration) {
            let ends_at = own.iter().find(|(own, _)| *own.expose() == *verifier).and_then(|(_, ends_at)| *ends_at);
            let (tenant, verifier) = (mailbox.tenant.as_str().into(), digest(&verifier));
            Ok(Identity { mailbox: mailbox.address.clone(), tenant, folder, access, verifier, ends_at })
        } else {
            Err(Failure::NotPermitted)
        }
    }

    /// The verifier to which the password belongs, in any of its forms. What was verified lately is answered from memory;
    /// the rest is verified in one turn, so that a mailbox with many verifiers takes no more turns than one with none.
    async fn find_match(
        &self,
        client: IpAddr,
        verifiers: Vec<Arc<str>>,
        password: Password,
    ) -> Result<Option<Arc<str>>, Failure> {
        if password.expose().len() > MAX_PASSWORD {
            return Ok(None);
        }
        let mut forms = preparation::passwords(password);
        forms.retain(|form| form.expose().len() <= MAX_PASSWORD);
        for (form, verifier) in pairs(&forms, &verifiers) {
            if self.memory.get(&self.memory_key(verifier, form)).await.is_some() {
                return Ok(Some(Arc::clone(verifier)));
            }
        }
        let Some(share) = verifiers.iter().filter_map(|verifier| memory_cost(verifier)).max() else { return Ok(None) };
        let turn = async {
            let own = self.turn_of(client).await?;
            let share = share.max(self.smallest_share);
            Ok::<_, AcquireError>((own, Arc::clone(&self.memory_left).acquire_many_owned(share).await?))
        };
        let Ok(Ok(turn)) = tokio::time::timeout(QUEUE_TIMEOUT, turn).await else { return Err(Failure::Busy) };
        let verdict = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let found = pairs(&forms, &verifiers).position(|(form, verifier)| opens(verifier, form.expose()));
            (found, forms, verifiers)
        });
        let (found, forms, verifiers) = verdict.await.map_err(|_| Failure::Busy)?;
        let Some((form, verifier)) = found.and_then(|found| pairs(&forms, &verifiers).nth(found)) else {
            return Ok(None);
        };
        self.memory.insert(self.memory_key(verifier, form), ()).await;
        Ok(Some(Arc::clone(verifier)))
    }

    /// Waits until no other login of the client's network is being verified.
    async fn turn_of(&self, client: IpAddr) -> Result<Option<OwnedSemaphorePermit>, AcquireError> {
        // Loopback is this machine or this pod: port-forwards and sidecars stand for many clients.
        if client.is_loopback() {
            return Ok(None);
        }
        let turns = self.clients.get_with(counted_as(client), async { Arc::new(Semaphore::new(1)) }).await;
        turns.acquire_owned().await.map(Some)
    }

    /// A keyed digest of verifier and password. The verifier holds a salt of its own, so that the key names one login's
    /// password, and a changed verifier has another key.
    fn memory_key(&self, verifier: &str, password: &Password) -> [u8; 32] {
        let mut inner = Sha256::new();
        inner.update(self.secret.as_slice());
        inner.update((verifier.len() as u64).to_be_bytes());
        inner.update(verifier.as_bytes());
        inner.update(password.expose());
        let mut outer = Sha256::new();
        outer.update(self.secret.as_slice());
        outer.update(inner.finalize());
        outer.finalize().into()
    }
}

/// Each form of a password with each verifier, in the order in which they are tried.
fn pairs<'a>(forms: &'a [Password], verifiers: &'a [Arc<str>]) -> impl Iterator<Item = (&'a Password, &'a Arc<str>)> {
    forms.iter().flat_map(move |form| verifiers.iter().map(move |verifier| (form, verifier)))
}

/// How long after its beginning a failure is answered whose verification took so long, where a mailbox has `most`
/// verifiers: see [`FAILURE_DELAY`].
fn answered_after(delay: Duration, most: usize, took: Duration) -> Duration {
    let most = u32::try_from(most).unwrap_or(u32::MAX);
    let step = delay.saturating_add((delay / VERIFIERS_IN_DELAY).saturating_mul(most));
    let steps = took.as_nanos().checked_div(step.as_nanos()).unwrap_or(0) + 1;
    step.saturating_mul(u32::try_from(steps).unwrap_or(u32::MAX))
}

/// The mailbox of a login, and the folder that it names: `anna+junk@server1.com` is the folder `junk` of anna, where the
/// domain's separator is `+` and no mailbox has that very name. A folder's name may hold what an address may not.
fn find_login<'a>(
    configuration: &'a Configuration,
    access: Access,
    login: &str,
) -> Option<(&'a MailboxRecord, Folder)> {
    let address = Address::parse(login).ok();
    if let Some(mailbox) = address.as_ref().and_then(|address| configuration.mailbox(address)) {
        return Some((mailbox, Folder::inbox()));
    }
    if access != Access::Pop3 {
        return None;
    }
    let (local_part, domain) = login.rsplit_once('@')?;
    let domain = Domain::parse(domain).ok()?;
    let separator = configuration.domain(&domain)?.subaddress_separator?;
    let local_part = address.map_or_else(|| local_part.to_owned(), |address| address.local_part().unquoted());
    let (base, detail) = local_part.split_once(separator)?;
    let mailbox = configuration.mailbox(&Address::new(LocalPart::parse(base).ok()?, domain))?;
    Some((mailbox, Folder::parse(detail)?))
}

/// What opens a mailbox for a purpose at a time: its own password, and the app passwords that are for it and have not
/// ended; each with its end.
fn verifiers(
    mailbox: &MailboxRecord,
    access: Access,
    now: Timestamp,
) -> impl Iterator<Item = (&Verifier, Option<i64>)> {
    let scope = match access {
        Access::Pop3 => Scope::Pop3,
        Access::Submission => Scope::Submission,
    };
    let opens = move |password: &&AppPassword| {
        (password.scopes.is_empty() || password.scopes.contains(&scope))
            && password.expires_at.is_none_or(|end| now.as_second() < end)
    };
    let app_passwords = mailbox.app_passwords.iter().filter(opens);
    let own = mailbox.verifiers.iter().map(|verifier| (verifier, None));
    own.chain(app_passwords.map(|password| (&password.verifier, password.expires_at)))
}

fn is_permitted(access: Access, mailbox: &MailboxRecord, configuration: &Configuration) -> bool {
    let allowed = match access {
        Access::Pop3 => mailbox.protocols.pop3,
        Access::Submission => mailbox.protocols.submission,
    };
    let domain_serves = configuration.domain(mailbox.address.domain()).is_some_and(|domain| !domain.suspended);
    allowed && !mailbox.suspended && domain_serves
}

/// KiB that a verifier takes. `None` for one that cannot be read or costs too much: it opens nothing.
fn memory_cost(verifier: &str) -> Option<u32> {
    let params = Params::try_from(&PasswordHash::new(verifier).ok()?).ok()?;
    let affordable =
        params.m_cost() <= MAX_MEMORY_COST && params.t_cost() <= MAX_TIME_COST && params.p_cost() <= MAX_TIME_COST;
    affordable.then_some(params.m_cost())
}

/// Whether a password belongs to a PHC string of Argon2.
fn opens(verifier: &str, password: &[u8]) -> bool {
    // The comparison of the outputs takes the same time wherever they differ (crate phc).
    PasswordHash::new(verifier).is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
}

fn digest(verifier: &str) -> [u8; 32] {
    Sha256::digest(verifier).into()
}

/// A verifier of the strength that the operator uses (19 MiB, 2 passes) whose output is no password's: it is drawn, not
/// computed.
fn decoy() -> String {
    use base64::Engine as _;
    let encode = |octets: &[u8]| base64::engine::general_purpose::STANDARD_NO_PAD.encode(octets);
    format!("$argon2id$v=19$m=19456,t=2,p=1${}${}", encode(&random()[..16]), encode(&random()))
}

/// Octets that nobody can guess. Without the system's randomness there is nothing safe to do.
fn random() -> [u8; 32] {
    let mut octets = [0; 32];
    if getrandom::fill(&mut octets).is_err() {
        tracing::error!("the operating system gives no random numbers; ending");
        std::process::exit(1);
    }
    octets
}

#[cfg(test)]
mod tests;

/// For tests of the protocol machines, which stand in for an authenticator.
#[cfg(test)]
pub(crate) mod tests_support {
    /// What the client sent.
    pub(crate) fn octets(password: &super::Password) -> &[u8] {
        password.expose()
    }
}
