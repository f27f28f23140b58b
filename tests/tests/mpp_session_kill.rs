//! A session's stream of 2,000 tokens, a voucher for every hundred of them, and the process killed with SIGKILL at any point
//! of it (ENG-1, ENG-8). After each kill: what was acknowledged of the vouchers stands, nothing that was never signed does,
//! the books balance, and the session goes on and ends exact. What was delivered and is on no disk is within the exposure cap.
//!
//! `FARTHING_KILLS` says how often, 8 unless it is set (`cargo xtask sessionloop`).
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use farthing_tests::gateway::{Gateway, nano, wait_for};
use farthing_tests::http;
use farthing_tests::mpp::{challenge, receipt};
use farthing_tests::reserve::Reserve;
use farthing_tests::session::{Payer, asked, gateway, manage};
use farthing_tests::socket::Socket;
use farthing_tests::upstream::{STREAM_HEAD, Upstream};
use serde_json::{Value, json};
use wire::mpp::Challenge;

const CHAT: &str = "/v1/chat/completions";
/// Tokens of the answer, and between two vouchers.
const TOKENS: u128 = 2_000;
const STEP: u128 = 100;
/// What a token of output costs, in units of the channel's token; one of input costs a quarter.
const TOKEN: u128 = 4;
/// What the input is reported as, in tokens.
const INPUT: u128 = 12;
const DEPOSIT: u128 = 500_000;
/// Charges that a kill may lose, in nano units.
const CAP: i64 = 20_000_000;
const MORE: &str = "store: { path: \"{folder}/store\", exposure: { per_account: 0.02 USD, total: 0.02 USD, delay: 5ms } }\n\
                    metering: { hold: { step: 100, default_output: 100, min_output: 4 } }\n";

/// A token of four bytes, which is what an estimate takes for one.
fn piece() -> String {
    format!("data: {}\n\n", json!({"id": "c", "choices": [{"index": 0, "delta": {"content": "word"}}]}))
}

fn talker() -> Upstream {
    Upstream::start(|_, stream| {
        let piece = piece();
        if stream.write_all(STREAM_HEAD.as_bytes()).is_err() {
            return;
        }
        for _ in 0..TOKENS {
            // Nobody reads: it waits, and so does the model behind it.
            if stream.write_all(piece.as_bytes()).is_err() {
                return;
            }
        }
        let total = INPUT + TOKENS;
        let usage = json!({"prompt_tokens": INPUT, "completion_tokens": TOKENS, "total_tokens": total});
        let usage = json!({"id": "c", "choices": [], "usage": usage});
        let _ = stream.write_all(format!("data: {usage}\n\ndata: [DONE]\n\n").as_bytes());
    })
}

fn body(n: usize) -> Value {
    json!({"model": "m", "max_tokens": TOKENS, "stream": true,
           "messages": [{"role": "user", "content": format!("{n}")}]})
}

/// What the whole answer costs, in units.
fn cost() -> u128 {
    INPUT + TOKENS * TOKEN
}

/// A stream as its payer follows it.
struct Heard {
    /// Tokens that came.
    tokens: u128,
    /// Sum of the last voucher that he was told is accepted, and of the last that he sent.
    acknowledged: u128,
    sent: u128,
    /// Whether it came to its end.
    is_whole: bool,
    vouchers: usize,
}

/// Follows a stream and sends a voucher whenever one is wanted, of just what is wanted.
fn follow(
    gateway: std::net::SocketAddr,
    payer: &Payer,
    fresh: &Challenge,
    sum: u128,
    n: usize,
    progress: &AtomicU64,
) -> Heard {
    let mut heard = Heard { tokens: 0, acknowledged: 0, sent: sum, is_whole: false, vouchers: 0 };
    let header = payer.voucher(fresh, sum).to_value();
    let Ok(stream) = std::net::TcpStream::connect(gateway) else { return heard };
    let mut socket = Socket::over(stream);
    if !socket.send(http::posted(gateway, CHAT, &[("authorization", &header)], &body(n))) {
        return heard;
    }
    let mut events = Events::default();
    while socket.read() {
        if !events.take(&mut socket.got) {
            continue;
        }
        // Whole events only: what was cut off by the kill was not told.
        heard.acknowledged = heard.acknowledged.max(sum);
        while let Some(event) = events.next() {
            progress.fetch_add(1, Ordering::Relaxed);
            heard.tokens += u128::from(event.contains("\"word\""));
            heard.is_whole |= event == "data: [DONE]";
            if let Some(wanted) = event.strip_prefix("event: payment-need-voucher\ndata: ") {
                let wanted: Value = serde_json::from_str(wanted).unwrap();
                heard.sent = wanted["requiredCumulative"].as_str().unwrap().parse().unwrap();
                let header = payer.voucher(fresh, heard.sent).to_value();
                let fields = [("authorization", header.as_str())];
                let answer = http::try_request(gateway, "HEAD", CHAT, &fields, b"");
                progress.fetch_add(1, Ordering::Relaxed);
                let Some(answer) = answer else { return heard };
                assert_eq!(answer.status, 200, "{:?}", answer.headers);
                let told = receipt(&answer).unwrap().accepted_cumulative.unwrap();
                heard.acknowledged = told.parse().unwrap();
                heard.vouchers += 1;
            }
        }
        if heard.is_whole {
            break;
        }
    }
    heard
}

