//! Whether mail is served, and why not. Asked by `/readyz`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::reload::Status;
use crate::store::SharedStore;

/// Room that a server has to have: a small message.
const ROOM_WANTED: u64 = 1 << 20;

/// What readiness is made from. A clone is the same.
#[derive(Clone, Default)]
pub struct Readiness(Arc<Parts>);

#[derive(Default)]
struct Parts {
    store: OnceLock<SharedStore>,
    waiting: AtomicBool,
    listening: AtomicBool,
    draining: AtomicBool,
}

impl Readiness {
    /// The store is open; its room counts from now on.
    pub fn set_store(&self, store: SharedStore) {
        // The second call would be with the same store.
        let _ = self.0.store.set(store);
    }

    /// Another process has the store, and this one waits for it to end.
    pub fn set_waiting(&self, waiting: bool) {
        self.0.waiting.store(waiting, Ordering::Release);
    }

    /// The mail ports are open.
    pub fn set_listening(&self) {
        self.0.listening.store(true, Ordering::Release);
    }

    /// The server is going down: no client should be sent here any more.
    pub fn set_draining(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    /// Why mail is not served; nothing when it is.
    pub async fn reasons(&self, status: &Status) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.0.draining.load(Ordering::Acquire) {
            reasons.push("the server is shutting down".to_owned());
        }
        if status.revision.is_none() {
            let error = status.error.as_deref().unwrap_or("it has not been read yet");
            reasons.push(format!("there is no configuration: {error}"));
        } else if status.certificate.is_none() {
            let error = status.certificate_error.as_deref().unwrap_or("it has not been read yet");
            reasons.push(format!("nobody can log in without TLS: {error}"));
        }
        if status.revision.is_some() && !self.0.listening.load(Ordering::Acquire) {
            reasons.push("the mail ports are not open yet".to_owned());
        }
        match self.0.store.get() {
            None if self.0.waiting.load(Ordering::Acquire) => {
                reasons.push("another paquebot-server has the mail store; this one waits for it to end".to_owned());
            }
            None => reasons.push("the mail store is not open yet".to_owned()),
            Some(store) if !store.has_room(ROOM_WANTED).await => {
                reasons.push("the volume of the mail store is full; make it larger or delete mail".to_owned());
            }
            Some(_) => {}
        }
        reasons
    }
}
