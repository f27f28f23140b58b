//! Every key, right and wrong: texts in, a configuration or exact messages out.

use std::collections::HashMap;
use std::io;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use money::Amount;
use serde_json::Value;
use store::{Durability, Exposure};
use zeroize::Zeroizing;

use super::{
    Auth, Charged, Config, ConfigErrors, Dedupe, EvmNetwork, ExampleUpstream, FileBytes, Glob, HoldInput,
    KeySource, Limits, LogFormat, Metering, MissingUsage, Mode, Network, PaymentIdentifier, Policy, Provider,
    RouteDiscovery, RoutePrice, Server, Service, Timeouts, Tls, UnitPrice, X402Scheme, example, load, parse,
};

/// What a canary looks like: it must not appear in anything that is shown.
const CANARY: &str = "sk-canary-7Jq2";

/// A key of Stripe's test mode.
const STRIPE: &str = "sk_test_51canary";

/// Test keys of an app at Alipay and of Alipay itself.
const ALIPAY_KEYS: &str = include_str!("../../../../../specs/vectors/rails/alipay_keys.json");

/// Reads with a fixed environment and a fixed file system.
fn check(text: &str) -> Result<Config, ConfigErrors> {
    let alipay: Value = serde_json::from_str(ALIPAY_KEYS).unwrap();
    let alipay = |name: &str| alipay["alipay_app"][name].as_str().unwrap();
    let env = HashMap::from([
        ("HOME", "/home/ann"),
        ("API_KEY", CANARY),
        ("EMPTY", ""),
        ("SHORT_KEY", "abcd"),
        ("STRIPE_KEY", STRIPE),
        ("ALIPAY_KEY", alipay("private_pkcs8_der_b64")),
        ("ALIPAY_PUBLIC", alipay("public_spki_pem")),
    ]);
    let pem = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n",
        alipay("private_pkcs8_der_b64")
    );
    let hex = "3f".repeat(31) + "40\n";
    let files: HashMap<&str, (&str, u32)> = HashMap::from([
        ("/etc/farthing/api.key", (CANARY, 0o600)),
        ("/etc/farthing/open.key", (CANARY, 0o644)),
        ("/etc/farthing/master-1.key", (hex.as_str(), 0o600)),
        // The first account of the well-known mnemonic, and no key at all.
        (
            "/etc/farthing/public.key",
            ("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80", 0o600),
        ),
        (
            "/etc/farthing/order.key",
            ("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141", 0o600),
        ),
        ("/etc/farthing/tls.key", ("pem", 0o600)),
        ("/etc/farthing/alipay.pem", (pem.as_str(), 0o600)),
        ("/etc/farthing/tls.pem", ("pem", 0o644)),
    ]);
    let seven = "07".repeat(32);
    let read = |path: &Path| match path.to_str() {
        Some("/etc/farthing/seven.key") => file(seven.as_bytes(), 0o600),
        Some(path) => match files.get(path) {
            Some((text, mode)) => file(text.as_bytes(), *mode),
            None => Err(io::ErrorKind::NotFound.into()),
        },
        None => Err(io::ErrorKind::NotFound.into()),
    };
    parse(text, "/etc/farthing/farthing.yaml", &|name| env.get(name).map(|v| (*v).to_owned()), &read)
}

fn file(bytes: &[u8], mode: u32) -> io::Result<FileBytes> {
    Ok(FileBytes { bytes: Zeroizing::new(bytes.to_vec()), mode })
}

mod alipay;
mod batch;
mod cashu;
mod directories;
mod identity;
mod l402;
mod mpp;
mod prices;
mod processors;
mod streams;

