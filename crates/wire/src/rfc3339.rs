//! Times as protocols write them: RFC 3339, read to whole Unix seconds.

const DAY_S: i64 = 86_400;
/// Length of every text that is written.
pub const TEXT_BYTES: usize = "1970-01-01T00:00:00.000Z".len();
/// The last second of the year 9999.
const LAST_S: i64 = 253_402_300_799;

/// Reads `2026-11-20T10:30:00.000Z`, or with an offset; fractions of a second are cut off. `None` for anything else,
/// and before 1970.
#[must_use]
pub fn parse(text: &str) -> Option<u64> {
    let (date, rest) = text.split_at_checked(10)?;
    let [year, month, day] = numbers::<3>(date, '-')?;
    let rest = rest.strip_prefix(['T', 't'])?;
    let (clock, rest) = rest.split_at_checked(8)?;
    let [hour, minute, second] = numbers::<3>(clock, ':')?;
    let rest = match rest.strip_prefix('.') {
        None => rest,
        Some(fraction) => {
            let zone = fraction.find(|letter: char| !letter.is_ascii_digit())?;
            (zone > 0).then(|| fraction.split_at_checked(zone)).flatten()?.1
        }
    };
    let offset = match rest {
        "Z" | "z" => 0,
        _ => {
            let sign = if rest.starts_with('-') { -1 } else { 1 };
            let [hours, minutes] = numbers::<2>(rest.strip_prefix(['+', '-'])?, ':')?;
            if rest.len() != 6 || hours > 23 || minutes > 59 {
                return None;
            }
            sign * (hours * 3_600 + minutes * 60)
        }
    };
    // Second 60 is a leap second; it counts as the one before, as clocks without them have it.
    let whole = (1..=12).contains(&month) && day >= 1 && day <= days_in(year, month);
    if !whole || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days(year, month, day) * DAY_S + hour * 3_600 + minute * 60 + second.min(59) - offset;
    u64::try_from(seconds).ok()
}

/// Writes Unix seconds as JavaScript does, with milliseconds. `None` beyond the year 9999.
#[must_use]
pub fn format(unix_s: u64) -> Option<String> {
    let seconds = i64::try_from(unix_s).ok().filter(|seconds| *seconds <= LAST_S)?;
    let (day, second) = (seconds / DAY_S, seconds % DAY_S);
    // As if all were leap years: never too late, and at most a few too early.
    let mut year = 1970 + day / 366;
    while days(year + 1, 1, 1) <= day {
        year += 1;
    }
    let mut day = day - days(year, 1, 1);
    let mut month = 1;
    while day >= days_in(year, month) {
        day -= days_in(year, month);
        month += 1;
    }
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let places =
        [(0, year / 100), (2, year % 100), (5, month), (8, day + 1), (11, hour), (14, minute), (17, second)];
    for (place, number) in places {
        // Two digits each, so that they fit.
        let number = u8::try_from(number).ok()?;
        text[place] += number / 10;
        text[place + 1] += number % 10;
    }
    Some(str::from_utf8(&text).ok()?.to_owned())
}

/// `N` numbers of fixed width, the first of which may have four digits.
fn numbers<const N: usize>(text: &str, separator: char) -> Option<[i64; N]> {
    let mut numbers = [0; N];
    let mut parts = text.split(separator);
    for (place, number) in numbers.iter_mut().enumerate() {
        let digits = parts.next()?;
        let width = if place == 0 && separator == '-' { 4 } else { 2 };
        if digits.len() != width || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        *number = digits.parse().ok()?;
    }
    parts.next().is_none().then_some(numbers)
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let years = before * 365 + before / 4 - before / 100 + before / 400;
    let months: i64 = (1..month).map(|month| days_in(year, month)).sum();
    years + months + day - 1 - 719_162
}

#[cfg(test)]
mod tests {
    use super::{format, parse};
    use proptest::prelude::*;

    #[test]
    fn parse_table() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-11-20T10:30:00.000Z", Some(1_795_170_600)),
            ("2026-11-20T10:30:00.999999Z", Some(1_795_170_600)),
            ("2026-11-20t10:30:00z", Some(1_795_170_600)),
            ("2026-11-20T12:00:00+01:30", Some(1_795_170_600)),
            ("2026-11-20T09:00:00-01:30", Some(1_795_170_600)),
            ("2000-02-29T00:00:00Z", Some(951_782_400)),
            ("2024-02-29T23:59:60Z", Some(1_709_251_199)),
            ("9999-12-31T23:59:59Z", Some(253_402_300_799)),
            ("1969-12-31T23:59:59Z", None),
            ("2023-02-29T00:00:00Z", None),
            ("2100-02-29T00:00:00Z", None),
            ("2026-13-01T00:00:00Z", None),
            ("2026-00-01T00:00:00Z", None),
            ("2026-01-32T00:00:00Z", None),
            ("2026-01-01T24:00:00Z", None),
            ("2026-01-01T00:60:00Z", None),
            ("2026-01-01T00:00:00", None),
            ("2026-01-01T00:00:00.Z", None),
            ("2026-01-01T00:00:00.5", None),
            ("2026-01-01T00:00:00+1:00", None),
            ("2026-01-01T00:00:00+24:00", None),
            ("2026-01-01T00:00:00 Z", None),
            ("2026-01-01 00:00:00Z", None),
            ("26-01-01T00:00:00Z", None),
            ("2026-1-01T00:00:00Z", None),
            ("+026-01-01T00:00:00Z", None),
            ("1795170600", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        assert_eq!(format(1_795_170_600).unwrap(), "2026-11-20T10:30:00.000Z");
        assert_eq!(format(253_402_300_800), None);
    }

    proptest! {
        #[test]
        fn a_time_survives(unix_s in 0u64..253_402_300_800) {
            prop_assert_eq!(parse(&format(unix_s).unwrap()), Some(unix_s));
        }

        #[test]
        fn any_text_is_a_time_or_none(text in "\\PC{0,32}", near in "[0-9T:.Z+-]{18,26}") {
            let _ = parse(&text);
            let _ = parse(&near);
        }
    }
}
