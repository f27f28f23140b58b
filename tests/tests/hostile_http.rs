//! Requests made to be read differently by two servers: `specs/vectors/crypto/http1_hostile_requests.json`
//! (SEC-70). Its groups stand for SEC-1 (`ho`), SEC-2, SEC-3 (`rl`), SEC-4, SEC-5 (`te`, gadgets), SEC-6 (`fl`),
//! SEC-7 (content coding), SEC-8 (`ck`, `in`), SEC-9, SEC-10 (`absent`), and SEC-12 for the way back. What must hold is the file's own `bar`: the upstream never sees a request that
//! the file does not list for the case.

#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use farthing_tests::gateway::Gateway;
use farthing_tests::kept::{self, Kept, Then};
use farthing_tests::socket::Socket;
use farthing_tests::upstream::{self, Seen, Upstream};
use serde_json::{Value, json};

/// One input of the file.
#[derive(Clone, Debug)]
struct Case {
    id: String,
    raw: Vec<u8>,
    /// Requests that may reach the upstream; `None` for a case that is only ever refused.
    forward: Option<Vec<Expected>>,
    may_refuse: bool,
    absent: Vec<String>,
    closes: bool,
    half_close: bool,
}

#[derive(Clone, Debug)]
struct Expected {
    method: String,
    target: String,
    body: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    Whole,
    /// Every byte in a write of its own.
    ByteByByte,
}

/// Gateways with an upstream each, so that what arrives belongs to one case.
const LANES: usize = 4;

