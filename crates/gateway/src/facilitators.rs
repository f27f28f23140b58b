//! What is known of the facilitators of the configuration, and which of them a request goes to.

mod health;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwap;
use bytes::Bytes;
use rails::Settlement;
use rails::facilitator::{Expected, Facilitator, Facilitators, Supports, Verification};
use serde_json::Value;
use wire::x402::facilitator::{SettleRequest, VerifyRequest};

pub(crate) use health::{Health, Question, WAIT_MAX};

use crate::gate::Gate;
use crate::till::{Named, Till};

/// Members of an offer's `extra` by which it names the one facilitator that can settle it.
const NAMING_MEMBERS: [&str; 2] = ["facilitatorAddress", "feePayer"];
/// Names of its own that are remembered of each: enough for years of changed keys, bounded against one that changes
/// them with every answer, and costs no other its name.
const NAMES_MAX: usize = 64;

/// What the facilitators have told. Nothing here outlives the process, and nothing has to.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    /// The newest answer of each, by its name in the configuration. Whoever falls silent keeps the last.
    told: ArcSwap<HashMap<String, Supports>>,
    /// Names of their own that offers carried, newest last: an offer that was made before a facilitator changed its
    /// address still goes to it (X402-41).
    names: Mutex<VecDeque<Own>>,
    /// How they do: those that are left alone for a while come last.
    pub(crate) health: Arc<Health>,
}

/// A facilitator's name of its own on a network.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Own {
    network: String,
    /// As an offer says it.
    text: String,
    facilitator: String,
}

impl Directory {
    /// One of the facilitators has told what it settles.
    pub(crate) fn tell(&self, all: &Facilitators, facilitator: &str, supports: Supports) {
        let place = |name: &str| all.list.iter().position(|known| known.name() == name);
        let ours = place(facilitator);
        {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            for own in own_names(facilitator, &supports) {
                let same = |known: &Own| known.network == own.network && is_same(&known.text, &own.text);
                let holder =
                    names.iter().find(|known| same(known)).and_then(|known| place(&known.facilitator));
                // Of two that go by one name the operator's first is meant: nobody is asked in its place (H10).
                if holder.is_some_and(|holder| ours.is_none_or(|ours| holder < ours)) {
                    tracing::warn!(%facilitator, name = own.text, "a facilitator goes by the name of another");
                    continue;
                }
                names.retain(|known| !same(known));
                names.push_back(own);
            }
            let of_it = |own: &Own| own.facilitator == facilitator;
            let mut too_many = names.iter().filter(|own| of_it(own)).count().saturating_sub(NAMES_MAX);
            names.retain(|own| {
                let goes = of_it(own) && too_many > 0;
                too_many -= usize::from(goes);
                !goes
            });
        }
        self.told.rcu(|known| {
            let mut next = HashMap::clone(known);
            next.insert(facilitator.to_owned(), supports.clone());
            next
        });
    }

    /// Whether somebody settles this scheme on this CAIP-2 network, as far as is known: silence is no refusal.
    fn may_settle(&self, all: &Facilitators, scheme: &str, network: &str) -> bool {
        let told = self.told.load();
        all.list.iter().any(|facilitator| {
            told.get(facilitator.name()).is_none_or(|supports| supports.kind(scheme, network).is_some())
        })
    }

    /// What an offer of this scheme has to name, from the first facilitator in the operator's order that tells it:
    /// `facilitatorAddress` of `upto`, `feePayer` on Solana. None: nobody has told; make no such offer.
    fn member(&self, all: &Facilitators, scheme: &str, network: &str, member: &str) -> Option<String> {
        let told = self.told.load();
        self.fittest_first(all.list.iter().collect()).into_iter().find_map(|facilitator| {
            let kind = told.get(facilitator.name())?.kind(scheme, network)?;
            Some(kind.extra.get(member)?.as_str()?.to_owned())
        })
    }

    /// The name in which an offer of this till is made now. None: nobody settles it, as far as is known.
    pub(crate) fn offered(&self, till: &Till, all: Option<&Facilitators>) -> Option<Named> {
        let Some((scheme, network)) = till.kind() else { return Some(Named::Nobody) };
        match Named::member(till) {
            None => self.may_settle(all?, scheme, network).then_some(Named::Nobody),
            Some(member) => Named::read(till, &self.member(all?, scheme, network, member)?),
        }
    }

