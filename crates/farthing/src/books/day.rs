//! Days and times of day, in UTC (FIN-88).

use std::fmt;

const MILLIS_PER_DAY: u64 = 86_400_000;

/// A day since 1970-01-01.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Day(u64);

impl Day {
    /// The day of Unix milliseconds.
    pub(super) const fn of(time_ms: u64) -> Self {
        Self(time_ms / MILLIS_PER_DAY)
    }

    /// The day after.
    pub(super) const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Day {
    /// `2026-11-19`. The civil calendar from a count of days: eras of 400 years, years from March.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days = self.0.saturating_add(719_468);
        let (era, day_of_era) = (days / 146_097, days % 146_097);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = era * 400 + year_of_era + u64::from(month <= 2);
        write!(f, "{year:04}-{month:02}-{day:02}")
    }
}

/// `2026-11-19T08:30:00.125Z`
pub(super) fn timestamp(time_ms: u64) -> String {
    let of_day = time_ms % MILLIS_PER_DAY;
    let (seconds, millis) = (of_day / 1000, of_day % 1000);
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    format!("{}T{hours:02}:{minutes:02}:{:02}.{millis:03}Z", Day::of(time_ms), seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::{Day, timestamp};

    #[test]
    fn days_of_the_calendar() {
        for (time_ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_767_225_599_999, "2025-12-31T23:59:59.999Z"),
            (1_795_000_000_000, "2026-11-18T11:06:40.000Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
        ] {
            assert_eq!(timestamp(time_ms), expected);
        }
        assert_eq!(Day::of(951_782_399_999).next(), Day::of(951_782_400_000));
        assert_eq!(Day::of(1_767_225_599_999).next().to_string(), "2026-01-01");
    }
}
