//! Every provider's recorded answers through the whole gateway: the client gets the very bytes, and the charge is
//! usage times price, to the billionth.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use farthing_tests::gateway::{Gateway, binary, free_address, wait_for};
use farthing_tests::http;
use farthing_tests::refused::assert_refused;
use farthing_tests::upstream::{KEY, Upstream};
use serde_json::{Value, json};

const CHAT: &str = "/v1/chat/completions";

/// Providers whose recorded answers go by the name of OpenAI's dialect.
const RELAYS: [&str; 3] = ["vllm", "groq", "openrouter"];

/// Prices no two of which are the same, in nano-USD per token.
const PRICES: &str = "prices: { \"*\": { input: 1 USD/Mtok, cache_read: 0.1 USD/Mtok, cache_write: 1.25 USD/Mtok, output: 4 USD/Mtok, reasoning: 6 USD/Mtok } }\n";

/// One upstream for each provider, all at one address; one path for those that share a shape.
const CONFIG: &str = r#"upstreams: { openai: { url: "http://{upstream}", dialect: openai }, deepseek: { url: "http://{upstream}", dialect: deepseek }, qwen: { url: "http://{upstream}", dialect: qwen }, glm: { url: "http://{upstream}/api/paas/v4", dialect: glm }, doubao: { url: "http://{upstream}", dialect: doubao }, kimi: { url: "http://{upstream}", dialect: kimi }, minimax: { url: "http://{upstream}", dialect: minimax }, vllm: { url: "http://{upstream}", dialect: vllm }, groq: { url: "http://{upstream}", dialect: groq }, openrouter: { url: "http://{upstream}", dialect: openrouter }, together: { url: "http://{upstream}", dialect: together }, anthropic: { url: "http://{upstream}", dialect: anthropic, auth: { key: "${env:UPSTREAM_KEY}" } }, gemini: { url: "http://{upstream}", dialect: gemini, auth: { key: "${env:UPSTREAM_KEY}" } }, ollama: { url: "http://{upstream}", dialect: ollama }, llamacpp: { url: "http://{upstream}", dialect: llama.cpp, model: the-operators } }
routes: [ { match: { method: POST, path: /v1/chat/completions }, upstream: { by_model: { "openai-*": openai, "deepseek-*": deepseek, "qwen-*": qwen, "glm-*": glm, "doubao-*": doubao, "kimi-*": kimi, "minimax-*": minimax, "vllm-*": vllm, "groq-*": groq, "openrouter-*": openrouter, "together-*": together, "llama-*": llamacpp } }, price: by_model }, { match: { method: POST, path: /v1/responses }, upstream: openai, price: by_model }, { match: { method: POST, path: /v1/completions }, upstream: openai, price: by_model }, { match: { method: POST, path: /v1/embeddings }, upstream: openai, price: by_model }, { match: { method: POST, path: /v1/images/generations }, upstream: openai, price: by_model }, { match: { method: POST, path: /v1/audio/transcriptions }, upstream: openai, price: by_model }, { match: { method: POST, path: /v1/audio/speech }, upstream: openai, price: by_model }, { match: { method: POST, path: /v1/messages }, upstream: anthropic, price: by_model }, { match: { path: "/v1beta/models/**" }, upstream: gemini, price: by_model }, { match: { method: POST, path: /api/v1/services/aigc/text-generation/generation }, upstream: qwen, price: by_model }, { match: { method: POST, path: /api/chat }, upstream: ollama, price: by_model }, { match: { method: POST, path: /api/generate }, upstream: ollama, price: by_model }, { match: { method: POST, path: /completion }, upstream: llamacpp, price: by_model } ]
"#;

/// A gateway before all of them, and what its upstream answers next.
struct Stand {
    gateway: Gateway,
    upstream: Upstream,
    answer: Arc<Mutex<Vec<u8>>>,
}

