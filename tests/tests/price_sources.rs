//! Where prices come from, and what a reload does with them (MTR-46 to MTR-53): catalogues from files and from
//! elsewhere, pinned; layers; review; calls in flight keep theirs.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::path::Path;

use farthing_tests::gateway::{Gateway, nano, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::refused::assert_refused;
use farthing_tests::spoken::Talk;
use farthing_tests::stand::Stand;
use farthing_tests::upstream::{Upstream, plain};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const CHAT: &str = "/v1/chat/completions";

/// A LiteLLM map of one model: USD for a token.
fn litellm(model: &str, input: &str, output: &str) -> String {
    format!(
        r#"{{"sample_spec": {{"mode": "chat"}}, "{model}": {{"mode": "chat", "litellm_provider": "p",
           "input_cost_per_token": {input}, "output_cost_per_token": {output}}}}}"#
    )
}

fn sha256(text: &str) -> String {
    wire::hex::encode(&Sha256::digest(text.as_bytes()))
}

fn call(gateway: &Gateway, key: &str, model: &str) -> Answer {
    let body = json!({"model": model, "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
    http::post(gateway.address, CHAT, &[("x-api-key", key)], &body)
}

/// What a call of 10 input and 5 output tokens was charged.
fn cost(gateway: &Gateway, key: &str, model: &str) -> i64 {
    let before = gateway.settled_balance(key);
    let answer = call(gateway, key, model);
    assert_eq!(answer.status, 200, "{model}: {}", answer.text());
    before - gateway.settled_balance(key)
}

/// Another section `prices` in the file, and a reload: what it says.
fn reload(gateway: &Gateway, prices: &str) -> Value {
    rewrite(&gateway.config(), prices);
    gateway.operator(&["reload"])
}

fn rewrite(config: &Path, prices: &str) {
    let text = std::fs::read_to_string(config).unwrap();
    let other = text.lines().filter(|line| !line.starts_with("prices:")).collect::<Vec<_>>().join("\n");
    std::fs::write(config, format!("{other}\nprices: {prices}\n")).unwrap();
}

/// MTR-46: the group's override, then the operator's list, then sources, the last first, then what ships with the
/// program; an alias is another name; MTR-47: what nobody prices is refused.
#[test]
fn layers_are_asked_in_order() {
    let upstream = Upstream::friendly();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let first = write("first.json", &litellm("one", "0.000002", "0.000002"));
    let second = write(
        "second.json",
        r#"{"models": {"one": {"input": "3 USD/Mtok", "output": "3 USD/Mtok"}, "two": {"input": "3 USD/Mtok", "output": "3 USD/Mtok"}}}"#,
    );
    let dev = write(
        "dev.json",
        r#"{"acme": {"models": {"tri": {"cost": {"input": 4, "output": 4}}}}, "other": {"models": {"two": {"cost": {"input": 9, "output": 9}}}}}"#,
    );
    let gateway = Gateway::start(
        upstream.address,
        &format!(
            "prices: {{ sources: [{{ format: litellm, path: \"{first}\" }}, {{ format: farthing, path: \"{second}\" }}, {{ format: models.dev, path: \"{dev}\", provider: acme }}], models: {{ own: {{ input: 1 USD/Mtok, output: 1 USD/Mtok }} }}, groups: {{ gold: {{ own: {{ input: 0 USD/Mtok, output: 0.5 USD/Mtok }} }} }}, aliases: {{ ep-7: own }} }}\n"
        ),
    );
    let new = gateway.operator(&["key", "new", "--credit", "1 TEST"]);
    let (key, account) = (new["key"].as_str().unwrap(), new["account"].as_str().unwrap());
    for (model, nano) in
        [("own", 15_000), ("one", 45_000), ("two", 45_000), ("tri", 60_000), ("ep-7", 15_000)]
    {
        assert_eq!(cost(&gateway, key, model), nano, "{model}");
    }
    // deepseek-v4-pro is in the list that ships with the program: what it costs depends on the hour.
    assert!(cost(&gateway, key, "deepseek-v4-pro") > 0);
    assert_refused(&call(&gateway, key, "nobody"), 404, "model_not_priced", "nothing_taken");
    gateway.operator(&["account", "set", account, "--group", "gold"]);
    assert_eq!((cost(&gateway, key, "own"), cost(&gateway, key, "ep-7")), (2_500, 2_500));
    assert_eq!(cost(&gateway, key, "one"), 45_000, "what the group has no price for is as for everybody");
}

/// MTR-52: what is elsewhere is taken with the pinned hash or not at all, kept, and not asked for again.
#[test]
fn a_pinned_source_is_fetched_once_and_kept() {
    let upstream = Upstream::friendly();
    let (good, other) = (litellm("m", "0.000001", "0.000004"), litellm("m", "0", "0"));
    let served = good.clone();
    let elsewhere = Upstream::start(move |request, stream| {
        use std::io::Write as _;
        let answer = match request.target.as_str() {
            "/prices.json" => plain(200, "application/json", &served),
            "/moved.json" => {
                b"HTTP/1.1 302 Found\r\nlocation: /prices.json\r\ncontent-length: 0\r\n\r\n".to_vec()
            }
            _ => plain(404, "text/plain", "nothing"),
        };
        let _ = stream.write_all(&answer);
    });
    let source = |path: &str, text: &str| {
        format!(
            "{{ builtin: false, sources: [{{ format: litellm, url: \"http://{}{path}\", sha256: {} }}] }}",
            elsewhere.address,
            sha256(text)
        )
    };
    let mut gateway =
        Gateway::start(upstream.address, &format!("prices: {}\n", source("/prices.json", &good)));
    let key = gateway.key("1 TEST");
    assert_eq!(cost(&gateway, &key, "m"), 30_000);
    assert_eq!(elsewhere.hits(), 1);
    // The hash is what counts: not asked for again by a reload or another process.
    let told = reload(&gateway, &source("/gone.json", &good));
    let whats: Vec<&str> =
        told["changes"].as_array().unwrap().iter().filter_map(|change| change["what"].as_str()).collect();
    assert_eq!(whats, ["from"], "the same prices from another place: {told}");
    gateway.crash_and_restart();
    assert_eq!(cost(&gateway, &key, "m"), 30_000);
    assert_eq!(elsewhere.hits(), 1, "kept in the folder of the store");
    // Other bytes than were looked at, a redirect, nothing: the prices of before stay.
    for (path, text, why) in [
        ("/prices.json", &other, "its SHA-256 is"),
        ("/moved.json", &other, "the server answered 302"),
        ("/gone.json", &other, "the server answered 404"),
    ] {
        rewrite(&gateway.config(), &source(path, text));
        let refused = gateway.command(&["reload"]);
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && told.contains(why), "{path}: {told}");
        assert_eq!(cost(&gateway, &key, "m"), 30_000, "{path}");
    }
    // What is kept is read with care: somebody has changed it.
    rewrite(&gateway.config(), &source("/prices.json", &good));
    std::fs::write(gateway.folder().join("store/prices").join(sha256(&good)), &other).unwrap();
    gateway.operator(&["reload"]);
    assert_eq!(cost(&gateway, &key, "m"), 30_000, "fetched again");
    // A process that cannot have its prices does not start.
    rewrite(&gateway.config(), &source("/gone.json", &other));
    gateway.signal(15);
    gateway.wait();
    let started = gateway.command(&["serve"]);
    assert!(String::from_utf8_lossy(&started.stderr).contains("the server answered 404"));
    let checked = gateway.command(&["check"]);
    assert_eq!(checked.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&checked.stdout).contains("the server answered 404"));
}