    /// Every name in which an offer of this till may have been made lately.
    pub(crate) fn taken(&self, till: &Till, all: Option<&Facilitators>) -> Vec<Named> {
        let now = self.offered(till, all);
        let (Some((_, network)), Some(_)) = (till.kind(), Named::member(till)) else {
            return now.into_iter().collect();
        };
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let known = names.iter().rev().filter(|own| own.network == network);
        known.filter_map(|own| Named::read(till, &own.text)).collect()
    }

    /// Whom to ask about a request, in order. A request that names a facilitator goes to that one and to no other;
    /// any other goes to those that settle it, as far as is known.
    pub(crate) fn candidates<'f>(
        &self,
        all: &'f Facilitators,
        request: &SettleRequest,
        network: &str,
    ) -> Vec<&'f Facilitator> {
        let required = &request.payment_requirements;
        if let Some(named) = naming(required) {
            let name = self.who(network, named);
            return name.and_then(|name| all.named(&name)).into_iter().collect();
        }
        let scheme = required.get("scheme").and_then(Value::as_str).unwrap_or_default();
        let told = self.told.load();
        let settles = |facilitator: &&Facilitator| {
            told.get(facilitator.name()).is_none_or(|supports| supports.kind(scheme, network).is_some())
        };
        self.fittest_first(all.list.iter().filter(settles).collect())
    }

    /// The operator's order, but those that are left alone for a while come last.
    fn fittest_first<'f>(&self, mut found: Vec<&'f Facilitator>) -> Vec<&'f Facilitator> {
        let now_ms = self.health.now_ms();
        found.sort_by_key(|facilitator| self.health.rests(facilitator.name(), now_ms));
        found
    }

    /// The facilitator that an offer calls this.
    fn who(&self, network: &str, text: &str) -> Option<String> {
        let names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let own = names.iter().find(|own| own.network == network && is_same(&own.text, text));
        own.map(|own| own.facilitator.clone())
    }
}

/// An address in any letter case; a key of Solana as it is.
fn is_same(one: &str, other: &str) -> bool {
    one == other || one.starts_with("0x") && one.eq_ignore_ascii_case(other)
}

/// The facilitator that an offer names, in that facilitator's own words.
fn naming(required: &Value) -> Option<&str> {
    let extra = required.get("extra")?;
    NAMING_MEMBERS.iter().find_map(|member| extra.get(member)?.as_str())
}

fn own_names<'s>(facilitator: &'s str, supports: &'s Supports) -> impl Iterator<Item = Own> + 's {
    supports.kinds.iter().flat_map(move |kind| {
        NAMING_MEMBERS.iter().filter_map(move |member| {
            let text = kind.extra.get(*member)?.as_str()?.to_owned();
            Some(Own { network: kind.network.clone(), text, facilitator: facilitator.to_owned() })
        })
    })
}

/// Asks the facilitators one after the other what they think of a payment, until one has an opinion (X402-44).
///
/// # Cancel safety
/// Nothing moves; it may be dropped at any time.
pub(crate) async fn verify(gate: &Gate, all: &Facilitators, request: &VerifyRequest) -> Verification {
    let (Some(expected), Ok(body)) = (Expected::of(request), serde_json::to_vec(request)) else {
        return Verification::NoAnswer;
    };
    let Some(mut share) = gate.health.share(expected.payers.first()) else { return Verification::NoAnswer };
    let body = Bytes::from(body);
    for facilitator in gate.directory.candidates(all, request, &expected.network) {
        let name = facilitator.name();
        if !gate.health.admits(name, Question::Verify, gate.health.now_ms()) {
            continue;
        }
        let watch = Watch::start(gate, name, Question::Verify);
        let opinion = all.verify(facilitator, body.clone(), &expected.payers).await;
        let outcome = match &opinion {
            Verification::Valid { .. } => "valid",
            Verification::Invalid(_) => {
                share.was_in_vain();
                "invalid"
            }
            Verification::NoAnswer => "no_answer",
        };
        watch.ended(outcome, opinion == Verification::NoAnswer);
        if opinion != Verification::NoAnswer {
            return opinion;
        }
        tracing::warn!(facilitator = %name, "facilitator has no opinion, trying the next");
    }
    Verification::NoAnswer
}

/// Asks one facilitator to settle, and takes down how it did.
///
/// # Cancel safety
/// Dropped midway, money may have moved.
pub(crate) async fn settle(
    gate: &Gate,
    all: &Facilitators,
    facilitator: &Facilitator,
    body: Bytes,
    expected: &Expected,
) -> Settlement {
    let name = facilitator.name();
    let watch = Watch::start(gate, name, Question::Settle);
    let outcome = all.settle(facilitator, body, expected).await;
    let (word, is_fault) = match &outcome {
        Settlement::Settled(_) => ("settled", false),
        Settlement::Refused(_) => ("refused", false),
        Settlement::NotSent => ("not_sent", true),
        Settlement::Unknown(unclear) => ("unknown", unclear.is_fault),
    };
    watch.ended(word, is_fault);
    outcome
}

