//! Where invoices come from: the operator's node, what a bitcoin costs, and how many invoices that is worth (L402-60..65).
//!
//! Nothing of ours is stored for a challenge. The node stores an invoice for each, so anybody could make it work: first it
//! is looked whether the client wants one at all, then whether its source, everybody together and the node have room.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use money::{Amount, Asset};
use proof::l402::{Sale, mint};
use rails::dial::Dialer;
use rails::lightning::rate::RateSource;
use rails::lightning::{Invoice, InvoiceState, LightningNode, NodeError, Wanted};
use sha2::{Digest as _, Sha256};
use wire::l402::{Challenge, PaymentHash};

use super::configured;
use super::invoices::{Asker, Made, NoInvoice};
use super::token::is_shown;
use crate::call::Arrived;
use crate::challenge::{Ask, Offering};
use crate::config::{FixedPrice, L402, MintWhen, Minting, MppMethod, RoutePrice};
use crate::forwarded::X_FORWARDED_FOR;
use crate::gate::Gate;
use crate::limits::Source;
use crate::random;
use crate::till::{Method, Till};

/// Sources remembered at most; beyond it the quiet ones are forgotten.
const SOURCES_MAX: usize = 100_000;
const X_REAL_IP: &str = "x-real-ip";
/// A satoshi: wallets that count in whole ones take less for nothing, and some refuse to pay it.
const AMOUNT_MSAT_MIN: u64 = 1000;
const MSAT_PER_SAT: u64 = 1000;
/// What a wallet shows of an invoice, at most, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 100;

/// The node of a configuration, and what it may be asked for.
pub(crate) struct Desk {
    node: LightningNode,
    rate: RateSource,
    everybody: DefaultDirectRateLimiter,
    sources: DefaultKeyedRateLimiter<Source>,
    clock: DefaultClock,
    /// Tells it from the desks of other configurations.
    serial: [u8; 16],
    /// Which node it is, without its key.
    name: String,
}

/// What is asked of the node for a challenge.
struct Order {
    expiry_s: u32,
    lsat: bool,
    asset: Asset,
    credit: Amount,
    /// Whether the token is good for one call.
    is_single: bool,
    /// Whether it has to be whole satoshi: a challenge of the `Payment` scheme counts in nothing smaller.
    is_whole: bool,
    service: String,
    tier: u8,
    description: String,
}

/// The lines of L402 of a challenge (L402-1, L402-2).
pub(crate) async fn offer(gate: &Arc<Gate>, arrived: &Arrived, ask: &Ask<'_>) -> Offering {
    match invoice(gate, arrived, ask).await {
        Ok(made) => Offering::Lines(header::WWW_AUTHENTICATE, made.lines.clone()),
        Err(NoInvoice::NotWanted) => Offering::NotWanted,
        Err(NoInvoice::Spent(wait)) => Offering::Spent(wait),
        Err(NoInvoice::Out) => Offering::Out,
    }
}

/// The invoice of a challenge: one, whatever asks for it there.
///
/// # Errors
/// Why there is none.
pub(crate) async fn invoice(
    gate: &Arc<Gate>,
    arrived: &Arrived,
    ask: &Ask<'_>,
) -> Result<Arc<Made>, NoInvoice> {
    let snapshot = &arrived.snapshot;
    let mut tills = snapshot.tills.iter().filter(|till| ask.through.includes(till));
    let till = tills.find(|till| till.method == Method::Lightning);
    let Some((desk, till)) = snapshot.lightning.as_ref().zip(till) else {
        return Err(NoInvoice::NotWanted);
    };
    match ask.invoice.get_or_init(|| desk.invoice(gate, arrived, ask, till)).await {
        Ok(made) => Ok(Arc::clone(made)),
        Err(none) => Err(*none),
    }
}

impl Desk {
    pub(crate) fn new(rules: &L402, public: &Dialer) -> io::Result<Self> {
        let Minting { per_second, burst, per_source_per_second, per_source_burst, .. } = rules.mint;
        Ok(Self {
            node: configured::node(rules, public)?,
            rate: RateSource::new(configured::rate_settings(&rules.price)?, public.clone()),
            everybody: RateLimiter::direct(Quota::per_second(per_second).allow_burst(burst)),
            sources: RateLimiter::keyed(
                Quota::per_second(per_source_per_second).allow_burst(per_source_burst),
            ),
            clock: DefaultClock::default(),
            serial: random::bytes(),
            name: format!("{:?}", rules.node),
        })
    }

