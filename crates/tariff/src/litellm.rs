//! The price map of LiteLLM, read directly (note of the format: `specs/metering.md`, "Catalogues").
//!
//! One member per item, length and tier: `output_cost_per_token_above_272k_tokens_priority`.

mod hours;
mod member;

use money::{Amount, Decimal, Rate};
use serde_json::value::RawValue;

use self::member::{Kind, Place, kind_of};
use crate::book::Entry;
use crate::catalogue::{Catalogue, CatalogueError, SkipReason, text};
use crate::json;
use crate::rates::{Item, Rates};
use crate::tariff::{Changes, Dimension, Length, Multiplier, Tariff, Tier};

/// Members of the document that are no models.
const NO_MODELS: [&str; 2] = ["sample_spec", "fallback_generalizations"];

/// Largest multiplier that is believed, in basis points.
const FACTOR_BP_MAX: u32 = 1_000_000;

/// Reads a price map. With a provider (`deepseek`) only its models are read, and their names lose the provider's
/// prefix (`deepseek/`), because that is how its API names them.
///
/// # Errors
/// [`CatalogueError`]: nothing of it can be used. A single bad model is passed over and told in the result.
pub fn read(bytes: &[u8], provider: Option<&str>) -> Result<Catalogue, CatalogueError> {
    let models = json::document(text(bytes)?).ok_or(CatalogueError::NotAnObject)?;
    let mut catalogue = Catalogue::default();
    for (name, value) in models {
        if NO_MODELS.contains(&name.as_str()) {
            continue;
        }
        let members = json::object(value).unwrap_or_default();
        if provider.is_some_and(|wanted| word(&members, "litellm_provider").as_deref() != Some(wanted)) {
            continue;
        }
        let own = provider.and_then(|provider| name.strip_prefix(provider)?.strip_prefix('/'));
        let model = own.unwrap_or(&name).to_owned();
        let read = tariff_of(&members);
        catalogue.take(name, read.map(|tariff| Entry { model, since_ms: None, tariff }));
    }
    catalogue.settled()
}

type Members<'a> = [(String, &'a RawValue)];

fn find<'a>(members: &Members<'a>, name: &str) -> Option<&'a RawValue> {
    let found = members.iter().find(|(known, _)| known == name).map(|(_, value)| *value);
    found.filter(|value| !json::is_null(value))
}

fn word(members: &Members<'_>, name: &str) -> Option<String> {
    find(members, name).and_then(json::string)
}

/// What the members of a model, a tier or a window say about rates.
#[derive(Default)]
struct Said {
    rates: Vec<(Place, Rate)>,
    per_call: Option<Amount>,
    seconds: Vec<Rate>,
    /// Per image of the prompt or, for models that make images, per image made.
    image_in: Option<Rate>,
    characters: Vec<Rate>,
    /// Per token of a film in the prompt.
    video_in: Option<Rate>,
    /// Whether the model makes nothing but text.
    only_text: bool,
    cache_hit: Option<Rate>,
    /// A price for what is not counted.
    uncounted: Option<String>,
}

impl Said {
    fn read(members: &Members<'_>) -> Result<Self, SkipReason> {
        let made = find(members, "supported_output_modalities").and_then(json::array).unwrap_or_default();
        let only_text = matches!(made.as_slice(), [one] if one.get() == "\"text\"");
        let mut said = Self { only_text, ..Self::default() };
        for (name, value) in members.iter().filter(|(_, value)| !json::is_null(value)) {
            let Some(kind) = kind_of(name) else { continue };
            let rate = json::rate(value, 15).ok_or_else(|| SkipReason::Member(name.clone()))?;
            match kind {
                Kind::Rate(place) => said.rates.push((place, rate)),
                Kind::PerCall => said.per_call = Some(nano_up(value, name)?),
                Kind::Second => said.seconds.push(rate),
                Kind::ImageIn => said.image_in = Some(rate),
                Kind::VideoIn => said.video_in = Some(rate),
                Kind::Character => said.characters.push(rate),
                Kind::CacheHit => said.cache_hit = Some(rate),
                Kind::Uncounted if rate > Rate::FREE => said.uncounted = Some(name.clone()),
                Kind::Uncounted => {}
            }
        }
        Ok(said)
    }

