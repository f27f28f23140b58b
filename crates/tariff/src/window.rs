//! Hours of the week at which a price differs.
//!
//! A window belongs to the weekday on which it starts, also past midnight (reference item 35).

use std::sync::Arc;

use jiff::civil::{Date, DateTime};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Span, Timestamp};

/// Longest call whose edges are looked for one by one; a longer one may meet every window.
const EDGES_DAYS_MAX: i64 = 10;

/// Most zone changes that are looked at within these days.
const ZONE_CHANGES_MAX: usize = 16;

/// Why a window cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    /// Not `HH:MM-HH:MM`.
    #[error("`{0}` is no span of hours such as 09:00-12:00")]
    Hours(String),
    /// Neither 1 to 7 nor a name.
    #[error("`{0}` is no weekday")]
    Weekday(String),
    /// The bundled database does not know it.
    #[error("`{0}` is no time zone")]
    Zone(String),
    /// Not `YYYY-MM-DD`.
    #[error("`{0}` is no date such as 2026-10-01")]
    Date(String),
}

/// A time zone of the bundled database: nothing of the machine is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

impl Zone {
    /// Coordinated universal time.
    #[must_use]
    pub fn utc() -> Self {
        Self { name: "UTC".to_owned(), zone: TimeZone::UTC }
    }

    /// The zone of that name, such as `Asia/Shanghai`.
    ///
    /// # Errors
    /// [`WindowError::Zone`]: there is none.
    pub fn named(name: &str) -> Result<Self, WindowError> {
        if name.eq_ignore_ascii_case("utc") {
            return Ok(Self::utc());
        }
        let unknown = |_| WindowError::Zone(name.to_owned());
        let zone = TimeZoneDatabase::bundled().get(name).map_err(unknown)?;
        Ok(Self { name: name.to_owned(), zone })
    }

    fn datetime(&self, at: Timestamp) -> DateTime {
        self.zone.to_datetime(at)
    }

    /// The moments at which clocks show this: none or two where they are changed.
    fn moments(&self, date: Date, minute: u16) -> Vec<Timestamp> {
        let midnight = date.at(0, 0, 0, 0);
        let Ok(shown) = midnight.checked_add(Span::new().minutes(i64::from(minute))) else {
            return Vec::new();
        };
        let both = self.zone.to_ambiguous_timestamp(shown);
        [both.earlier(), both.later()].into_iter().flatten().collect()
    }
}

/// From one time of the day up to, not including, another. Past midnight where the end is not after the start;
/// the whole day where both are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hours {
    start: u16,
    end: u16,
}

impl Hours {
    /// Reads `09:00-12:00`. `24:00` is midnight.
    ///
    /// # Errors
    /// [`WindowError::Hours`].
    pub fn parse(text: &str) -> Result<Self, WindowError> {
        let read = || {
            let (start, end) = text.split_once('-')?;
            Some(Self { start: minute(start)?, end: minute(end)? })
        };
        read().ok_or_else(|| WindowError::Hours(text.to_owned()))
    }

    const fn is_whole_day(self) -> bool {
        self.start == self.end
    }

    /// The day on which the span began that holds this minute of this day.
    fn begun(self, date: Date, minute: u16) -> Option<Date> {
        let here = if self.start < self.end {
            self.start <= minute && minute < self.end
        } else {
            self.start <= minute || self.is_whole_day()
        };
        if here {
            return Some(date);
        }
        if self.start > self.end && minute < self.end { date.yesterday().ok() } else { None }
    }

    fn text(self) -> String {
        let of = |minute: u16| format!("{:02}:{:02}", minute / 60, minute % 60);
        format!("{}-{}", of(self.start), of(self.end))
    }
}

/// Minutes from midnight of `HH:MM`.
fn minute(text: &str) -> Option<u16> {
    let (hours, minutes) = text.trim().split_once(':')?;
    let number = |text: &str| {
        let digits = (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        if digits { text.parse::<u16>().ok() } else { None }
    };
    match (number(hours)?, number(minutes)?) {
        (24, 0) => Some(0),
        (hour @ 0..24, minute @ 0..60) => Some(hour * 60 + minute),
        _ => None,
    }
}

const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// Some days of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weekdays(u8);

impl Weekdays {
    /// Every day.
    pub const ALL: Self = Self(0b111_1111);

    /// Reads days: `1` to `7` from Monday on, or English names, whole or by their first three letters.
    ///
    /// # Errors
    /// [`WindowError::Weekday`].
    pub fn parse<'a>(days: impl IntoIterator<Item = &'a str>) -> Result<Self, WindowError> {
        days.into_iter().try_fold(Self(0), |Self(all), text| {
            let day = text.trim().to_ascii_lowercase();
            let by_number = day.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
            let by_name =
                || DAYS.iter().position(|name| *name == day || (day.len() == 3 && name.starts_with(&day)));
            let at = by_number.filter(|at| *at < DAYS.len()).or_else(by_name);
            at.map(|at| Self(all | 1 << at)).ok_or_else(|| WindowError::Weekday(text.to_owned()))
        })
    }

    fn has(self, date: Date) -> bool {
        self.0 & (1 << date.weekday().to_monday_zero_offset()) != 0
    }

    fn text(self) -> String {
        let days = DAYS.iter().enumerate().filter(|(at, _)| self.0 & (1 << at) != 0);
        days.map(|(_, name)| name.get(..3).unwrap_or(name)).collect::<Vec<_>>().join(" ")
    }
}

/// A named list of dates, such as the public holidays of a country.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Calendar {
    name: String,
    dates: Vec<Date>,
}

