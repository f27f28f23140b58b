//! Why the budget lets nothing be paid, for whoever must decide what to do next.

use std::fmt;

use money::{Amount, Asset};

use super::{Host, Span, Stop};

/// Nothing was signed, and no credit key was sent.
#[derive(Debug, thiserror::Error)]
pub enum BudgetError {
    /// A cap is in the way.
    #[error("{0}")]
    Over(Box<Over>),
    /// There is an allow-list and the host is not on it.
    #[error("{0} is not among the hosts that may be paid: farthing budget allow {0} adds it")]
    NotAllowed(Host),
    /// The breaker is open.
    #[error("nothing is paid to {host}{}", stopped(.host, *.stop, *.now_unix_s))]
    Stopped {
        /// Whom.
        host: Host,
        /// Why.
        stop: Stop,
        /// Unix seconds.
        now_unix_s: u64,
    },
    /// A runaway from host to host.
    #[error("{0} hosts were paid or given caps today already, more are not counted")]
    TooManyHosts(usize),
    /// The URL's host has no name that could be counted by.
    #[error("the name of the host is too long to be counted by")]
    Host,
    /// What the caller put into the request itself can be neither narrowed nor counted.
    #[error(
        "there is a budget, and a credit key or payment in a header of the request itself cannot be counted: \
         hand a key over in FARTHING_KEY or a file"
    )]
    OwnCredential,
}

/// Which cap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cap {
    /// Of one call.
    Call,
    /// Of an hour or a day.
    Window {
        /// Which.
        span: Span,
        /// What is left of it.
        left: Amount,
        /// How much of what is gone is held for calls whose end is not known.
        held: Amount,
        /// Unix seconds at which the next one begins.
        free_at: u64,
    },
}

/// A cap that a call would pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Over {
    /// Which.
    pub cap: Cap,
    /// Whose; `None` for the one of all hosts together.
    pub host: Option<Host>,
    /// How high it is.
    pub limit: Amount,
    /// What the call costs; `None` if it is only known that a credit key would need more than is left.
    pub price: Option<Amount>,
    /// Whether that goes into a payment channel, and is no call's price.
    pub is_deposit: bool,
    /// Unix seconds.
    pub now_unix_s: u64,
}

fn usd(amount: Amount) -> String {
    format!("{} USD", amount.short(Asset::Usd))
}

impl fmt::Display for Over {
    /// `the call costs 0.03 USD: the budget is 0.1 USD an hour for ..., 0.004 USD of it left; ...`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.price {
            Some(price) if self.is_deposit => write!(f, "the channel needs {} put in", usd(price))?,
            Some(price) => write!(f, "the call costs {}", usd(price))?,
            None => f.write_str("the call needs more than is left")?,
        }
        let unit = match self.cap {
            Cap::Call => "call".to_owned(),
            Cap::Window { span, .. } => span.to_string(),
        };
        let article = if unit == "hour" { "an" } else { "a" };
        write!(f, ": the budget is {} {article} {unit}", usd(self.limit))?;
        match &self.host {
            Some(host) => write!(f, " for {host}")?,
            None => f.write_str(" for all hosts together")?,
        }
        let Cap::Window { left, held, free_at, span } = self.cap else { return Ok(()) };
        write!(f, ", {} of it left", usd(left))?;
        if held > Amount::ZERO {
            write!(f, " and {} held for calls whose end is not known", usd(held))?;
        }
        write!(f, "; the next {span} begins at {}", clock(free_at, self.now_unix_s))
    }
}

fn stopped(host: &Host, stop: Stop, now_unix_s: u64) -> String {
    let reset = format!("farthing budget reset --host {host}");
    match stop {
        Stop::Failures { until } => format!(
            " until {}: it refused payments or left their end open, {} times in a row ({reset} ends the pause)",
            clock(until, now_unix_s),
            super::breaker::FAILURES_MAX
        ),
        Stop::Price { last, asked } => format!(
            ": for a call like one of {} it asked {} (if that is right: {reset})",
            usd(last),
            usd(asked)
        ),
    }
}

/// `14:00 UTC, in 12 min`. What is further away than a day is a matter of a clock that was wrong.
fn clock(at_unix_s: u64, now_unix_s: u64) -> String {
    let minute = at_unix_s / 60 % 1440;
    let minutes = at_unix_s.saturating_sub(now_unix_s).div_ceil(60);
    let wait = match (minutes / 60, minutes % 60) {
        (0, minutes) => format!("{minutes} min"),
        (hours, minutes) => format!("{hours} h {minutes} min"),
    };
    format!("{:02}:{:02} UTC, in {wait}", minute / 60, minute % 60)
}

#[cfg(test)]
mod tests {
    use super::{BudgetError, Cap, Over};
    use crate::budget::{Host, Span, Stop};
    use money::Amount;

    #[test]
    fn messages_name_the_cap_what_is_left_and_when_it_is_free() {
        let host: Host = "a.example".parse().unwrap();
        let nano = Amount::from_units;
        let now_unix_s = 86_400 * 20_000 + 49_000; // 13:36:40
        let window =
            |span, left, held, free_at| Cap::Window { span, left: nano(left), held: nano(held), free_at };
        let over = |cap, host: Option<&Host>, limit, price: Option<i64>| {
            let host = host.cloned();
            let price = price.map(nano);
            Over { cap, host, limit: nano(limit), price, is_deposit: false, now_unix_s }.to_string()
        };
        for (text, expected) in [
            (
                over(Cap::Call, Some(&host), 20_000_000, Some(30_000_000)),
                "the call costs 0.03 USD: the budget is 0.02 USD a call for a.example",
            ),
            (
                over(
                    window(Span::Hour, 4_000_000, 0, 86_400 * 20_000 + 50_400),
                    None,
                    100_000_000,
                    Some(30_000_000),
                ),
                "the call costs 0.03 USD: the budget is 0.1 USD an hour for all hosts together, 0.004 USD of it \
                 left; the next hour begins at 14:00 UTC, in 24 min",
            ),
            (
                over(window(Span::Day, 0, 50_000_000, 86_400 * 20_001), Some(&host), 1_000_000_000, None),
                "the call needs more than is left: the budget is 1 USD a day for a.example, 0 USD of it left and \
                 0.05 USD held for calls whose end is not known; the next day begins at 00:00 UTC, in 10 h 24 min",
            ),
            (
                BudgetError::Stopped {
                    host: host.clone(),
                    stop: Stop::Failures { until: now_unix_s + 600 },
                    now_unix_s,
                }
                .to_string(),
                "nothing is paid to a.example until 13:46 UTC, in 10 min: it refused payments or left their end \
                 open, 3 times in a row (farthing budget reset --host a.example ends the pause)",
            ),
            (
                BudgetError::Stopped {
                    host: host.clone(),
                    stop: Stop::Price { last: nano(1_000_000), asked: nano(9_000_000) },
                    now_unix_s,
                }
                .to_string(),
                "nothing is paid to a.example: for a call like one of 0.001 USD it asked 0.009 USD (if that is \
                 right: farthing budget reset --host a.example)",
            ),
        ] {
            assert_eq!(text, expected);
        }
    }
}