impl Stand {
    fn new(prices: &str) -> Self {
        let answer = Arc::new(Mutex::new(Vec::new()));
        let next = Arc::clone(&answer);
        let upstream = Upstream::start(move |_, stream| {
            let bytes = next.lock().map(|bytes| bytes.clone()).unwrap_or_default();
            let _ = stream.write_all(&bytes);
        });
        let config = CONFIG.replace("{upstream}", &upstream.address.to_string());
        let gateway = Gateway::start(upstream.address, &format!("{config}{prices}"));
        Self { gateway, upstream, answer }
    }

    fn answers(&self, head: &str, body: &[u8]) {
        if let Ok(mut answer) = self.answer.lock() {
            *answer =
                [format!("HTTP/1.1 200 X\r\n{head}connection: close\r\n\r\n").as_bytes(), body].concat();
        }
    }
}

/// Where a dialect is asked, and the body of a request there.
fn asked(dialect: &str, streams: bool) -> Option<(&'static str, Value)> {
    let said = json!([{"role": "user", "content": "hi"}]);
    let chat = |provider: &str| {
        let mut body = json!({"model": format!("{provider}-m"), "max_tokens": 20_000, "messages": said});
        if streams {
            body["stream"] = json!(true);
            // What the client asked for itself is not hidden from it.
            body["stream_options"] = json!({"include_usage": true});
        }
        (CHAT, body)
    };
    let plain = |path: &'static str, mut body: Value| {
        if streams {
            body["stream"] = json!(true);
        }
        Some((path, body))
    };
    match dialect {
        "openai.chat" => Some(chat("openai")),
        "deepseek.chat" => Some(chat("deepseek")),
        "qwen.compat" => Some(chat("qwen")),
        "zhipu.chat" => Some(chat("glm")),
        "doubao.chat" => Some(chat("doubao")),
        "moonshot.chat" => Some(chat("kimi")),
        "minimax.chat" => Some(chat("minimax")),
        "vllm.chat" => Some(chat("vllm")),
        "groq.chat" => Some(chat("groq")),
        "openrouter.chat" => Some(chat("openrouter")),
        "together.chat" => Some(chat("together")),
        "openai.responses" => plain("/v1/responses", json!({"model": "m", "input": "hi"})),
        "openai.completions" => plain("/v1/completions", json!({"model": "m", "prompt": "hi"})),
        "openai.embeddings" => plain("/v1/embeddings", json!({"model": "m", "input": "hi"})),
        "openai.images" => plain("/v1/images/generations", json!({"model": "m", "prompt": "hi"})),
        "anthropic.messages" => {
            plain("/v1/messages", json!({"model": "m", "max_tokens": 1000, "messages": said}))
        }
        "gemini.generate" if streams => {
            Some(("/v1beta/models/m:streamGenerateContent?alt=sse", json!({"contents": []})))
        }
        "gemini.generate" => Some(("/v1beta/models/m:generateContent", json!({"contents": []}))),
        "dashscope.native" => Some((
            "/api/v1/services/aigc/text-generation/generation",
            json!({"model": "m", "input": {"messages": said}}),
        )),
        "ollama.chat" => Some(("/api/chat", json!({"model": "m", "messages": said}))),
        "ollama.generate" => Some(("/api/generate", json!({"model": "m", "prompt": "hi"}))),
        "llamacpp.completion" => plain("/completion", json!({"prompt": "hi"})),
        _ => None,
    }
}

/// In nano units: every price here is a whole number of them.
fn cost(usage: &Value) -> i64 {
    let count = |name: &str| usage[name].as_i64().unwrap_or(0);
    let reasoning = count("reasoning");
    count("input_uncached") * 1000
        + count("cache_read") * 100
        + count("cache_write") * 1250
        + (count("output_total") - reasoning) * 4000
        + reasoning * 6000
}

