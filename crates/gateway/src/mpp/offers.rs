//! The challenges of a 402: which, in which order, each bound to an id (MPP-1 to MPP-5, MPP-20, MPP-21).

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use money::Amount;
use proof::mpp::Bound;
use wire::mpp::challenge::encode_canonical;
use wire::mpp::{ACCEPT_PAYMENT, AcceptPayment, CHARGE, Opaque, PAYMENT_AUTHORIZATION, Parts};
use wire::rfc3339;

use super::{Demand, Desk, methods};
use crate::call::Arrived;
use crate::challenge::{Ask, Offering};
use crate::config::MppMethod;
use crate::exchange::is_grpc;
use crate::gate::Gate;
use crate::refusal::{Refusal, field_bytes};

/// What a method asks for, before it is bound.
pub(crate) struct Offer {
    pub(crate) method: MppMethod,
    pub(crate) intent: &'static str,
    /// JSON in its canonical form.
    pub(crate) request: String,
    /// Unix seconds, where that is before a challenge ends by itself: an invoice, an epoch.
    pub(crate) expires_at_s: Option<u64>,
    /// What paying it is credited with, where its amount does not say that.
    pub(crate) credit: Option<Amount>,
}

/// What came of asking a method.
pub(crate) enum Making {
    Offers(Vec<Offer>),
    /// So many were made of late that there is none for so long.
    Spent(Duration),
    /// Nobody can be paid that way now.
    Out,
}

/// The lines for a 402.
#[derive(Default)]
pub(crate) struct Offered {
    pub(crate) lines: Vec<HeaderValue>,
    /// The id of the first of them, for the body.
    pub(crate) id: Option<String>,
    /// Whether one of them takes a payment: whoever has no key cannot answer one that wants a key.
    pub(crate) takes_payments: bool,
    /// The shortest wait for an offer that was not made.
    pub(crate) wait: Option<Duration>,
    pub(crate) is_out: bool,
}

/// What all headers of a 402 may take together: proxies refuse more (402-4) ...
const HEADERS_BYTES_MAX: usize = 8 * 1024;
/// ... with what is kept of that for the fields that come after the offers.
const OTHERS_BYTES: usize = 1024;

impl Offered {
    /// Why there may be less than there could be.
    pub(crate) const fn missing(&self) -> Offering {
        match self.wait {
            Some(wait) => Offering::Spent(wait),
            None if self.is_out => Offering::Out,
            None => Offering::NotWanted,
        }
    }

    async fn make(&mut self, binding: &Binding<'_>, (method, intent): Way) {
        match methods::offers(&binding.demand, method, intent).await {
            Making::Offers(offers) => {
                for offer in offers {
                    let Some((id, line)) = binding.bound(offer) else {
                        tracing::error!(method = method.name(), "an offer could not be written");
                        continue;
                    };
                    self.id.get_or_insert(id);
                    self.lines.push(line);
                    self.takes_payments |= method != MppMethod::Credit;
                }
            }
            Making::Spent(wait) => self.wait = Some(self.wait.map_or(wait, |other| other.min(wait))),
            Making::Out => self.is_out = true,
        }
    }

    /// Puts the lines into a 402, one each, as far as there is room: a line is whole or not there (402-1, 402-4).
    pub(crate) fn told_in(self, mut refusal: Refusal) -> Refusal {
        let mut room = (HEADERS_BYTES_MAX - OTHERS_BYTES).saturating_sub(refusal.headers_bytes());
        let mut is_first = true;
        for line in self.lines {
            let bytes = field_bytes(&header::WWW_AUTHENTICATE, &line);
            let Some(left) = room.checked_sub(bytes) else { break };
            (room, refusal) = (left, refusal.line(header::WWW_AUTHENTICATE, line));
            if std::mem::take(&mut is_first)
                && let Some(id) = &self.id
            {
                refusal = refusal.extension("challengeId", id.as_str());
            }
        }
        refusal
    }
}