/// A place that never answers holds up nobody: told to stop, the gateway stops.
#[test]
fn a_reload_that_waits_stops_nobody() {
    let upstream = Upstream::friendly();
    let silent = Upstream::start(|_, stream| {
        let _ = std::io::copy(stream, &mut std::io::sink());
    });
    let mut gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    let pin = sha256("anything");
    rewrite(
        &gateway.config(),
        &format!("{{ sources: [{{ format: litellm, url: \"http://{}\", sha256: {pin} }}] }}", silent.address),
    );
    gateway.signal(1);
    wait_for("the list to be asked for", || (silent.hits() == 1).then_some(()));
    assert_eq!(cost(&gateway, &key, "m"), 30_000, "the prices of before");
    gateway.signal(15);
    assert!(gateway.wait().success());
}

/// MTR-52: the operator's own prices and those of groups survive every reload of a catalogue, which is told model by
/// model; each charge names the list that it was made with (MTR-51).
#[test]
fn r16_overrides_survive_reload() {
    let upstream = Upstream::friendly();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("prices.json");
    std::fs::write(&path, litellm("m", "0.000001", "0.000001")).unwrap();
    let prices = format!(
        "{{ builtin: false, sources: [{{ format: litellm, path: \"{}\" }}], models: {{ mine: {{ input: 7 USD/Mtok, output: 7 USD/Mtok }}, m: {{ input: 2 USD/Mtok, output: 2 USD/Mtok }} }}, groups: {{ gold: {{ mine: {{ input: 1 USD/Mtok, output: 1 USD/Mtok }} }} }}, markup: {{ groups: {{ gold: 10% }} }} }}",
        path.display()
    );
    let gateway = Gateway::start(upstream.address, &format!("prices: {prices}\n"));
    let new = gateway.operator(&["key", "new", "--credit", "1 TEST"]);
    let (gold, account) = (new["key"].as_str().unwrap(), new["account"].as_str().unwrap());
    gateway.operator(&["account", "set", account, "--group", "gold"]);
    let key = gateway.key("1 TEST");
    let same = |gateway: &Gateway| {
        assert_eq!((cost(gateway, &key, "mine"), cost(gateway, gold, "mine")), (105_000, 16_500));
        assert_eq!(
            cost(gateway, &key, "m"),
            30_000,
            "the catalogue does not decide what the operator has priced"
        );
    };
    same(&gateway);
    let version = |gateway: &Gateway| {
        let answer = call(gateway, &key, "mine");
        let charged = gateway.operator(&["explain", answer.must("farthing-request-id")]);
        assert!(charged["price_version"].as_str().unwrap().starts_with(answer.must("farthing-price")));
        charged["price_version"].as_str().unwrap().to_owned()
    };
    let before = version(&gateway);
    std::fs::write(&path, litellm("n", "0.000005", "0.000005")).unwrap();
    let told = reload(&gateway, &prices);
    assert_eq!(told["prices"], "applied", "{told}");
    assert_eq!((&told["old_version"], told["new_version"] == told["old_version"]), (&json!(before), false));
    let changes = told["changes"].as_array().unwrap();
    assert!(changes.iter().all(|change| change["model"] == "n"), "only what changed: {told}");
    assert!(
        changes.contains(&json!({"model": "n", "what": "input", "old": null, "new": "5 USD/Mtok"})),
        "{told}"
    );
    same(&gateway);
    assert_eq!(cost(&gateway, &key, "n"), 75_000);
    let after = version(&gateway);
    assert_eq!(told["new_version"], after);
    // The bill of a call of before is still that of then.
    let shown = gateway.operator(&["ledger", "show", "--limit", "10000"]);
    let captures = shown["entries"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "capture");
    for entry in captures {
        let bill = gateway.operator(&["explain", entry["id"].as_str().unwrap()]);
        assert_eq!(bill["agrees"], true, "{bill}");
        assert!([&before, &after].contains(&&bill["price_version"].as_str().unwrap().to_owned()));
    }
}