#[test]
fn every_reported_answer_is_charged_to_the_billionth() {
    let stand = Stand::new(PRICES);
    let key = stand.gateway.key("100 TEST");
    let mut balance = 100_000_000_000;
    let mut seen = std::collections::BTreeMap::new();
    for file in [
        "openai_chat",
        "openai_responses",
        "openai_other",
        "anthropic",
        "adversarial",
        "cn_providers",
        "gemini",
        "local_and_relay",
        "sse_framing",
    ] {
        let path = format!("{}/../specs/vectors/usage/{file}.json", env!("CARGO_MANIFEST_DIR"));
        let cases: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        for case in cases["cases"].as_array().unwrap() {
            let (id, response, expect) = (&case["id"], &case["response"], &case["expect"]);
            let usage = &expect["usage"];
            let tokens = usage["input_uncached"].is_u64() && usage["output_total"].is_u64();
            let whole = expect["basis"] == "reported" && response["end"] == "eof" && tokens;
            let Some(body) = response["body_utf8"].as_str().filter(|_| whole) else { continue };
            // Another tier has another price, and an error after output is charged by its report.
            if expect["service_tier"].is_string() || usage["service_tier"].is_string() {
                continue;
            }
            let content_type = response["headers"]["content-type"].as_str().unwrap();
            let streams =
                body.contains("data:") || content_type.contains("stream") || content_type.contains("ndjson");
            // Relays answer like OpenAI but for what stands beside it: their own dialects must read the same.
            let relay = id.as_str().unwrap().split('-').next().filter(|name| RELAYS.contains(name));
            let own = relay.map(|name| format!("{name}.chat"));
            let dialect = own.as_deref().unwrap_or(case["dialect"].as_str().unwrap());
            let Some((target, mut ask)) = asked(dialect, streams) else { continue };
            // As long as the prompt that is reported: no more than that is believed.
            let prompt = usage["input_total"].as_u64().or(usage["input_uncached"].as_u64()).unwrap_or(0);
            ask["user"] = "x".repeat(usize::try_from(prompt).unwrap()).into();
            stand.answers(&format!("content-type: {content_type}\r\n"), body.as_bytes());
            let mut headers = vec![("x-goog-api-key", key.as_str())];
            if dialect == "dashscope.native" && streams {
                headers.push(("x-dashscope-sse", "enable"));
            }
            let answer = http::post(stand.gateway.address, target, &headers, &ask);
            assert_eq!(answer.status, 200, "{id}: {}", answer.text());
            assert!(answer.body == body.as_bytes(), "{id}: {}", answer.text());
            balance -= cost(usage);
            assert_eq!(stand.gateway.settled_balance(&key), balance, "{id}: {usage}");
            *seen.entry(dialect.to_owned()).or_insert(0) += 1;
        }
    }
    let books = stand.gateway.books();
    assert!(books.entries.iter().all(|entry| entry["estimated"] != true));
    println!("cases by dialect: {seen:?}");
    assert!(seen.values().sum::<i32>() > 80 && seen.len() >= 18, "{seen:?}");
}