/// The challenges for `ask`, the best first. Where nothing is taken by this scheme: none.
pub(crate) async fn offer(gate: &Arc<Gate>, arrived: &Arrived, ask: &Ask<'_>) -> Offered {
    let mut offered = Offered::default();
    let Some(desk) = &arrived.snapshot.mpp else { return offered };
    // Its clients look for L402 only, and take less.
    if is_grpc(arrived.head.version, &arrived.head.headers) {
        return offered;
    }
    let binding = Binding::of(Demand { gate, arrived, ask }, desk);
    let all = desk.rules.methods.iter();
    let all: Vec<Way> =
        all.flat_map(|method| methods::intents(*method).iter().map(|intent| (*method, *intent))).collect();
    let wanted = wanted(&all, &arrived.head.headers);
    for way in &wanted {
        offered.make(&binding, *way).await;
    }
    // Who wants nothing that there is, is told what there is (MPP-20).
    if offered.lines.is_empty() {
        for way in all.iter().filter(|way| !wanted.contains(way)) {
            offered.make(&binding, *way).await;
        }
    }
    offered
}

/// A method and one of its intents.
type Way = (MppMethod, &'static str);

/// What the client asks for of `all`, in its order; all of it where it says nothing that can be read (MPP-20).
fn wanted(all: &[Way], headers: &HeaderMap) -> Vec<Way> {
    let lines =
        headers.get_all(ACCEPT_PAYMENT).iter().map(HeaderValue::to_str).collect::<Result<Vec<_>, _>>();
    let accepts = lines.ok().filter(|lines| !lines.is_empty());
    let Some(accepts) = accepts.and_then(|lines| AcceptPayment::parse(&lines.join(", "))) else {
        return all.to_vec();
    };
    let ranked = accepts.rank(all.iter().map(|(method, intent)| (method.name(), *intent)));
    ranked.into_iter().filter_map(|place| all.get(place).copied()).collect()
}

/// What the challenges of one answer have in common.
pub(super) struct Binding<'a> {
    demand: Demand<'a>,
    desk: &'a Desk,
    /// Unix seconds; and the same as it is written.
    ends_at_s: u64,
    ends_at: Option<String>,
    place: String,
    /// Of the body, where that decides what a call costs.
    digest: Option<&'a str>,
    header: Option<&'static str>,
}

impl<'a> Binding<'a> {
    pub(super) fn of(demand: Demand<'a>, desk: &'a Desk) -> Self {
        let Demand { arrived, ask, .. } = demand;
        let ends_at_s = arrived.now.seconds().saturating_add(desk.rules.expiry.as_secs());
        let is_bound = desk.rules.digest && !ask.body.is_empty() && ask.priced_by_body;
        Self {
            demand,
            desk,
            ends_at_s,
            ends_at: rfc3339::format(ends_at_s),
            place: demand.place(),
            digest: is_bound.then(|| ask.digest()),
            header: has_bearer(&arrived.head.headers).then_some(PAYMENT_AUTHORIZATION),
        }
    }

    /// The challenge of an offer, and its id.
    pub(super) fn bound(&self, offer: Offer) -> Option<(String, HeaderValue)> {
        let Demand { gate, ask, .. } = self.demand;
        let sooner = offer.expires_at_s.filter(|end| *end < self.ends_at_s);
        let sooner = sooner.map(rfc3339::format);
        // What is for one request names it; a session goes on in others.
        let is_for_one = offer.intent == CHARGE;
        // What an invoice leaves over pays for other requests too (MPP-24).
        let is_used_up = is_for_one && offer.method != MppMethod::Lightning;
        let unbound = Parts {
            realm: &self.desk.realm,
            method: offer.method.name(),
            intent: offer.intent,
            request: &encode_canonical(&offer.request),
            expires: Some(sooner.as_ref().unwrap_or(&self.ends_at).as_deref()?),
            digest: self.digest.filter(|_| is_used_up),
            header: self.header,
            ..Parts::default()
        };
        let opaque = Opaque {
            store_epoch: gate.store_epoch,
            route: self.place.clone(),
            prices: ask.tariff.to_owned(),
            quote: is_for_one.then(|| self.demand.mark()),
            credit: offer.credit.map(Amount::units),
            ..Opaque::default()
        };
        let Bound { id, line } = gate.keys.masters.load().mpp.bind(unbound, opaque).ok()?;
        Some((id, HeaderValue::try_from(line).ok()?))
    }
}

/// Whether `Authorization` is taken: SDKs put a key there whatever they are told (MPP-15).
fn has_bearer(headers: &HeaderMap) -> bool {
    headers.get_all(header::AUTHORIZATION).iter().any(|value| {
        let scheme = value.as_bytes().split(|byte| *byte == b' ').next();
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer"))
    })
}