/// `apply: review`: a reload tells what it would change and goes on selling as before, until somebody has looked.
#[test]
fn changed_prices_wait_to_be_looked_at() {
    let upstream = Upstream::friendly();
    let at = |usd: &str| {
        format!(
            "{{ apply: review, builtin: false, models: {{ m: {{ input: {usd} USD/Mtok, output: 4 USD/Mtok }} }} }}"
        )
    };
    let gateway = Gateway::start(upstream.address, &format!("prices: {}\n", at("1")));
    let key = gateway.key("1 TEST");
    assert_eq!(cost(&gateway, &key, "m"), 30_000);
    let nothing = gateway.command(&["prices", "apply"]);
    assert!(!nothing.status.success(), "nothing waits");
    let told = reload(&gateway, &at("2"));
    let changes = json!([{"model": "m", "what": "input", "old": "1 USD/Mtok", "new": "2 USD/Mtok"}]);
    assert_eq!(
        (&told["changes"], &told["prices"]),
        (&changes, &json!("waiting for `farthing prices apply`"))
    );
    assert_eq!(cost(&gateway, &key, "m"), 30_000, "nobody has looked yet");
    for member in ["changes", "prices", "old_version", "new_version"] {
        assert_eq!(gateway.operator(&["prices", "show"])[member], told[member], "{member}");
    }
    // What else a reload changes counts at once.
    let offered = http::get(gateway.address, "/farthing/prices", &[]).json();
    assert_eq!(offered["models"][0]["rates"][0]["amount"], "0.000001");
    // What was shown is applied, and not what has come since.
    let other = gateway.command(&["prices", "apply", told["old_version"].as_str().unwrap()]);
    assert!(!other.status.success());
    assert_eq!(cost(&gateway, &key, "m"), 30_000);
    let applied = gateway.operator(&["prices", "apply", &told["new_version"].as_str().unwrap()[..12]]);
    assert_eq!((&applied["changes"], &applied["prices"]), (&changes, &json!("applied")));
    assert_eq!(cost(&gateway, &key, "m"), 40_000);
    assert_eq!(gateway.operator(&["prices", "show"])["prices"], "unchanged");
    // Taken back before anybody has looked.
    reload(&gateway, &at("3"));
    assert_eq!(reload(&gateway, &at("2"))["prices"], "unchanged");
    assert!(!gateway.command(&["prices", "apply"]).status.success());
    assert_eq!(cost(&gateway, &key, "m"), 40_000);
}