/// What no recorded answer shows: each provider's way to report, and a request that goes to it by its model.
#[test]
fn the_model_chooses_whose_dialect_is_metered() {
    let stand = Stand::new(PRICES);
    let key = stand.gateway.key("1 TEST");
    let choice =
        json!({"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"});
    let usage = |more: Value| {
        let mut usage = json!({"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110});
        usage.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        usage
    };
    let plain = usage(json!({}));
    let flat = usage(json!({"cached_tokens": 40}));
    let hits = usage(json!({"prompt_cache_hit_tokens": 40, "prompt_cache_miss_tokens": 60}));
    let (whole, cached) = (100 * 1000 + 10 * 4000, 60 * 1000 + 40 * 100 + 10 * 4000);
    let at_top = |usage: &Value| json!({"choices": [choice], "usage": usage});
    let mut in_choice = choice.clone();
    in_choice["usage"] = flat.clone();
    let fault =
        json!({"choices": null, "usage": plain, "base_resp": {"status_code": 2013, "status_msg": "bad"}});
    for (model, answer, expected) in [
        ("openai-m", at_top(&hits), whole),
        ("deepseek-m", at_top(&hits), cached),
        ("kimi-m", json!({"choices": [in_choice]}), cached),
        ("together-m", at_top(&flat), cached),
        ("openai-m", at_top(&flat), whole),
        ("groq-m", json!({"choices": [choice], "x_groq": {"usage": plain}}), whole),
        ("doubao-m", at_top(&plain), whole),
        ("minimax-m", at_top(&plain), whole),
        ("minimax-m", fault, 0),
        ("openrouter-m", at_top(&usage(json!({"cost": 0.5}))), whole),
        ("llama-m", at_top(&plain), whole),
    ] {
        let before = stand.gateway.settled_balance(&key);
        stand.answers("content-type: application/json\r\n", answer.to_string().as_bytes());
        let ask = json!({"model": model, "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]});
        let answer = http::post(stand.gateway.address, CHAT, &[("x-api-key", &key)], &ask);
        assert_eq!(answer.status, 200, "{model}: {}", answer.text());
        assert_eq!(before - stand.gateway.settled_balance(&key), expected, "{model}");
    }
    let refused = http::post(
        stand.gateway.address,
        CHAT,
        &[("x-api-key", &key)],
        &json!({"model": "x", "messages": []}),
    );
    assert_refused(&refused, 404, "model_not_priced", "nothing_taken");
}

/// Each provider's header for the operator's key; the path of one whose URL has a version of its own.
#[test]
fn keys_and_paths_go_up_as_each_provider_wants_them() {
    let stand = Stand::new(PRICES);
    let key = stand.gateway.key("1 TEST");
    stand.answers("content-type: application/json\r\n", b"{}");
    for (dialect, target, header) in [
        ("zhipu.chat", "/api/paas/v4/chat/completions", None),
        ("deepseek.chat", CHAT, None),
        ("anthropic.messages", "/v1/messages", Some("x-api-key")),
        ("gemini.generate", "/v1beta/models/m:generateContent", Some("x-goog-api-key")),
    ] {
        let (path, ask) = asked(dialect, false).unwrap();
        let answer =
            http::post(stand.gateway.address, path, &[("authorization", &format!("Bearer {key}"))], &ask);
        assert_eq!(answer.status, 200, "{dialect}: {}", answer.text());
        let seen = stand.upstream.seen().pop().unwrap();
        assert_eq!(seen.target, target, "{dialect}");
        for name in ["authorization", "x-api-key", "x-goog-api-key"] {
            let expected = (header == Some(name)).then_some(KEY);
            assert_eq!(seen.header(name), expected, "{dialect} {name}");
        }
    }
}

/// A refusal in words that the caller's SDK shows.
#[test]
fn refusals_have_the_shape_of_the_callers_sdk() {
    let stand = Stand::new(PRICES);
    for (dialect, message, code) in [
        ("openai.chat", "/error/message", "/error/code"),
        ("anthropic.messages", "/error/message", "/error/details/error_code"),
        ("gemini.generate", "/error/message", "/error/details/0/error_code"),
        ("ollama.chat", "/error", "/code"),
    ] {
        let (path, ask) = asked(dialect, false).unwrap();
        let body = http::post(stand.gateway.address, path, &[], &ask).json();
        assert_eq!(body.pointer(code), Some(&json!("payment_required")), "{dialect}: {body}");
        assert!(body.pointer(message).is_some_and(Value::is_string), "{dialect}: {body}");
    }
    let (path, ask) = asked("gemini.generate", false).unwrap();
    let body = http::post(stand.gateway.address, path, &[], &ask).json();
    assert_eq!(
        (&body["error"]["code"], &body["error"]["status"]),
        (&json!(402), &json!("FAILED_PRECONDITION"))
    );
}

/// Who has one model answers with it, so its price holds whatever a request names. A part of an answer, which
/// might lack the usage, is not sold.
#[test]
fn the_price_is_that_of_the_model_that_answers() {
    let stand = Stand::new(
        "prices: { the-operators: { input: 2 USD/Mtok, output: 8 USD/Mtok }, \"*\": { input: 1 USD/Mtok, output: 4 USD/Mtok } }\n",
    );
    let key = stand.gateway.key("1 TEST");
    let answer = json!({"content": "hi", "stop": true, "tokens_evaluated": 10, "tokens_predicted": 5});
    let chat = json!({"choices": [{"message": {"content": "hi"}}], "usage": {"prompt_tokens": 10, "completion_tokens": 5}});
    for (path, ask, answer) in [
        ("/completion", json!({"prompt": "hi"}), &answer),
        ("/completion", json!({"prompt": "hi", "model": "cheap"}), &answer),
        (CHAT, json!({"model": "llama-cheap", "messages": []}), &chat),
    ] {
        let before = stand.gateway.settled_balance(&key);
        stand.answers("content-type: application/json\r\n", answer.to_string().as_bytes());
        assert_eq!(
            http::post(stand.gateway.address, path, &[("x-api-key", &key)], &ask).status,
            200,
            "{path}"
        );
        assert_eq!(before - stand.gateway.settled_balance(&key), 10 * 2000 + 5 * 8000, "{path}");
    }
    let hits = stand.upstream.hits();
    for query in ["?fields=candidates", "?alt=sse&%24fields=candidates", "?alt=proto"] {
        let target = format!("/v1beta/models/m:generateContent{query}");
        let refused =
            http::post(stand.gateway.address, &target, &[("x-api-key", &key)], &json!({"contents": []}));
        assert_eq!((refused.status, refused.code().as_str()), (400, "bad_request"), "{query}");
    }
    assert_eq!(stand.upstream.hits(), hits);
}

/// `farthing upstream`, until it is dropped.
struct Pretend(Child);

impl Drop for Pretend {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The pretend upstream of the binary speaks the native dialects too: what it reports is charged, streamed and whole.
#[test]
fn the_pretend_upstream_speaks_gemini_and_ollama() {
    let address = free_address();
    let mut command = Command::new(binary());
    command.args(["upstream", "--listen", &address.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    let _upstream = Pretend(command.spawn().unwrap());
    wait_for("the pretend upstream", || http::try_get(address, "/__hits").map(drop));
    let config = CONFIG.replace("{upstream}", &address.to_string());
    let gateway = Gateway::start(address, &format!("{config}{PRICES}"));
    let key = gateway.key("1 TEST");
    let mut spent = 0;
    for (target, body, words) in [
        ("/v1beta/models/m:generateContent", json!({"contents": [{"parts": [{"text": "hi"}]}]}), 4),
        ("/v1beta/models/m:streamGenerateContent?alt=sse", json!({"contents": []}), 4),
        ("/v1beta/models/m:streamGenerateContent", json!({"contents": []}), 4),
        ("/api/chat", json!({"model": "m", "messages": []}), 3),
        ("/api/generate", json!({"model": "m", "prompt": "hi", "stream": false}), 4),
    ] {
        let answer = http::post(gateway.address, target, &[("x-api-key", &key)], &body);
        assert!(answer.status == 200 && answer.text().contains("farthing"), "{target} {}", answer.text());
        // Without a limit all its 24 words are said; of the prompt it counts words, null ones too, and 7 of framing.
        spent += (words + 7) * 1000 + 24 * 4000;
        assert_eq!(gateway.settled_balance(&key), 1_000_000_000 - spent, "{target}");
    }
    assert!(gateway.books_after(5).entries.iter().all(|entry| entry["estimated"] != true));
}
