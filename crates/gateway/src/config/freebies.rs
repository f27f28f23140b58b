//! `routes[].freebies`: calls that a route gives away.

use std::num::NonZeroU32;
use std::time::Duration;

use super::route::RoutePrice;
use super::section::{Keys, Section};
use super::value;

/// So many calls for each source and window, without payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Freebies {
    /// How many.
    pub calls: NonZeroU32,
    /// How long a window is, default a day; windows start at multiples of their length (UTC).
    pub window: Duration,
}

const KEYS: Keys = Keys::new(&["calls", "per"], &[]);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn read(route: &Section<'_>, price: &RoutePrice, websocket: bool) -> Option<Freebies> {
    let section = route.section("freebies", KEYS)?;
    if *price == RoutePrice::Free {
        route.complain("freebies", format!("{}: the route is free as it is", section.path));
    }
    if websocket {
        route.complain(
            "freebies",
            format!("{}: a connection has no end that could be given away", section.path),
        );
    }
    let calls = section.required("calls", value::quota);
    let window = section.value("per", |text| match text {
        "hour" => Ok(HOUR),
        "day" => Ok(DAY),
        _ => Err(format!("\"{text}\" is neither hour nor day")),
    });
    Some(Freebies { calls: calls?, window: window.unwrap_or(DAY) })
}
