//! Hours of the week: edges, midnight, clocks that are changed, holidays.

use std::sync::Arc;

use super::{at, flat, mtok, shown};
use crate::{
    Bounds, Calendar, Hours, Item, Tariff, Terms, Times, Weekdays, When, Window, WindowError, Zone,
    moment_ms, moment_text,
};

fn when(zone: &str, days: &[&str], hours: &[&str]) -> When {
    let hours = hours.iter().map(|text| Hours::parse(text).unwrap()).collect();
    When::new(Zone::named(zone).unwrap(), Weekdays::parse(days.iter().copied()).unwrap(), hours)
}

fn prc() -> Arc<Calendar> {
    Arc::new(
        Calendar::new("prc", ["2026-10-01", "2026-10-02", "2026-10-05", "2026-10-06", "2026-10-07"]).unwrap(),
    )
}

fn peak() -> When {
    let week = ["mon", "tue", "wed", "thu", "fri"];
    When { except: Some(prc()), ..when("Asia/Shanghai", &week, &["09:00-12:00", "14:00-18:00"]) }
}

#[test]
fn open_and_closed_table() {
    let shift = when("UTC", &["fri"], &["22:00-06:00"]);
    let no_night = Arc::new(Calendar::new("no", ["2026-11-20"]).unwrap());
    let no_shift = When { except: Some(no_night), ..shift.clone() };
    let spring = when("Europe/Berlin", &["sun"], &["02:30-03:30"]);
    let autumn = when("Europe/Berlin", &["7"], &["02:30-02:45"]);
    let office = when("America/New_York", &["tuesday"], &["09:00-17:00"]);
    let weekend = When {
        day_zone: Some(Zone::named("Asia/Shanghai").unwrap()),
        ..when("UTC", &["sat", "sun"], &["00:00-00:00"])
    };
    let late = When {
        day_zone: Some(Zone::named("Asia/Shanghai").unwrap()),
        ..when("UTC", &["mon"], &["15:00-17:00"])
    };
    for (case, when, moment, open) in [
        ("the start is inside", &peak(), "2026-11-17T01:00:00Z", true),
        ("before it", &peak(), "2026-11-17T00:59:59.999Z", false),
        ("the last moment", &peak(), "2026-11-17T03:59:59.999Z", true),
        ("the end is outside", &peak(), "2026-11-17T04:00:00Z", false),
        ("the second span", &peak(), "2026-11-17T06:00:00Z", true),
        ("its end", &peak(), "2026-11-17T10:00:00Z", false),
        ("a Saturday", &peak(), "2026-11-21T02:30:00Z", false),
        ("a holiday", &peak(), "2026-10-01T02:30:00Z", false),
        ("the day after the holidays", &peak(), "2026-10-08T02:30:00Z", true),
        ("a Saturday worked in exchange for them", &peak(), "2026-10-10T02:30:00Z", false),
        ("item 35 the evening it starts", &shift, "2026-11-20T22:00:00Z", true),
        ("item 35 past midnight", &shift, "2026-11-21T05:59:59Z", true),
        ("item 35 its end", &shift, "2026-11-21T06:00:00Z", false),
        (
            "item 35 the morning of the weekday belongs to the day before",
            &shift,
            "2026-11-20T05:00:00Z",
            false,
        ),
        ("item 35 the evening after", &shift, "2026-11-21T22:00:00Z", false),
        ("a holiday takes its night along", &no_shift, "2026-11-21T05:00:00Z", false),
        ("and its evening", &no_shift, "2026-11-20T23:00:00Z", false),
        ("and no other", &no_shift, "2026-11-27T23:00:00Z", true),
        ("clocks go forward over the start", &spring, "2026-03-29T01:00:00Z", true),
        ("before they do", &spring, "2026-03-29T00:59:59Z", false),
        ("the end as the clock shows it", &spring, "2026-03-29T01:30:00Z", false),
        ("clocks go back: the first time", &autumn, "2026-10-25T00:30:00Z", true),
        ("between", &autumn, "2026-10-25T00:50:00Z", false),
        ("the second time", &autumn, "2026-10-25T01:44:59Z", true),
        ("after", &autumn, "2026-10-25T01:45:00Z", false),
        ("winter hours", &office, "2026-11-17T13:59:59Z", false),
        ("winter hours, open", &office, "2026-11-17T14:00:00Z", true),
        ("summer hours", &office, "2026-07-14T13:00:00Z", true),
        ("a whole day is one of the weekdays' zone", &weekend, "2026-11-20T16:00:00Z", true),
        ("before it", &weekend, "2026-11-20T15:59:59Z", false),
        ("its end", &weekend, "2026-11-22T16:00:00Z", false),
        ("the weekday is that of the start", &late, "2026-11-16T16:30:00Z", true),
        ("and not of the moment", &late, "2026-11-15T16:30:00Z", false),
    ] {
        assert_eq!(when.holds(at(moment)), open, "MTR-49 {case}");
    }
    assert!(!peak().holds(i64::MAX) && !peak().holds(i64::MIN), "beyond the calendar");
}

