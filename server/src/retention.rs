//! Deletes mail that is older than its mailbox keeps it (`retentionSeconds` of the configuration). Started by `main`.
//!
//! A sweep goes through the mailboxes that have a limit, a step at a time, and pauses between steps: whatever a sweep finds,
//! sessions and new mail hardly notice. The clock is the server's; a message's age counts from when the server received it.
//! Mailboxes that are suspended keep their mail, and so do those that the configuration does not have (any more).

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use paquebot_config::Configuration;
use tokio_util::sync::CancellationToken;

use crate::live::LiveConfiguration;
use crate::store::{MailboxName, SharedStore, StoreError};

/// Time between two sweeps: how late a message may go.
pub const INTERVAL: Duration = Duration::from_secs(10 * 60);
/// Messages that are deleted in one transaction at most.
const STEP: usize = 200;
/// Time between two transactions that delete.
const PAUSE: Duration = Duration::from_millis(100);
/// By how much the clock may be ahead of the time that passed since the start.
const LARGEST_JUMP: SignedDuration = SignedDuration::from_hours(24);
/// Mailboxes that are looked at before others get a turn.
const LOOKS: usize = 100;

/// A mailbox with a limit, and from before when its mail goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// The mailbox.
    pub mailbox: MailboxName,
    /// What was received before this goes.
    pub before: Timestamp,
}

/// The mailboxes whose mail has an end, and which end at `now`.
#[must_use]
pub fn due(configuration: &Configuration, now: Timestamp) -> Vec<Due> {
    let serves = |mailbox: &&paquebot_config::MailboxRecord| {
        let domain = configuration.domain(mailbox.address.domain());
        !mailbox.suspended && domain.is_some_and(|domain| !domain.suspended)
    };
    let limited = configuration.mailboxes().filter(serves).filter_map(|mailbox| {
        let kept = SignedDuration::from_secs(i64::try_from(mailbox.retention_seconds?).ok()?);
        // So long ago that there was no mail: nothing is due.
        let before = now.checked_sub(kept).ok()?;
        Some(Due { mailbox: mailbox.into(), before })
    });
    limited.collect()
}

/// Deletes what is due now; yields how many messages. A mailbox that cannot be swept holds up no other one.
///
/// # Errors
/// The first that the store said; what was left waits for the next sweep.
pub async fn sweep(store: &SharedStore, due: Vec<Due>) -> Result<usize, StoreError> {
    let (mut total, mut failed) = (0, None);
    for (looked, Due { mailbox, before }) in due.into_iter().enumerate() {
        if looked % LOOKS == LOOKS - 1 {
            tokio::time::sleep(PAUSE).await;
        }
        loop {
            let gone = match store.expire(&mailbox, before, STEP).await {
                Ok(gone) => gone,
                Err(error) => {
                    tracing::debug!(%mailbox, %error, "old mail could not be deleted");
                    failed.get_or_insert(error);
                    break;
                }
            };
            total += gone;
            if gone > 0 {
                tracing::info!(%mailbox, messages = gone, "deleted: older than the mailbox keeps its mail");
                tokio::time::sleep(PAUSE).await;
            }
            if gone < STEP {
                break;
            }
        }
    }
    failed.map_or(Ok(total), Err)
}

/// Whether the clock went on by about the time that passed. Deleting is for good: no clock that jumps ahead may do it. One
/// that is set back deletes less, which mends itself.
fn is_plausible(last: Timestamp, passed: Duration, now: Timestamp) -> bool {
    let ahead =
        now.duration_since(last).saturating_sub(SignedDuration::try_from(passed).unwrap_or(SignedDuration::MAX));
    ahead <= LARGEST_JUMP
}

