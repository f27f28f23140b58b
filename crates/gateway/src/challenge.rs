//! The 402: every way to pay this gateway accepts, in one answer (x402.md X402-6, experience.md section 3).

mod offered;
mod rendering;

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use money::Amount;
use proof::quote::{self, QuoteScope};
use wire::mpp::digest;

pub(crate) use offered::Offered;
pub(crate) use rendering::{Renderings, Varying};

use crate::call::Arrived;
use crate::cashu;
use crate::clock::Now;
use crate::config::Route;
use crate::endpoints::TOP_UP;
use crate::extensions::discovery;
use crate::gate::Gate;
use crate::idempotency;
use crate::identity;
use crate::lightning::{self, Made, NoInvoice};
use crate::mpp;
use crate::quote::Quote;
use crate::refusal::{Code, Refusal};
use crate::snapshot::Snapshot;
use crate::till::{Offer, QUOTE_SECONDS, Till};

/// What is to be paid for: the request as a quote names it.
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a Method,
    /// Path and query.
    pub(crate) target: &'a str,
    /// Body of the request.
    pub(crate) body: &'a [u8],
    /// SHA-256 over the three; filled when somebody needs it.
    pub(crate) fingerprint: OnceCell<[u8; 32]>,
    /// The same without the body.
    pub(crate) line: OnceCell<[u8; 32]>,
    /// Of the body alone, as the `Payment` scheme writes it; filled when somebody needs it.
    pub(crate) digest: OnceCell<String>,
    /// Filled when a way to pay wants one; then it is for all of them.
    pub(crate) invoice: tokio::sync::OnceCell<Result<Arc<Made>, NoInvoice>>,
    /// Most it may cost, nano-USD.
    pub(crate) ceiling: Amount,
    /// What has to be there for it to begin, where more can come in while it runs.
    pub(crate) begins: Amount,
    /// Whether it would cost something else with another body.
    pub(crate) priced_by_body: bool,
    /// Deposit to ask for on tills that ask for less at once than the ceiling.
    pub(crate) fits_within: Option<Amount>,
    /// Which tills may be paid through.
    pub(crate) through: Through,
    /// Version of the prices.
    pub(crate) tariff: &'a str,
    pub(crate) description: &'a str,
    /// Whether the answer says how the route is called.
    pub(crate) discovery: bool,
}

/// What is sold decides how it may be paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Through {
    /// A call: every till.
    All,
    /// Balance: what a channel is charged stays its own, and what is settled after a call needs one, so neither buys any.
    Deposits,
    /// What is left in a channel, for its payer.
    Channels,
    /// Nothing: it is about a session that is open, or to be opened.
    Sessions,
}

impl Through {
    pub(crate) fn includes(self, till: &Till) -> bool {
        match self {
            Self::All => true,
            Self::Deposits => !till.is_channel() && !till.is_settled_after(),
            Self::Channels => till.is_channel(),
            Self::Sessions => false,
        }
    }
}

impl<'a> Ask<'a> {
    pub(crate) fn of(
        snapshot: &Snapshot,
        quote: &'a Quote,
        method: &'a Method,
        target: &'a str,
        body: &'a [u8],
    ) -> Self {
        let may_clamp = snapshot.config.metering.fit_to_balance;
        let bound = snapshot.tills.iter().filter_map(Till::ceiling_max).min();
        let fits = bound.filter(|bound| *bound < quote.offered && quote.fit(*bound, may_clamp).is_some());
        Self {
            method,
            target,
            body,
            fingerprint: OnceCell::new(),
            line: OnceCell::new(),
            digest: OnceCell::new(),
            invoice: tokio::sync::OnceCell::const_new(),
            ceiling: quote.offered,
            begins: quote.begins(),
            priced_by_body: quote.is_by_body(),
            fits_within: fits,
            through: Through::All,
            tariff: quote.tariff(),
            description: quote.model(),
            discovery: false,
        }
    }

    /// What an endpoint of ours asks for that sells no call: `name` says what, to the payer and in the quote.
    pub(crate) const fn of_endpoint(
        arrived: &'a Arrived,
        ceiling: Amount,
        through: Through,
        name: &'a str,
    ) -> Self {
        Self::named(&arrived.head.method, arrived.target.as_str(), ceiling, through, name)
    }

    /// A request without a body, for what is called `name`.
    pub(crate) const fn named(
        method: &'a Method,
        target: &'a str,
        ceiling: Amount,
        through: Through,
        name: &'a str,
    ) -> Self {
        Self {
            method,
            target,
            body: b"",
            fingerprint: OnceCell::new(),
            line: OnceCell::new(),
            digest: OnceCell::new(),
            invoice: tokio::sync::OnceCell::const_new(),
            ceiling,
            begins: ceiling,
            priced_by_body: false,
            fits_within: None,
            through,
            tariff: name,
            description: name,
            discovery: false,
        }
    }

