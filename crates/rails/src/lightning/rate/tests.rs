//! Prices are read exactly, believed with care, and not used when they are old (FIN-61).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use money::{Amount, BitcoinPrice};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{Feed, RateError, RateSettings, RateSource, Readings, Source, Unit};
use crate::ExchangeError;
use crate::dial::{Dialer, Origin};

const NOW_S: u64 = 1_790_000_000;

fn usd(text: &str) -> BitcoinPrice {
    BitcoinPrice::from_usd_per_btc(text).unwrap()
}

/// A price service that answers with whatever is set. It counts its answers.
struct Service {
    says: Arc<Mutex<(u16, String)>>,
    answers: Arc<Mutex<u32>>,
    port: u16,
}

impl Service {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let says = Arc::new(Mutex::new((200, String::new())));
        let answers = Arc::new(Mutex::new(0));
        let service = Self { says: Arc::clone(&says), answers: Arc::clone(&answers), port };
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    stream.read_exact(&mut byte).await.unwrap();
                    head.extend(byte);
                }
                assert!(head.starts_with(b"GET /price?key=k HTTP/1.1\r\n"), "{}", head.escape_ascii());
                let (status, body) = says.lock().unwrap().clone();
                let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
                *answers.lock().unwrap() += 1;
            }
        });
        service
    }

    fn source(&self, unit: Unit) -> RateSource {
        let feed = Feed {
            origin: Origin { tls: false, host: "127.0.0.1".into(), port: self.port },
            path: "/price?key=k".into(),
            pointer: "/data/amount".parse().unwrap(),
            unit,
            every: Duration::from_secs(60),
            max_age: Duration::from_secs(600),
        };
        RateSource::new(RateSettings::Read(feed), Dialer::new(&[], Duration::from_secs(5)).unwrap())
    }

    fn say(&self, status: u16, body: &str) {
        *self.says.lock().unwrap() = (status, body.to_owned());
    }

    fn price(&self, amount: &str) {
        self.say(200, &format!(r#"{{"data":{{"amount":{amount}}}}}"#));
    }
}

#[tokio::test]
async fn fin_61_a_price_is_used_while_it_is_young() {
    let service = Service::start().await;
    let source = service.source(Unit::UsdPerBtc);
    assert_eq!(source.rate(NOW_S), None, "nothing read yet");

    service.price("\"94211.37\"");
    source.read(NOW_S).await.unwrap();
    for (now_s, is_there) in [
        (NOW_S, true),
        (NOW_S + 600, true),
        (NOW_S + 601, false),
        (NOW_S - 600, true),
        (NOW_S - 601, false),
        (0, false),
    ] {
        assert_eq!(source.rate(now_s).is_some(), is_there, "{now_s}");
    }
    let rate = source.rate(NOW_S).unwrap();
    assert_eq!((rate.price, rate.as_of_s, rate.source), (usd("94211.37"), NOW_S, Source::Service));
}

#[tokio::test]
async fn fin_61_a_bad_read_leaves_the_last_price_to_age() {
    let service = Service::start().await;
    let source = service.source(Unit::UsdPerBtc);
    service.price("94211.37");
    source.read(NOW_S).await.unwrap();
    for (status, body, expected) in [
        (503, "", RateError::Status(503)),
        (301, "", RateError::Status(301)),
        (200, "<html>", RateError::NoNumber),
        (200, r#"{"data":{"price":1}}"#, RateError::NoNumber),
        (200, r#"{"data":{"amount":null}}"#, RateError::NoNumber),
        (200, r#"{"data":{"amount":1,"amount":2}}"#, RateError::NoNumber),
        (200, r#"{"data":{"amount":"94,211"}}"#, RateError::NoPrice),
        (200, r#"{"data":{"amount":0}}"#, RateError::NoPrice),
        (200, r#"{"data":{"amount":-94211}}"#, RateError::NoPrice),
        (200, r#"{"data":{"amount":1e300}}"#, RateError::NoPrice),
        (200, &" ".repeat(70_000), RateError::Exchange(ExchangeError::Lost)),
    ] {
        service.say(status, body);
        assert_eq!(source.read(NOW_S + 300).await, Err(expected), "{body:.40}");
        assert_eq!(source.rate(NOW_S + 300).unwrap().as_of_s, NOW_S, "{body:.40}");
    }
    assert_eq!(source.rate(NOW_S + 601), None);
}

#[tokio::test]
async fn satoshi_for_a_dollar_are_read_too() {
    let service = Service::start().await;
    let source = service.source(Unit::SatsPerUsd);
    service.price("1000");
    source.read(NOW_S).await.unwrap();
    let price = source.rate(NOW_S).unwrap().price;
    assert_eq!(price.msat_for_up(Amount::from_units(1_000_000_000)), Ok(1_000_000));
}

/// A leap is believed when it is read twice in a row; a wild number in between is not, and does no harm.
#[test]
fn a_leap_is_believed_at_the_second_time() {
    for (what, reads, believed) in [
        ("the first has nothing beside it", vec!["1"], "1"),
        ("twice as much", vec!["100", "200"], "200"),
        ("half", vec!["100", "50"], "50"),
        ("more than twice", vec!["100", "201"], "100"),
        ("less than half", vec!["100", "49"], "100"),
        ("again", vec!["100", "201", "210"], "210"),
        ("back", vec!["100", "201", "101"], "101"),
        ("back, and once more", vec!["100", "201", "101", "203"], "101"),
        ("another leap", vec!["100", "201", "100000"], "100"),
        ("and that again", vec!["100", "201", "100000", "100001"], "100001"),
    ] {
        let mut readings = Readings::default();
        for (at_s, text) in (0..).zip(&reads) {
            readings.take(usd(text), at_s);
        }
        assert_eq!(readings.believed.unwrap().0, usd(believed), "{what}");
    }
}

#[tokio::test]
async fn a_leap_is_told() {
    let service = Service::start().await;
    let source = service.source(Unit::UsdPerBtc);
    service.price("94000");
    source.read(NOW_S).await.unwrap();
    service.price("940");
    assert_eq!(source.read(NOW_S + 60).await, Err(RateError::Jump));
    assert_eq!(source.rate(NOW_S + 60).unwrap().price, usd("94000"));
    assert_eq!(source.read(NOW_S + 120).await, Ok(()));
    assert_eq!(source.rate(NOW_S + 120).unwrap().price, usd("940"));
}

#[tokio::test]
async fn it_is_read_at_once_and_in_the_background() {
    let service = Service::start().await;
    service.price("94000");
    let source = service.source(Unit::UsdPerBtc);
    let until_read = async {
        while source.rate(NOW_S).is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        () = source.keep_reading(|| NOW_S) => panic!("it goes on for ever"),
        () = until_read => {}
    }
    assert_eq!(*service.answers.lock().unwrap(), 1);
}

#[tokio::test]
async fn the_operators_price_does_not_age() {
    let dialer = Dialer::new(&[], Duration::from_secs(1)).unwrap();
    let source = RateSource::new(RateSettings::Fixed(usd("95000")), dialer);
    source.keep_reading(|| NOW_S).await;
    source.read(NOW_S).await.unwrap();
    for now_s in [0, NOW_S, u64::MAX] {
        let rate = source.rate(now_s).unwrap();
        assert_eq!((rate.price, rate.as_of_s, rate.source), (usd("95000"), now_s, Source::Configuration));
    }
}

#[tokio::test]
async fn debug_hides_the_path() {
    let service = Service::start().await;
    let printed = format!("{:?}", service.source(Unit::UsdPerBtc));
    assert!(printed.contains("/data/amount") && !printed.contains("key=k"), "{printed}");
}
