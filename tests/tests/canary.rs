//! The canary test (SEC-30, SEC-31, SEC-32, SEC-64, SEC-65): every secret is unique, everything that comes out of a
//! gateway is kept, and no secret stands anywhere but where it belongs.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::io::Write as _;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use farthing_tests::exposure::found;
use farthing_tests::gateway::{Gateway, wait_for};
use farthing_tests::http::{self, Answer};
use farthing_tests::socket::Socket;
use farthing_tests::upstream::{KEY, STREAM_HEAD, Seen, Upstream, friendly_answer, plain};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use proof::{SigningKey, test_rail};
use serde_json::{Value, json};
use wire::x402::ExactPayload;

const PROMPT: &str = "canary-prompt-4f1b7c9e20";
const COMPLETION: &str = "canary-completion-88d1a0";
const CREDENTIAL: &str = "canary-foreign-bearer-7d";

/// Says what a debugging page would: all it was sent.
fn echo(request: &Seen) -> String {
    let fields: String = request.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    format!("{} {}\n{fields}", request.method, request.target)
}

fn upstream() -> Upstream {
    Upstream::start(|request, stream| {
        let told: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let answer = match told["model"].as_str().unwrap_or_default() {
            "echo-401" => plain(401, "text/plain", &echo(request)),
            "echo-500" => plain(500, "text/plain", &echo(request)),
            "echo-200" => plain(200, "application/json", &json!({"debug": echo(request)}).to_string()),
            "echo-head" => format!(
                "HTTP/1.1 429 X\r\nretry-after: {KEY}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
            .into_bytes(),
            "echo-stream" => {
                // The key comes in two pieces, the second on its own.
                let (first, second) = KEY.split_at(9);
                let begun = format!(
                    "{STREAM_HEAD}data: {{\"choices\":[{{\"delta\":{{\"content\":\"{COMPLETION}\"}}}}]}}\n\ndata: {first}"
                );
                let _ = stream.write_all(begun.as_bytes());
                std::thread::sleep(std::time::Duration::from_millis(100));
                format!("{second}\n\ndata: [DONE]\n\n").into_bytes()
            }
            _ => String::from_utf8(friendly_answer(request))
                .unwrap()
                .replace("five words are said here", &format!("{COMPLETION} {COMPLETION} "))
                .replace(&format!("content-length: {}", friendly_length(request)), "")
                .into_bytes(),
        };
        let _ = stream.write_all(&answer);
    })
}

fn friendly_length(request: &Seen) -> usize {
    http::parse(&friendly_answer(request)).unwrap().body.len()
}

/// Everything that came out, with a word for where.
#[derive(Default)]
struct Out(Vec<(String, Vec<u8>)>);

impl Out {
    fn keep(&mut self, place: &str, bytes: impl Into<Vec<u8>>) {
        self.0.push((place.to_owned(), bytes.into()));
    }

    fn answer(&mut self, place: &str, answer: &Answer) {
        self.keep(place, format!("{:?} {:?}", answer.headers, answer.trailers));
        self.keep(place, answer.body.clone());
    }

    /// Fails with every place that knows the secret and should not.
    fn deny(&self, secret: impl AsRef<[u8]>, name: &str, allowed: &[&str]) {
        let hits: Vec<String> = self
            .0
            .iter()
            .filter(|(place, _)| !allowed.contains(&place.as_str()))
            .filter_map(|(place, bytes)| Some(format!("{place} as {}", found(bytes, &secret)?)))
            .collect();
        assert!(hits.is_empty(), "{name} stands in {hits:?}");
    }
}

fn call(gateway: &Gateway, key: &str, model: &str, stream: bool) -> Socket {
    let body = json!({"model": model, "max_tokens": 100, "stream": stream,
                      "messages": [{"role": "user", "content": PROMPT}]})
    .to_string();
    let mut socket = Socket::connect(gateway.address);
    socket.send(format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
         x-api-key: {key}\r\ncookie: {CREDENTIAL}\r\nproxy-authorization: Basic {CREDENTIAL}\r\nte: trailers\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        gateway.address,
        body.len()
    ));
    socket
}

