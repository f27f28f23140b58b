//! The 402: every way to pay this gateway accepts, in one answer (x402.md X402-6, experience.md section 3).

use http::{HeaderValue, Method};
use money::Amount;
use proof::quote::{self, QuoteScope};
use proof::x402_exact::Offer;
use serde_json::Value;
use wire::x402::{header as x402, v2};

use crate::clock::Now;
use crate::gate::Gate;
use crate::quote::Quote;
use crate::refusal::Refusal;
use crate::snapshot::{QUOTE_SECONDS, Snapshot, Till};

/// What is to be paid for: the request as a quote names it.
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a Method,
    /// Path and query.
    pub(crate) target: &'a str,
    /// Most it may cost, nano-USD.
    pub(crate) ceiling: Amount,
    /// Deposit to ask for on tills that ask for less at once than the ceiling.
    pub(crate) fits_within: Option<Amount>,
    /// Version of the prices.
    pub(crate) tariff: &'a str,
    pub(crate) description: &'a str,
}

impl<'a> Ask<'a> {
    pub(crate) fn of(snapshot: &Snapshot, quote: &'a Quote, method: &'a Method, target: &'a str) -> Self {
        let may_clamp = snapshot.config.metering.fit_to_balance;
        let bound = snapshot.tills.iter().filter_map(Till::ceiling_max).min();
        let fits = bound.filter(|bound| *bound < quote.offered && quote.fit(*bound, may_clamp).is_some());
        Self {
            method,
            target,
            ceiling: quote.offered,
            fits_within: fits,
            tariff: &quote.tariff,
            description: &quote.model,
        }
    }

    pub(crate) fn scope(&self, gate: &Gate) -> QuoteScope<'a> {
        QuoteScope {
            method: self.method.as_str(),
            path: self.target.as_bytes(),
            tariff_version: self.tariff,
            asset: money::Asset::Usd,
            store_epoch: gate.store_epoch,
        }
    }

    pub(crate) fn url(&self, snapshot: &Snapshot) -> String {
        format!("{}{}", snapshot.public_url, self.target)
    }

    /// Our offers for it, with a quote that ends at `expires_at_s`.
    pub(crate) fn offers(&self, gate: &Gate, snapshot: &Snapshot, expires_at_s: u64) -> Vec<(Till, Offer)> {
        let terms = quote::Quote { ceiling: self.ceiling, expires_at_s };
        let minted = quote::mint(&gate.keys.quote, &self.scope(gate), &terms);
        // A network that no facilitator settles is not offered (X402-41).
        let facilitators = snapshot.facilitators.as_ref();
        let tills = snapshot.tills.iter().filter(|till| gate.settles(facilitators, till));
        tills
            .filter_map(|till| {
                let offer = till.offer(self.deposit(till), Some(minted.clone()))?;
                Some((till.clone(), offer))
            })
            .collect()
    }

    /// At most what the till asks at once, as long as the call still fits into it.
    fn deposit(&self, till: &Till) -> Amount {
        let ceiling = match (till.ceiling_max(), self.fits_within) {
            (Some(max), Some(fits)) if self.ceiling > max => fits.min(max),
            (Some(_) | None, _) => self.ceiling,
        };
        till.deposit_for(ceiling)
    }
}

/// Our offers, as a challenge says them.
pub(crate) struct Offered {
    /// As entries of x402 v1, for a body.
    pub(crate) entries: Vec<Value>,
    /// As x402 v2 ...
    pub(crate) required: v2::PaymentRequired,
    /// ... and in the header that carries it.
    pub(crate) header: HeaderValue,
    pub(crate) top_up_url: String,
}

impl Offered {
    /// The offers for `ask`, for a payer who is told `error`.
    pub(crate) fn new(gate: &Gate, snapshot: &Snapshot, ask: &Ask<'_>, error: &str, now: Now) -> Self {
        // Whole tens of seconds, so that one rendering serves many requests.
        let expires = now.seconds() / 10 * 10 + QUOTE_SECONDS;
        let offers = ask.offers(gate, snapshot, expires);
        let url = ask.url(snapshot);
        let entries = offers
            .iter()
            .filter_map(|(_, offer)| offer.requirements_v1(&url, ask.description, "application/json"))
            .filter_map(|entry| serde_json::to_value(entry).ok())
            .collect();
        let resource = v2::ResourceInfo {
            url,
            description: Some(ask.description.to_owned()),
            mime_type: Some("application/json".to_owned()),
            ..v2::ResourceInfo::default()
        };
        let mut required = v2::PaymentRequired {
            x402_version: v2::VERSION,
            error: Some(error.to_owned()),
            resource: Some(resource),
            accepts: offers.iter().map(|(_, offer)| offer.requirements_v2()).collect(),
            extensions: None,
        };
        let mut encoded = x402::encode(&required);
        // Some intermediaries cut long headers: better fewer offers than a broken one (X402-5).
        while encoded.len() > x402::EMIT_BYTES_MAX && required.accepts.len() > 1 {
            required.accepts.pop();
            encoded = x402::encode(&required);
        }
        let header = HeaderValue::from_str(&encoded).unwrap_or(HeaderValue::from_static(""));
        Self { entries, required, header, top_up_url: format!("{}/farthing/topup", snapshot.public_url) }
    }
}

/// Makes a refusal a challenge with our offers for `ask`.
pub(crate) fn challenge(
    gate: &Gate,
    snapshot: &Snapshot,
    ask: &Ask<'_>,
    refusal: Refusal,
    now: Now,
) -> Refusal {
    let Offered { entries, header, top_up_url, .. } =
        Offered::new(gate, snapshot, ask, refusal.code().name(), now);
    refusal.offers(entries, header, top_up_url)
}
