//! Prices in headers for agents we know: a signature says who crawls, a price in it what he accepts, and his account is
//! debited (section 6 of the rules). No payment method: no money comes in this way.

use http::{HeaderMap, HeaderName, HeaderValue};
use ledger::{Account, AccountId, AccountRef};
use money::{Amount, Decimal};
use proof::identity::NonceClaim;

use crate::call::Arrived;
use crate::config::{Route, RoutePrice};
use crate::gate::Gate;
use crate::payer::{HoldTerms, Payer, SpendLimits, usual_asset};
use crate::quote::Quote;
use crate::refusal::{Code, Facts, Refusal};

/// The name in logs and receipts.
pub(crate) const PROTOCOL: &str = "crawl";

const EXACT: &str = "crawler-exact-price";
const MAX: &str = "crawler-max-price";
const ERROR: HeaderName = HeaderName::from_static("crawler-error");
const PRICE: HeaderName = HeaderName::from_static("crawler-price");
const CHARGED: HeaderName = HeaderName::from_static("crawler-charged");

/// What a crawler says that it pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// This, and only if that is the price.
    Exact(Amount),
    /// Up to this.
    Max(Amount),
}

/// What a signed request accepts to be debited.
#[derive(Clone, Debug)]
pub(crate) struct Crawl {
    asked: Asked,
    account: Option<AccountId>,
    /// The debit's name: one signature, one debit (IDN-22).
    name: [u8; 32],
}

impl Asked {
    /// Reads the head of a request (IDN-20).
    pub(super) fn read(headers: &HeaderMap) -> Result<Option<Self>, Refusal> {
        let price = |name: &'static str| -> Result<Option<Amount>, Refusal> {
            let mut lines = headers.get_all(name).iter();
            let Some(line) = lines.next() else { return Ok(None) };
            let amount = line.to_str().ok().and_then(parse).filter(|_| lines.next().is_none());
            amount.map(Some).ok_or_else(|| {
                let detail = "A crawler's price is written like USD 0.01, with 1 to 9 decimals.";
                bad(detail, "InvalidCrawlerPriceValue")
            })
        };
        match (price(EXACT)?, price(MAX)?) {
            (None, None) => Ok(None),
            (Some(exact), None) => Ok(Some(Self::Exact(exact))),
            (None, Some(most)) => Ok(Some(Self::Max(most))),
            (Some(_), Some(_)) => {
                Err(bad("The request names two prices for crawlers.", "ConflictingPriceHeaders"))
            }
        }
    }

    pub(super) const fn field(self) -> &'static str {
        match self {
            Self::Exact(_) => EXACT,
            Self::Max(_) => MAX,
        }
    }

    const fn most(self) -> Amount {
        match self {
            Self::Exact(most) | Self::Max(most) => most,
        }
    }
}

/// `USD`, a space, digits, a point, 1 to 9 digits.
fn parse(text: &str) -> Option<Amount> {
    let number = text.strip_prefix("USD ")?;
    let (whole, fraction) = number.split_once('.')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !(1..=9).contains(&whole.len())
        || !(1..=9).contains(&fraction.len())
        || !digits(whole)
        || !digits(fraction)
    {
        return None;
    }
    let units = Decimal::parse(number).ok()?.exact(9)?;
    Amount::from_wide(units).ok()
}

/// The same, with two decimals at least.
fn shown(amount: Amount) -> HeaderValue {
    let whole = amount.decimal(money::Asset::Usd);
    let (digits, fraction) = whole.split_once('.').unwrap_or((&whole, ""));
    let fraction = fraction.trim_end_matches('0');
    // Digits and a point are always a header.
    HeaderValue::from_str(&format!("USD {digits}.{fraction:0<2}"))
        .unwrap_or(HeaderValue::from_static("USD 0.00"))
}

impl Crawl {
    pub(super) const fn new(asked: Asked, account: Option<AccountId>, debit: &NonceClaim) -> Self {
        Self { asked, account, name: debit.id }
    }

    /// What the debit is remembered by.
    pub(crate) const fn name(&self) -> [u8; 32] {
        self.name
    }

    /// The account that the operator lets the agent spend from, not looked into yet (IDN-23).
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn payer(&self, gate: &Gate) -> Result<Payer, Refusal> {
        let id = self.account.ok_or_else(|| payment_failed("This agent has no account here."))?;
        let usual = usual_asset(gate.keys.mode);
        let empty = || AccountRef::from(Account::new(id, usual, Amount::ZERO, Amount::ZERO));
        let account = gate.book.find_any(id).unwrap_or_else(empty);
        Ok(Payer { account, key: None, token: None, session: None, protocol: PROTOCOL })
    }

    /// What its call may cost at most, within what the account may spend.
    pub(crate) fn limited(&self, limits: SpendLimits) -> SpendLimits {
        let most = self.asked.most();
        SpendLimits { per_call: Some(limits.per_call.map_or(most, |own| own.min(most))), ..limits }
    }

