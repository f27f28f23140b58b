//! Every key of `prices`.

use super::check;
use crate::config::{Apply, Format, Place, PriceSource, UnknownModel};
use money::Rate;
use std::path::Path;
use tariff::{Item, Rates, Tariff, Terms, moment_ms};

const PRICES: &str = r#"
upstreams: { a: { url: http://127.0.0.1:8000, dialect: openai } }
prices:
  builtin: false
  apply: review
  sources:
    - { format: litellm, path: prices.json }
    - { format: models.dev, url: https://models.example/api.json, sha256: "0707070707070707070707070707070707070707070707070707070707070707", provider: deepseek }
    - { format: farthing, path: /own.json, sha256: "0707070707070707070707070707070707070707070707070707070707070707" }
  calendars: { prc: [2026-10-01, 2026-10-02] }
  aliases: { ep-2: peaky }
  unknown_model: { price_as: gpt-5 }
  markup: { default: 2.5%, groups: { partner: 0.5%, own.staff: 0% } }
  groups: { partner: { "gpt-*": { input: 0.5 USD/Mtok, output: 1 USD/Mtok } } }
  models:
    gpt-5:
      { input: 1 USD/Mtok, cache_read: 0.1 USD/Mtok, cache_write: 2 USD/Mtok, cache_write_1h: 3 USD/Mtok, cache_write_12h: 3.5 USD/Mtok,
        output: 4 USD/Mtok, reasoning: 5 USD/Mtok, audio_input: 6 USD/Mtok, audio_output: 7 USD/Mtok, image_input: 8 USD/Mtok,
        image_output: 9 USD/Mtok, per_call: 0.001 USD, max_output: 8192 }
    painter: { per_image: 0.04 USD }
    speaker: { per_character: 15 USD/Mchar }
    listener: { per_second: 0.0001 USD, max_seconds: 3600 }
    writer: { input: 1 USD/Mtok, output: 2 USD/Mtok, cache_write_5m: 1.25 USD/Mtok }
    long:
      per_call: 0.01 USD
      tiers:
        - { input_up_to: 1000, input: 1 USD/Mtok, output: 2 USD/Mtok }
        - { input_up_to: 2000, input: 3 USD/Mtok, output: 4 USD/Mtok }
        - { input: 5 USD/Mtok, output: 6 USD/Mtok }
    quick: { input: 1 USD/Mtok, output: 2 USD/Mtok, service_tiers: { flex: { input: 0.5 USD/Mtok }, priority: { output: 8 USD/Mtok } } }
    peaky:
      input: 1 USD/Mtok
      output: 2 USD/Mtok
      windows:
        - { name: peak, hours: ["09:00-12:00", "14:00-18:00"], days: mon-fri, except: prc, zone: Asia/Shanghai, input: 3 USD/Mtok }
        - { hours: "22:00-02:00", days: [sat, sun], output: 1 USD/Mtok }
    dear:
      - { input: 1 USD/Mtok, output: 2 USD/Mtok }
      - { effective_from: 2026-08-16, input: 2 USD/Mtok, output: 4 USD/Mtok }
      - { effective_from: "2027-01-01T08:00:00Z", input: 3 USD/Mtok, output: 6 USD/Mtok }
"#;

fn rate(femto: u64) -> Rate {
    Rate::from_femto(femto * 1_000_000)
}

#[test]
fn every_key_of_prices_arrives() {
    let config = check(PRICES).unwrap_or_else(|errors| panic!("{errors}"));
    let prices = &config.prices;
    assert!(!prices.builtin);
    assert_eq!(prices.apply, Apply::Review);
    let file = |path: &str| Place::File(Path::new("/etc/farthing").join(path));
    let [litellm, dev, own] = prices.sources.as_slice() else { panic!("{:?}", prices.sources) };
    let expected =
        PriceSource { format: Format::LiteLlm, place: file("prices.json"), provider: None, sha256: None };
    assert_eq!(*litellm, expected);
    assert_eq!(
        (dev.format, dev.to_string().as_str()),
        (Format::ModelsDev, "https://models.example/api.json")
    );
    assert_eq!((dev.provider.as_deref(), dev.sha256), (Some("deepseek"), Some([7; 32])));
    assert_eq!((own.format, &own.place), (Format::Farthing, &file("/own.json")));
    assert_eq!((prices.calendars.len(), prices.calendars[0].name()), (1, "prc"));
    assert_eq!(prices.aliases, [("ep-2".to_owned(), "peaky".to_owned())]);
    assert_eq!(prices.unknown_model, UnknownModel::PriceAs("gpt-5".into()));
    for (group, points) in
        [(None, 250), (Some("partner"), 50), (Some("own.staff"), 0), (Some("unknown"), 250)]
    {
        assert_eq!(prices.markup.of(group), points, "{group:?}");
    }
    assert_eq!(prices.groups["partner"][0].model, "gpt-*");
    assert_eq!(prices.groups().collect::<Vec<_>>(), ["partner", "own.staff"]);
}

#[test]
fn every_rate_of_a_model_arrives() {
    let config = check(PRICES).unwrap_or_else(|errors| panic!("{errors}"));
    let of = |model: &str| -> Vec<(Option<i64>, &Tariff)> {
        let entries = config.prices.models.iter().filter(|entry| entry.model == model);
        entries.map(|entry| (entry.since_ms, &entry.tariff)).collect()
    };
    let expected = Rates {
        input: rate(1000),
        output: rate(4000),
        cache_read: Some(rate(100)),
        cache_write: Some(rate(2000)),
        cache_write_1h: Some(rate(3000)),
        cache_write_12h: Some(rate(3500)),
        reasoning: Some(rate(5000)),
        audio_in: Some(rate(6000)),
        audio_out: Some(rate(7000)),
        image_in: Some(rate(8000)),
        image_out: Some(rate(9000)),
        per_call: Some(money::Amount::from_units(1_000_000)),
        max_output_tokens: Some(8192),
        ..Rates::default()
    };
    assert_eq!(*of("gpt-5")[0].1.base(), expected);
    for (model, item, femto) in [
        ("painter", Item::Image, 40_000_000_000_000),
        ("speaker", Item::Character, 15_000_000_000),
        ("listener", Item::Second, 100_000_000_000),
        ("writer", Item::CacheWrite, 1_250_000_000),
    ] {
        assert_eq!(of(model)[0].1.base().own(item), Some(Rate::from_femto(femto)), "{model}");
    }
    assert_eq!(of("listener")[0].1.base().max_seconds, Some(3600));
    let charged =
        |model: &str, terms: Terms<'_>, item: Item| of(model)[0].1.rates(&terms).rates.rate_or_free(item);
    for (input_total, input, output) in
        [(0, 1000, 2000), (1000, 1000, 2000), (1001, 3000, 4000), (2000, 3000, 4000), (2001, 5000, 6000)]
    {
        let terms = Terms { input_total, ..Terms::default() };
        let found = (charged("long", terms, Item::Input), charged("long", terms, Item::Output));
        assert_eq!(found, (rate(input), rate(output)), "{input_total}");
    }
    for (tier, input, output) in
        [(None, 1000, 2000), (Some("flex"), 500, 2000), (Some("priority"), 1000, 8000)]
    {
        let terms = Terms { service_tier: tier, ..Terms::default() };
        let found = (charged("quick", terms, Item::Input), charged("quick", terms, Item::Output));
        assert_eq!(found, (rate(input), rate(output)), "{tier:?}");
    }
    for (at, input, output) in [
        ("2026-09-30T00:59:00Z", 1000, 2000),
        ("2026-09-30T01:00:00Z", 3000, 2000),
        ("2026-10-01T01:00:00Z", 1000, 2000),
        ("2026-10-03T23:00:00Z", 1000, 1000),
        ("2026-10-05T01:30:00Z", 3000, 2000),
    ] {
        let terms = Terms { at_ms: moment_ms(at).unwrap(), ..Terms::default() };
        let found = (charged("peaky", terms, Item::Input), charged("peaky", terms, Item::Output));
        assert_eq!(found, (rate(input), rate(output)), "{at}");
    }
    let since: Vec<_> = of("dear").into_iter().map(|(since, _)| since).collect();
    let moment = |text: &str| Some(moment_ms(text).unwrap());
    assert_eq!(since, [None, moment("2026-08-16"), moment("2027-01-01T08:00:00Z")]);
}

/// A file of dates, and the list that ships with the program.
#[test]
fn short_files_are_enough() {
    let text = "upstreams: { a: { url: http://127.0.0.1:8000, dialect: openai } }\nprices: {}\n";
    let config = check(text).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(config.prices.builtin && config.prices.models.is_empty());
    let text = "upstreams: { a: { url: http://127.0.0.1:8000, dialect: openai } }\nprices: { calendars: { prc: tls.pem } }\n";
    let errors = check(text).unwrap_err().to_string();
    assert!(errors.contains("prices.calendars.prc: `pem` is no date"), "{errors}");
}