/// One question to a facilitator: how long it took and what came of it, for metrics and for its circuit.
struct Watch<'a> {
    gate: &'a Gate,
    facilitator: &'a str,
    question: Question,
    started: Instant,
}

impl<'a> Watch<'a> {
    fn start(gate: &'a Gate, facilitator: &'a str, question: Question) -> Self {
        Self { gate, facilitator, question, started: Instant::now() }
    }

    /// `is_fault`: the facilitator did not do its part.
    fn ended(self, outcome: &'static str, is_fault: bool) {
        let Self { gate, facilitator, question, started } = self;
        let is_asked = gate.health.ended(facilitator, question, is_fault, gate.health.now_ms());
        gate.metrics.facilitator(facilitator, question.name(), outcome);
        gate.metrics.facilitator_took(facilitator, started.elapsed().as_secs_f64());
        gate.metrics.facilitator_is_asked(facilitator, is_asked);
    }
}

impl Gate {
    /// Asks the facilitators what they settle. Those that do not answer change nothing. Returns whether all of them
    /// have told by now.
    pub(crate) async fn refresh_supported(&self) -> bool {
        let snapshot = self.snapshot.load_full();
        let Some(all) = &snapshot.facilitators else { return true };
        for (facilitator, told) in all.list.iter().zip(all.supported().await) {
            let name = facilitator.name();
            let outcome = match told {
                Some(supports) => {
                    self.directory.tell(all, name, supports);
                    "told"
                }
                None => {
                    tracing::warn!(facilitator = %name, "facilitator does not tell what it settles");
                    "no_answer"
                }
            };
            self.metrics.facilitator(name, "supported", outcome);
        }
        let told = self.directory.told.load();
        all.list.iter().all(|facilitator| told.contains_key(facilitator.name()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use rails::dial::{Dialer, Origin};
    use rails::facilitator::{Facilitator, Facilitators, Kind, Supports};
    use serde_json::{Map, Value, json};
    use wire::x402::facilitator::SettleRequest;

    use super::{Directory, NAMES_MAX, Question};

    const BASE: &str = "eip155:84532";

    fn all(hosts: &[&str]) -> Facilitators {
        let facilitator = |host: &&str| {
            let origin = Origin { tls: true, host: (*host).to_owned(), port: 443 };
            Facilitator::new(origin, String::new())
        };
        Facilitators {
            list: hosts.iter().map(facilitator).collect(),
            dialer: Dialer::new(&[], Duration::from_secs(1)).unwrap(),
            settle_max: Duration::from_secs(1),
            at_once_max: 1,
            nodes: HashMap::new(),
        }
    }

    fn supports(kinds: &[(&str, &str, Value)]) -> Supports {
        let kinds = kinds.iter().map(|(scheme, network, extra)| Kind {
            version: 2,
            scheme: (*scheme).to_owned(),
            network: (*network).to_owned(),
            extra: extra.as_object().cloned().unwrap_or_else(Map::new),
        });
        Supports { kinds: kinds.collect(), ..Supports::default() }
    }

    fn asked(directory: &Directory, all: &Facilitators, scheme: &str, extra: &Value) -> Vec<String> {
        let request = SettleRequest {
            x402_version: 2,
            payment_payload: json!({}),
            payment_requirements: json!({"scheme": scheme, "network": BASE, "extra": extra}),
        };
        let found = directory.candidates(all, &request, BASE);
        found.into_iter().map(|facilitator| facilitator.origin.host.clone()).collect()
    }

    /// X402-41, X402-46: silence is no refusal; who does not settle something is not asked.
    #[test]
    fn only_those_who_settle_it_are_asked() {
        let directory = Directory::default();
        let all = all(&["a", "b"]);
        assert!(directory.may_settle(&all, "exact", BASE));
        assert_eq!(asked(&directory, &all, "exact", &json!({})), ["a", "b"]);
        directory.tell(&all, "https://a", supports(&[("upto", BASE, json!({}))]));
        assert!(directory.may_settle(&all, "exact", BASE), "one has not told");
        assert_eq!(asked(&directory, &all, "exact", &json!({})), ["b"]);
        directory.tell(&all, "https://b", supports(&[("exact", "eip155:8453", json!({}))]));
        assert!(!directory.may_settle(&all, "exact", BASE));
        assert!(directory.may_settle(&all, "upto", BASE));
        assert_eq!(asked(&directory, &all, "exact", &json!({})), Vec::<String>::new());
        // Who has left the configuration counts no more.
        directory.tell(&all, "https://gone", supports(&[("exact", BASE, json!({}))]));
        assert!(!directory.may_settle(&all, "exact", BASE));
    }

    /// X402-41, H10: an offer goes to the facilitator that it names, also when that one has changed its name, and to
    /// nobody in its place.
    #[test]
    fn an_offer_goes_to_whom_it_names() {
        let directory = Directory::default();
        let all = all(&["a", "b"]);
        let named = |address: &str| json!({"facilitatorAddress": address});
        assert_eq!(directory.member(&all, "upto", BASE, "facilitatorAddress"), None);
        directory.tell(&all, "https://b", supports(&[("upto", BASE, named("0xBB"))]));
        assert_eq!(directory.member(&all, "upto", BASE, "facilitatorAddress").as_deref(), Some("0xBB"));
        directory.tell(&all, "https://a", supports(&[("upto", BASE, named("0xAA"))]));
        assert_eq!(directory.member(&all, "upto", BASE, "facilitatorAddress").as_deref(), Some("0xAA"));
        directory.tell(&all, "https://a", supports(&[("upto", BASE, named("0xA2"))]));
        assert_eq!(directory.member(&all, "upto", BASE, "facilitatorAddress").as_deref(), Some("0xA2"));
        for (address, whom) in [("0xaa", &["a"][..]), ("0xA2", &["a"]), ("0xbb", &["b"]), ("0xCC", &[])] {
            assert_eq!(asked(&directory, &all, "upto", &named(address)), whom, "{address}");
        }
        // It settles nothing of the kind any more: an old offer is still its own.
        directory.tell(&all, "https://b", supports(&[]));
        assert_eq!(asked(&directory, &all, "upto", &named("0xBB")), ["b"]);
    }

    /// X402-46: who is left alone is asked last, and named in offers only where nobody else is.
    #[test]
    fn those_who_rest_come_last() {
        let directory = Directory::default();
        let all = all(&["a", "b"]);
        let named = |address: &str| json!({"facilitatorAddress": address});
        directory.tell(&all, "https://a", supports(&[("upto", BASE, named("0xAA"))]));
        directory.tell(
            &all,
            "https://b",
            supports(&[("upto", BASE, named("0xBB")), ("exact", BASE, json!({}))]),
        );
        for _ in 0..5 {
            directory.health.ended("https://a", Question::Settle, true, directory.health.now_ms());
        }
        assert_eq!(directory.member(&all, "upto", BASE, "facilitatorAddress").as_deref(), Some("0xBB"));
        assert_eq!(asked(&directory, &all, "upto", &json!({})), ["b", "a"]);
        assert_eq!(asked(&directory, &all, "upto", &named("0xAA")), ["a"], "nobody in its place");
    }

    /// H10: a facilitator that takes the name of another does not get what is meant for it.
    #[test]
    fn a_name_that_two_go_by_is_the_firsts() {
        let named = json!({"facilitatorAddress": "0xAA"});
        for order in [["https://a", "https://b"], ["https://b", "https://a"]] {
            let (directory, both) = (Directory::default(), all(&["a", "b"]));
            for name in order {
                directory.tell(&both, name, supports(&[("upto", BASE, named.clone())]));
            }
            assert_eq!(asked(&directory, &both, "upto", &named), ["a"]);
            // It has moved: under another address of ours it is still who it says.
            let moved = all(&["b"]);
            directory.tell(&moved, "https://b", supports(&[("upto", BASE, named.clone())]));
            assert_eq!(asked(&directory, &moved, "upto", &named), ["b"]);
        }
    }

    #[test]
    fn names_are_bounded() {
        let (directory, all) = (Directory::default(), all(&["a", "b"]));
        let named = json!({"facilitatorAddress": "0xBB"});
        directory.tell(&all, "https://b", supports(&[("upto", BASE, named)]));
        for n in 0..=NAMES_MAX {
            directory.tell(
                &all,
                "https://a",
                supports(&[("upto", BASE, json!({"facilitatorAddress": n.to_string()}))]),
            );
        }
        assert_eq!(directory.who(BASE, "0"), None);
        assert_eq!(directory.who(BASE, "0xBB").as_deref(), Some("https://b"));
        assert_eq!(directory.who(BASE, "1").as_deref(), Some("https://a"));
    }
}