/// The call of an agent that pays on the test rail: the answer, and the signature it paid with.
fn paid(gateway: &Gateway, out: &mut Out, spoil: bool) -> (Answer, String) {
    let body = json!({"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": PROMPT}]});
    let unpaid = http::post(gateway.address, "/v1/chat/completions", &[], &body);
    assert_eq!(unpaid.status, 402, "{}", unpaid.text());
    out.answer("402", &unpaid);
    let header = unpaid.header("payment-required").unwrap();
    let challenge: Value =
        serde_json::from_slice(&wire::base64::decode_any(header, 64 << 10).unwrap()).unwrap();
    let accepted = &challenge["accepts"][0];
    let wallet = SigningKey::from_bytes(&[7; 32]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let mut nonce = [0; 32];
    nonce[..16].copy_from_slice(&now.as_nanos().to_be_bytes());
    let transfer = test_rail::Transfer {
        from: wallet.verifying_key().to_bytes(),
        to: wire::hex::decode_array(accepted["payTo"].as_str().unwrap()).unwrap(),
        value: accepted["amount"].as_str().unwrap().parse().unwrap(),
        valid_after: 0,
        valid_before: now.as_secs() + 60,
        nonce,
    };
    let mut signature = transfer.sign(&wallet);
    signature[40] ^= u8::from(spoil);
    let payload = ExactPayload::from_test(&transfer.to_wire(), &signature);
    let payment = json!({"x402Version": 2, "resource": challenge["resource"], "accepted": accepted, "payload": payload});
    let payment = wire::base64::encode_std(payment.to_string().as_bytes());
    let answer =
        http::post(gateway.address, "/v1/chat/completions", &[("payment-signature", &payment)], &body);
    (answer, wire::hex::encode(&signature))
}

/// One call over HTTP/2, whose library has a log of its own.
fn over_http2(gateway: &Gateway, key: &str) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tcp = tokio::net::TcpStream::connect(gateway.address).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp)).await.unwrap();
        tokio::spawn(connection);
        let body =
            json!({"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": PROMPT}]});
        let request = ::http::Request::post(format!("http://{}/v1/chat/completions", gateway.address))
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "application/json")
            .header("cookie", CREDENTIAL)
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.into_body().collect().await.unwrap().to_bytes().to_vec()
    })
}

