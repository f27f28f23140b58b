//! Keys of agents' directories, as they were last fetched. No request waits for a directory (IDN-15): a key that is not
//! here is asked for, and whoever signed with it comes again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use proof::identity::{AgentKey, Origin};
use tokio::sync::Notify;

/// Origins that wait to be fetched, at most: beyond it a request is told to come again, and asks again then.
pub(crate) const WANTED_MAX: usize = 256;

/// What is known of directories. Read without a lock; one task fetches and publishes.
#[derive(Default)]
pub(crate) struct Directories {
    known: ArcSwap<HashMap<Origin, Arc<[AgentKey]>>>,
    /// Each origin once, however many requests ask for it.
    wanted: Mutex<HashSet<Origin>>,
    asked: Notify,
}

impl Directories {
    /// The key that `keyid` means in the directory of an origin.
    pub(crate) fn key(&self, origin: &Origin, keyid: &str) -> Option<AgentKey> {
        self.known.load().get(origin)?.iter().find(|key| key.thumbprint() == keyid).cloned()
    }

    /// Asks for a directory to be fetched. Whether that may be done, and how soon, is the fetcher's affair.
    ///
    /// Returns whether there was room to ask.
    pub(crate) fn ask(&self, origin: &Origin) -> bool {
        let mut wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = wanted.len() < WANTED_MAX || wanted.contains(origin);
        if has_room && wanted.insert(origin.clone()) {
            self.asked.notify_one();
        }
        has_room
    }

    /// Everything that was asked for since the last time; waits until there is something.
    ///
    /// # Cancel safety
    /// Nothing is lost: what was asked for is taken out only when it is returned.
    pub(crate) async fn wanted(&self) -> HashSet<Origin> {
        loop {
            let taken = std::mem::take(&mut *self.wanted.lock().unwrap_or_else(PoisonError::into_inner));
            if !taken.is_empty() {
                return taken;
            }
            self.asked.notified().await;
        }
    }

    /// The keys that a directory has from now on; none: it is forgotten.
    pub(crate) fn publish(&self, origin: &Origin, keys: Vec<AgentKey>) {
        self.known.rcu(|known| {
            let mut next = HashMap::clone(known);
            match keys.is_empty() {
                true => next.remove(origin),
                false => next.insert(origin.clone(), keys.clone().into()),
            };
            next
        });
    }
}

#[cfg(test)]
mod tests {
    use proof::SigningKey;
    use proof::identity::{AgentKey, Origin};

    use super::{Directories, WANTED_MAX};

    fn origin(at: usize) -> Origin {
        Origin::parse(&format!("https://agent-{at}.test")).unwrap()
    }

    /// IDN-14, IDN-15
    #[tokio::test]
    async fn idn_15_what_is_wanted_is_asked_for_once_and_bounded() {
        let directories = Directories::default();
        for at in 0..WANTED_MAX {
            assert!(directories.ask(&origin(at)));
        }
        assert!(directories.ask(&origin(0)), "that is asked for already");
        assert!(!directories.ask(&origin(WANTED_MAX)));
        assert_eq!(directories.wanted().await.len(), WANTED_MAX);
        let key = AgentKey::new(&SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes()).unwrap();
        directories.publish(&origin(1), vec![key.clone()]);
        assert_eq!(directories.key(&origin(1), key.thumbprint()), Some(key.clone()));
        assert_eq!(
            directories.key(&origin(2), key.thumbprint()),
            None,
            "the same key is another agent there"
        );
        assert_eq!(directories.key(&origin(1), "other"), None);
        directories.publish(&origin(1), Vec::new());
        assert_eq!(directories.key(&origin(1), key.thumbprint()), None);
    }
}
