//! `off_peak_pricing`: rates for hours of the week, in UTC, on weekdays of a zone. It knows no holidays.

use serde_json::value::RawValue;

use super::{Said, find};
use crate::catalogue::SkipReason;
use crate::json;
use crate::tariff::Window;
use crate::window::{Hours, Times, Weekdays, When, Zone};

const NAME: &str = "off_peak_pricing";

pub(super) fn off_peak(value: &RawValue) -> Result<Window, SkipReason> {
    let bad = || SkipReason::Member(NAME.to_owned());
    let members = json::object(value).ok_or_else(bad)?;
    if json::twice(&members).is_some() {
        return Err(bad());
    }
    let changes = Said::read(&members)?.at(0, None);
    let day_zone = match find(&members, "weekday_timezone") {
        Some(zone) => Some(json::string(zone).and_then(|name| Zone::named(&name).ok()).ok_or_else(bad)?),
        None => None,
    };
    let mut times = Vec::new();
    if let Some(hours) = find(&members, "hours_utc") {
        times.push(Times { days: Weekdays::ALL, hours: hours_of(hours).ok_or_else(bad)? });
    }
    for window in find(&members, "windows").map_or(Some(Vec::new()), json::array).ok_or_else(bad)? {
        times.push(times_of(window).ok_or_else(bad)?);
    }
    if times.is_empty() || changes.is_empty() {
        return Err(bad());
    }
    let when = When {
        zone: Zone::utc(),
        day_zone: day_zone.filter(|zone| *zone != Zone::utc()),
        times,
        except: None,
    };
    Ok(Window { name: "off-peak".to_owned(), when, changes })
}

fn times_of(window: &RawValue) -> Option<Times> {
    let members = json::object(window)?;
    let days = match find(&members, "weekdays") {
        Some(days) => {
            let word =
                |day: &&RawValue| json::string(day).or_else(|| json::whole(day).map(|day| day.to_string()));
            let days: Vec<String> = json::array(days)?.iter().map(word).collect::<Option<_>>()?;
            Weekdays::parse(days.iter().map(String::as_str)).ok()?
        }
        None => Weekdays::ALL,
    };
    Some(Times { days, hours: hours_of(find(&members, "hours_utc")?)? })
}

fn hours_of(value: &RawValue) -> Option<Vec<Hours>> {
    let texts = match json::string(value) {
        Some(text) => vec![text],
        None => json::array(value)?.into_iter().map(json::string).collect::<Option<_>>()?,
    };
    let hours: Vec<Hours> = texts.iter().map(|text| Hours::parse(text).ok()).collect::<Option<_>>()?;
    if hours.is_empty() { None } else { Some(hours) }
}