    fn at(&self, over: u64, tier: Option<&str>) -> Changes {
        let here = |place: &Place| place.over == over && place.tier == tier;
        self.rates.iter().filter(|(place, _)| here(place)).map(|(place, rate)| (place.item, *rate)).collect()
    }

    fn has(&self, over: u64) -> impl Iterator<Item = &'static str> + '_ {
        let mut tiers: Vec<_> = self
            .rates
            .iter()
            .filter(|(place, _)| place.over == over)
            .filter_map(|(place, _)| place.tier)
            .collect();
        tiers.sort_unstable();
        tiers.dedup();
        tiers.into_iter()
    }
}

/// A price in nano-USD, rounded up: it is one per call.
fn nano_up(value: &RawValue, name: &str) -> Result<Amount, SkipReason> {
    let bad = || SkipReason::Member(name.to_owned());
    let femto = json::number(value).and_then(|number| number.round_half_even(15)).ok_or_else(bad)?;
    Amount::from_wide(femto.div_ceil(1_000_000)).map_err(|_| bad())
}

fn tariff_of(members: &Members<'_>) -> Result<Tariff, SkipReason> {
    if let Some(name) = json::twice(members) {
        return Err(SkipReason::MemberTwice(name.to_owned()));
    }
    let mode = word(members, "mode").unwrap_or_else(|| "chat".to_owned());
    let said = Said::read(members)?;
    let mut base = Rates {
        per_call: said.per_call,
        second: said.seconds.iter().copied().max(),
        character: said.characters.iter().copied().max(),
        max_input_tokens: limit(members, "max_input_tokens")?,
        max_output_tokens: limit(members, "max_output_tokens")?,
        ..Rates::default()
    };
    let mut plain = said.at(0, None);
    if let Some(hit) = said.cache_hit.filter(|_| plain.get(Item::CacheRead).is_none()) {
        plain.set(Item::CacheRead, hit);
    }
    let makes_images = mode.starts_with("image_");
    if let Some(image) = said.image_in.filter(|_| makes_images && plain.get(Item::Image).is_none()) {
        plain.set(Item::Image, image);
    }
    searches(members, &mut plain)?;
    let ranges = ranges(members, &plain)?;
    if let Some((_, first)) = ranges.first() {
        plain = first.clone();
    }
    sold(&mode, &said, &plain, &base)?;
    // Sound that is sold by the token is not sold by the second as well.
    let by_token = [Item::Input, Item::AudioIn].iter().any(|item| plain.get(*item).is_some());
    base.second = base.second.filter(|_| !by_token);
    complete(&mut plain);
    plain.iter().for_each(|(item, rate)| base.set(item, rate));
    // A rate of reasoning that is that of the output says nothing of its own: it follows it through tiers.
    base.reasoning = base.reasoning.filter(|rate| *rate != base.output);
    let mut tariff = Tariff::from(base);
    for tier in said.has(0) {
        tariff = tariff.with_tier(tier, said.at(0, Some(tier)));
    }
    for length in lengths(members, &said).into_iter().chain(ranges.into_iter().skip(1).map(length_of)) {
        tariff = tariff.with_length(length);
    }
    if let Some(off_peak) = find(members, "off_peak_pricing") {
        tariff = tariff.with_window(hours::off_peak(off_peak)?);
    }
    Ok(multipliers(members)?.into_iter().fold(tariff, Tariff::with_multiplier))
}

/// A limit of the model. Zero is none: it would make holds that cover nothing.
fn limit(members: &Members<'_>, name: &str) -> Result<Option<u64>, SkipReason> {
    let read = |value| json::whole(value).ok_or_else(|| SkipReason::Member(name.to_owned()));
    Ok(find(members, name).map(read).transpose()?.filter(|limit| *limit > 0))
}