    pub(crate) const fn node(&self) -> &LightningNode {
        &self.node
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) const fn rate(&self) -> &RateSource {
        &self.rate
    }

    /// What the node knows of an invoice of ours.
    pub(super) async fn look_up(&self, payment_hash: &[u8; 32]) -> Result<InvoiceState, NodeError> {
        self.node.look_up(payment_hash).await
    }

    /// The invoice for `ask`: the one that this client was given before, or a new one.
    async fn invoice(
        &self,
        gate: &Arc<Gate>,
        arrived: &Arrived,
        ask: &Ask<'_>,
        till: &Till,
    ) -> Result<Arc<Made>, NoInvoice> {
        let snapshot = &arrived.snapshot;
        let rules = snapshot.config.rails.l402.as_ref().ok_or(NoInvoice::NotWanted)?;
        let route = ask.route(snapshot);
        let when = route.and_then(|route| route.l402.mint).unwrap_or(rules.mint.when);
        if !is_wanted(when, &arrived.head.headers, ask.target) {
            return Err(NoInvoice::NotWanted);
        }
        let is_single = rules.fixed_price == FixedPrice::Single
            && route.is_some_and(|route| matches!(route.price, RoutePrice::PerCall(_)));
        let credit = if is_single { ask.ceiling } else { ask.deposit(till) };
        if credit <= Amount::ZERO || till.ceiling_max().is_some_and(|most| credit > most) {
            return Err(NoInvoice::NotWanted);
        }
        let name = route.map_or(ask.description, |route| route.name.as_str());
        let order = Order {
            expiry_s: u32::try_from(rules.expiry.as_secs()).unwrap_or(u32::MAX),
            lsat: rules.lsat,
            asset: till.asset,
            credit,
            is_single,
            is_whole: snapshot.mpp.as_ref().is_some_and(|mpp| mpp.takes(MppMethod::Lightning)),
            service: route.and_then(|route| route.l402.service.as_ref()).unwrap_or(&rules.service).clone(),
            tier: route.map_or(0, |route| route.l402.tier),
            description: description(&snapshot.public_url, name),
        };
        let now_s = arrived.now.seconds();
        let asker = self.asker(arrived, name, credit);
        if let Some(slot) = gate.invoices.find(&asker, now_s) {
            gate.metrics.invoice("shown_again");
            return slot.made().await;
        }
        self.admit(arrived.source).inspect_err(|_| gate.metrics.invoice("over_budget"))?;
        let expires_at_s = now_s.saturating_add(rules.expiry.as_secs());
        let placed = gate.invoices.place(asker, expires_at_s, now_s, rules.mint.open_max);
        let (place, slot) = placed.map_err(|_| {
            gate.metrics.invoice("over_budget");
            NoInvoice::Spent(Duration::from_secs(1))
        })?;
        // In a task of its own: a client that leaves would make the node work for nothing, again and again.
        let (gate, snapshot) = (Arc::clone(gate), Arc::clone(snapshot));
        tokio::task::spawn_local(async move {
            let Some(desk) = &snapshot.lightning else { return };
            let made = desk.make(&gate, &order, now_s).await;
            gate.metrics.invoice(if made.is_ok() { "made" } else { "none" });
            place.fill(made);
        });
        slot.made().await
    }

    /// Who asks for what, of this configuration: a token of an earlier one may be worth nothing by now. A proxy's connection is
    /// many clients': with those, nobody is recognised.
    fn asker(&self, arrived: &Arrived, name: &str, credit: Amount) -> Asker {
        let proxies = [header::FORWARDED, header::VIA];
        let unofficial = [X_FORWARDED_FOR, X_REAL_IP].map(HeaderName::from_static);
        let headers = &arrived.head.headers;
        let is_forwarded =
            arrived.is_forwarded || proxies.iter().chain(&unofficial).any(|name| headers.contains_key(name));
        let client: [u8; 16] =
            if is_forwarded { random::bytes() } else { u128::from(arrived.connection).to_be_bytes() };
        Sha256::new()
            .chain_update(self.serial)
            .chain_update([u8::from(is_forwarded)])
            .chain_update(client)
            .chain_update(credit.units().to_be_bytes())
            .chain_update(name)
            .finalize()
            .into()
    }