/// A call is charged at the prices it began with, whatever is reloaded before it ends; a file that is wrong changes
/// nothing.
#[test]
fn a_call_in_flight_keeps_its_prices() {
    let stand = Stand::new("prices: { builtin: false, m: { input: 1 USD/Mtok, output: 4 USD/Mtok } }\n");
    let mut talk = Talk::document();
    talk.body["model"] = "m".into();
    let (mut client, mut first) = stand.ask(&talk);
    let told = reload(
        &stand.gateway,
        "{ builtin: false, m: { input: 100 USD/Mtok, output: 400 USD/Mtok }, markup: 50% }",
    );
    let changes: Vec<&str> =
        told["changes"].as_array().unwrap().iter().filter_map(|change| change["what"].as_str()).collect();
    assert_eq!(changes, ["input", "output", "default"], "{told}");
    first.send(talk.head());
    for piece in &talk.pieces {
        first.chunk(&piece.text);
    }
    first.send("0\r\n\r\n");
    assert!(client.answer().is_some_and(|answer| answer.status == 200));
    let spent = 1_000_000_000 - stand.gateway.settled_balance(&stand.key);
    assert_eq!(spent, 30_000, "the prices of when it began");
    rewrite(&stand.gateway.config(), "{ m: { input: cheap } }");
    assert!(!stand.gateway.command(&["reload"]).status.success());
    let page = http::get(stand.gateway.address, "/farthing/prices", &[]).json();
    assert_eq!(page["models"][0]["rates"][0]["amount"], "0.00015", "the last good file");
}