/// Prices of prompts above a length. `xai` counts the length itself as above it.
fn lengths(members: &Members<'_>, said: &Said) -> Vec<Length> {
    let inclusive = u64::from(word(members, "litellm_provider").as_deref() == Some("xai"));
    let mut overs: Vec<u64> =
        said.rates.iter().map(|(place, _)| place.over).filter(|over| *over > 0).collect();
    overs.sort_unstable();
    overs.dedup();
    let length = |over: u64| Length {
        over: over - inclusive,
        changes: said.at(over, None),
        tiers: said
            .has(over)
            .map(|name| Tier { name: name.to_owned(), changes: said.at(over, Some(name)) })
            .collect(),
    };
    overs.into_iter().map(length).collect()
}

fn length_of((over, changes): (u64, Changes)) -> Length {
    Length { over, changes, tiers: Vec::new() }
}

/// `tiered_pricing`: rates by the length of the prompt, each range whole. What a range leaves out of caches has its
/// input rate; anything else that of the model.
fn ranges(members: &Members<'_>, plain: &Changes) -> Result<Vec<(u64, Changes)>, SkipReason> {
    const NAME: &str = "tiered_pricing";
    let bad = || SkipReason::Member(NAME.to_owned());
    let Some(value) = find(members, NAME) else { return Ok(Vec::new()) };
    let mut ranges = Vec::new();
    for element in json::array(value).ok_or_else(bad)? {
        let range = json::object(element).ok_or_else(bad)?;
        let bounds = find(&range, "range").and_then(json::array).ok_or_else(bad)?;
        let [from, to] = bounds.as_slice() else { return Err(bad()) };
        let (from, to) = json::whole(from).zip(json::whole(to)).ok_or_else(bad)?;
        let own = Said::read(&range)?.at(0, None);
        if from >= to || own.is_empty() || json::twice(&range).is_some() {
            return Err(bad());
        }
        let mut changes = plain.clone();
        if let Some(input) = own.get(Item::Input) {
            for item in [Item::CacheRead, Item::CacheWrite, Item::CacheWrite1h, Item::CacheWrite12h] {
                changes.set(item, input);
            }
        }
        own.iter().for_each(|(item, rate)| changes.set(item, rate));
        ranges.push((from, changes));
    }
    ranges.sort_by_key(|(from, _)| *from);
    if ranges.is_empty() || ranges.windows(2).any(|pair| pair[0].0 == pair[1].0) {
        return Err(bad());
    }
    Ok(ranges)
}

/// Whether what is priced is what is counted, for this kind of model.
fn sold(mode: &str, said: &Said, plain: &Changes, base: &Rates) -> Result<(), SkipReason> {
    let has = |items: &[Item]| items.iter().any(|item| plain.get(*item).is_some());
    let needs = |has: bool, what| if has { Ok(()) } else { Err(SkipReason::Unpriced(what)) };
    let uncounted = |name: &str| Err(SkipReason::Uncounted(name.to_owned()));
    if let Some(name) = &said.uncounted {
        return uncounted(name);
    }
    let timed = said.seconds.iter().any(|rate| *rate > Rate::FREE);
    let outputs = [Item::Output, Item::AudioOut, Item::ImageOut];
    match mode {
        "chat" | "completion" | "responses" | "embedding" => {
            if timed {
                return uncounted("cost_per_second");
            }
            if said.image_in.is_some_and(|rate| rate > Rate::FREE) {
                return uncounted("input_cost_per_image");
            }
            if has(&[Item::Image]) && !has(&[Item::ImageOut]) && !said.only_text {
                return uncounted("output_cost_per_image");
            }
            if said.video_in > plain.get(Item::Input) {
                return uncounted("input_cost_per_video_token");
            }
            needs(has(&[Item::Input]), "input")?;
            needs(mode == "embedding" || has(&[Item::Output]), "output")
        }
        "image_generation" | "image_edit" => {
            // A zero for tokens that an image is not counted in gives none away.
            let tokens = outputs.iter().filter_map(|item| plain.get(*item)).any(|rate| rate > Rate::FREE);
            needs(tokens || has(&[Item::Image]), "images")
        }
        "audio_transcription" => {
            let tokens = has(&[Item::Input, Item::AudioIn]) && has(&outputs);
            needs(base.second.is_some() || tokens, "sound")
        }
        "audio_speech" => needs(base.character.is_some() || base.per_call.is_some(), "characters"),
        other => Err(SkipReason::Mode(other.to_owned())),
    }
}