    /// The request, as it is recognised when it comes again.
    pub(crate) fn fingerprint(&self) -> &[u8; 32] {
        self.fingerprint.get_or_init(|| idempotency::fingerprint(self.method, self.target, self.body))
    }

    /// Method and target, whatever the body. Who has looked with HEAD may call with GET.
    pub(crate) fn line(&self) -> &[u8; 32] {
        let method = if self.method == Method::HEAD { &Method::GET } else { self.method };
        self.line.get_or_init(|| idempotency::fingerprint(method, self.target, b""))
    }

    /// The digest of its body, worked out once however many offers are bound to it.
    pub(crate) fn digest(&self) -> &str {
        self.digest.get_or_init(|| digest::of(self.body))
    }

    pub(crate) fn scope(&self, gate: &Gate) -> QuoteScope<'_> {
        // A body that makes no difference is not looked at, so that being asked to pay for it costs nothing (PERF-34).
        QuoteScope {
            request: if self.priced_by_body { self.fingerprint() } else { self.line() },
            tariff_version: self.tariff,
            asset: money::Asset::Usd,
            store_epoch: gate.store_epoch,
        }
    }

    /// The same, for a request with these headers.
    pub(crate) fn with_head(mut self, headers: &HeaderMap) -> Self {
        self.discovery = discovery::is_asked(self.method, headers);
        self
    }

    /// Its path, without the query.
    pub(crate) fn path(&self) -> &'a str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }

    /// What of ours it asks for; none for what is no route, such as a top-up.
    pub(crate) fn route<'s>(&self, snapshot: &'s Snapshot) -> Option<&'s Route> {
        snapshot.route(self.method, self.path()).ok().map(Arc::as_ref)
    }

    pub(crate) fn url(&self, snapshot: &Snapshot) -> String {
        [snapshot.public_url.as_str(), self.target].concat()
    }

    /// What is taken for it now: also offers that were made in the name of a facilitator who calls itself otherwise
    /// by now.
    pub(crate) fn takes(&self, gate: &Gate, snapshot: &Snapshot, now: Now) -> Vec<(Till, Offer)> {
        let facilitators = snapshot.facilitators.as_ref();
        // Good for as long as any: an offer of these goes out again where a channel's payer is put right (X402-29).
        let minted = self.quote(gate, quote_end(now));
        let mut taken = Vec::new();
        for till in snapshot.tills.iter().filter(|till| self.through.includes(till)) {
            for named in gate.directory.taken(till, facilitators) {
                let offer = till.offer(self.deposit(till), &named, Some(minted.clone()));
                taken.extend(offer.map(|offer| (till.clone(), offer)));
            }
        }
        taken
    }

    fn quote(&self, gate: &Gate, expires_at_s: u64) -> String {
        let terms = quote::Quote { ceiling: self.ceiling, expires_at_s };
        quote::mint(&gate.keys.quote, &self.scope(gate), &terms)
    }

    /// At most what the till asks at once, as long as the call still fits into it.
    pub(crate) fn deposit(&self, till: &Till) -> Amount {
        let ceiling = match (till.ceiling_max(), self.fits_within) {
            (Some(max), Some(fits)) if self.ceiling > max => fits.min(max),
            (Some(_) | None, _) => self.ceiling,
        };
        till.deposit_for(ceiling)
    }
}

/// Where balance is bought.
pub(crate) fn top_up_url(snapshot: &Snapshot) -> String {
    [snapshot.public_url.as_str(), TOP_UP].concat()
}

/// When a quote of now ends. Whole tens of seconds, so that one rendering serves many requests.
pub(crate) const fn quote_end(now: Now) -> u64 {
    now.seconds() / 10 * 10 + QUOTE_SECONDS
}

/// What came of an offer that somebody else has to make, or to be there for.
#[derive(Debug)]
pub(crate) enum Offering {
    /// It is in these lines of a header.
    Lines(HeaderName, Vec<HeaderValue>),
    /// This is not sold that way, or this client does not want to pay so.
    NotWanted,
    /// So many were made of late that there is none for so long.
    Spent(Duration),
    /// Nobody can be paid that way now.
    Out,
}

