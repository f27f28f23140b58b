//! What a bitcoin costs now: the operator's word, or a number read from a service of the configuration every so often.
//!
//! A price that is too old is none (FIN-61): then Lightning is not offered, and nothing is guessed.

mod pointer;

use std::fmt;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use ::http::Method;
use bytes::Bytes;
use money::BitcoinPrice;
use tokio::time::MissedTickBehavior;

pub use pointer::{Pointer, PointerError};

use crate::dial::{Dialer, Origin};
use crate::http::ANSWER_BYTES_MAX;
use crate::{Exchange, ExchangeError};

/// Longest that a price service may take.
const TIME_MAX: Duration = Duration::from_secs(5);
/// A price that is more than so many times the one before, or less than that part of it, is believed when it is
/// read twice.
const JUMP_MAX: u32 = 2;

/// Where the price comes from.
#[derive(Clone, Debug)]
pub enum RateSettings {
    /// The operator says it. It does not age.
    Fixed(BitcoinPrice),
    /// A service says it.
    Read(Feed),
}

/// A service that tells the price in a JSON document. `Debug` hides the path, which may hold a key.
#[derive(Clone)]
pub struct Feed {
    /// Where it listens.
    pub origin: Origin,
    /// Path and query, with a leading slash.
    pub path: String,
    /// Where in the document the number stands, as a number or as text.
    pub pointer: Pointer,
    /// What the number counts.
    pub unit: Unit,
    /// From one read to the next.
    pub every: Duration,
    /// Oldest price that is used.
    pub max_age: Duration,
}

/// What the number of a price service counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unit {
    /// Dollars for a bitcoin.
    #[default]
    UsdPerBtc,
    /// Satoshi for a dollar.
    SatsPerUsd,
}

/// A price that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The price.
    pub price: BitcoinPrice,
    /// When it was read, in Unix seconds.
    pub as_of_s: u64,
    /// Who says so.
    pub source: Source,
}

/// Who says what a bitcoin costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The operator.
    Configuration,
    /// The service.
    Service,
}

/// Why a read gave no price. What was believed before stays, and ages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RateError {
    /// No whole answer.
    #[error("no answer: {0}")]
    Exchange(#[from] ExchangeError),
    /// Not 200.
    #[error("answered with status {0}")]
    Status(u16),
    /// The document has no number at the pointer, or a key twice on the way there.
    #[error("no number at the pointer")]
    NoNumber,
    /// A number that is no price.
    #[error("the number at the pointer is no price")]
    NoPrice,
    /// Far from the last one, and read for the first time.
    #[error("more than {JUMP_MAX} times off the last price: believed when it is read again")]
    Jump,
}

/// The price, kept up to date. One per configuration, asked from all threads.
#[derive(Debug)]
pub struct RateSource {
    settings: RateSettings,
    dialer: Dialer,
    readings: RwLock<Readings>,
}

/// What was read, and what of it is believed.
#[derive(Clone, Copy, Debug, Default)]
struct Readings {
    believed: Option<(BitcoinPrice, u64)>,
    doubted: Option<BitcoinPrice>,
}

impl Unit {
    /// Reads the number of a service.
    ///
    /// # Errors
    /// [`money::DecimalError`]
    pub fn price(self, text: &str) -> Result<BitcoinPrice, money::DecimalError> {
        match self {
            Self::UsdPerBtc => BitcoinPrice::from_usd_per_btc(text),
            Self::SatsPerUsd => BitcoinPrice::from_sats_per_usd(text),
        }
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Feed({}, path hidden, {} as {:?})", self.origin.authority(), self.pointer, self.unit)
    }
}

impl Readings {
    /// Takes a price that was read at `now_s`, and says whether it is believed. The first is, having none beside it.
    fn take(&mut self, price: BitcoinPrice, now_s: u64) -> bool {
        let near = |other: BitcoinPrice| !price.is_further_than(JUMP_MAX, other);
        let believed = self.believed.is_none_or(|(last, _)| near(last)) || self.doubted.is_some_and(near);
        if believed {
            *self = Self { believed: Some((price, now_s)), doubted: None };
        } else {
            self.doubted = Some(price);
        }
        believed
    }
}

impl RateSource {
    /// Nothing is read yet: a [`Feed`] has no rate before the first [`RateSource::read`].
    #[must_use]
    pub fn new(settings: RateSettings, dialer: Dialer) -> Self {
        Self { settings, dialer, readings: RwLock::default() }
    }

    /// The price to quote with; none when there is none young enough (FIN-61).
    #[must_use]
    pub fn rate(&self, now_s: u64) -> Option<Rate> {
        match &self.settings {
            RateSettings::Fixed(price) => {
                Some(Rate { price: *price, as_of_s: now_s, source: Source::Configuration })
            }
            RateSettings::Read(feed) => {
                let readings = *self.readings.read().unwrap_or_else(PoisonError::into_inner);
                let (price, as_of_s) = readings.believed?;
                // A clock that was set back makes a price of the future: it is as wrong as an old one.
                let is_young = Duration::from_secs(now_s.abs_diff(as_of_s)) <= feed.max_age;
                is_young.then_some(Rate { price, as_of_s, source: Source::Service })
            }
        }
    }

    /// Reads the service once, at `now_s`. Nothing to do for a fixed price.
    ///
    /// # Errors
    /// [`RateError`]; the last price stays what it is.
    ///
    /// # Cancel safety
    /// Dropped midway, nothing was read.
    pub async fn read(&self, now_s: u64) -> Result<(), RateError> {
        let RateSettings::Read(feed) = &self.settings else { return Ok(()) };
        let price = feed.ask(&self.dialer).await?;
        let mut readings = self.readings.write().unwrap_or_else(PoisonError::into_inner);
        if readings.take(price, now_s) { Ok(()) } else { Err(RateError::Jump) }
    }

    /// Reads the service for ever, at once and then every so often; ends at once for a fixed price. `now_s` is the
    /// clock, in Unix seconds.
    ///
    /// # Cancel safety
    /// It may be dropped at any time.
    pub async fn keep_reading(&self, now_s: impl Fn() -> u64) {
        let RateSettings::Read(feed) = &self.settings else { return };
        // An interval of nothing would panic.
        let mut ticks = tokio::time::interval(feed.every.max(Duration::from_secs(1)));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(error) = self.read(now_s()).await {
                tracing::warn!(service = feed.origin.authority(), %error, "price of a bitcoin not read");
            }
        }
    }
}

impl Feed {
    async fn ask(&self, dialer: &Dialer) -> Result<BitcoinPrice, RateError> {
        let exchange = Exchange {
            origin: &self.origin,
            method: Method::GET,
            path: &self.path,
            body: Bytes::new(),
            time_max: TIME_MAX,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        let answer = exchange.run(dialer).await?;
        if answer.status != 200 {
            return Err(RateError::Status(answer.status));
        }
        let number = self.pointer.number(&answer.body).ok_or(RateError::NoNumber)?;
        self.unit.price(&number).map_err(|_| RateError::NoPrice)
    }
}

#[cfg(test)]
mod tests;
