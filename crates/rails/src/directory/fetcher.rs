//! The one task that asks for directories.

use std::fmt;
use std::sync::Arc;

use proof::identity::Origin;
use tokio::task::JoinSet;

use super::fetch::Asking;
use super::pace::Pacing;
use super::{Directories, Network, Pace};
use crate::dial::Dialer;

/// Questions under way at once: whoever answers slowly holds up others no longer than that.
const AT_ONCE_MAX: usize = 8;

/// Asks for what [`Directories`] has no keys of.
#[derive(Clone)]
pub struct Fetcher {
    /// Where what is learned goes.
    pub directories: Arc<Directories>,
    /// How names and connections are had.
    pub network: Arc<dyn Network>,
    /// Whose certificates are believed.
    pub dialer: Dialer,
    /// Unix seconds.
    pub clock: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// How fast.
    pub pace: Pace,
}

impl fmt::Debug for Fetcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fetcher({:?})", self.directories)
    }
}

impl Fetcher {
    /// Works until it is dropped.
    ///
    /// # Cancel safety
    /// Dropped, it leaves those that it was asking marked as asked: nobody asks them again in this process.
    pub async fn run(self) {
        let mut pacing = Pacing::new(self.pace);
        let mut asking = JoinSet::new();
        loop {
            if asking.len() >= AT_ONCE_MAX {
                asking.join_next().await;
            }
            let origin = tokio::select! {
                origin = self.directories.next() => origin,
                Some(_) = asking.join_next() => continue,
            };
            pacing.turn().await;
            asking.spawn(self.clone().ask(origin));
        }
    }

    async fn ask(self, origin: Origin) {
        let settings = self.directories.settings.load_full();
        // The settings may have changed while it waited.
        let outcome = if settings.hosts.permit(&origin) {
            let asking =
                Asking { network: &*self.network, dialer: &self.dialer, unsigned: settings.unsigned };
            let fetched = asking.fetch(&origin, &*self.clock).await;
            match &fetched {
                Ok(fetched) => {
                    tracing::info!(%origin, keys = fetched.keys.len(), "a key directory was fetched")
                }
                Err(error) => tracing::info!(%origin, %error, "a key directory gave no keys"),
            }
            fetched.ok()
        } else {
            None
        };
        self.directories.learn(&origin, outcome, (self.clock)());
    }
}
