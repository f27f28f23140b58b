//! Settlements of nodes that have a list and no stream: the list is read again and again.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::port::{NodeError, Settled};
use super::recent::Recent;

/// Between two looks.
const REST: Duration = Duration::from_secs(2);
/// How far behind the cursor is read again: what is written together does not appear in order.
const OVERLAP_S: u64 = 60;
/// Pages of one look.
const PAGES_MAX: usize = 10;

/// A node whose latest settlements can be listed, the latest first.
pub(super) trait Polled {
    /// Of its cursor, which is a time.
    const UNITS_PER_SECOND: u64;
    /// Entries of a full page.
    const PAGE: usize;

    /// Entries from `since` on, after the first `offset`.
    async fn page(&self, since: u64, offset: usize) -> Result<Vec<Found>, NodeError>;
}

/// An entry of a list.
pub(super) struct Found {
    /// When, by the node's clock.
    pub at: u64,
    /// None for what is no settlement.
    pub settled: Option<Settled>,
}

/// What is new since `cursor`, as soon as there is something. From 0 that is the latest page.
pub(super) async fn next_settled<P: Polled>(
    node: &P,
    told: &Recent,
    wait: Duration,
    cursor: u64,
) -> Result<Vec<Settled>, NodeError> {
    let until = Instant::now() + wait;
    loop {
        let since = cursor.saturating_sub(OVERLAP_S * P::UNITS_PER_SECOND);
        let mut settled = look(node, cursor, since).await?;
        // Behind the cursor only what was not told before; after it all, so that an asker who lost an answer has it
        // again.
        settled.retain(|one| told.is_new(&one.payment_hash) || one.cursor > cursor);
        let next = Instant::now() + REST;
        if !settled.is_empty() || next > until {
            return Ok(settled);
        }
        sleep(REST).await;
    }
}

async fn look<P: Polled>(node: &P, cursor: u64, since: u64) -> Result<Vec<Settled>, NodeError> {
    let mut settled = Vec::new();
    let pages = if cursor == 0 { 1 } else { PAGES_MAX };
    for page in 0..pages {
        let found = node.page(since, page * P::PAGE).await?;
        let is_last = found.len() < P::PAGE || found.iter().any(|entry| entry.at < since);
        settled.extend(found.into_iter().filter(|entry| entry.at >= since).filter_map(|entry| entry.settled));
        if is_last {
            break;
        }
    }
    Ok(settled)
}