const MINIMAL: &str = r#"# yaml-language-server: $schema=https://example.invalid/farthing.schema.json
upstreams:
  ollama: { url: http://127.0.0.1:11434, dialect: openai }
prices:
  "*": { input: 0.10 USD/Mtok, output: 0.30 USD/Mtok }
rails:
  test: {}            # fake money for trying; replace with x402, mpp, l402, stripe, alipay ...
"#;

#[test]
fn the_minimal_file_is_enough() {
    let config = check(MINIMAL).unwrap();
    assert_eq!(config.server.listen, ["127.0.0.1:4402".parse().unwrap()]);
    assert_eq!(config.store.path, Path::new("/home/ann/.local/share/farthing"));
    assert_eq!(config.mode, Mode::Test);
    let routes: Vec<_> = config.routes.iter().map(|route| (route.name.as_str(), route.price)).collect();
    assert_eq!(
        routes,
        ["/v1/chat/completions", "/v1/responses", "/v1/completions", "/v1/embeddings"]
            .map(|path| (path, RoutePrice::ByModel))
    );
    let price = config.prices.models[0].tariff.base();
    assert_eq!((price.input.femto(), price.output.femto()), (100_000_000, 300_000_000));
    assert_eq!((price.cache_read, price.reasoning), (None, None), "as the others");
    assert!(config.rails.test.is_some() && config.rails.x402.is_none());
    assert!(matches!(&config.tokens.master_keys[0].key,
        KeySource::Generated(path) if path == Path::new("/home/ann/.local/share/farthing/master-1.key")));
    assert_eq!(config.admin.socket, Path::new("/home/ann/.local/share/farthing/admin.sock"));
    for (host, allowed) in [
        ("127.0.0.1:4402", true),
        ("localhost", true),
        ("LOCALHOST:80", true),
        ("evil.example", false),
        ("127.0.0.1.evil.example:4402", false),
        ("", false),
    ] {
        assert_eq!(config.server.allows_host(host), allowed, "{host}");
    }
}

const LIVE: &str = r#"
mode: live
server:
  listen: ["0.0.0.0:443", "[::]:443"]
  public_url: https://api.example.com
  tls: { cert: tls.pem, key: "${file:tls.key}" }
  limits: { header: 16KiB, fields: 50, uri: 4KiB, credential: 8KiB, body: 1MiB, connections: 10, per_ip: 2, in_flight: 5 }
  timeouts: { header: 1s, body: 2s, connect: 3s, first_byte: 4s, stream_idle: 5s, call: 9s, idle: 6s, drain: 7s, write_stall: 8s }
  trusted_proxies: [10.0.0.0/8, "::1"]
  threads: 2
store: { kind: embedded, path: /var/lib/farthing, durability: group, exposure: { per_account: 2 USD, total: 3 USD, delay: 7ms } }
tokens:
  master_keys:
    - { epoch: 2, key: "${file:/etc/farthing/master-1.key}" }
    - { epoch: 1, key: file:master-1.key, verify_only: true }
receipts: { key: file:master-1.key }
upstreams:
  openai: { url: https://api.openai.com, dialect: openai, auth: { bearer: "${env:API_KEY}" }, timeouts: { first_byte: 9s } }
  claude: { url: https://api.anthropic.com, dialect: anthropic, auth: { header: x-api-key, value: "${file:api.key}" } }
  tts: { url: http://10.0.0.8:9000/speech, dialect: raw }
routes:
  - match: { method: POST, path: /v1/chat/completions }
    upstream: { by_model: { "gpt-*": openai } }
    price: by_model
    discovery: { body: '{"model": "gpt-5"}', output: '{"choices": []}' }
  - { match: { method: POST, path: /v1/messages }, upstream: claude, price: by_model, body: 2MiB }
  - { name: files, match: { path: "/files/**" }, upstream: tts, price: { per_call: 0.0001 USD }, discovery: { template: "/files/:id", query: '{"page": 1}' } }
  - name: units
    match: { path: "/sold/**" }
    upstream: tts
    price: { per_byte_in: 1 USD/GB, per_byte_out: 0.05 USD/GB, per_second: 0.0006 USD, per_call: 0.0001 USD, min: 0.0005 USD, hold: { time: 60s, bytes: 100MiB } }
    metering: { on_client_gone: { drain_up_to: 0s, charge: reported_or_estimate }, on_missing_usage: estimate }
  - { match: { method: POST, path: /v1/audio/speech }, upstream: tts, price: { per_character: 15 USD/Mchar, min: 0.0005 USD } }
  - { match: { method: POST, path: /v1/images/generations }, upstream: openai, price: { per_image: 0.04 USD }, freebies: { calls: 5, per: hour } }
  - { match: { method: [GET, HEAD], path: /v1/models }, upstream: openai, price: free }
prices:
  models:
    gpt-5: { input: 1 USD/Mtok, cache_read: 0.1 USD/Mtok, cache_write: 2 USD/Mtok, output: 4 USD/Mtok, reasoning: 5 USD/Mtok, max_output: 8192 }
    "gpt-*": { input: 0.66 USD/Mtok, output: 1.98 USD/Mtok, per_call: 0.001 USD }
  unknown_model: { price_as: gpt-5 }
  markup: { default: 2.5%, groups: { partner: 0.5%, own.staff: 0% } }
metering:
  hold: { input: bytes, output: max_tokens, step: whole, default_output: 100, min_output: 10, fit_to_balance: false }
  inject_stream_usage: false
  on_missing_usage: hold
  on_client_gone: { drain_up_to: 3s, then: cancel, charge: reported_only }
  on_upstream_error: { before_output: free, after_output: free }
  bill_on_upstream_failure: true
  estimate: { factors: { "kimi-*": 1.1 } }
  dedupe: { idempotency_key: 2d, sdk_retry_fingerprint: 5m, max_body: 64KiB }
rails:
  x402:
    schemes: [exact]
    networks:
      "eip155:8453": { asset: USDC, pay_to: "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed", rpc: https://node.example/v2/k }
      "eip155:777":
        asset: { address: "0x036CbD53842c5426634e7929541eC2318f3dCF7e", name: T, version: "1", decimals: 18, symbol: USDT }
        pay_to: "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"
    facilitators: [https://a.example, https://b.example/x402]
    settle: first
    settle_timeout: 10s
    settle_at_once: 4
    deposit: 0.50 USD
    ceiling_max: 0.75 USD
    extensions: [payment-identifier, offer-receipt, bazaar]
    payment_identifier: required
    offer_receipt: { key: file:master-1.key, transaction: true }
    bazaar: { service_name: Farthing, tags: [llm, chat], icon_url: https://api.example.com/i.png }
limits:
  default: { rpm: 60, concurrent: 8, spend: { per_call: 1 USD, per_day: 20 USD } }
  unpaid: { per_ip: 31/min }
  invalid_proofs: { per_ip: 21/min, burst: 41 }
admin: { listen: "[::1]:9402", socket: /run/farthing.sock }
observe: { log: json, content: never }
discovery: { price_page: false }
"#;

/// Every key that this version reads, none at its default.
#[test]
fn every_key_arrives() {
    let config = check(LIVE).unwrap_or_else(|errors| panic!("{errors}"));
    let secs = Duration::from_secs;
    assert_eq!(config.mode, Mode::Live);
    let Server { listen, public_url, hosts, tls, limits, timeouts, trusted_proxies, threads } =
        &config.server;
    let trusted: Vec<String> = trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(trusted, ["10.0.0.0/8", "::1/128"]);
    assert_eq!(*listen, ["0.0.0.0:443".parse().unwrap(), "[::]:443".parse().unwrap()]);
    assert_eq!(public_url.as_deref(), Some("https://api.example.com"));
    assert_eq!(*hosts, ["api.example.com"]);
    let folder = Path::new("/etc/farthing");
    assert_eq!(*tls, Some(Tls { cert: folder.join("tls.pem"), key: folder.join("tls.key") }));
    let expected = Limits {
        header_bytes: 16 << 10,
        fields: 50,
        uri_bytes: 4 << 10,
        credential_bytes: 8 << 10,
        body_bytes: 1 << 20,
        connections: 10,
        per_ip: 2,
        in_flight: 5,
    };
    assert_eq!(*limits, expected);
    let expected = Timeouts {
        header: secs(1),
        body: secs(2),
        connect: secs(3),
        first_byte: secs(4),
        stream_idle: secs(5),
        call: secs(9),
        idle: secs(6),
        drain: secs(7),
        write_stall: secs(8),
    };
    assert_eq!(*timeouts, expected);
    assert_eq!(threads.unwrap().get(), 2);
    assert_eq!(config.store.path, Path::new("/var/lib/farthing"));
    let exposure = Exposure {
        per_account: Amount::from_units(2_000_000_000),
        total: Amount::from_units(3_000_000_000),
        delay: Duration::from_millis(7),
    };
    assert_eq!(config.store.durability, Durability::Capped(exposure));
    let keys = &config.tokens.master_keys;
    assert_eq!(
        keys.iter().map(|key| (key.epoch, key.verify_only)).collect::<Vec<_>>(),
        [(1, true), (2, false)]
    );
    assert!(matches!(&config.receipt_key, KeySource::Given(key) if key.expose()[31] == 0x40));
    let openai = &config.upstreams["openai"];
    assert!(matches!(&openai.auth, Some(Auth::Bearer(secret)) if secret.expose() == CANARY));
    assert_eq!((openai.connect, openai.first_byte, openai.stream_idle), (secs(3), secs(9), secs(5)));
    assert!(matches!(&config.upstreams["claude"].auth,
        Some(Auth::Header(name, secret)) if name == "x-api-key" && secret.expose() == CANARY));
    assert_eq!(config.upstreams["tts"].url.to_string(), "http://10.0.0.8:9000/speech");
}

#[test]
fn routes_prices_and_rails_arrive() {
    let config = check(LIVE).unwrap_or_else(|errors| panic!("{errors}"));
    let found = |method: &str, path: &str| {
        let method = method.parse().unwrap();
        config.routes.iter().find(|route| route.matches(&method, path)).map(|route| route.name.as_str())
    };
    for (method, path, name) in [
        ("POST", "/v1/chat/completions", Some("/v1/chat/completions")),
        ("GET", "/v1/chat/completions", None),
        ("GET", "/files/a", Some("files")),
        ("DELETE", "/files/a", None),
        ("HEAD", "/v1/models", Some("/v1/models")),
        ("POST", "/v1/responses", None),
    ] {
        assert_eq!(found(method, path), name, "{method} {path}");
    }
    assert_eq!(config.routes[0].upstream.choose("gpt-5"), Some("openai"));
    assert_eq!(config.routes[0].upstream.choose("claude"), None);
    assert_eq!((config.routes[0].body_bytes, config.routes[1].body_bytes), (1 << 20, 2 << 20));
    assert_eq!(config.routes[2].price, RoutePrice::PerCall(Amount::from_units(100_000)));
    let given: Vec<_> = config.routes.iter().filter_map(|route| route.freebies).collect();
    assert_eq!(given.len(), 1);
    assert_eq!((given[0].calls.get(), given[0].window), (5, Duration::from_secs(3600)));

    let rate = |femto| Some(money::Rate::from_femto(femto));
    let units = UnitPrice {
        call: Amount::from_units(100_000),
        byte_in: rate(1_000_000),
        byte_out: rate(50_000),
        second: rate(600_000_000_000),
        min: Amount::from_units(500_000),
        seconds_max: Some(60),
        bytes_max: Some(100 << 20),
        ..UnitPrice::default()
    };
    assert_eq!(config.routes[3].price, RoutePrice::Units(units));
    let policy = Policy {
        drain: Duration::ZERO,
        client_gone: Charged::ReportedOrEstimate,
        missing_usage: MissingUsage::Estimate,
        ..config.metering.policy
    };
    assert_eq!((config.routes[3].policy, config.routes[2].policy), (policy, config.metering.policy));
    let spoken = UnitPrice { character: rate(15_000_000_000), min: units.min, ..UnitPrice::default() };
    assert_eq!(config.routes[4].price, RoutePrice::Units(spoken));
    let made = UnitPrice { image: rate(40_000_000_000_000), ..UnitPrice::default() };
    assert_eq!(config.routes[5].price, RoutePrice::Units(made));

    assert!(!config.discovery.price_page);

    let metering = Metering {
        default_output: 100,
        min_output: 10,
        fit_to_balance: false,
        inject_stream_usage: false,
        step: None,
        hold_input: HoldInput::Bytes,
        policy: Policy {
            drain: Duration::from_secs(3),
            client_gone: Charged::ReportedOnly,
            upstream_error: Charged::Free,
            bill_on_upstream_failure: true,
            missing_usage: MissingUsage::Hold,
        },
        factors: vec![
            (Glob::new("kimi-*"), 11_000),
            (Glob::new("claude*"), 12_500),
            (Glob::new("anthropic/claude*"), 12_500),
        ],
        dedupe: Dedupe {
            idempotency_key: Duration::from_secs(2 * 24 * 3600),
            sdk_retry: Duration::from_secs(300),
            body_bytes_max: 64 * 1024,
        },
    };
    assert_eq!(config.metering, metering);
    let x402 = config.rails.x402.as_ref().unwrap();
    let [Network::Evm(base), Network::Evm(own)] = x402.networks.as_slice() else { panic!("two EVM chains") };
    let token = |network: &EvmNetwork| (network.chain_id, network.token.name.clone(), network.token.decimals);
    assert_eq!([token(base), token(own)], [(8453, "USD Coin".into(), 6), (777, "T".into(), 18)]);
    assert_eq!(own.token.asset, money::Asset::Usdt);
    assert_eq!(base.pay_to, own.pay_to);
    assert_eq!(base.rpc.as_ref().map(ToString::to_string).as_deref(), Some("https://node.example/v2/k"));
    assert_eq!((own.rpc.is_none(), x402.settle_at_once), (true, 4));
    let urls: Vec<_> = x402.facilitators.iter().map(ToString::to_string).collect();
    assert_eq!(urls, ["https://a.example", "https://b.example/x402"]);
    assert_eq!((x402.settle_timeout, x402.ceiling_max.units()), (Duration::from_secs(10), 750_000_000));
    assert_eq!(x402.deposit.unwrap().units(), 500_000_000);
    let on = &x402.extensions;
    assert_eq!((on.payment_identifier, on.sign_in), (Some(PaymentIdentifier::Required), false));
    let receipts = on.offer_receipt.as_ref().unwrap();
    assert!(receipts.transaction && receipts.key.as_ref().unwrap().expose()[31] == 0x40);
    let service = Service {
        name: Some("Farthing".into()),
        tags: vec!["llm".into(), "chat".into()],
        icon_url: Some("https://api.example.com/i.png".into()),
    };
    assert_eq!(on.bazaar, Some(service));
    let object = |value: serde_json::Value| value.as_object().cloned();
    let chat = RouteDiscovery {
        body: object(serde_json::json!({"model": "gpt-5"})),
        output: Some(serde_json::json!({"choices": []})),
        ..RouteDiscovery::default()
    };
    let files = RouteDiscovery {
        template: Some("/files/:id".into()),
        query: object(serde_json::json!({"page": 1})),
        ..RouteDiscovery::default()
    };
    let told = |at: usize| config.routes[at].discovery.clone();
    assert_eq!((told(0), told(1), told(2)), (Some(chat), None, Some(files)));
    let limits = &config.limits;
    let rates = [limits.account_per_minute, limits.account_concurrent, limits.unpaid_per_minute];
    assert_eq!(rates.map(NonZeroU32::get), [60, 8, 31]);
    let spend = [limits.spend_per_call, limits.spend_per_day].map(Option::unwrap).map(Amount::units);
    assert_eq!(spend, [1_000_000_000, 20_000_000_000]);
    assert_eq!([limits.invalid_per_minute, limits.invalid_burst].map(NonZeroU32::get), [21, 41]);
    assert_eq!(config.admin.listen, "[::1]:9402".parse().unwrap());
    assert_eq!(config.admin.socket, Path::new("/run/farthing.sock"));
    assert_eq!(config.observe.log, LogFormat::Json);
}

/// SEC-50: what is printed of a configuration holds no secret.
#[test]
fn debug_hides_secrets() {
    let shown = format!("{:?}", check(LIVE).unwrap());
    assert!(shown.contains("hidden") && !shown.contains(CANARY));
    assert!(!shown.contains("3f3f3f") && !shown.contains("63, 63"));
}

#[test]
fn json_is_accepted() {
    let json = r#"{"upstreams":{"a":{"url":"http://127.0.0.1:1","dialect":"anthropic"}},
        "prices":{"*":{"input":"1 USD/Mtok","output":"2 USD/Mtok"}},"server":{"listen":["127.0.0.1:0"]}}"#;
    let config = check(json).unwrap();
    let prices: Vec<_> = config.routes.iter().map(|route| (route.name.as_str(), route.price)).collect();
    assert_eq!(
        prices,
        [("/v1/messages", RoutePrice::ByModel), ("/v1/messages/count_tokens", RoutePrice::Free)]
    );
}

/// Each provider: its usual header for a key, its usual routes, and what is sold there.
#[test]
fn providers_have_usual_headers_and_routes() {
    for (names, header, routes) in [
        (
            &["openai", "vllm"] as &[_],
            "authorization",
            "/v1/chat/completions /v1/responses /v1/completions /v1/embeddings",
        ),
        (&["anthropic"], "x-api-key", "/v1/messages /v1/messages/count_tokens"),
        (&["deepseek", "kimi", "moonshot", "minimax"], "authorization", "/v1/chat/completions"),
        (
            &["qwen", "dashscope", "glm", "zhipu", "doubao"],
            "authorization",
            "/v1/chat/completions /v1/embeddings",
        ),
        (&["gemini"], "x-goog-api-key", "/v1beta/models/**"),
        (
            &["ollama"],
            "authorization",
            "/v1/chat/completions /v1/completions /v1/embeddings /api/chat /api/generate",
        ),
        (
            &["llama.cpp", "llamacpp"],
            "authorization",
            "/v1/chat/completions /v1/completions /v1/embeddings /completion",
        ),
        (&["groq", "openrouter"], "authorization", "/v1/chat/completions /v1/responses"),
        (&["together"], "authorization", "/v1/chat/completions /v1/completions /v1/embeddings"),
    ] {
        for name in names {
            let model = if name.starts_with("llama") { ", model: m" } else { "" };
            let text = format!(
                "upstreams: {{ a: {{ url: https://a.example, dialect: {name}{model}, auth: {{ key: env:API_KEY }} }} }}\n\
                 prices: {{ \"*\": {{ input: 1 USD/Mtok, output: 2 USD/Mtok }} }}\n"
            );
            let config = check(&text).unwrap_or_else(|errors| panic!("{errors}"));
            let (found, secret) = match &config.upstreams["a"].auth {
                Some(Auth::Bearer(secret)) => ("authorization", secret),
                Some(Auth::Header(name, secret)) => (name.as_str(), secret),
                None => panic!("{name} has no key"),
            };
            assert_eq!((found, secret.expose()), (header, CANARY), "{name}");
            let found: Vec<_> = config.routes.iter().map(|route| route.name.as_str()).collect();
            assert_eq!(found.join(" "), routes, "{name}");
        }
    }
}

/// One path, several providers, as long as each speaks there.
#[test]
fn providers_of_one_shape_share_a_route() {
    let config = check(
        r#"
upstreams:
  ds: { url: https://a.example, dialect: deepseek }
  glm: { url: https://b.example/api/paas/v4, dialect: glm }
  llama: { url: http://127.0.0.1:8080, dialect: llama.cpp, model: llama-4-scout }
routes:
  - match: { method: POST, path: /v1/chat/completions }
    upstream: { by_model: { "deepseek-*": ds, "glm-*": glm, "*": llama } }
    price: by_model
prices: { "*": { input: 1 USD/Mtok, output: 2 USD/Mtok } }
"#,
    );
    let config = config.unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(config.routes[0].upstream.choose("glm-5.3"), Some("glm"));
    assert_eq!(config.upstreams["llama"].model.as_deref(), Some("llama-4-scout"));
}

#[test]
fn what_init_writes_is_a_good_file() {
    let found = ExampleUpstream {
        name: "claude",
        url: "https://api.anthropic.com",
        provider: Provider::Anthropic,
        key_env: Some("API_KEY"),
    };
    let of = |provider: Provider| ExampleUpstream { name: provider.name(), provider, ..found.clone() };
    let all: Vec<_> =
        Provider::ALL.into_iter().filter(|provider| *provider != Provider::Raw).map(of).collect();
    let two = [found.clone(), of(Provider::OpenAi)];
    let local = [of(Provider::Ollama), of(Provider::Vllm)];
    for upstreams in [&[] as &[_], std::slice::from_ref(&found), &two, &local, &all] {
        let text = example(upstreams);
        let config = check(&text).unwrap_or_else(|errors| panic!("{errors}"));
        assert_eq!(config.upstreams.len(), upstreams.len().max(1));
        assert!(config.rails.test.is_some());
    }
    let lines = example(&[found]);
    let lines = lines.lines().filter(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'));
    assert!(lines.count() <= 12);
}

/// With real files: modes are read from the file system, and relative paths start at the file.
#[test]
fn load_reads_files_beside_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let (file, key) = (folder.path().join("farthing.yaml"), folder.path().join("api.key"));
    let text = "store: { path: data }\nupstreams: { a: { url: http://127.0.0.1:1, dialect: openai, auth: { bearer: file:api.key } } }\n\
                prices: { \"*\": { per_call: 1 USD } }\n";
    std::fs::write(&file, text).unwrap();
    std::fs::write(&key, CANARY).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640)).unwrap();
    let errors = load(&file).unwrap_err();
    assert!(errors.to_string().contains("has mode 0640"), "{errors}");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = load(&file).unwrap();
    assert_eq!(config.store.path, folder.path().join("data"));

    let errors = load(&folder.path().join("none.yaml")).unwrap_err();
    assert!(errors.to_string().ends_with("none.yaml: cannot read the configuration: there is no such file"));
}

/// `=== title`, the file, `---`, and exactly what is printed.
#[test]
fn broken_files_say_what_is_wrong() {
    let mut wrong = String::new();
    let cases: Vec<&str> = include_str!("broken.txt").split("=== ").skip(1).collect();
    assert!(cases.len() >= 30);
    for case in cases {
        let (title, rest) = case.split_once('\n').unwrap();
        let (text, expected) = rest.split_once("--- \n").unwrap();
        let errors = check(text).map(|_| ()).unwrap_err();
        let printed = errors.to_string().replace("/etc/farthing/farthing.yaml", "farthing.yaml");
        assert!(!printed.contains(CANARY), "{title}: {printed}");
        if printed.trim_end() != expected.trim_end() {
            wrong.push_str(&format!("=== {title}\n{text}--- \n{printed}\n"));
        }
    }
    assert!(wrong.is_empty(), "printed instead:\n{wrong}END");
}

/// Several tokens on one chain, and what they are paid by, in the order of their offers.
#[test]
fn a_chain_has_as_many_tokens_as_are_named() {
    let usual = "upstreams: { a: { url: http://127.0.0.1:8000, dialect: openai } }\nprices: { \"*\": { input: 1 USD/Mtok, output: 2 USD/Mtok } }\nmode: test\n";
    let rails = |asset: &str| {
        format!(
            "{usual}rails: {{ x402: {{ schemes: [upto, permit2, exact], facilitators: [https://f.example], networks: {{ \
             \"eip155:84532\": {{ asset: {asset}, pay_to: \"0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed\" }} }} }} }}\n"
        )
    };
    let own =
        "{ address: \"0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359\", name: T, version: \"1\", decimals: 18 }";
    let x402 = check(&rails(&format!("[USDC, {own}]"))).unwrap().rails.x402.unwrap();
    let name = |network: &Network| match network {
        Network::Evm(network) => network.token.name.clone(),
        Network::Svm(network) => network.network.clone(),
    };
    assert_eq!(x402.networks.iter().map(name).collect::<Vec<_>>(), ["USDC", "T"]);
    assert_eq!(x402.schemes, [X402Scheme::Upto, X402Scheme::Permit2, X402Scheme::Exact]);
    for (asset, wrong) in [("[]", "needs at least one token"), ("[USDC, USDC]", "a token stands twice")] {
        let errors = check(&rails(asset)).unwrap_err().to_string();
        assert!(errors.contains(wrong), "{errors}");
    }
}