/// `farthing price` and the charge of a call of that kind are the same figure, and it says why.
#[test]
fn farthing_price_says_what_a_call_costs() {
    let upstream = Upstream::start(|request, stream| {
        use std::io::Write as _;
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let text = json!({"object": "chat.completion", "choices": [{"index": 0, "message": {"content": "a"}}],
                          "usage": body["metadata"]["usage"], "service_tier": body["metadata"]["tier"]});
        let _ = stream.write_all(&plain(200, "application/json", &text.to_string()));
    });
    let prices = "prices: { builtin: false, markup: { default: 12.5%, groups: { staff: 0% } }, models: { \
        flat: { input: 1.0000001 USD/Mtok, output: 4 USD/Mtok, cache_read: 0.1 USD/Mtok, cache_write: 1.25 USD/Mtok, reasoning: 5 USD/Mtok, per_call: 0.00001 USD }, \
        long: { tiers: [{ input_up_to: 1000, input: 1 USD/Mtok, output: 2 USD/Mtok }, { input: 3 USD/Mtok, output: 4 USD/Mtok }] }, \
        tiered: { input: 1 USD/Mtok, output: 2 USD/Mtok, service_tiers: { flex: { input: 0.5 USD/Mtok }, priority: { output: 8 USD/Mtok } } }, \
        open: { input: 1 USD/Mtok, output: 2 USD/Mtok, windows: [{ name: always, hours: \"00:00-24:00\", input: 7 USD/Mtok }] }, \
        grown: [{ input: 1 USD/Mtok, output: 2 USD/Mtok }, { effective_from: 2026-01-01, input: 2 USD/Mtok, output: 4 USD/Mtok }, { effective_from: 2199-01-01, input: 9 USD/Mtok, output: 9 USD/Mtok }] } }\n";
    let gateway = Gateway::start(upstream.address, prices);
    let new = gateway.operator(&["key", "new", "--credit", "1 TEST"]);
    let (key, account) = (new["key"].as_str().unwrap(), new["account"].as_str().unwrap());
    let price = |words: &[&str]| gateway.operator(&[&["price"], words].concat());
    let called = |model: &str, usage: Value, tier: Option<&str>| {
        let body = json!({"model": model, "max_tokens": 5000, "metadata": {"usage": usage, "tier": tier}, "service_tier": tier.unwrap_or("auto"), "messages": []});
        let before = gateway.settled_balance(key);
        let answer = http::post(gateway.address, CHAT, &[("x-api-key", key)], &body);
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        before - gateway.settled_balance(key)
    };
    let usage = |input: u64, cached: u64, output: u64, reasoning: u64| {
        json!({"prompt_tokens": input, "completion_tokens": output, "total_tokens": input + output,
               "prompt_tokens_details": {"cached_tokens": cached}, "completion_tokens_details": {"reasoning_tokens": reasoning}})
    };
    for (words, used, tier, rules) in [
        (&["flat", "--in", "1207", "--out", "301"][..], usage(1207, 0, 301, 0), None, vec!["list price"]),
        (
            &["flat", "--in", "1207", "--cached", "1100", "--out", "301", "--reasoning", "99"],
            usage(1207, 1100, 301, 99),
            None,
            vec!["list price"],
        ),
        (&["long", "--in", "1000", "--out", "7"], usage(1000, 0, 7, 0), None, vec!["list price"]),
        (
            &["long", "--in", "1001", "--out", "7"],
            usage(1001, 0, 7, 0),
            None,
            vec!["prompt above 1000 tokens"],
        ),
        (
            &["tiered", "--in", "10", "--out", "7", "--tier", "flex"],
            usage(10, 0, 7, 0),
            Some("flex"),
            vec!["service tier flex", "list price"],
        ),
        (
            &["tiered", "--in", "10", "--out", "7", "--tier", "priority"],
            usage(10, 0, 7, 0),
            Some("priority"),
            vec!["list price", "service tier priority"],
        ),
        (&["open", "--in", "10", "--out", "7"], usage(10, 0, 7, 0), None, vec!["always hours", "list price"]),
        (&["grown", "--in", "10", "--out", "7"], usage(10, 0, 7, 0), None, vec!["list price"]),
    ] {
        let told = price(words);
        assert_eq!(nano(&told["charge"]["amount"]), called(words[0], used, tier), "{words:?}: {told}");
        for rule in rules {
            let lines = told["lines"].as_array().unwrap();
            assert!(lines.iter().any(|line| line["rule"] == rule), "{words:?}: {rule}: {told}");
        }
        assert_eq!((&told["markup"], &told["from"]), (&json!("12.5%"), &json!("own list")));
    }
    // The group's raise, another day, and what is asked wrongly.
    gateway.operator(&["account", "set", account, "--group", "staff"]);
    let told = price(&["flat", "--in", "10", "--out", "7", "--group", "staff"]);
    assert_eq!(nano(&told["charge"]["amount"]), called("flat", usage(10, 0, 7, 0), None));
    for (at, since, amount) in [
        ("2025-12-31", Value::Null, "0.000027000"),
        ("2026-06-01T00:00:00Z", json!("2026-01-01T00:00:00Z"), "0.000054000"),
        ("2199-01-01", json!("2199-01-01T00:00:00Z"), "0.000172125"),
    ] {
        let told = price(&["grown", "--in", "10", "--out", "7", "--at", at]);
        assert_eq!((&told["since"], &told["charge"]["amount"]), (&since, &json!(amount)), "{at}");
    }
    for (words, why) in [
        (&["nobody", "--in", "1", "--out", "1"][..], "has no price here"),
        (&["flat", "--in", "1", "--out", "1", "--cached", "2"], "are part of --in"),
        (&["flat", "--in", "1", "--out", "1", "--reasoning", "2"], "is part of --out"),
        (&["flat", "--in", "1", "--out", "1", "--tier", "flex"], "has no price here"),
        (&["flat", "--in", "1", "--out", "1", "--at", "yesterday"], "is no date"),
    ] {
        let output = gateway.command(&[&["price"], words].concat());
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && told.contains(why), "{words:?}: {told}");
    }
}