/// Events out of a chunked answer.
#[derive(Default)]
struct Events {
    has_head: bool,
    text: String,
}

impl Events {
    /// Takes what has come of the answer's chunks out of `got`; whether its head has come.
    fn take(&mut self, got: &mut Vec<u8>) -> bool {
        if !self.has_head {
            let Some(end) = find(got, b"\r\n\r\n") else { return false };
            assert!(got.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(got));
            got.drain(..end + 4);
            self.has_head = true;
        }
        while let Some(line) = find(got, b"\r\n") {
            let size = usize::from_str_radix(std::str::from_utf8(&got[..line]).unwrap(), 16).unwrap();
            if got.len() < line + 2 + size + 2 {
                break;
            }
            self.text.push_str(std::str::from_utf8(&got[line + 2..line + 2 + size]).unwrap());
            got.drain(..line + 2 + size + 2);
        }
        true
    }

    fn next(&mut self) -> Option<String> {
        let end = self.text.find("\n\n")?;
        let event = self.text[..end].to_owned();
        self.text.drain(..end + 2);
        Some(event)
    }
}

fn find(hay: &[u8], needle: &[u8]) -> Option<usize> {
    hay.windows(needle.len()).position(|window| window == needle)
}

/// Accepted, and of that not used, in units, as the store has it.
fn sums(gateway: &Gateway, payer: &Payer) -> (u128, u128) {
    let rows = gateway.operator(&["ledger", "channels"])["channels"].clone();
    let row = rows.as_array().unwrap().iter().find(|row| row["account"] == payer.account()).unwrap();
    let units = |name: &str| u128::try_from(nano(&row[name]["amount"])).unwrap() / 1000;
    (units("charged"), units("unused"))
}

fn kills() -> usize {
    std::env::var("FARTHING_KILLS").map_or(8, |text| text.parse().unwrap())
}

/// Without a kill: a voucher for every hundred tokens, and the end is exact.
#[test]
fn eng_8_a_stream_is_vouched_for_step_by_step() {
    let (upstream, reserve) = (talker(), Reserve::start());
    let gateway = gateway(upstream.address, &reserve, "", MORE);
    let (mut payer, fresh) = (Payer::new(0x41, 1), fresh(&gateway));
    open(&gateway, &mut payer, &fresh);
    let heard = follow(gateway.address, &payer, &fresh, 1_000, 0, &AtomicU64::new(0));
    assert!(heard.is_whole && heard.tokens == TOKENS, "{} tokens", heard.tokens);
    let least = (cost() - 1_000) / (STEP * TOKEN);
    assert!(heard.vouchers as u128 >= least, "{} vouchers", heard.vouchers);
    gateway.books_after(1);
    let (accepted, unused) = sums(&gateway, &payer);
    assert_eq!(accepted, heard.acknowledged);
    assert_eq!(accepted - unused, cost());
    let closed = manage(gateway.address, CHAT, &payer.close(&fresh, accepted));
    assert_eq!(closed.status, 200, "{}", closed.text());
    assert_eq!(reserve.ended(&payer.id()).unwrap().captured, cost());
}

