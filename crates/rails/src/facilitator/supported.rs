//! `GET /supported`: what a facilitator settles, and under which names of its own (X402-41).

use ::http::Method;
use bytes::Bytes;
use serde_json::{Map, Value};
use tokio::task::JoinSet;
use wire::x402::{facilitator, network};

use super::{ASK_TIME_MAX, Facilitator, Facilitators, object};
use crate::Exchange;
use crate::dial::Dialer;
use crate::http::ANSWER_BYTES_MAX;

/// Most kinds of one facilitator that are looked at: deployed ones tell a few dozen.
const KINDS_MAX: usize = 512;

/// What one facilitator tells about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Supports {
    /// What it settles.
    pub kinds: Vec<Kind>,
    /// Extensions it knows.
    pub extensions: Vec<String>,
    /// Its own addresses by pattern of network: `eip155:*`.
    pub signers: Map<String, Value>,
}

/// One thing that a facilitator settles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// 1 or 2.
    pub version: u8,
    /// `exact`, ...
    pub scheme: String,
    /// CAIP-2, also where a name of version 1 was told.
    pub network: String,
    /// Members that an offer has to name: `facilitatorAddress`, `feePayer`. Empty if there are none.
    pub extra: Map<String, Value>,
}

impl Supports {
    /// The kind of this scheme and CAIP-2 network in version 2, or in version 1 if that is all there is.
    #[must_use]
    pub fn kind(&self, scheme: &str, network: &str) -> Option<&Kind> {
        let same = self.kinds.iter().filter(|kind| kind.scheme == scheme && kind.network == network);
        same.max_by_key(|kind| kind.version)
    }
}

impl Facilitators {
    /// Asks all of them at once what they settle, in the order of [`Facilitators::list`]. `None` stands for one
    /// that did not tell: silence is no refusal, and hides no other.
    pub async fn supported(&self) -> Vec<Option<Supports>> {
        let mut asking = JoinSet::new();
        for (place, facilitator) in self.list.iter().enumerate() {
            let (facilitator, dialer) = (facilitator.clone(), self.dialer.clone());
            asking.spawn(async move { (place, ask(&facilitator, &dialer).await) });
        }
        let mut told = vec![None; self.list.len()];
        while let Some(ended) = asking.join_next().await {
            if let Ok((place, supports)) = ended
                && let Some(slot) = told.get_mut(place)
            {
                *slot = supports;
            }
        }
        told
    }
}

async fn ask(facilitator: &Facilitator, dialer: &Dialer) -> Option<Supports> {
    let path = format!("{}/supported", facilitator.base);
    let exchange = Exchange {
        origin: &facilitator.origin,
        method: Method::GET,
        path: &path,
        body: Bytes::new(),
        time_max: ASK_TIME_MAX,
        answer_bytes_max: ANSWER_BYTES_MAX,
    };
    let answer = exchange.run(dialer).await.ok().filter(|answer| answer.status == 200)?;
    read(&answer.body)
}

fn read(body: &[u8]) -> Option<Supports> {
    let told: facilitator::Supported = serde_json::from_value(object(body)?).ok()?;
    let kinds = told.kinds.into_iter().take(KINDS_MAX).map(|kind| Kind {
        version: kind.x402_version,
        scheme: kind.scheme,
        network: network::caip2_from_v1(&kind.network).map_or(kind.network.clone(), str::to_owned),
        extra: kind.extra.unwrap_or_default(),
    });
    Some(Supports { kinds: kinds.collect(), extensions: told.extensions, signers: told.signers })
}

#[cfg(test)]
mod tests {
    use super::read;

    #[test]
    fn kinds_are_found_by_scheme_and_network() {
        let body = br#"{"kinds":[
            {"x402Version":1,"scheme":"exact","network":"base-sepolia"},
            {"x402Version":2,"scheme":"upto","network":"eip155:84532","extra":{"facilitatorAddress":"0xab"}},
            {"x402Version":2,"scheme":"exact","network":"eip155:84532","extra":{}}],
            "extensions":["bazaar"],"signers":{"eip155:*":["0xab"]}}"#;
        let told = read(body).unwrap();
        assert_eq!(told.kind("exact", "eip155:84532").unwrap().version, 2);
        assert_eq!(told.kind("upto", "eip155:84532").unwrap().extra["facilitatorAddress"], "0xab");
        assert_eq!(told.kind("exact", "eip155:8453"), None);
        assert_eq!(told.kind("batch-settlement", "eip155:84532"), None);
        assert_eq!(told.signers["eip155:*"][0], "0xab");
        for bad in [&b""[..], b"[]", b"{}", br#"{"kinds":[],"kinds":[]}"#, br#"{"kinds":[{"scheme":1}]}"#] {
            assert_eq!(read(bad), None);
        }
    }
}
