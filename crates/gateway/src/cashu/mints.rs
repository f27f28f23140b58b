//! What is known of the mints of the configuration. Nothing here outlives the process, and nothing has to: a mint is
//! asked again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use money::{Amount, BitcoinPrice};
use rails::cashu::{Keysets, LearnError, Mint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use wire::cashu::UNIT_SAT;

use crate::clock::Now;
use crate::gate::Gate;
use crate::till::QUOTE_SECONDS;

/// How often it is looked who is to be asked.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Seconds between two looks at a mint that is known ...
const AGAIN_S: u64 = 300;
/// ... that did not answer ...
const RETRY_S: u64 = 5;
/// ... and at one that somebody says has changed: this bounds what tokens of made-up keysets cost it.
const DOUBTED_S: u64 = 10;
/// Swaps that one mint is asked for at the same time.
const AT_ONCE_MAX: usize = 16;
/// How long a payer waits for a turn.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Prices that are remembered: one for each second of a quote's life would be more than any feed has.
const PRICES_MAX: usize = 64;

/// What mints have told.
#[derive(Debug, Default)]
pub(crate) struct Mints {
    known: DashMap<String, Standing>,
    turns: DashMap<String, Arc<Semaphore>>,
    /// Prices that requests for payment went out with, the newest last, and when each did last.
    asked_at: Mutex<VecDeque<(BitcoinPrice, u64)>>,
}

#[derive(Clone, Debug, Default)]
struct Standing {
    keysets: Arc<Keysets>,
    /// Unix seconds of the last look, and of the last that told something.
    asked_s: u64,
    told_s: u64,
    is_doubted: bool,
    is_asked: bool,
}

impl Standing {
    fn is_due(&self, now_s: u64) -> bool {
        let wait = match (self.is_doubted, self.asked_s == self.told_s) {
            (true, _) => DOUBTED_S,
            (false, true) => AGAIN_S,
            (false, false) => RETRY_S,
        };
        !self.is_asked && (self.asked_s == 0 || now_s.saturating_sub(self.asked_s) >= wait)
    }
}

impl Mints {
    /// The keysets of a mint that has told them, and when it did, in Unix seconds.
    pub(crate) fn keysets(&self, mint: &str) -> Option<(Arc<Keysets>, u64)> {
        let standing = self.known.get(mint)?;
        (standing.told_s > 0).then(|| (Arc::clone(&standing.keysets), standing.told_s))
    }

    /// Whether a mint has answered when it was asked last: only such mints are offered.
    pub(crate) fn answers(&self, mint: &str) -> bool {
        self.known.get(mint).is_some_and(|known| known.told_s > 0 && known.told_s == known.asked_s)
    }

    /// What is known of a mint may be no longer so.
    pub(crate) fn doubt(&self, mint: &str) {
        if let Some(mut standing) = self.known.get_mut(mint) {
            standing.is_doubted = true;
        }
    }

    /// The right to ask a mint for a swap; none within the time that a payer waits.
    pub(crate) async fn turn(&self, mint: &str) -> Option<OwnedSemaphorePermit> {
        let turns =
            self.turns.entry(mint.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(AT_ONCE_MAX)));
        let turns = Arc::clone(&turns);
        tokio::time::timeout(WAIT_MAX, turns.acquire_owned()).await.ok()?.ok()
    }

    /// A request for payment goes out at this price.
    pub(crate) fn asked_at(&self, price: BitcoinPrice, now_s: u64) {
        let mut prices = self.asked_at.lock().unwrap_or_else(PoisonError::into_inner);
        prices.retain(|(known, at_s)| *known != price && now_s.saturating_sub(*at_s) <= QUOTE_SECONDS);
        if prices.len() == PRICES_MAX {
            prices.pop_front();
        }
        prices.push_back((price, now_s));
    }

    /// The price, of `price` and those that requests for payment of late went out with, at which a sum costs the fewest
    /// satoshi: who was quoted it pays it.
    pub(crate) fn best_price(&self, price: BitcoinPrice, now_s: u64) -> BitcoinPrice {
        let prices = self.asked_at.lock().unwrap_or_else(PoisonError::into_inner);
        let of_late = prices.iter().filter(|(_, at_s)| now_s.saturating_sub(*at_s) <= QUOTE_SECONDS);
        // Of an amount so large that rounding does not decide.
        let costs = |price: &BitcoinPrice| {
            price.msat_for_up(Amount::from_units(1_000_000_000_000)).unwrap_or(u64::MAX)
        };
        of_late.map(|(price, _)| *price).chain([price]).min_by_key(costs).unwrap_or(price)
    }

    fn take_due(&self, mint: &str, now_s: u64) -> Option<Arc<Keysets>> {
        let mut standing = self.known.entry(mint.to_owned()).or_default();
        if !standing.is_due(now_s) {
            return None;
        }
        standing.is_asked = true;
        Some(Arc::clone(&standing.keysets))
    }

    fn told(&self, mint: &str, now_s: u64, told: Result<Keysets, LearnError>) {
        let mut standing = self.known.entry(mint.to_owned()).or_default();
        (standing.asked_s, standing.is_asked, standing.is_doubted) = (now_s, false, false);
        match told {
            Ok(keysets) => (standing.keysets, standing.told_s) = (Arc::new(keysets), now_s),
            Err(error) => tracing::warn!(mint, %error, "a mint cannot be paid by now"),
        }
    }
}