#[test]
fn killed_at_any_point_of_a_stream_nothing_is_lost_and_nothing_overspent() {
    let (upstream, reserve) = (talker(), Reserve::start());
    let mut gateway = gateway(upstream.address, &reserve, "", MORE);
    // How far an undisturbed stream goes, in what its payer sees of it.
    let whole = u64::try_from(TOKENS + 2 * TOKENS / STEP).unwrap();
    let all = kills();
    let (mut lost_most, mut vouchers) = (0, 0);
    for n in 1..=all {
        // All over the stream, and a little later each time: within a voucher's write, between write and answer.
        let at = whole * (2 * n as u64 - 1) / (2 * all as u64);
        let jitter = Duration::from_micros(37 * (n as u64 * 7919 % 101));
        let fresh = fresh(&gateway);
        let mut payer = Payer::numbered(n);
        open(&gateway, &mut payer, &fresh);
        let first: u128 = asked(&fresh).amount.parse().unwrap();
        let progress = AtomicU64::new(0);
        let address = gateway.address;
        let heard = std::thread::scope(|scope| {
            let stream = scope.spawn(|| follow(address, &payer, &fresh, first, n, &progress));
            wait_for("the stream", || {
                (progress.load(Ordering::Relaxed) >= at || stream.is_finished()).then_some(())
            });
            std::thread::sleep(jitter);
            gateway.signal(9);
            stream.join().unwrap()
        });
        gateway.wait();
        gateway.restart();
        let (accepted, unused) = sums(&gateway, &payer);
        // Durable before it was acknowledged, and never more than was signed.
        assert!(accepted >= heard.acknowledged, "kill {n}: {accepted} of {}", heard.acknowledged);
        assert!(accepted <= heard.sent, "kill {n}: {accepted}, and {} was signed", heard.sent);
        assert!(unused <= accepted && accepted <= DEPOSIT);
        assert_eq!(gateway.operator(&["fsck"])["clean"], json!(true), "kill {n}");
        // Either the call was charged, for what it came to, or it is lost, and then it is worth no more than the cap.
        // A charged one was written out whole; what of it the kill left unread in the socket, the payer does not see.
        let spent = accepted - unused;
        let delivered = heard.tokens * TOKEN;
        assert!(spent == 0 || spent == cost(), "kill {n}: spent {spent}");
        let lost = i64::try_from(delivered.saturating_sub(spent)).unwrap() * 1000;
        assert!(lost <= CAP, "kill {n}: {lost} nano of {delivered} units");
        println!(
            "sessionloop: kill={n} tokens={} vouchers={} accepted={accepted} spent={spent} lost_nano={lost}",
            heard.tokens, heard.vouchers
        );
        (lost_most, vouchers) = (lost.max(lost_most), vouchers + heard.vouchers);
        // An older voucher is none any more, and the session goes on with what was accepted and not used.
        let older = manage(gateway.address, CHAT, &payer.voucher(&fresh, accepted - 1));
        assert_eq!(older.status, 402, "kill {n}: {}", older.text());
        let rest = follow(gateway.address, &payer, &fresh, accepted + first, all + n, &AtomicU64::new(0));
        assert!(rest.is_whole && rest.tokens == TOKENS, "kill {n}: {} tokens after it", rest.tokens);
        let (accepted, unused) = wait_for("the charge", || {
            let now = sums(&gateway, &payer);
            (now.0 - now.1 == spent + cost()).then_some(now)
        });
        let closed = manage(gateway.address, CHAT, &payer.close(&fresh, accepted));
        assert_eq!(closed.status, 200, "kill {n}: {}", closed.text());
        let ended = reserve.ended(&payer.id()).unwrap();
        assert_eq!(
            (ended.captured, ended.captured + ended.refunded),
            (accepted - unused, DEPOSIT),
            "kill {n}"
        );
    }
    assert_eq!(gateway.operator(&["fsck"])["clean"], json!(true));
    assert!(vouchers >= all * 4, "{vouchers} vouchers were accepted while the streams ran");
    println!("sessionloop: kills={all} vouchers={vouchers} cap_nano={CAP} lost_most_nano={lost_most}");
}

fn fresh(gateway: &Gateway) -> Challenge {
    challenge(&http::post(gateway.address, CHAT, &[], &body(0)), "tempo")
}

/// Opens a channel with a voucher of nothing.
fn open(gateway: &Gateway, payer: &mut Payer, fresh: &Challenge) {
    let opened = manage(gateway.address, CHAT, &payer.open(fresh, DEPOSIT, 0));
    assert_eq!(opened.status, 200, "{}", opened.text());
}