/// What is told in public: models that a route takes, at what everybody pays, never what the operator pays or a group.
#[test]
fn public_prices_are_selling_prices() {
    let upstream = Upstream::friendly();
    let config = "routes: [{ match: { method: POST, path: /v1/chat/completions }, upstream: { by_model: { \"m*\": openai } }, price: by_model }, \
        { name: files, match: { method: GET, path: \"/files/**\" }, upstream: openai, price: { per_call: 0.0001 USD } }]\n\
        prices: { builtin: false, markup: { default: 20%, groups: { gold: 1% } }, groups: { gold: { m: { input: 0.123 USD/Mtok, output: 0.123 USD/Mtok } } }, \
        aliases: { m-latest: m }, models: { m: { input: 1 USD/Mtok, output: 4 USD/Mtok, cache_read: 0.1 USD/Mtok, per_call: 0.001 USD, max_output: 99 }, \
        m-2: { input: 1 USD/Mtok, output: 2 USD/Mtok, windows: [{ name: night, hours: \"22:00-06:00\", zone: Asia/Shanghai, input: 0.5 USD/Mtok }], service_tiers: { flex: { input: 0.25 USD/Mtok } } }, \
        unsold: { input: 1 USD/Mtok, output: 2 USD/Mtok }, \"m-old-*\": { input: 3 USD/Mtok, output: 3 USD/Mtok } } }\n";
    let gateway = Gateway::start(upstream.address, config);
    let models = http::get(gateway.address, "/v1/models", &[]).json();
    let listed: Vec<&str> =
        models["data"].as_array().unwrap().iter().filter_map(|model| model["id"].as_str()).collect();
    assert_eq!(listed, ["m", "m-2", "m-latest"], "what no route takes is not for sale");
    let pricing = &models["data"][0]["pricing"];
    let expected = json!({"prompt": "0.0000012", "completion": "0.0000048", "request": "0.0012", "image": "0", "currency": "USD",
        "input_cache_read": "0.00000012", "input_cache_write": "0.0000012", "internal_reasoning": "0.0000048"});
    assert_eq!(*pricing, expected);
    let document = http::get(gateway.address, "/farthing/prices", &[]);
    assert_eq!(document.header("content-type"), Some("application/json"));
    let body = document.json();
    let named: Vec<&str> =
        body["models"].as_array().unwrap().iter().filter_map(|model| model["model"].as_str()).collect();
    assert_eq!(named, ["m", "m-2", "m-latest"]);
    assert_eq!(body["models"][2]["same_as"], "m");
    assert_eq!(body["patterns"][0]["model"], "m-old-*");
    let otherwise = body["models"][1]["otherwise"].as_array().unwrap();
    let cases: Vec<&str> = otherwise.iter().filter_map(|case| case["when"].as_str()).collect();
    assert_eq!(cases.len(), 3, "{cases:?}");
    assert!(
        cases.contains(&"service tier flex")
            && cases.iter().any(|case| case.contains("22:00-06:00 Asia/Shanghai"))
    );
    assert_eq!(body["routes"][0]["rates"][0]["amount"], "0.0001");
    let charged = call(&gateway, &gateway.key("1 TEST"), "m");
    assert!(body["version"].as_str().unwrap().starts_with(charged.must("farthing-price")));
    let browser = [("accept", "text/html,application/xhtml+xml,*/*;q=0.8")];
    let page = http::get(gateway.address, "/farthing/prices", &browser);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let text = page.text();
    assert!(
        text.contains("<b>m-latest</b>") && text.contains("1.2</td>") && !text.contains("<script"),
        "{text}"
    );
    for secret in ["0.123", "gold", "unsold", "0.000001\"", "markup"] {
        for told in [&models.to_string(), &document.text(), &text] {
            assert!(!told.contains(secret), "{secret}: {told}");
        }
    }
    let off = Gateway::start(upstream.address, "discovery: { price_page: false }\n");
    assert_refused(&http::get(off.address, "/farthing/prices", &[]), 404, "route_not_found", "nothing_taken");
    assert_eq!(http::get(off.address, "/v1/models", &[]).status, 200);
}