/// Keeps asking the mints of the configuration, and the price of a bitcoin where ecash has its own. Nobody waits for
/// it: start-up neither, nor a request.
pub(crate) async fn watch(gate: Arc<Gate>) {
    let mut asking = JoinSet::new();
    loop {
        let snapshot = gate.snapshot.load_full();
        let Some(desk) = snapshot.cashu.as_ref() else {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        };
        let looking = async {
            let mut tick = tokio::time::interval(LOOK_EVERY);
            while Arc::ptr_eq(&gate.snapshot.load(), &snapshot) {
                tick.tick().await;
                while asking.try_join_next().is_some() {}
                for mint in desk.mints() {
                    if let Some(known) = gate.mints.take_due(&mint.url, Now::read().seconds()) {
                        asking.spawn(learn(Arc::clone(&gate), mint.clone(), known));
                    }
                }
            }
        };
        let reading = async {
            if let Some(rate) = desk.own_rate() {
                rate.keep_reading(|| Now::read().seconds()).await;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = looking => {}
            () = reading => {}
        }
    }
}

async fn learn(gate: Arc<Gate>, mint: Mint, known: Arc<Keysets>) {
    let told = mint.learn(UNIT_SAT, &known).await;
    gate.mints.told(&mint.url, Now::read().seconds(), told);
}

#[cfg(test)]
mod tests {
    use money::BitcoinPrice;
    use rails::cashu::{Keysets, LearnError};

    use super::Mints;

    fn usd(text: &str) -> BitcoinPrice {
        BitcoinPrice::from_usd_per_btc(text).unwrap()
    }

    /// CASHU-4: who does not answer is not offered, and is asked again.
    #[test]
    fn cashu_4_a_mint_is_asked_when_it_is_due() {
        let mints = Mints::default();
        assert!(mints.take_due("m", 1000).is_some() && mints.take_due("m", 1000).is_none(), "once at a time");
        mints.told("m", 1001, Err(LearnError::NoAnswer));
        assert!(!mints.answers("m") && mints.keysets("m").is_none());
        assert!(mints.take_due("m", 1005).is_none() && mints.take_due("m", 1006).is_some());
        mints.told("m", 1016, Ok(Keysets::default()));
        assert!(mints.answers("m") && mints.take_due("m", 1100).is_none());
        mints.doubt("m");
        assert!(mints.take_due("m", 1020).is_none() && mints.take_due("m", 1026).is_some());
        mints.told("m", 1026, Err(LearnError::NoAnswer));
        assert!(!mints.answers("m") && mints.keysets("m").is_some_and(|(_, told_s)| told_s == 1016));
    }

    /// CASHU-5: a price that moved is no trap.
    #[test]
    fn cashu_5_who_was_quoted_a_price_pays_it() {
        let mints = Mints::default();
        mints.asked_at(usd("100000"), 1000);
        mints.asked_at(usd("90000"), 1010);
        assert_eq!(mints.best_price(usd("80000"), 1020), usd("100000"), "the fewest satoshi");
        assert_eq!(mints.best_price(usd("120000"), 1020), usd("120000"));
        assert_eq!(mints.best_price(usd("80000"), 1305), usd("90000"), "the first is too old");
        assert_eq!(mints.best_price(usd("80000"), 1311), usd("80000"));
        for step in 0..200 {
            mints.asked_at(usd(&format!("{}", 90_000 + step)), 1020);
        }
        assert!(mints.asked_at.lock().unwrap().len() <= super::PRICES_MAX);
    }
}
