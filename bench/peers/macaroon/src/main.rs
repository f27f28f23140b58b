//! What the crate `macaroon` takes for base64, decoding and checking one token. Arguments: the token in base64, its root
//! key in hex. A line in asks for that many checks, a line out tells the nanoseconds they took together.

use std::hint::black_box;
use std::io::BufRead as _;
use std::time::Instant;

use macaroon::{ByteString, Macaroon, MacaroonKey, Verifier};

/// As the benchmark's own clock.
const NOW_S: u64 = 1_795_000_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [token, root] = arguments.as_slice() else { panic!("token and root key") };
    macaroon::initialize().expect("libsodium starts");
    let root = bytes(root);
    for line in std::io::stdin().lock().lines() {
        let calls: u32 = line.expect("a line").trim().parse().expect("a number");
        let start = Instant::now();
        for _ in 0..calls {
            assert!(is_good(black_box(token), black_box(&root)));
        }
        println!("{}", start.elapsed().as_nanos());
    }
}

fn is_good(token: &str, root: &[u8]) -> bool {
    let Ok(macaroon) = Macaroon::deserialize(token) else { return false };
    // Derives the first key from the root key, as every macaroon library does.
    let key = MacaroonKey::generate(root);
    let mut verifier = Verifier::default();
    verifier.satisfy_general(serves);
    verifier.satisfy_general(can);
    verifier.satisfy_general(lives);
    verifier.verify(&macaroon, &key, Vec::new()).is_ok()
}

fn serves(caveat: &ByteString) -> bool {
    value(caveat, b"services=").is_some_and(|list| list.split(',').any(|entry| entry == "inference:0"))
}

fn can(caveat: &ByteString) -> bool {
    value(caveat, b"inference_capabilities=").is_some_and(|list| list.split(',').any(|name| name == "chat"))
}

fn lives(caveat: &ByteString) -> bool {
    let until = value(caveat, b"inference_valid_until=").and_then(|until| until.parse::<u64>().ok());
    until.is_some_and(|until| NOW_S < until)
}

fn value<'a>(caveat: &'a ByteString, name: &[u8]) -> Option<&'a str> {
    std::str::from_utf8(caveat.0.strip_prefix(name)?).ok()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .bytes()
        .map(|digit| u8::try_from(char::from(digit).to_digit(16).expect("hex")).expect("four bits"))
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}