impl Calendar {
    /// A calendar of these dates, each `YYYY-MM-DD`.
    ///
    /// # Errors
    /// [`WindowError::Date`].
    pub fn new<'a>(name: &str, dates: impl IntoIterator<Item = &'a str>) -> Result<Self, WindowError> {
        let date = |text: &str| text.parse().map_err(|_| WindowError::Date(text.to_owned()));
        let mut dates = dates.into_iter().map(date).collect::<Result<Vec<Date>, _>>()?;
        dates.sort_unstable();
        dates.dedup();
        Ok(Self { name: name.to_owned(), dates })
    }

    /// What tariffs call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn has(&self, date: Date) -> bool {
        self.dates.binary_search(&date).is_ok()
    }

    pub(crate) fn text(&self) -> String {
        self.dates.iter().map(Date::to_string).collect::<Vec<_>>().join(" ")
    }
}

/// Hours on some days of the week.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Times {
    /// The days on which they start.
    pub days: Weekdays,
    /// The hours.
    pub hours: Vec<Hours>,
}

/// When a window is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct When {
    /// The zone of the hours.
    pub zone: Zone,
    /// The zone of the weekdays and the holidays, where it is another one.
    pub day_zone: Option<Zone>,
    /// Any of these.
    pub times: Vec<Times>,
    /// Days on which it does not start, whatever weekday they are. Days that are worked in exchange for them keep the
    /// rule of their weekday.
    pub except: Option<Arc<Calendar>>,
}

impl When {
    /// Hours on these days of the week in one zone.
    #[must_use]
    pub fn new(zone: Zone, days: Weekdays, hours: Vec<Hours>) -> Self {
        Self { zone, day_zone: None, times: vec![Times { days, hours }], except: None }
    }

    /// Whether the window is open at that moment (milliseconds since 1970). A moment beyond the calendar is in no
    /// window.
    #[must_use]
    pub fn holds(&self, at_ms: i64) -> bool {
        let Ok(at) = Timestamp::from_millisecond(at_ms) else { return false };
        let shown = self.zone.datetime(at);
        let minute =
            u16::try_from(shown.hour()).unwrap_or(0) * 60 + u16::try_from(shown.minute()).unwrap_or(0);
        self.times.iter().any(|times| {
            times.hours.iter().any(|hours| {
                let begun = hours.begun(shown.date(), minute);
                let day = begun.and_then(|begun| self.day(*hours, begun, at));
                day.is_some_and(|day| {
                    times.days.has(day) && !self.except.as_ref().is_some_and(|no| no.has(day))
                })
            })
        })
    }

    /// The day that decides, for a span that began on `begun` in the zone of the hours.
    fn day(&self, hours: Hours, begun: Date, at: Timestamp) -> Option<Date> {
        let Some(zone) = &self.day_zone else { return Some(begun) };
        if hours.is_whole_day() {
            return Some(zone.datetime(at).date());
        }
        let start = self.zone.moments(begun, hours.start).first().copied()?;
        Some(zone.datetime(start).date())
    }

    /// Moments after `from` and up to `until` at which the window may open or close; `None` where there would be too
    /// many.
    pub(crate) fn edges(&self, from_ms: i64, until_ms: i64) -> Option<Vec<i64>> {
        let from = Timestamp::from_millisecond(from_ms).ok()?;
        let until = Timestamp::from_millisecond(until_ms).ok()?;
        if until_ms.saturating_sub(from_ms) > EDGES_DAYS_MAX * 86_400_000 {
            return None;
        }
        let mut edges = Vec::new();
        for zone in [Some(&self.zone), self.day_zone.as_ref()].into_iter().flatten() {
            let (first, last) = (zone.datetime(from).date(), zone.datetime(until).date().tomorrow().ok()?);
            let mut date = first.yesterday().ok()?;
            while date <= last {
                let hours = self.times.iter().flat_map(|times| &times.hours);
                let minutes = hours.flat_map(|hours| [hours.start, hours.end]).chain([0]);
                edges.extend(minutes.flat_map(|minute| zone.moments(date, minute)));
                date = date.tomorrow().ok()?;
            }
            let changes = zone.zone.following(from).map(|change| change.timestamp());
            edges.extend(changes.take(ZONE_CHANGES_MAX).take_while(|change| *change <= until));
        }
        let within = edges.into_iter().filter(|edge| from < *edge && *edge <= until);
        Some(within.map(Timestamp::as_millisecond).collect())
    }

    /// In words: `mon tue 09:00-12:00 14:00-18:00 Asia/Shanghai, not on prc`.
    #[must_use]
    pub fn text(&self) -> String {
        let times = self.times.iter().map(|times| {
            let hours: Vec<_> = times.hours.iter().map(|hours| hours.text()).collect();
            format!("{} {}", times.days.text(), hours.join(" "))
        });
        let mut text = format!("{} {}", times.collect::<Vec<_>>().join("; "), self.zone.name);
        if let Some(zone) = &self.day_zone {
            text = format!("{text}, days of {}", zone.name);
        }
        if let Some(calendar) = &self.except {
            text = format!("{text}, not on {}", calendar.name);
        }
        text
    }
}

/// A moment from text: a date, which is its midnight in UTC, or a time with its offset (`2026-08-16T01:00:00Z`).
///
/// # Errors
/// [`WindowError::Date`].
pub fn moment_ms(text: &str) -> Result<i64, WindowError> {
    let date = || text.parse::<Date>().ok()?.to_zoned(TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    let moment = if text.contains('T') { text.parse::<Timestamp>().ok() } else { date() };
    moment.map(Timestamp::as_millisecond).ok_or_else(|| WindowError::Date(text.to_owned()))
}

/// That moment in UTC, as text.
#[must_use]
pub fn moment_text(at_ms: i64) -> String {
    Timestamp::from_millisecond(at_ms).map_or_else(|_| format!("{at_ms} ms"), |at| at.to_string())
}