/// Where only sounds or images have a price, text has no cheaper one.
fn complete(plain: &mut Changes) {
    for (item, parts) in
        [(Item::Input, [Item::AudioIn, Item::ImageIn]), (Item::Output, [Item::AudioOut, Item::ImageOut])]
    {
        let dearest = parts.into_iter().filter_map(|part| plain.get(part)).max();
        if let Some(rate) = dearest.filter(|_| plain.get(item).is_none()) {
            plain.set(item, rate);
        }
    }
}

fn searches(members: &Members<'_>, plain: &mut Changes) -> Result<(), SkipReason> {
    const NAME: &str = "search_context_cost_per_query";
    let Some(value) = find(members, NAME) else { return Ok(()) };
    let bad = || SkipReason::Member(NAME.to_owned());
    let sizes = json::object(value).ok_or_else(bad)?;
    for (name, item) in [
        ("search_context_size_low", Item::WebSearchLow),
        ("search_context_size_medium", Item::WebSearch),
        ("search_context_size_high", Item::WebSearchHigh),
    ] {
        if let Some(value) = find(&sizes, name) {
            plain.set(item, json::rate(value, 15).ok_or_else(bad)?);
        }
    }
    // Without the usual size the dearest one stands for it.
    let dearest =
        [Item::WebSearchLow, Item::WebSearchHigh].into_iter().filter_map(|item| plain.get(item)).max();
    if let Some(rate) = dearest.filter(|_| plain.get(Item::WebSearch).is_none()) {
        plain.set(Item::WebSearch, rate);
    }
    Ok(())
}

/// Factors by what the answer says of place and speed, and by the region of the upstream.
fn multipliers(members: &Members<'_>) -> Result<Vec<Multiplier>, SkipReason> {
    const REGION: &str = "regional_processing_uplift_multiplier_";
    const ENDPOINT: &str = "regional_endpoint_uplift_multiplier";
    const ENTRY: &str = "provider_specific_entry";
    let mut all = Vec::new();
    for (name, value) in members.iter().filter(|(_, value)| !json::is_null(value)) {
        if let Some(region) = name.strip_prefix(REGION) {
            all.push(multiplier(Dimension::Region, region, value, name)?);
        }
    }
    if let Some(value) = find(members, ENDPOINT) {
        all.push(multiplier(Dimension::Region, "*", value, ENDPOINT)?);
    }
    let entry = find(members, ENTRY).and_then(json::object).unwrap_or_default();
    // What is no number there says how to call the model.
    for (name, value) in
        entry.iter().filter(|(_, value)| value.get().starts_with(|c: char| c.is_ascii_digit() || c == '-'))
    {
        let dimension = if name == "fast" { Dimension::Speed } else { Dimension::Geo };
        all.push(multiplier(dimension, name, value, ENTRY)?);
    }
    Ok(all)
}

fn multiplier(
    dimension: Dimension,
    of: &str,
    value: &RawValue,
    name: &str,
) -> Result<Multiplier, SkipReason> {
    let bp = json::number(value).and_then(|factor: Decimal| factor.round_half_even(4));
    let bp = bp.and_then(|bp| u32::try_from(bp).ok()).filter(|bp| (1..=FACTOR_BP_MAX).contains(bp));
    let factor_bp = bp.ok_or_else(|| SkipReason::Member(name.to_owned()))?;
    Ok(Multiplier { dimension, value: of.to_owned(), factor_bp })
}