/// Makes a refusal a challenge with our offers for `ask`. Only for an invoice does it wait, and only so long.
pub(crate) async fn challenge(
    gate: &Arc<Gate>,
    arrived: &Arrived,
    ask: &Ask<'_>,
    refusal: Refusal,
) -> Refusal {
    let snapshot = &arrived.snapshot;
    let name = refusal.code().name();
    let offered = Offered::new(gate, snapshot, ask, name, arrived.now);
    let is_offered = offered.is_any;
    let refusal = refusal.offers(offered.entries, offered.header, top_up_url(snapshot));
    let ecash = cashu::offer(gate, snapshot, ask, arrived.now);
    // First of its kind: there are clients that read one line (402-2).
    let l402 = lightning::offer(gate, arrived, ask).await;
    let mpp = mpp::offer(gate, arrived, ask).await;
    let refusal = with_offerings(refusal, is_offered || mpp.takes_payments, [ecash, l402, mpp.missing()]);
    let refusal = if refusal.is_payable() { mpp.told_in(refusal) } else { refusal };
    // Beside the other doors, for whoever signs as an agent (IDN-24).
    if arrived.identity.is_crawler && refusal.is_payable() {
        return identity::tell_price(refusal, ask.ceiling);
    }
    refusal
}

/// Adds what came of the other offers. A challenge that nobody could pay becomes a refusal that says when to come back.
fn with_offerings<const N: usize>(mut refusal: Refusal, mut is_offered: bool, all: [Offering; N]) -> Refusal {
    let (mut wait, mut is_out): (Option<Duration>, bool) = (None, false);
    for offering in all {
        match offering {
            Offering::Lines(name, lines) => {
                is_offered |= !lines.is_empty();
                refusal = lines.into_iter().fold(refusal, |refusal, line| refusal.line(name.clone(), line));
            }
            Offering::NotWanted => {}
            Offering::Spent(other) => wait = Some(wait.map_or(other, |wait| wait.min(other))),
            Offering::Out => is_out = true,
        }
    }
    match (is_offered, wait, is_out) {
        (false, Some(wait), _) => {
            let seconds = u32::try_from(wait.as_secs()).unwrap_or(u32::MAX).saturating_add(1);
            let detail = "Too many offers were asked for of late: none is made now.";
            refusal.instead(Code::RateLimited, detail).retry_after(seconds)
        }
        (false, None, true) => {
            let detail = "Nobody can be paid now in any way that is taken here.";
            refusal.instead(Code::FacilitatorFailed, detail).retry_after(5)
        }
        (true, _, _) | (false, None, false) => refusal,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use http::{HeaderValue, header};
    use meter::Sdk;

    use super::{Offering, with_offerings};
    use crate::call_id::CallId;
    use crate::refusal::{Code, Refusal};

    /// L402-62, CASHU-4: whatever of two is out, a 402 says how it is paid, and what says nothing of that is no 402.
    #[test]
    fn a_challenge_can_be_paid_or_is_none() {
        let line =
            || Offering::Lines(header::WWW_AUTHENTICATE, vec![HeaderValue::from_static("L402 of a test")]);
        let spent = || Offering::Spent(Duration::from_secs(7));
        let longer = || Offering::Spent(Duration::from_secs(70));
        let (not_wanted, out) = (|| Offering::NotWanted, || Offering::Out);
        for (is_offered, all, expected) in [
            (false, [line(), not_wanted()], Code::PaymentRequired),
            (false, [line(), out()], Code::PaymentRequired),
            (false, [spent(), line()], Code::PaymentRequired),
            (true, [spent(), out()], Code::PaymentRequired),
            (true, [out(), out()], Code::PaymentRequired),
            (false, [out(), out()], Code::FacilitatorFailed),
            (false, [out(), not_wanted()], Code::FacilitatorFailed),
            (false, [spent(), out()], Code::RateLimited),
            (false, [out(), spent()], Code::RateLimited),
            (false, [longer(), spent()], Code::RateLimited),
            (false, [spent(), not_wanted()], Code::RateLimited),
            // A client that wants none of it is told what it would cost.
            (false, [not_wanted(), not_wanted()], Code::PaymentRequired),
        ] {
            let told = format!("{is_offered} {all:?}");
            let has_lines = all.iter().any(|offering| matches!(offering, Offering::Lines(..)));
            let refusal = Refusal::new(Code::PaymentRequired, "Pay.").offers(
                Arc::default(),
                HeaderValue::from_static("e30="),
                "/farthing/topup".to_owned(),
            );
            let refusal = with_offerings(refusal, is_offered, all);
            assert_eq!(refusal.code(), expected, "{told}");
            let answer = refusal.response(Sdk::OpenAi, CallId([0; 16]));
            let field = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap());
            let is_asked = expected == Code::PaymentRequired;
            assert_eq!(
                (field("payment-required").is_some(), field("www-authenticate").is_some()),
                (is_asked, has_lines),
                "{told}"
            );
            let wait = if expected == Code::RateLimited { "8" } else { "5" };
            assert_eq!(field("retry-after"), (!is_asked).then_some(wait), "{told}");
        }
    }
}
