//! Between the scheduler and those who tell it something: sessions that brought mail, and a person who changed the queue.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::store::outgoing::QueueDestination;

/// Tells the scheduler what a person did. A clone is the same.
#[derive(Debug, Clone, Default)]
pub struct Control {
    wake: Arc<Notify>,
    touched: Arc<Mutex<Touched>>,
}

/// What is to be looked at.
#[derive(Debug, Default)]
pub(super) struct Touched {
    /// Something may be due there.
    pub(super) destinations: Vec<QueueDestination>,
    /// Rows were dropped.
    pub(super) dropped: bool,
}

impl Control {
    /// Over what wakes the scheduler.
    #[must_use]
    pub fn new(wake: Arc<Notify>) -> Self {
        Self { wake, touched: Arc::default() }
    }

    /// Rows of these destinations were changed; some may be due now, though the destination rests.
    pub fn changed(&self, destinations: Vec<QueueDestination>) {
        self.touched().destinations.extend(destinations);
        self.wake.notify_one();
    }

    /// Rows are to leave the queue.
    pub fn dropped(&self) {
        self.touched().dropped = true;
        self.wake.notify_one();
    }

    /// Takes what has come together.
    pub(super) fn take(&self) -> Touched {
        std::mem::take(&mut *self.touched())
    }

    fn touched(&self) -> std::sync::MutexGuard<'_, Touched> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