    /// Whether the price is one that was accepted, and the account covers it.
    ///
    /// # Errors
    /// 402 with the price, or 403 where the account is what is lacking.
    pub(crate) fn check(
        &self,
        gate: &Gate,
        arrived: &Arrived,
        route: &Route,
        quote: &Quote,
        payer: &Payer,
    ) -> Result<(), Refusal> {
        if quote.is_free() {
            return Ok(());
        }
        let config = &arrived.snapshot.config;
        let (price, is_fixed) = (quote.ceiling, matches!(route.price, RoutePrice::PerCall(_)));
        let may_clamp = config.metering.fit_to_balance;
        match self.asked {
            Asked::Exact(exact) if is_fixed && exact == price => {}
            Asked::Exact(_) if is_fixed => {
                return Err(other_price("This costs another price.", "InvalidCrawlerExactPrice", price));
            }
            Asked::Exact(_) => {
                let detail = "What this costs is not known beforehand: send crawler-max-price.";
                return Err(other_price(detail, "InvalidCrawlerExactPrice", price));
            }
            Asked::Max(most) if most >= price => {}
            // Less output, where the operator allows that.
            Asked::Max(most) if !is_fixed && may_clamp && quote.fit(most, true).is_some() => {}
            Asked::Max(_) => {
                return Err(other_price("This may cost more.", "InvalidCrawlerMaxPrice", price));
            }
        }
        let limits = gate.spend_limits(payer.account.id(), &config.limits);
        let terms =
            HoldTerms { credit: None, limits: self.limited(limits), may_clamp, now_s: arrived.now.seconds() };
        let covered = payer.would_hold(gate, quote, terms);
        covered.map(|_| ()).map_err(|_| payment_failed("This agent's account does not cover the call."))
    }
}

/// Says what was taken, where that is known when the answer begins.
pub(crate) fn tell_charged(headers: &mut HeaderMap, price: Amount) {
    headers.insert(CHARGED, shown(price));
}

/// What was taken, for the end of an answer.
pub(crate) fn charged(price: Amount) -> (HeaderName, HeaderValue) {
    (CHARGED, shown(price))
}

/// Names the price to whoever may crawl for it (IDN-24).
pub(crate) fn tell_price(refusal: Refusal, price: Amount) -> Refusal {
    if refusal.has_header(&PRICE) { refusal } else { refusal.header(PRICE, shown(price)) }
}

/// One debit per signature, and one request (IDN-22).
pub(crate) fn debited_otherwise() -> Refusal {
    bad("This signature has debited another request.", "InvalidSignature")
}

pub(super) fn strong_auth_required() -> Refusal {
    bad("A price for crawlers is taken from agents that sign (Web Bot Auth).", "StrongAuthRequired")
}

pub(super) fn invalid_signature() -> Refusal {
    bad(
        "The signature of this request does not cover the price with a nonce, or does not stand.",
        "InvalidSignature",
    )
}

/// Nobody knows yet whether the signature is good.
pub(super) fn unverified(why: &'static str, after_s: Option<u32>) -> Refusal {
    let detail = "The signature of this request cannot be verified here now.";
    let refusal = because(Refusal::new(Code::SignatureUnverified, detail), why, "StrongAuthRequired");
    match after_s {
        Some(after_s) => refusal.retry_after(after_s),
        None => refusal,
    }
}

fn bad(detail: &'static str, error: &'static str) -> Refusal {
    because(Refusal::new(Code::BadRequest, detail), error, error)
}

fn other_price(detail: &'static str, error: &'static str, price: Amount) -> Refusal {
    tell_price(because(Refusal::new(Code::PaymentRequired, detail), error, error), price)
}

fn payment_failed(detail: &'static str) -> Refusal {
    because(Refusal::new(Code::CrawlForbidden, detail), "PaymentFailed", "PaymentFailed")
}

fn because(refusal: Refusal, reason: &'static str, error: &'static str) -> Refusal {
    let facts = Facts { reason: Some(reason.to_owned()), ..Facts::default() };
    refusal.facts(facts).header(ERROR, HeaderValue::from_static(error))
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use money::Amount;

    use super::{Asked, shown};

    /// IDN-20
    #[test]
    fn idn_20_prices() {
        for (text, units) in [
            ("USD 0.01", Some(10_000_000)),
            ("USD 0.000000001", Some(1)),
            ("USD 1.0", Some(1_000_000_000)),
            ("USD 10.500000000", Some(10_500_000_000)),
            ("USD 0.0000000001", None),
            ("USD 1", None),
            ("USD 1.", None),
            ("USD .5", None),
            ("USD -0.01", None),
            ("USD +0.01", None),
            ("USD 1e-2", None),
            ("USD 1,000.00", None),
            ("USD  0.01", None),
            ("usd 0.01", None),
            ("EUR 0.01", None),
            ("0.01", None),
            ("USD 9999999999.0", None),
        ] {
            assert_eq!(super::parse(text), units.map(Amount::from_units), "{text}");
        }
        for (units, text) in [(10_000_000, "USD 0.01"), (1, "USD 0.000000001"), (2_000_000_000, "USD 2.00")] {
            assert_eq!(shown(Amount::from_units(units)), text);
        }
    }

    #[test]
    fn idn_20_one_price_per_request() {
        let read = |fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers.append(*name, HeaderValue::from_static(value));
            }
            Asked::read(&headers).map_err(|refusal| refusal.reason().unwrap_or_default().to_owned())
        };
        let cent = Amount::from_units(10_000_000);
        let (exact, max) = ("crawler-exact-price", "crawler-max-price");
        let bad = || Err("InvalidCrawlerPriceValue".to_owned());
        assert_eq!(read(&[]), Ok(None));
        assert_eq!(read(&[(exact, "USD 0.01")]), Ok(Some(Asked::Exact(cent))));
        assert_eq!(read(&[(max, "USD 0.01")]), Ok(Some(Asked::Max(cent))));
        assert_eq!(read(&[(max, "1")]), bad());
        assert_eq!(read(&[(max, "USD 0.01"), (max, "USD 0.01")]), bad());
        assert_eq!(
            read(&[(max, "USD 0.01"), (exact, "USD 0.01")]),
            Err("ConflictingPriceHeaders".to_owned())
        );
    }
}