/// Sweeps until it is told to stop. The first one is soon after the start: a server that restarts often sweeps all the same.
pub async fn run(configuration: LiveConfiguration, store: SharedStore, stop: CancellationToken) {
    let mut wait = INTERVAL / 10;
    let start = (Timestamp::now(), Instant::now());
    loop {
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return,
        }
        wait = INTERVAL;
        let now = Timestamp::now();
        if !is_plausible(start.0, start.1.elapsed(), now) {
            tracing::warn!(%now, "the clock jumped ahead by more than a day: no old mail is deleted; restart if it is right");
            continue;
        }
        let due = due(&configuration.snapshot(), now);
        tokio::select! {
            swept = sweep(&store, due) => {
                if let Err(error) = swept {
                    tracing::warn!(%error, "old mail could not be deleted; it is tried again");
                }
            }
            () = stop.cancelled() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use paquebot_config::{MailboxRecord, Record};

    use super::*;
    use crate::smtp::testing::{address, configuration_of, content, mailbox};
    use crate::store::embedded::EmbeddedStore;
    use crate::store::{Acceptance, Body, Declared, Folder, LocalDelivery, MaildropName, MessageId};

    const DAY: u64 = 86_400;

    fn at(days: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * days)
    }

    #[test]
    fn only_mailboxes_with_a_limit_that_are_in_service_are_swept() {
        let mut content = content(Vec::new());
        let kept = |name: &str, seconds, suspended| {
            let retention_seconds = Some(seconds);
            Record::Mailbox(MailboxRecord { retention_seconds, suspended, ..mailbox(name) })
        };
        content.records.extend([
            kept("day@server1.com", DAY, false),
            kept("asleep@server1.com", DAY, true),
            kept("ever@server1.com", u64::MAX, false),
        ]);
        let due = due(&configuration_of(content), at(20_000));
        assert_eq!(due, [Due { mailbox: address("day@server1.com").into(), before: at(19_999) }]);
    }

    async fn deliver(store: &SharedStore, folder: Folder, received_at: Timestamp) {
        let maildrop = MaildropName { mailbox: address("day@server1.com").into(), folder };
        let acceptance = Acceptance {
            id: MessageId::generate(),
            received_at,
            reverse_path: None,
            sender_tenant: None,
            trace: Bytes::new(),
            body: Body::from(Bytes::from_static(b"Subject: x\r\n\r\nx\r\n")),
            declared: Declared::default(),
            local: vec![LocalDelivery {
                maildrop,
                fields: Bytes::new(),
                body_from: None,
                quota: None,
                ascii_growth: None,
            }],
            remote: Vec::new(),
            derived: Vec::new(),
            remember: Vec::new(),
        };
        store.commit(acceptance).await.unwrap();
    }

    #[tokio::test]
    async fn what_is_too_old_goes_from_every_folder_but_not_from_under_a_session() {
        let directory = tempfile::tempdir().unwrap();
        let store: SharedStore = EmbeddedStore::open(directory.path()).unwrap();
        let junk = Folder::parse("junk").unwrap();
        for day in 0..5 {
            deliver(&store, Folder::inbox(), at(day)).await;
            deliver(&store, junk.clone(), at(day)).await;
        }
        let due = vec![Due { mailbox: address("day@server1.com").into(), before: at(3) }];
        let inbox = MaildropName::from(address("day@server1.com"));
        let session = store.open_maildrop(&inbox).await.unwrap();
        assert_eq!(sweep(&store, due.clone()).await.unwrap(), 3, "junk alone: somebody has the inbox open");
        assert_eq!(session.entries.len(), 5);
        let first = session.entries[0].key;
        assert!(store.read(&inbox, first).await.is_ok());
        drop(session);
        assert_eq!(sweep(&store, due.clone()).await.unwrap(), 3);
        assert!(store.read(&inbox, first).await.is_err());
        assert_eq!(store.open_maildrop(&inbox).await.unwrap().entries.len(), 2);
        assert_eq!(store.usage(&inbox.mailbox).await.unwrap().messages, 4);
        assert_eq!(sweep(&store, due).await.unwrap(), 0);
        let nobody = vec![Due { mailbox: address("nobody@server1.com").into(), before: at(3) }];
        assert_eq!(sweep(&store, nobody).await.unwrap(), 0);
        drop(Arc::clone(&store));
    }

    #[test]
    fn a_clock_that_jumps_ahead_deletes_nothing() {
        let hour = Duration::from_secs(3600);
        assert!(is_plausible(at(100), hour, at(100) + SignedDuration::from_hours(1)));
        assert!(is_plausible(at(100), 24 * 30 * hour, at(130)));
        assert!(is_plausible(at(100), hour, at(50)), "less is due");
        assert!(!is_plausible(at(100), hour, at(102)));
    }

    #[tokio::test]
    async fn a_message_from_the_future_holds_back_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let store: SharedStore = EmbeddedStore::open(directory.path()).unwrap();
        let future = Timestamp::now() + SignedDuration::from_hours(24);
        for received_at in [future, at(0), at(1)] {
            deliver(&store, Folder::inbox(), received_at).await;
        }
        let due = vec![Due { mailbox: address("day@server1.com").into(), before: at(3) }];
        assert_eq!(sweep(&store, due).await.unwrap(), 2);
    }

    #[tokio::test]
    async fn more_than_one_step_goes_in_one_sweep() {
        let directory = tempfile::tempdir().unwrap();
        let store: SharedStore = EmbeddedStore::open(directory.path()).unwrap();
        let many = STEP + 3;
        futures::future::join_all((0..many).map(|_| deliver(&store, Folder::inbox(), at(0)))).await;
        let due = vec![Due { mailbox: address("day@server1.com").into(), before: at(1) }];
        assert_eq!(sweep(&store, due).await.unwrap(), many);
    }
}
