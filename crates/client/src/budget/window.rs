//! What was spent in the hour and in the day that run.
//!
//! Windows are hours and days of UTC, as the gateway's own limits per day are: two counters instead of a list,
//! and a time can be named at which there is room again. At the end of an hour two of them may be spent within
//! minutes; the cap of the day bounds that.

use std::fmt;

use money::Amount;
use serde::{Deserialize, Serialize};

use super::nano;

/// How long a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Span {
    /// An hour of UTC.
    Hour,
    /// A day of UTC.
    Day,
}

/// Money, looked at from two sides. A deposit is paid at once and used call by call, so neither side alone is
/// what a cap means, and their sum would count it twice: each side is held below the cap by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spent {
    /// What left the wallet.
    #[serde(rename = "paid_nano", with = "nano")]
    pub paid: Amount,
    /// What calls cost, whether a payment or a credit key paid.
    #[serde(rename = "used_nano", with = "nano")]
    pub used: Amount,
}

/// Where something counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sides {
    /// It leaves the wallet, and nothing is used yet.
    Paid,
    /// It was paid before.
    Used,
    /// It leaves the wallet for a call.
    Both,
}

/// One window and what was spent in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Window {
    /// Windows of this length since 1970.
    number: u64,
    pub(super) spent: Spent,
}

/// The hour and the day that run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Windows {
    hour: Window,
    day: Window,
}

/// In which windows something was reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stamp {
    hour: u64,
    day: u64,
}

impl Span {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Hour, Self::Day];

    const fn seconds(self) -> u64 {
        match self {
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hour => "hour",
            Self::Day => "day",
        })
    }
}

impl Spent {
    /// What counts against a cap.
    #[must_use]
    pub fn counted(&self) -> Amount {
        self.paid.max(self.used)
    }

    /// Sums are capped, not wrapped: what is too large to count is more than any cap.
    pub(super) fn plus(self, other: Self) -> Self {
        let sum = |a: Amount, b: Amount| a.plus(b).unwrap_or(Amount::MAX);
        Self { paid: sum(self.paid, other.paid), used: sum(self.used, other.used) }
    }

    /// Never below zero: an amount that somebody removed from the file is not given back once more.
    pub(super) fn less(self, other: Self) -> Self {
        Self { paid: less(self.paid, other.paid), used: less(self.used, other.used) }
    }

    /// How much more fits under `cap` on the sides on which it would count.
    pub(super) fn room(self, cap: Amount, sides: Sides) -> Amount {
        less(cap, self.on(sides))
    }

    /// The larger of the sides.
    pub(super) fn on(self, sides: Sides) -> Amount {
        match sides {
            Sides::Paid => self.paid,
            Sides::Used => self.used,
            Sides::Both => self.counted(),
        }
    }
}

/// `a - b`, at least zero.
fn less(a: Amount, b: Amount) -> Amount {
    a.minus(b).unwrap_or_default().max(Amount::ZERO)
}

impl Windows {
    /// Begins the windows of `now`. A clock that was set back does not bring an earlier one again.
    pub(super) fn roll(&mut self, now_unix_s: u64) {
        for (span, window) in [(Span::Hour, &mut self.hour), (Span::Day, &mut self.day)] {
            let number = now_unix_s / span.seconds();
            if number > window.number {
                *window = Window { number, spent: Spent::default() };
            }
        }
    }

    /// Takes over the windows that run for all together: every account has the same ones.
    pub(super) fn follow(&mut self, all: &Self) {
        for (window, leader) in [(&mut self.hour, &all.hour), (&mut self.day, &all.day)] {
            if window.number != leader.number {
                *window = Window { number: leader.number, spent: Spent::default() };
            }
        }
    }

    /// The same windows, with nothing spent in them.
    pub(super) fn begun(&self) -> Self {
        let mut windows = Self::default();
        windows.follow(self);
        windows
    }

    pub(super) const fn of(&self, span: Span) -> &Window {
        match span {
            Span::Hour => &self.hour,
            Span::Day => &self.day,
        }
    }

    pub(super) const fn stamp(&self) -> Stamp {
        Stamp { hour: self.hour.number, day: self.day.number }
    }

    pub(super) fn add(&mut self, spent: Spent) {
        for window in [&mut self.hour, &mut self.day] {
            window.spent = window.spent.plus(spent);
        }
    }

    /// Replaces what was reserved by what it came to, in the windows in which it was reserved.
    pub(super) fn correct(&mut self, at: Stamp, reserved: Spent, came_to: Spent) {
        for (window, number) in [(&mut self.hour, at.hour), (&mut self.day, at.day)] {
            if window.number == number {
                window.spent = window.spent.less(reserved).plus(came_to);
            }
        }
    }
}

impl Window {
    /// Unix seconds at which the next one begins.
    pub(super) const fn end(&self, span: Span) -> u64 {
        self.number.saturating_add(1).saturating_mul(span.seconds())
    }
}

impl Stamp {
    /// Whether it was reserved in the window that runs.
    pub(super) const fn is_in(self, windows: &Windows, span: Span) -> bool {
        match span {
            Span::Hour => self.hour == windows.hour.number,
            Span::Day => self.day == windows.day.number,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Sides, Span, Spent, Windows};
    use money::Amount;

    fn spent(paid: i64, used: i64) -> Spent {
        Spent { paid: Amount::from_units(paid), used: Amount::from_units(used) }
    }

    #[test]
    fn a_correction_meets_only_the_windows_of_its_time() {
        for (situation, later, hour, day) in [
            ("the same hour", 3_599, spent(5, 1), spent(5, 1)),
            ("the next hour", 3_600, spent(0, 0), spent(5, 1)),
            ("the next day", 86_400, spent(0, 0), spent(0, 0)),
            ("a clock that was set back", 0, spent(5, 1), spent(5, 1)),
        ] {
            let mut windows = Windows::default();
            let start = 20_000 * 86_400;
            windows.roll(start);
            let at = windows.stamp();
            windows.add(spent(5, 5));
            windows.roll(if later == 0 { start - 7_200 } else { start + later });
            windows.correct(at, spent(5, 5), spent(5, 1));
            assert_eq!(
                (windows.of(Span::Hour).spent, windows.of(Span::Day).spent),
                (hour, day),
                "{situation}"
            );
        }
    }

    #[test]
    fn room_is_what_the_narrower_side_leaves() {
        let cap = Amount::from_units(10);
        for (spent, sides, room) in [
            (spent(7, 2), Sides::Both, 3),
            (spent(7, 2), Sides::Used, 8),
            (spent(2, 7), Sides::Both, 3),
            (spent(2, 7), Sides::Paid, 8),
            (spent(10, 0), Sides::Both, 0),
            (spent(10, 0), Sides::Used, 10),
            (spent(11, 0), Sides::Both, 0),
        ] {
            assert_eq!(spent.room(cap, sides).units(), room, "{spent:?} {sides:?}");
        }
        let huge = spent(i64::MAX, 0).plus(spent(1, 0));
        assert_eq!(huge.room(Amount::MAX, Sides::Both), Amount::ZERO);
    }
}