#[test]
fn words_table() {
    for (text, good) in [
        ("09:00-12:00", true),
        ("9:00-12:30", true),
        ("22:00-24:00", true),
        ("00:00-00:00", true),
        ("24:01-03:00", false),
        ("25:00-03:00", false),
        ("09:60-12:00", false),
        ("09-12", false),
        ("+9:00-12:00", false),
        ("", false),
        ("-", false),
        ("99999999999999999999:00-01:00", false),
    ] {
        assert_eq!(Hours::parse(text).is_ok(), good, "{text}");
    }
    for (text, good) in [
        ("1", true),
        ("7", true),
        ("Mon", true),
        ("SUNDAY", true),
        ("0", false),
        ("8", false),
        ("t", false),
        ("", false),
    ] {
        assert_eq!(Weekdays::parse([text]).is_ok(), good, "{text}");
    }
    assert_eq!(Zone::named("Mars/Olympus"), Err(WindowError::Zone("Mars/Olympus".into())));
    assert_eq!(Calendar::new("c", ["2026-02-30"]), Err(WindowError::Date("2026-02-30".into())));
    assert_eq!(peak().text(), "mon tue wed thu fri 09:00-12:00 14:00-18:00 Asia/Shanghai, not on prc");
    for (text, expected) in [
        ("2026-08-16", Some("2026-08-16T00:00:00Z")),
        ("2026-08-16T08:00:00+08:00", Some("2026-08-16T00:00:00Z")),
        ("2026-08-16T08:00:00", None),
        ("soon", None),
        ("", None),
    ] {
        assert_eq!(moment_ms(text).ok().map(moment_text).as_deref(), expected, "{text}");
    }
}

fn with_peak() -> Tariff {
    let changes = [(Item::Input, mtok("2"))].into_iter().collect();
    let night = when("Europe/Berlin", &["sun"], &["02:30-03:30"]);
    let dear = [(Item::Input, mtok("9"))].into_iter().collect();
    Tariff::from(flat("1", "4"))
        .with_window(Window { name: "peak".to_owned(), when: peak(), changes })
        .with_window(Window { name: "night".to_owned(), when: night, changes: dear })
}