    /// Whether source and everybody together have an invoice left, cheapest question first.
    fn admit(&self, source: Source) -> Result<(), NoInvoice> {
        if self.sources.len() > SOURCES_MAX {
            self.sources.retain_recent();
        }
        let wait = |until: governor::NotUntil<_>| NoInvoice::Spent(until.wait_time_from(self.clock.now()));
        self.sources.check_key(&source).map_err(wait)?;
        self.everybody.check().map_err(wait)
    }

    async fn make(&self, gate: &Gate, order: &Order, now_s: u64) -> Result<Made, NoInvoice> {
        let Some(rate) = self.rate.rate(now_s) else {
            tracing::warn!("nobody knows what a bitcoin costs: no invoice is made");
            return Err(NoInvoice::Out);
        };
        let exact_msat = rate.price.msat_for_up(order.credit).map_err(|_| NoInvoice::NotWanted)?;
        // What a single call does not cost would be out of its token's reach.
        let asked_msat = if order.is_single { exact_msat } else { exact_msat.max(AMOUNT_MSAT_MIN) };
        // Then it is in its account, for whoever has that one's key.
        let asked_msat = if order.is_whole {
            asked_msat.checked_next_multiple_of(MSAT_PER_SAT).ok_or(NoInvoice::NotWanted)?
        } else {
            asked_msat
        };
        let label = format!("farthing-{}", wire::hex::encode(&random::bytes::<16>()));
        let wanted = Wanted {
            amount_msat: asked_msat,
            description: &order.description,
            expiry_s: order.expiry_s,
            label: &label,
        };
        let invoice = self.node.create_invoice(&wanted, now_s).await.map_err(|error| {
            match &error {
                NodeError::Lied(field) => {
                    tracing::error!(field, "ALARM: the Lightning node gave another invoice than was asked for; it is not shown to anybody");
                }
                NodeError::NotAsked | NodeError::Refused(_) | NodeError::Lost => {
                    tracing::warn!(%error, "the Lightning node gave no invoice");
                }
            }
            NoInvoice::Out
        })?;
        // More is asked than was wanted where only whole satoshi are known: that much more is bought.
        let bought = if invoice.amount_msat > exact_msat {
            rate.price.credit_for_down(invoice.amount_msat).map_err(|_| NoInvoice::Out)?
        } else {
            order.credit
        };
        lines(gate, order, &invoice, bought.max(order.credit), now_s).ok_or_else(|| {
            tracing::error!("no token could be made for an invoice");
            NoInvoice::Out
        })
    }
}

/// The token over the invoice's payment hash, and both as lines of a challenge.
fn lines(gate: &Gate, order: &Order, invoice: &Invoice, credit: Amount, now_s: u64) -> Option<Made> {
    let sale = Sale {
        asset: order.asset,
        credit,
        amount_msat: invoice.amount_msat,
        issued_at_s: u32::try_from(now_s).ok()?,
        random: random::bytes(),
    };
    let caveats = [format!("services={}:{}", order.service, order.tier)];
    let masters = gate.keys.masters.load();
    let token = mint(&masters.l402, PaymentHash(invoice.payment_hash), &sale, &caveats).ok()?;
    let challenge = Challenge::new(token, &invoice.bolt11).ok()?;
    let lines = challenge.lines(order.lsat);
    Some(Made {
        lines: lines.iter().map(|line| HeaderValue::from_str(line).ok()).collect::<Option<_>>()?,
        bolt11: invoice.bolt11.clone(),
        payment_hash: invoice.payment_hash,
        amount_msat: invoice.amount_msat,
        credit,
        expires_at_s: invoice.expires_at_s,
    })
}