#[test]
fn sec_30_31_32_no_secret_stands_where_it_does_not_belong() {
    let upstream = upstream();
    let mut gateway = Gateway::start_in(upstream.address, "", &[("RUST_LOG", "trace")]);
    let mut out = Out::default();
    let made = gateway.operator(&["key", "new", "--credit", "1 TEST", "--label", "canary"]);
    let key = made["key"].as_str().unwrap().to_owned();
    let stranger = format!("{}{}", &key[..key.len() - 6], "AAAAAA");

    // Served, streamed and not, on both versions of HTTP; then what upstreams say in trouble.
    for (model, stream) in [
        ("m", false),
        ("m", true),
        ("echo-401", false),
        ("echo-500", false),
        ("echo-200", false),
        ("echo-head", false),
        ("echo-stream", true),
    ] {
        let mut socket = call(&gateway, &key, model, stream);
        socket.read_to_end();
        out.keep(&format!("answer to {model}"), socket.got);
        gateway.settled_balance(&key);
    }
    out.keep("answer over HTTP/2", over_http2(&gateway, &key));
    // Not paid, and paid wrongly.
    let mut socket = call(&gateway, &stranger, "m", false);
    socket.read_to_end();
    out.keep("answer to a stranger", socket.got);
    let (refused, spoiled) = paid(&gateway, &mut out, true);
    assert_eq!(refused.status, 402, "{}", refused.text());
    out.answer("answer to a bad payment", &refused);
    // Paid with a proof; then again after a crash.
    let (first, signature) = paid(&gateway, &mut out, false);
    assert_eq!(first.status, 200, "{}", first.text());
    let change = first.header("farthing-key").unwrap().to_owned();
    out.answer("answer to a payment", &first);
    wait_for("the payment's call to end", || (gateway.balance(&change).1 == 0).then_some(()));
    gateway.crash_and_restart();
    assert_eq!(gateway.balance(&change).1, 0);
    // The operator looks around, and makes a mistake.
    for words in [
        vec!["ledger", "show", "--limit", "100"],
        vec!["key", "list"],
        vec!["check"],
        vec!["key", "inspect", &key],
        vec!["key", "revoke", &key],
    ] {
        let output = gateway.command(&words);
        out.keep("operator", [output.stdout, output.stderr].concat());
    }
    let good = std::fs::read_to_string(gateway.config()).unwrap();
    std::fs::write(gateway.config(), good.replace("${env:UPSTREAM_KEY}", KEY)).unwrap();
    gateway.signal(1);
    wait_for("the refused reload", || gateway.log().contains("the old one stands").then_some(()));
    for words in [vec!["reload"], vec!["check"]] {
        let output = gateway.command(&words);
        assert!(!output.status.success());
        out.keep("operator", [output.stdout, output.stderr].concat());
    }
    out.keep("metrics", http::get(gateway.admin, "/metrics", &[]).body);
    out.keep("command line", std::fs::read(format!("/proc/{}/cmdline", gateway.pid())).unwrap());
    gateway.signal(15);
    gateway.wait();
    out.keep("log", gateway.log());
    assert!(gateway.log().contains("\"level\":\"TRACE\""), "the log has it all");
    assert!(gateway.log().contains("ALARM"), "an upstream that tells its key is an alarm");
    let master = std::fs::read(gateway.folder().join("store/master-1.key")).unwrap();
    let mut files = Vec::new();
    for file in std::fs::read_dir(gateway.folder().join("store")).unwrap() {
        let file = file.unwrap().path();
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if file.is_file() && !name.ends_with(".key") {
            out.keep("store", std::fs::read(&file).unwrap());
            files.push(name);
        }
    }
    assert!(!files.is_empty());
    for request in upstream.seen() {
        out.keep("upstream", echo(&request));
        out.keep("upstream body", request.body);
    }

    // What is looked for is found where it belongs.
    let stands_in = |secret: &str, place: &str| {
        out.0.iter().any(|(known, bytes)| known == place && found(bytes, secret).is_some())
    };
    assert!(stands_in(KEY, "upstream") && stands_in(PROMPT, "upstream body"));
    assert!(stands_in(COMPLETION, "answer to m") && stands_in(&change, "answer to a payment"));
    // And nowhere else.
    out.deny(KEY, "the upstream's key", &["upstream"]);
    out.deny(&key, "the credit key", &[]);
    out.deny(key.trim_start_matches("fk_test_"), "the credit key without its prefix", &[]);
    out.deny(
        wire::base64::decode_any(key.trim_start_matches("fk_test_"), 4096).unwrap().split_off(60),
        "its last bytes",
        &[],
    );
    out.deny(&stranger, "the stranger's key", &[]);
    out.deny(&change, "the key for the change", &["answer to a payment"]);
    for (signature, name) in [(&signature, "a payment's signature"), (&spoiled, "a bad payment's signature")]
    {
        out.deny(signature, name, &[]);
        out.deny(wire::hex::decode_array::<64>(signature).unwrap(), name, &[]);
    }
    let raw: [u8; 32] = master
        .as_slice()
        .try_into()
        .unwrap_or_else(|_| wire::hex::decode_array(std::str::from_utf8(&master).unwrap().trim()).unwrap());
    out.deny(raw, "the master key", &[]);
    out.deny(CREDENTIAL, "a foreign credential", &[]);
    out.deny(PROMPT, "the prompt", &["upstream body"]);
    let served = ["answer to m", "answer to echo-stream", "answer over HTTP/2", "answer to a payment"];
    out.deny(COMPLETION, "the completion", &served);
}

#[test]
fn sec_31_an_answer_with_the_upstreams_key_is_cut_off_and_the_hold_ends() {
    let upstream = upstream();
    let gateway = Gateway::start(upstream.address, "");
    let key = gateway.key("1 TEST");
    // An answer that fails before its first output costs nothing, a stream what was delivered of it.
    for (model, stream, head, costs) in [
        // Cut off before anything of it went out.
        ("echo-500", false, "", false),
        ("echo-head", false, "HTTP/1.1 502", false),
        ("echo-401", false, "HTTP/1.1 502", false),
        ("echo-stream", true, "HTTP/1.1 200", true),
    ] {
        let before = gateway.settled_balance(&key);
        let mut socket = call(&gateway, &key, model, stream);
        socket.read_to_end();
        let text = String::from_utf8_lossy(&socket.got).into_owned();
        assert!(text.starts_with(head), "{model}: {text}");
        assert!(!text.contains(&KEY[..9]), "{model}: {text}");
        assert_eq!(text.contains(COMPLETION), stream, "{model}: {text}");
        assert!(!text.contains("[DONE]"), "{model}: {text}");
        let spent = before - gateway.settled_balance(&key);
        assert_eq!(spent > 0, costs, "{model} took {spent}");
    }
    // The connection of an answer that was cut off is not used again, and the next call is served.
    let mut socket = call(&gateway, &key, "m", false);
    socket.read_to_end();
    assert!(socket.has("HTTP/1.1 200"));
}
