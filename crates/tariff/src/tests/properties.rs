//! Properties that hold for any tariff and for any bytes.

use money::Rate;
use proptest::prelude::*;
use proptest::sample::select;

use crate::{
    Bounds, Changes, Dimension, Hours, Item, Length, Multiplier, Rates, Tariff, Terms, Tier, Weekdays, When,
    Window, Zone, litellm, models_dev, own,
};

fn rate() -> impl Strategy<Value = Rate> {
    (0u64..1 << 40).prop_map(Rate::from_femto)
}

fn changes() -> impl Strategy<Value = Changes> {
    prop::collection::vec((select(Item::ALL.to_vec()), rate()), 0..6)
        .prop_map(|all| all.into_iter().collect())
}

fn tier() -> impl Strategy<Value = Tier> {
    let names = select(vec!["flex", "priority", "balanced"]);
    (names, changes()).prop_map(|(name, changes)| Tier { name: name.to_owned(), changes })
}

fn when() -> impl Strategy<Value = When> {
    let zones =
        select(vec!["UTC", "Asia/Shanghai", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"]);
    let days = select(vec!["mon", "tue", "wed", "thu", "fri", "sat", "sun"]);
    let hours = prop::collection::vec((0u32..24, 0u32..4, 0u32..24, 0u32..4), 1..3);
    (zones.clone(), prop::option::of(zones), prop::collection::vec(days, 1..5), hours).prop_map(
        |(zone, day_zone, days, hours)| {
            let text =
                |(a, b, c, d): (u32, u32, u32, u32)| format!("{a:02}:{:02}-{c:02}:{:02}", b * 15, d * 15);
            let hours = hours.into_iter().map(|span| Hours::parse(&text(span)).unwrap()).collect();
            let day_zone = day_zone.map(|zone| Zone::named(zone).unwrap());
            When { day_zone, ..When::new(Zone::named(zone).unwrap(), Weekdays::parse(days).unwrap(), hours) }
        },
    )
}

fn tariffs() -> impl Strategy<Value = Tariff> {
    let lengths = (1u64..5, changes(), prop::collection::vec(tier(), 0..3))
        .prop_map(|(over, changes, tiers)| Length { over: over * 1000, changes, tiers });
    let windows =
        (when(), changes()).prop_map(|(when, changes)| Window { name: "peak".to_owned(), when, changes });
    let factors = (select(vec!["us", "eu"]), 5_000u32..30_000).prop_map(|(value, factor_bp)| Multiplier {
        dimension: Dimension::Geo,
        value: value.to_owned(),
        factor_bp,
    });
    let many = 0..3usize;
    (
        changes(),
        prop::collection::vec(tier(), many.clone()),
        prop::collection::vec(lengths, many.clone()),
        prop::collection::vec(windows, many.clone()),
        prop::collection::vec(factors, many),
    )
        .prop_map(|(base, tiers, lengths, windows, factors)| {
            let mut rates = Rates::default();
            base.iter().for_each(|(item, rate)| rates.set(item, rate));
            let tariff = tiers
                .into_iter()
                .fold(Tariff::from(rates), |all, tier| all.with_tier(&tier.name, tier.changes));
            let tariff = lengths.into_iter().fold(tariff, Tariff::with_length);
            let tariff = windows.into_iter().fold(tariff, Tariff::with_window);
            factors.into_iter().fold(tariff, Tariff::with_multiplier)
        })
}

/// Moments around two changes of the clocks, in steps of minutes.
fn moments() -> impl Strategy<Value = i64> {
    let days = select(vec![super::at("2026-03-28"), super::at("2026-10-03"), super::at("2026-10-24")]);
    (days, 0i64..2 * 24 * 60).prop_map(|(day, minutes)| day + minutes * 60_000)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    /// MTR-32, MTR-50: whatever the answer says, no rate is above the dearest within the bounds.
    #[test]
    fn no_rate_is_above_the_dearest(
        tariff in tariffs(),
        from_ms in moments(),
        minutes in 0i64..600,
        part in 0i64..=600,
        (input_max, input) in (0u64..6000, 0u64..6000),
        asked in prop::option::of(select(vec!["flex", "priority", "fast", "gold"])),
        granted in any::<bool>(),
        geo in prop::option::of(select(vec!["us", "EU", "moon"])),
    ) {
        let until_ms = from_ms + minutes * 60_000;
        let bounds = Bounds { from_ms, until_ms, input_max, service_tier: asked, region: None };
        let dearest = tariff.dearest(&bounds);
        let terms = Terms {
            at_ms: from_ms + (minutes * part / 600) * 60_000,
            input_total: input.min(input_max),
            service_tier: asked.filter(|_| granted),
            inference_geo: geo,
            ..Terms::default()
        };
        let rates = tariff.rates(&terms).rates;
        for item in Item::ALL {
            prop_assert!(rates.rate(item) <= dearest.rate(item), "{item:?}: {rates:?} over {dearest:?}");
        }
    }

    /// MTR-51: one more part that decides a price is another set of facts, and so another version.
    #[test]
    fn facts_are_all_there_is(one in tariffs(), part in tariffs(), tier in tier()) {
        let base = [Some(Tariff::from(*part.base())), part.windows().first().cloned().map(|w| one.clone().with_window(w)),
            part.lengths().first().cloned().map(|l| one.clone().with_length(l)),
            part.multipliers().first().cloned().map(|m| one.clone().with_multiplier(m)),
            Some(one.clone().with_tier(&tier.name, tier.changes))];
        for other in base.into_iter().flatten() {
            prop_assert_eq!(one == other, one.facts() == other.facts());
        }
        prop_assert_eq!(one.facts(), one.clone().facts());
    }

    /// Reading is total.
    #[test]
    fn any_bytes_are_a_list_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,80}") {
        for bytes in [bytes.as_slice(), text.as_bytes()] {
            let _ = litellm::read(bytes, None);
            let _ = models_dev::read(bytes, None);
            let _ = own::read(bytes, &[]);
        }
    }

    /// A list that is nearly one, too.
    #[test]
    fn any_members_are_a_price_or_a_reason(
        members in prop::collection::vec((
            select(vec!["input_cost_per_token", "output_cost_per_token", "off_peak_pricing", "tiered_pricing", "mode",
                "cache_read_input_token_cost_above_128k_tokens_flex", "provider_specific_entry", "max_output_tokens"]),
            select(vec!["1", "1e-6", "-1", "1e99", "null", "\"chat\"", "[]", "{}", "[[]]", "{\"hours_utc\":\"1:00-2:00\"}",
                "[{\"range\":[0,1],\"input_cost_per_token\":1}]", "{\"us\":1.1}", "0.0"]),
        ), 0..8),
    ) {
        let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        let text = format!("{{\"m\":{{{}}}}}", members.join(","));
        let one = litellm::read(text.as_bytes(), None);
        prop_assert_eq!(one, litellm::read(text.as_bytes(), None));
    }
}