fn is_wanted(when: MintWhen, headers: &HeaderMap, target: &str) -> bool {
    match (when, asks(headers, target)) {
        (MintWhen::Never, _) | (MintWhen::Always, Some(false)) => false,
        (MintWhen::Always, None | Some(true)) | (MintWhen::Asked, Some(true)) => true,
        (MintWhen::Asked, None | Some(false)) => is_shown(headers),
    }
}

/// Whether a client asks for Lightning, or for something else. None: it does not say.
fn asks(headers: &HeaderMap, target: &str) -> Option<bool> {
    let is_it = |name: &str| ["lightning", "l402"].iter().any(|ours| name.trim().eq_ignore_ascii_case(ours));
    let query = target.split_once('?').map_or("", |(_, query)| query);
    if let Some(pay) = query.split('&').find_map(|pair| pair.strip_prefix("pay=")) {
        return Some(pay.split(',').any(is_it));
    }
    let mut said = None;
    for line in headers.get_all("accept-payment") {
        for one in line.to_str().ok()?.split(',') {
            let (name, parameters) = one.split_once(';').unwrap_or((one, ""));
            let name = name.split('/').next().unwrap_or_default();
            let quality = parameters.split(';').find_map(|pair| pair.trim().strip_prefix("q="));
            let is_none = quality.is_some_and(|quality| quality.bytes().all(|b| b"0.".contains(&b)));
            said = Some(said.unwrap_or(false) || ((is_it(name) || name.trim() == "*") && !is_none));
        }
    }
    said
}

/// Where it is sold and what: of the operator's words only, or the same invoice could not be shown again.
fn description(public_url: &str, name: &str) -> String {
    let host = public_url.split_once("://").map_or(public_url, |(_, host)| host);
    let mut text = format!("{host} {name}");
    text.retain(|c| c.is_ascii_graphic() || c == ' ');
    text.truncate(DESCRIPTION_BYTES_MAX);
    text
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::{asks, description, is_wanted};
    use crate::config::MintWhen;

    fn headers(lines: &[&'static str]) -> HeaderMap {
        let lines = lines.iter().map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.parse().unwrap(), HeaderValue::from_static(value))
        });
        lines.collect()
    }

    #[test]
    fn l402_61_a_client_says_what_it_wants() {
        for (lines, target, expected) in [
            (&[][..], "/v1/x", None),
            (&["accept-payment: lightning/charge"], "/v1/x", Some(true)),
            (&["accept-payment: evm/charge, L402;q=0.5"], "/v1/x", Some(true)),
            (&["accept-payment: evm/charge"], "/v1/x", Some(false)),
            (&["accept-payment: lightning;q=0.0"], "/v1/x", Some(false)),
            (&["accept-payment: lightning;q=0.1"], "/v1/x", Some(true)),
            (&["accept-payment: */*"], "/v1/x", Some(true)),
            (&["accept-payment: evm/charge"], "/v1/x?pay=lightning", Some(true)),
            (&[], "/v1/x?a=b&pay=x402", Some(false)),
            (&[], "/v1/x?pay=x402,l402", Some(true)),
        ] {
            assert_eq!(asks(&headers(lines), target), expected, "{lines:?} {target}");
        }
    }

    #[test]
    fn l402_61_an_invoice_is_made_for_whoever_wants_one() {
        let token = &["authorization: LSAT x:"][..];
        for (when, lines, expected) in [
            (MintWhen::Always, &[][..], true),
            (MintWhen::Always, &["accept-payment: evm"], false),
            (MintWhen::Asked, &[], false),
            (MintWhen::Asked, &["accept-payment: lightning"], true),
            (MintWhen::Asked, token, true),
            (MintWhen::Never, token, false),
            (MintWhen::Never, &["accept-payment: lightning"], false),
        ] {
            assert_eq!(is_wanted(when, &headers(lines), "/"), expected, "{when:?} {lines:?}");
        }
    }

    #[test]
    fn a_description_is_short_and_plain() {
        assert_eq!(description("https://api.example", "chat"), "api.example chat");
        assert_eq!(description("http://127.0.0.1:4402", &"é".repeat(300)), "127.0.0.1:4402 ");
        assert_eq!(description("https://a", &"x".repeat(300)).len(), 100);
    }
}
