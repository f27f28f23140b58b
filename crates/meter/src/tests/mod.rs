//! Vectors, goldens and properties that run through the public interface.

mod answers;
mod bills;
mod endings;
mod hostile;
mod prices;
mod properties;
mod providers;
mod requests;
mod vectors;

use bytes::Bytes;
use tariff::Rates;

use crate::{
    CallTerms, Charge, ChargeError, Dialect, End, EstimateBasis, Head, Meter, Metered, RequestFacts,
};

/// The bill of a call at a flat price.
fn charge(price: &Rates, metered: &Metered, request: &EstimateBasis) -> Result<Charge, ChargeError> {
    crate::charge(&(*price).into(), metered, request, &CallTerms::default())
}

/// One answer as the wire brings it.
#[derive(Clone, Copy)]
struct Answer<'a> {
    dialect: Dialect,
    head: Head<'a>,
    body: &'a [u8],
    request: Option<&'a RequestFacts>,
    end: End,
    elapsed_milli: u64,
}

impl<'a> Answer<'a> {
    /// A stream of events that ends cleanly.
    fn events(dialect: Dialect, body: &'a [u8]) -> Self {
        let head = Head {
            status: 200,
            content_type: Some("text/event-stream"),
            content_encoding: None,
            hide_usage_chunk: false,
        };
        Self { dialect, head, body, request: None, end: End::Eof, elapsed_milli: 0 }
    }

    /// Feeds the body in pieces of these sizes, over and over, and returns what was metered and what
    /// the client got.
    fn run(&self, sizes: &[usize]) -> (Metered, Vec<u8>) {
        let (mut meter, mut out) = self.fed(sizes);
        meter.took(self.elapsed_milli);
        let metered = meter.end(self.end, &mut out);
        (metered, out.concat())
    }

    /// As [`Answer::run`], before the end.
    fn fed(&self, sizes: &[usize]) -> (Meter, Vec<Bytes>) {
        let mut meter = Meter::new(self.dialect, self.head);
        if let Some(facts) = self.request {
            meter = meter.with_request(facts);
        }
        let (mut out, mut rest, mut sizes) = (Vec::new(), self.body, sizes.iter().cycle());
        while !rest.is_empty() {
            let size = sizes.next().map_or(rest.len(), |size| (*size).clamp(1, rest.len()));
            let (now, later) = rest.split_at(size);
            meter.feed(Bytes::copy_from_slice(now), &mut out);
            rest = later;
        }
        (meter, out)
    }

    /// Runs at every chunking of MTR-1 and asserts that they agree.
    fn check(&self) -> (Metered, Vec<u8>) {
        let whole = self.run(&[usize::MAX]);
        for size in [1, 2, 3, 7, 64, 4096] {
            assert_eq!(self.run(&[size]), whole, "chunks of {size}");
        }
        for seed in 1..=8 {
            assert_eq!(self.run(&random_sizes(seed)), whole, "random chunks {seed}");
        }
        whole
    }
}

impl Answer<'_> {
    /// As [`Answer::check`], but a large body only in large pieces.
    fn check_or_whole(&self, body_bytes: usize) -> (Metered, Vec<u8>) {
        if body_bytes < 10_000 {
            return self.check();
        }
        let whole = self.run(&[usize::MAX]);
        assert_eq!(self.run(&[4096]), whole);
        whole
    }
}

/// Sizes from 1 to 97 that look random and are always the same.
fn random_sizes(seed: u64) -> Vec<usize> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % 97).unwrap() + 1
    };
    (0..64).map(|_| next()).collect()
}
