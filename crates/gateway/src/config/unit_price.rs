//! What a route costs whose calls are sold by what can be counted without a provider's report.

use meter::{Dialect, Provider};
use money::{Amount, Rate};

use super::route::PathPattern;
use super::section::{Keys, Section, scalar};
use super::value;
use super::yaml::Kind;

/// Rates in femto-USD, amounts in nano-USD. At least one of them is more than nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UnitPrice {
    /// The call itself.
    pub call: Amount,
    /// A byte of the request.
    pub byte_in: Option<Rate>,
    /// A byte of the answer.
    pub byte_out: Option<Rate>,
    /// A second of the call; of sound, where the path is one for that.
    pub second: Option<Rate>,
    /// A character spoken.
    pub character: Option<Rate>,
    /// An image made.
    pub image: Option<Rate>,
    /// The least that a call costs.
    pub min: Amount,
    /// Seconds that are held for: the answer ends there.
    pub seconds_max: Option<u64>,
    /// Bytes of the answer that are held for: it ends there.
    pub bytes_max: Option<u64>,
}

pub(super) const KEYS: Keys = Keys::new(
    &["per_call", "per_byte_in", "per_byte_out", "per_second", "per_character", "per_image", "min", "hold"],
    &[],
);
const HOLD_KEYS: Keys = Keys::new(&["time", "bytes"], &[]);

/// Which dialect's requests or answers tell the units. A raw upstream's time is that of the call.
pub(crate) fn dialect(price: &UnitPrice, provider: Option<Provider>, path: &str) -> Dialect {
    match Dialect::from_path(path) {
        Some(Dialect::OpenAiSpeech) if price.character.is_some() => Dialect::OpenAiSpeech,
        Some(Dialect::OpenAiImages) if price.image.is_some() => Dialect::OpenAiImages,
        Some(Dialect::OpenAiAudio) if price.second.is_some() && provider != Some(Provider::Raw) => {
            Dialect::OpenAiAudio
        }
        Some(_) | None => Dialect::Raw,
    }
}

pub(super) fn read(section: &Section<'_>) -> Option<UnitPrice> {
    let byte = |key: &str| section.value(key, |text| rate(text, &["GB", "MB", "B"], "0.05 USD/GB"));
    let thing = |key: &str| section.value(key, |text| rate(text, &[], "0.0006 USD"));
    let (seconds_max, bytes_max) = read_hold(section);
    let price = UnitPrice {
        call: section.value("per_call", value::some_usd).unwrap_or_default(),
        byte_in: byte("per_byte_in"),
        byte_out: byte("per_byte_out"),
        second: thing("per_second"),
        character: section
            .value("per_character", |text| rate(text, &["Mchar", "Kchar", "char"], "15 USD/Mchar")),
        image: thing("per_image"),
        min: section.value("min", value::some_usd).unwrap_or_default(),
        seconds_max,
        bytes_max,
    };
    let units = ["per_call", "per_byte_in", "per_byte_out", "per_second", "per_character", "per_image"];
    if !units.iter().any(|key| section.get(key).is_some()) {
        section.missing(format!("{} needs a price: one of {}", section.path, units.join(", ")));
        return None;
    }
    Some(price)
}

fn read_hold(section: &Section<'_>) -> (Option<u64>, Option<u64>) {
    let Some(node) = section.get("hold") else { return (None, None) };
    let seconds = |text: &str| match value::duration(text)?.as_secs() {
        0 => Err("must be at least 1s".to_owned()),
        seconds => Ok(seconds),
    };
    let bytes = |text: &str| value::size(text).map(|bytes| bytes as u64);
    if let Kind::Map(_) = &node.kind {
        let Some(hold) = section.section("hold", HOLD_KEYS) else { return (None, None) };
        return (hold.value("time", seconds), hold.value("bytes", bytes));
    }
    let both = scalar(section.context, &section.path_of("hold"), node, |text| {
        seconds(text).map(|seconds| (Some(seconds), None)).or_else(|_| {
            let wrong = |_| format!("\"{text}\" is neither a time nor a size; write it like 60s, or 100MiB");
            bytes(text).map(|bytes| (None, Some(bytes))).map_err(wrong)
        })
    });
    both.unwrap_or_default()
}

/// What has to hold between price, path and upstream for the units to be counted and held for.
pub(super) fn check(
    section: &Section<'_>,
    price: &UnitPrice,
    providers: &[Provider],
    path: &PathPattern,
    websocket: bool,
) {
    let Some(node) = section.get("price") else { return };
    let at = match path {
        // What is counted of a WebSocket does not depend on who is behind it.
        PathPattern::Exact(path) if !websocket => path.as_str(),
        PathPattern::Exact(_) | PathPattern::Below(_) => "",
    };
    let place = section.path_of("price");
    let complain = |message: String| section.context.report.add(node.span, format!("{place}: {message}"));
    let dialect = dialect(price, providers.first().copied(), at);
    if price.character.is_some() && dialect != Dialect::OpenAiSpeech {
        complain("per_character is counted at /v1/audio/speech only".to_owned());
    }
    if price.image.is_some() && dialect != Dialect::OpenAiImages {
        complain("per_image is counted at /v1/images/generations and its like only".to_owned());
    }
    let timed = price.second.is_some() && dialect == Dialect::Raw;
    if timed && price.seconds_max.is_none() {
        complain("per_second needs a bound to hold for: hold: 60s".to_owned());
    }
    if price.byte_out.is_some() && price.bytes_max.is_none() {
        complain("per_byte_out needs a bound to hold for: hold: 100MiB".to_owned());
    }
    if price.byte_out.is_some() && !matches!(dialect, Dialect::Raw | Dialect::OpenAiSpeech) {
        complain("per_byte_out goes with per_call, per_byte_in and per_second only".to_owned());
    }
    if price.second.is_some() && !matches!(dialect, Dialect::Raw | Dialect::OpenAiAudio) {
        complain("per_second does not go with per_character or per_image".to_owned());
    }
    if price.seconds_max.is_some() && price.second.is_none()
        || price.bytes_max.is_some() && price.byte_out.is_none() && !(websocket && price.byte_in.is_some())
    {
        complain("hold bounds nothing that has a price here".to_owned());
    }
}

/// A rate per one of `units`; per thing, where none is named.
fn rate(text: &str, units: &[&str], example: &str) -> Result<Rate, String> {
    let rate = money::parse_rate(text).map_err(|error| value::bad(text, &error))?;
    let unit = text.trim().rsplit_once('/').map(|(_, unit)| unit);
    let fits = unit.map_or(units.is_empty(), |unit| units.contains(&unit));
    if !fits {
        return Err(format!("\"{text}\" is no price of that; write it like {example}"));
    }
    if rate == Rate::FREE { Err("must be more than 0".to_owned()) } else { Ok(rate) }
}
