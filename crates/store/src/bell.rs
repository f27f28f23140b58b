//! Wakes the writer, and only when it has to be woken.
//!
//! A write that nobody waits for costs its caller no system call while the writer works or gathers.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::thread::{self, Thread};
use std::time::Instant;

/// Between the writer, who sleeps, and those who hand writes over.
#[derive(Debug, Default)]
pub(crate) struct Bell {
    writer: OnceLock<Thread>,
    /// Whether the writer sleeps with nothing to do, so that any write has to wake it.
    is_idle: AtomicBool,
}

impl Bell {
    /// Who is woken. Before this nobody is.
    pub(crate) fn belongs_to(&self, writer: &Thread) {
        // Once per store, right after its thread was made.
        let _ = self.writer.set(writer.clone());
    }

    /// A write was handed over that somebody waits for.
    pub(crate) fn ring(&self) {
        if let Some(writer) = self.writer.get() {
            writer.unpark();
        }
    }

    /// A write was handed over that nobody waits for.
    pub(crate) fn tap(&self) {
        fence(Ordering::SeqCst);
        if self.is_idle.swap(false, Ordering::AcqRel) {
            self.ring();
        }
    }

    /// The writer gathers: sleeps until `then`, or until somebody waits. May return sooner.
    pub(crate) fn sleep(&self, then: Instant) {
        thread::park_timeout(then.saturating_duration_since(Instant::now()));
    }

    /// The writer has nothing to do: sleeps until there is a write, or until `then`. May return sooner.
    pub(crate) fn idle(&self, then: Option<Instant>, has_work: impl FnOnce() -> bool) {
        self.is_idle.store(true, Ordering::Release);
        // Either whoever hands over a write sees this, or the write is seen here.
        fence(Ordering::SeqCst);
        if !has_work() {
            match then {
                Some(then) => self.sleep(then),
                None => thread::park(),
            }
        }
        self.is_idle.store(false, Ordering::Release);
    }
}