/// MTR-50: the dearest rate of every window that the call may meet, and of no other.
#[test]
fn a_call_that_may_cross_an_edge_is_held_at_the_dearest() {
    let tariff = with_peak();
    for (case, from, until, expected) in [
        ("before the peak", "2026-11-17T00:50:00Z", "2026-11-17T00:59:59.999Z", "1"),
        ("up to its start", "2026-11-17T00:50:00Z", "2026-11-17T01:00:00Z", "2"),
        ("out of it", "2026-11-17T03:50:00Z", "2026-11-17T05:00:00Z", "2"),
        ("between two", "2026-11-17T04:00:00Z", "2026-11-17T05:59:59Z", "1"),
        ("over a whole one", "2026-11-17T00:00:00Z", "2026-11-17T23:00:00Z", "2"),
        ("over a weekend", "2026-11-20T10:00:00Z", "2026-11-22T00:00:00Z", "1"),
        ("over a weekend, into a peak", "2026-11-20T10:00:00Z", "2026-11-23T01:00:00Z", "9"),
        ("over a change of the clocks", "2026-03-29T00:50:00Z", "2026-03-29T01:10:00Z", "9"),
        ("up to that change", "2026-03-29T00:50:00Z", "2026-03-29T00:59:59Z", "1"),
        ("longer than can be looked at", "2026-11-17T04:00:00Z", "2026-12-17T05:00:00Z", "9"),
        ("no time at all", "2026-11-17T04:00:00Z", "2026-11-17T04:00:00Z", "1"),
    ] {
        let bounds = Bounds { from_ms: at(from), until_ms: at(until), ..Bounds::default() };
        let dearest = tariff.dearest(&bounds);
        assert_eq!(shown(&dearest, Item::Input), format!("{expected} USD/Mtok"), "MTR-50 {case}");
        assert_eq!(shown(&dearest, Item::Output), "4 USD/Mtok", "{case}");
    }
}

/// MTR-50: clocks that are changed open and close windows as well, and may do so twice.
#[test]
fn clocks_that_are_changed_are_edges() {
    for (case, hours, from, until, open) in [
        ("forward into the window", "02:30-03:30", "2026-03-29T00:50:00Z", "2026-03-29T01:10:00Z", true),
        ("not yet", "02:30-03:30", "2026-03-29T00:50:00Z", "2026-03-29T00:59:59Z", false),
        ("forward over the window", "02:15-02:45", "2026-03-29T00:00:00Z", "2026-03-29T03:00:00Z", false),
        ("back, the first time", "02:30-02:45", "2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", true),
        ("between", "02:30-02:45", "2026-10-25T00:50:00Z", "2026-10-25T01:20:00Z", false),
        ("the second time", "02:30-02:45", "2026-10-25T00:50:00Z", "2026-10-25T01:40:00Z", true),
    ] {
        let changes = [(Item::Input, mtok("9"))].into_iter().collect();
        let window =
            Window { name: "night".to_owned(), when: when("Europe/Berlin", &["sun"], &[hours]), changes };
        let tariff = Tariff::from(flat("1", "4")).with_window(window);
        let bounds = Bounds { from_ms: at(from), until_ms: at(until), ..Bounds::default() };
        let expected = if open { "9 USD/Mtok" } else { "1 USD/Mtok" };
        assert_eq!(shown(&tariff.dearest(&bounds), Item::Input), expected, "MTR-50 {case}");
    }
}

/// The rule that chose a rate is told, and what a window does not name stays.
#[test]
fn the_window_is_named() {
    let tariff = with_peak();
    let terms = Terms { at_ms: at("2026-11-17T01:00:00Z"), ..Terms::default() };
    let resolved = tariff.rates(&terms);
    assert_eq!(resolved.rule(Item::Input).to_string(), "peak hours");
    assert_eq!(resolved.rule(Item::CacheRead).to_string(), "peak hours", "it follows the input");
    assert_eq!(resolved.rule(Item::Output).to_string(), "list price");
    let twice = Times { days: Weekdays::ALL, hours: vec![Hours::parse("00:00-00:00").unwrap()] };
    let always = When { zone: Zone::utc(), day_zone: None, times: vec![twice], except: None };
    let late = Window {
        name: "always".to_owned(),
        when: always,
        changes: [(Item::Input, mtok("7"))].into_iter().collect(),
    };
    let tariff = with_peak().with_window(late);
    assert_eq!(shown(&tariff.rates(&terms).rates, Item::Input), "2 USD/Mtok", "of two the first counts");
}