#[test]
fn sec_70_no_hostile_request_reaches_the_upstream_in_another_shape() {
    let cases = cases();
    assert_eq!(cases.len(), 831);
    let wrong = run(&cases, Pace::Whole);
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

#[test]
fn sec_70_bytes_that_come_one_by_one_are_read_the_same() {
    let sample: Vec<Case> = cases()
        .into_iter()
        .enumerate()
        .filter(|(at, case)| case.raw.len() < 1000 && (*at < 163 || at % 12 == 0))
        .map(|(_, case)| case)
        .collect();
    assert!(sample.len() > 180);
    let wrong = run(&sample, Pace::ByteByByte);
    assert!(wrong.is_empty(), "{} of {} wrong:\n{}", wrong.len(), sample.len(), wrong.join("\n"));
}

/// Runs every case and returns what went wrong.
fn run(cases: &[Case], pace: Pace) -> Vec<String> {
    let (queue, wrong) = (Mutex::new(cases.iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..LANES {
            scope.spawn(|| {
                let lane = Lane::start();
                loop {
                    let Some(case) = queue.lock().unwrap().next() else { return };
                    if let Err(error) = lane.run(case, pace) {
                        wrong.lock().unwrap().push(format!("{}: {error}", case.id));
                    }
                }
            });
        }
    });
    wrong.into_inner().unwrap()
}

struct Lane {
    upstream: Upstream,
    /// Keeps idle connections, so that only a decision of its own closes one.
    patient: Gateway,
    /// Drops idle connections soon, so that the end of a case is the end of its connection.
    brisk: Gateway,
}

impl Lane {
    fn start() -> Self {
        let upstream = Upstream::start(|_, stream| {
            let _ = stream.write_all(&upstream::plain(200, "text/plain", "ok"));
        });
        let patient = gateway(upstream.address, Duration::from_secs(60));
        let brisk = gateway(upstream.address, Duration::from_millis(300));
        Self { upstream, patient, brisk }
    }

    fn run(&self, case: &Case, pace: Pace) -> Result<(), String> {
        let before = self.upstream.hits();
        let gateway = if case.closes { &self.patient } else { &self.brisk };
        let got = exchange(gateway.address, case, pace)?;
        let seen = self.upstream.seen().split_off(before);
        judge(case, &got, &seen)
    }
}

fn gateway(upstream: SocketAddr, idle: Duration) -> Gateway {
    let more = format!(
        r#"server: {{ listen: ["{{address}}"], threads: 1, hosts: [gw.test], timeouts: {{ header: 1s, body: 1s, idle: {}ms }} }}
upstreams: {{ raw: {{ url: "http://{upstream}", dialect: raw }} }}
routes: [ {{ name: all, match: {{ path: /v1/**, method: [GET, HEAD, POST, PUT, PATCH, DELETE] }}, upstream: raw, price: free }} ]
"#,
        idle.as_millis()
    );
    Gateway::start(upstream, &more)
}

/// Everything that came back, once the connection is closed by the gateway.
fn exchange(address: SocketAddr, case: &Case, pace: Pace) -> Result<Vec<u8>, String> {
    let mut socket = Socket::connect(address);
    socket.stream().set_read_timeout(Some(Duration::from_secs(10))).map_err(|error| error.to_string())?;
    match pace {
        Pace::Whole => {
            socket.send(&case.raw);
        }
        Pace::ByteByByte => {
            // A refusal may come before the last byte.
            let _ = case.raw.iter().all(|byte| socket.send([*byte]));
        }
    }
    if case.half_close {
        socket.finish();
    }
    match socket.closes() {
        true => Ok(socket.got),
        false => Err(format!("the connection stays open after {:?}", String::from_utf8_lossy(&socket.got))),
    }
}

fn judge(case: &Case, got: &[u8], seen: &[Seen]) -> Result<(), String> {
    let text = String::from_utf8_lossy(got);
    let served = text.matches("HTTP/1.1 200 ").count() + text.matches("HTTP/1.0 200 ").count();
    let told = || format!("client got {text:?}, upstream got {seen:?}");
    if seen.iter().any(|request| request.target.contains("smuggled")) {
        return Err(format!("smuggled: {}", told()));
    }
    if seen.is_empty() && served == 0 {
        // A preface of HTTP/2 is answered in HTTP/2: settings, then a connection error.
        let settings = got.first_chunk::<4>().is_some_and(|frame| frame[..2] == [0, 0] && frame[3] == 4);
        let starts = ["HTTP/1.1 4", "HTTP/1.1 5", "HTTP/1.0 4", "HTTP/1.0 5"];
        let refused = text.is_empty() || settings || starts.iter().any(|start| text.starts_with(start));
        return if case.may_refuse && refused { Ok(()) } else { Err(format!("not forwarded: {}", told())) };
    }
    let Some(expected) = &case.forward else { return Err(format!("not refused: {}", told())) };
    if seen.len() != expected.len() || served != expected.len() {
        return Err(format!("{} requests expected, {served} served: {}", expected.len(), told()));
    }
    for (seen, expected) in seen.iter().zip(expected) {
        if (&seen.method, &seen.target, &seen.body) != (&expected.method, &expected.target, &expected.body) {
            return Err(format!("another request: {}", told()));
        }
        let framing = ["content-length", "transfer-encoding"];
        let framing = seen.headers.iter().filter(|(name, _)| framing.contains(&name.as_str())).count();
        let needed = usize::from(!expected.body.is_empty() || expected.method == "POST");
        if framing != needed {
            return Err(format!("{framing} framing fields, {needed} needed: {}", told()));
        }
        if let Some(name) = case.absent.iter().find(|name| seen.header(name).is_some()) {
            return Err(format!("{name} went up: {}", told()));
        }
    }
    Ok(())
}

fn cases() -> Vec<Case> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../specs/vectors/crypto/http1_hostile_requests.json");
    let file: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let requests = file["requests"].as_array().unwrap().iter().map(request_case);
    let gadgets = file["te_gadgets"].as_array().unwrap().iter();
    requests.chain(gadgets.map(|gadget| gadget_case(gadget, &file["gadget_frame"]))).collect()
}

fn request_case(case: &Value) -> Case {
    let raw = match case["raw_parts"].as_array() {
        None => latin1(&case["raw_latin1"]),
        Some(parts) => parts
            .iter()
            .flat_map(|part| latin1(&part[0]).repeat(usize::try_from(part[1].as_u64().unwrap()).unwrap()))
            .collect(),
    };
    let strings = |list: &Value| -> Vec<String> {
        list.as_array().into_iter().flatten().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    let forward = case["forward"].as_array().map(|list| {
        list.iter()
            .map(|request| Expected {
                method: request["method"].as_str().unwrap().to_owned(),
                target: request["target"].as_str().unwrap().to_owned(),
                body: latin1(&request["body_latin1"]),
            })
            .collect()
    });
    Case {
        id: case["id"].as_str().unwrap().to_owned(),
        raw,
        forward: forward.filter(|_| is_either(case, "forward-unambiguous")),
        may_refuse: is_either(case, "reject"),
        absent: strings(&case["absent"]),
        // hyper takes "5 " for 5 and does not tell us: forwarded, one way to read it, nothing to close for.
        closes: case["close"] == true && case["id"] != "ck-04",
        half_close: case["half_close"] == true,
    }
}

fn gadget_case(gadget: &Value, frame: &Value) -> Case {
    let hidden = latin1(&frame["body"]);
    let mut raw = latin1(&frame["before_line"]);
    raw.extend(latin1(&gadget["line_latin1"]));
    raw.extend(latin1(&frame["after_line"]));
    raw.extend(&hidden);
    let read_as = gadget["read_as"].as_str();
    let body = if read_as == Some("content-length") { hidden } else { Vec::new() };
    let only = Expected { method: "POST".to_owned(), target: "/v1/a".to_owned(), body };
    Case {
        id: gadget["id"].as_str().unwrap().to_owned(),
        raw,
        forward: is_either(gadget, "forward-unambiguous").then(|| vec![only]),
        may_refuse: is_either(gadget, "reject"),
        absent: Vec::new(),
        // After a body that two framings describe nothing more is read.
        closes: read_as == Some("chunked"),
        half_close: false,
    }
}

fn is_either(case: &Value, class: &str) -> bool {
    case["expect"] == class || case["also_ok"] == class
}

/// One character, one byte.
fn latin1(text: &Value) -> Vec<u8> {
    text.as_str().unwrap().chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

/// What an upstream may send instead of an answer (SEC-12, section "response side" of specs/http.md).
struct Misdeed {
    name: &'static str,
    answer: Vec<u8>,
    /// What the client gets: a status, and whether the body is whole.
    status: u16,
    whole: bool,
}

fn misdeeds() -> Vec<Misdeed> {
    let document = String::from_utf8(kept::document()).unwrap();
    let body = document.split_once("\r\n\r\n").unwrap().1;
    let chunks = String::from_utf8(kept::chunk(body.as_bytes())).unwrap() + "0\r\n\r\n";
    let json = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    let length = body.len();
    let bomb = {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        let zeros = vec![b'0'; 1 << 20];
        for _ in 0..64 {
            gzip.write_all(&zeros).unwrap();
        }
        gzip.finish().unwrap()
    };
    let mut bombed =
        format!("{json}content-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len()).into_bytes();
    bombed.extend(bomb);
    let storm = "HTTP/1.1 100 Continue\r\n\r\n".repeat(100) + &document;
    let huge = format!("{json}x-huge: {}\r\ncontent-length: {length}\r\n\r\n{body}", "x".repeat(1 << 20));
    let misdeed = |name, answer: Vec<u8>, status, whole| Misdeed { name, answer, status, whole };
    let text = |name, answer: String, status, whole| misdeed(name, answer.into_bytes(), status, whole);
    vec![
        text(
            "length-and-chunks",
            format!("{json}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n{chunks}"),
            200,
            true,
        ),
        text(
            "two-lengths",
            format!("{json}content-length: {length}\r\ncontent-length: 5\r\n\r\n{body}"),
            502,
            true,
        ),
        text("unknown-coding", format!("{json}transfer-encoding: xchunked\r\n\r\n{body}"), 200, true),
        text("short-body", format!("{json}content-length: {}\r\n\r\n{body}", length + 9), 200, false),
        text(
            "broken-chunks",
            format!("{json}transfer-encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n"),
            200,
            false,
        ),
        text(
            "switching",
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n".into(),
            502,
            true,
        ),
        text("storm", storm, 200, true),
        text("huge-head", huge, 502, true),
        misdeed("bomb", bombed, 200, true),
        text(
            "cookie",
            format!(
                "{json}set-cookie: a=b\r\nserver: x\r\nopenai-organization: o\r\ncontent-length: {length}\r\n\r\n{body}"
            ),
            200,
            true,
        ),
        text(
            "redirect",
            "HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/latest\r\ncontent-length: 0\r\n\r\n"
                .into(),
            502,
            true,
        ),
        text(
            "empty-stream",
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: 0\r\n\r\n".into(),
            200,
            true,
        ),
        text("nothing", String::new(), 502, true),
        text("reset", "H".into(), 502, true),
        text("reset-in-body", format!("{json}content-length: {length}\r\n\r\n{{"), 200, false),
        text("old", "hello".into(), 502, true),
    ]
}

#[test]
fn sec_12_whatever_the_upstream_sends_the_client_gets_one_clean_answer_or_a_clean_abort() {
    let upstream = Kept::start(|request, stream| {
        let body: Value = serde_json::from_slice(&request.body).unwrap();
        let name = body["model"].as_str().unwrap_or_default();
        let Some(misdeed) = misdeeds().into_iter().find(|misdeed| misdeed.name == name) else {
            let _ = stream.write_all(&kept::document());
            return Then::Keep;
        };
        let _ = stream.write_all(&misdeed.answer);
        match name {
            "reset" | "reset-in-body" => {
                if name == "reset-in-body" {
                    // The byte is to arrive before the reset throws it away.
                    std::thread::sleep(Duration::from_millis(100));
                }
                socket2::SockRef::from(&*stream).set_linger(Some(Duration::ZERO)).unwrap();
                Then::Close
            }
            // These end with the connection; on all others a reuse would be seen.
            "unknown-coding" | "short-body" | "nothing" | "old" => Then::Close,
            _ => Then::Keep,
        }
    });
    let gateway = Gateway::start(
        upstream.address,
        "server: { listen: [\"{address}\"], threads: 1, timeouts: { first_byte: 5s, stream_idle: 5s } }\n",
    );
    let key = gateway.key("1 TEST");
    let reusable = ["storm", "bomb", "cookie", "redirect", "empty-stream"];
    for misdeed in misdeeds() {
        let before = gateway.settled_balance(&key);
        let call = |model: &str| {
            let body = json!({"model": model, "max_tokens": 10, "messages": []}).to_string();
            let mut socket = Socket::connect(gateway.address);
            socket.send(format!(
                "POST /v1/chat/completions HTTP/1.1\r\nhost: {}\r\nconnection: close\r\nauthorization: Bearer {key}\r\n\
                 content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                gateway.address,
                body.len()
            ));
            let answer = socket.answer();
            (answer, socket)
        };
        let (answer, mut socket) = call(misdeed.name);
        assert_eq!(
            answer.is_some(),
            misdeed.whole,
            "{}: {}",
            misdeed.name,
            String::from_utf8_lossy(&socket.got)
        );
        let head = answer.clone().or_else(|| farthing_tests::http::parse(&socket.got)).unwrap();
        assert_eq!(head.status, misdeed.status, "{}: {}", misdeed.name, head.text());
        for name in ["set-cookie", "server", "location", "openai-organization", "upgrade"] {
            assert!(head.header(name).is_none(), "{}: {name} came down", misdeed.name);
        }
        // Nothing stands behind the answer.
        socket.got.clear();
        socket.read_to_end();
        assert!(socket.got.is_empty(), "{}: {:?}", misdeed.name, String::from_utf8_lossy(&socket.got));
        let after = gateway.settled_balance(&key);
        if misdeed.status != 200 {
            assert_eq!(before, after, "{}: nothing is taken for no answer", misdeed.name);
        }
        let used = upstream.seen().last().unwrap().0;
        let (friendly, _) = call("m");
        assert_eq!(friendly.unwrap().status, 200);
        let next = upstream.seen().last().unwrap().0;
        assert_eq!(
            next == used,
            reusable.contains(&misdeed.name),
            "{}: reuse of its connection",
            misdeed.name
        );
        gateway.settled_balance(&key);
    }
    assert_eq!(upstream.hits(), misdeeds().len() * 2, "nothing is asked twice");
}
