//! `windows` of a price, and the `calendars` they may leave out.

use std::path::Path;
use std::sync::Arc;

use tariff::{Calendar, Hours, Times, Weekdays, When, Window, Zone};

use super::Calendars;
use super::model::{WINDOW_KEYS, changes, is_priced};
use crate::config::section::{Section, scalar, suggestion};
use crate::config::value;
use crate::config::yaml::{Kind, Node};

pub(super) fn read_calendars(prices: &Section<'_>) -> Calendars {
    let mut calendars = Calendars::new();
    let Some(node) = prices.get("calendars") else { return calendars };
    let Some(section) = Section::open_any(prices.context, &prices.path_of("calendars"), node) else {
        return calendars;
    };
    for (key, node) in section.entries() {
        let path = section.path_of(&key.text);
        let dates = match &node.kind {
            Kind::Scalar(file) => read_dates(&section, node, &path, file),
            Kind::List(items) => {
                let items = items
                    .iter()
                    .filter_map(|item| scalar(section.context, &path, item, |text| Ok(text.to_owned())));
                Some(items.collect())
            }
            Kind::Null | Kind::Map(_) => {
                let message =
                    format!("{path}: expected a list of dates, or a file of them, not {}", node.what());
                section.context.report.add(node.span, message);
                None
            }
        };
        let Some(dates): Option<Vec<String>> = dates else { continue };
        match Calendar::new(&key.text, dates.iter().map(String::as_str)) {
            Ok(calendar) => drop(calendars.insert(key.text.clone(), Arc::new(calendar))),
            Err(error) => section.context.report.add(node.span, format!("{path}: {error}")),
        }
    }
    calendars
}

/// One date a line; `#` begins a comment.
fn read_dates(section: &Section<'_>, node: &Node, path: &str, file: &str) -> Option<Vec<String>> {
    let place = section.context.path(file);
    let text = (section.context.read)(Path::new(&place)).map(|file| file.bytes.to_vec());
    let text = text
        .map_err(|error| error.to_string())
        .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "not text".to_owned()));
    match text {
        Ok(text) => {
            let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
            Some(lines.filter(|line| !line.is_empty()).map(str::to_owned).collect())
        }
        Err(why) => {
            let message = format!("{path}: cannot read {}: {why}", place.display());
            section.context.report.add(node.span, message);
            None
        }
    }
}

/// The windows of a price, in the order of the file: of several that are open at once the first counts.
pub(super) fn read(price: &Section<'_>, calendars: &Calendars) -> Vec<Window> {
    let Some(node) = price.get("windows") else { return Vec::new() };
    let Kind::List(items) = &node.kind else {
        price.complain("windows", format!("{}.windows must be a list, not {}", price.path, node.what()));
        return Vec::new();
    };
    let open = |(at, item): (usize, &_)| {
        let path = format!("{}.windows[{at}]", price.path);
        let section = Section::open(price.context, &path, item, WINDOW_KEYS)?;
        read_one(&section, at, calendars)
    };
    items.iter().enumerate().filter_map(open).collect()
}

fn read_one(section: &Section<'_>, at: usize, calendars: &Calendars) -> Option<Window> {
    let name = section.value("name", value::name).unwrap_or_else(|| format!("window {}", at + 1));
    let zone = section.value("zone", |text| Zone::named(text).map_err(|error| error.to_string()));
    let hours = section.values("hours", |text| Hours::parse(text).map_err(|error| error.to_string()));
    let days = section.values("days", weekdays);
    let except = section.value("except", |text| {
        let hint = suggestion(text, calendars.keys().map(String::as_str));
        calendars.get(text).map(Arc::clone).ok_or_else(|| format!("no calendar is named \"{text}\"{hint}"))
    });
    let changes = changes(section);
    if !is_priced(section) {
        section.missing(format!("{} changes no price", section.path));
    }
    if section.get("hours").is_none() {
        section.missing(format!("{} needs \"hours\", such as \"09:00-12:00\"", section.path));
    }
    let hours = hours.filter(|hours| !hours.is_empty() && !changes.is_empty())?;
    let days = match days {
        Some(days) => Weekdays::parse(days.iter().flat_map(|(_, names)| names.iter().copied())).ok()?,
        None => Weekdays::ALL,
    };
    let hours = hours.into_iter().map(|(_, hours)| hours).collect();
    let when = When {
        zone: zone.unwrap_or_else(Zone::utc),
        day_zone: None,
        times: vec![Times { days, hours }],
        except,
    };
    Some(Window { name, when, changes })
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// `mon`, or `mon-fri`.
fn weekdays(text: &str) -> Result<Vec<&'static str>, String> {
    let day = |name: &str| DAYS.iter().position(|day| *day == name.trim().to_ascii_lowercase());
    let unknown = || format!("\"{text}\" is no weekday; write mon, or mon-fri");
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (day(first).ok_or_else(unknown)?, day(last).ok_or_else(unknown)?);
    let days = if first <= last { last - first } else { DAYS.len() - first + last };
    Ok(DAYS.iter().copied().cycle().skip(first).take(days + 1).collect())
}

#[cfg(test)]
mod tests {
    use super::weekdays;

    #[test]
    fn days_may_be_a_range() {
        assert_eq!(weekdays("mon"), Ok(vec!["mon"]));
        assert_eq!(weekdays("Thu-Sat"), Ok(vec!["thu", "fri", "sat"]));
        assert_eq!(weekdays("sat-mon"), Ok(vec!["sat", "sun", "mon"]));
        for bad in ["", "mo", "mon-", "1-5", "mon-fri-sun"] {
            assert!(weekdays(bad).is_err(), "{bad}");
        }
    }
}
