//! Directories of the keys that agents sign with, fetched off every request's path (IDN-15 to IDN-18).
//!
//! [`Directories`] is what requests look into: without a lock where the key is there, with one short lock where it has to be
//! asked for. One [`Fetcher`] asks, a bounded number of origins at a bounded pace, and nobody else writes.

mod address;
mod fetch;
mod fetcher;
mod host;
mod network;
mod pace;
mod shelf;
#[cfg(test)]
mod tests;

pub use fetch::{MEDIA_TYPE, PATH};
pub use fetcher::Fetcher;
pub use host::{Allow, Hosts};
pub use network::{Direct, Network, Soon};
pub use pace::Pace;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use proof::identity::directory::Unsigned;
use proof::identity::{AgentKey, Origin};
use tokio::sync::Notify;

use fetch::Fetched;
use shelf::{Look, Shelf};

/// Origins that wait to be asked, or are being asked, at most.
pub const WAITING_MAX: usize = 256;
/// Origins that are remembered, with their keys or as failures.
pub const KNOWN_MAX: usize = 1024;
/// When who finds no room comes again.
const NO_ROOM_S: u64 = 30;

/// What the operator decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Who may be asked.
    pub hosts: Hosts,
    /// What becomes of keys that have not signed their directory.
    pub unsigned: Unsigned,
}

/// What is known of directories.
pub struct Directories {
    settings: ArcSwap<Settings>,
    known: ArcSwap<HashMap<Origin, Arc<Shelf>>>,
    waiting: Mutex<Waiting>,
    wake: Notify,
}

/// Who is to be asked.
#[derive(Default)]
struct Waiting {
    queue: VecDeque<Origin>,
    /// Those of the queue and those being asked: each once, however many requests want it.
    origins: HashSet<Origin>,
    /// Origins that were new in this hour, by its number since 1970.
    hour: u64,
    new: usize,
}

/// What a directory says to a key's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The key.
    Key(Arc<AgentKey>),
    /// Not yet: the directory is being asked. Come again in a few seconds.
    Coming,
    /// The origin was asked, and has no such key; or it gave no answer. It is not asked again before this (Unix seconds).
    Absent {
        /// When a request may lead to another question.
        until_s: u64,
    },
    /// Nobody asks this origin.
    Barred,
}

impl Directories {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: ArcSwap::from_pointee(settings),
            known: ArcSwap::default(),
            waiting: Mutex::default(),
            wake: Notify::new(),
        }
    }

    /// Takes other settings. What is known of origins that may not be asked any more is not used from now on.
    pub fn configure(&self, settings: Settings) {
        self.settings.store(Arc::new(settings));
    }

    /// The key that `keyid` means in the directory of an origin. Never waits: a directory that is not known, not new or
    /// lacks the key is asked for behind the request's back.
    pub fn find(&self, origin: &Origin, keyid: &str, now_s: u64) -> Found {
        if !self.settings.load().hosts.permit(origin) {
            return Found::Barred;
        }
        let shelf = self.known.load().get(origin).cloned();
        let look = shelf.as_ref().map_or(Look::Nothing, |shelf| shelf.look(keyid, now_s));
        match look {
            Look::Key(key, is_due) => {
                if is_due {
                    self.ask(origin, shelf.is_some(), now_s);
                }
                Found::Key(key)
            }
            Look::Absent(until_s) => Found::Absent { until_s },
            Look::Nothing if self.ask(origin, shelf.is_some(), now_s) => Found::Coming,
            Look::Nothing => Found::Absent { until_s: now_s.saturating_add(NO_ROOM_S) },
        }
    }

    /// Puts an origin in the queue, if it is not there; whether it is there now.
    fn ask(&self, origin: &Origin, is_known: bool, now_s: u64) -> bool {
        let mut waiting = self.waiting();
        if waiting.origins.contains(origin) {
            return true;
        }
        if waiting.origins.len() >= WAITING_MAX {
            return false;
        }
        if let Allow::Any { per_hour } = self.settings.load().hosts.allow
            && !is_known
        {
            let hour = now_s / 3600;
            if waiting.hour != hour {
                (waiting.hour, waiting.new) = (hour, 0);
            }
            if waiting.new >= per_hour {
                return false;
            }
            waiting.new += 1;
        }
        waiting.origins.insert(origin.clone());
        waiting.queue.push_back(origin.clone());
        self.wake.notify_one();
        true
    }

    /// The next origin to ask; waits until there is one.
    async fn next(&self) -> Origin {
        loop {
            let next = self.waiting().queue.pop_front();
            match next {
                Some(origin) => return origin,
                None => self.wake.notified().await,
            }
        }
    }

    /// Takes in what came of a question.
    fn learn(&self, origin: &Origin, outcome: Option<Fetched>, now_s: u64) {
        self.known.rcu(|known| {
            let mut next = HashMap::clone(known);
            let before = next.get(origin).map_or_else(Shelf::default, |shelf| Shelf::clone(shelf));
            next.insert(origin.clone(), Arc::new(before.after(outcome.as_ref(), now_s)));
            make_room(&mut next, now_s);
            next
        });
        // Only now, or a request in between would have it asked twice.
        self.waiting().origins.remove(origin);
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets what is of no use, and where that is not enough who was asked longest ago: a failure before a directory.
fn make_room(known: &mut HashMap<Origin, Arc<Shelf>>, now_s: u64) {
    if known.len() > KNOWN_MAX {
        known.retain(|_, shelf| !shelf.is_spent(now_s));
    }
    while known.len() > KNOWN_MAX {
        let oldest = known.iter().min_by_key(|(_, shelf)| (shelf.has_keys(now_s), shelf.asked_s()));
        let Some(oldest) = oldest.map(|(origin, _)| origin.clone()) else { return };
        known.remove(&oldest);
    }
}

impl fmt::Debug for Directories {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Directories({} origins)", self.known.load().len())
    }
}
