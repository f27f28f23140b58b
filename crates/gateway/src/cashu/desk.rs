//! What is asked for: how many satoshi, of which mints (CASHU-3, CASHU-4, CASHU-5).

use std::io;

use http::{HeaderName, HeaderValue};
use money::{Amount, BitcoinPrice};
use rails::cashu::{Keysets, Mint};
use rails::dial::Dialer;
use rails::lightning::rate::RateSource;
use wire::cashu::{PaymentRequest, UNIT_SAT, X_CASHU};

use super::rail;
use crate::challenge::{Ask, Offering};
use crate::clock::Now;
use crate::config::{BaseUrl, Cashu};
use crate::gate::Gate;
use crate::lightning::rate_settings;
use crate::snapshot::{Snapshot, origin};
use crate::till::{Method, Till};

/// Coins that a token is expected to have at most: what their mint takes for spending them is asked for as well.
const COINS_USUAL: u64 = 16;

/// The mints of a configuration, and what a bitcoin costs.
pub(crate) struct Desk {
    counters: Vec<Counter>,
    rate: Option<RateSource>,
}

/// One mint.
pub(crate) struct Counter {
    url: BaseUrl,
    pub(crate) mint: Mint,
    /// Its name in journal and metrics.
    pub(crate) rail: String,
}

impl Desk {
    pub(crate) fn new(rules: &Cashu, public: &Dialer) -> io::Result<Self> {
        let counter = |url: &BaseUrl| Counter {
            url: url.clone(),
            rail: rail(&url.to_string()),
            mint: Mint {
                url: url.to_string(),
                origin: origin(url),
                base: url.base_path.clone(),
                dialer: public.within(rules.time_max),
                time_max: rules.time_max,
            },
        };
        let own = rules.price.as_ref().map(rate_settings).transpose()?;
        let rate = own.map(|settings| RateSource::new(settings, public.clone()));
        Ok(Self { counters: rules.mints.iter().map(counter).collect(), rate })
    }

    pub(super) fn mints(&self) -> impl Iterator<Item = &Mint> {
        self.counters.iter().map(|counter| &counter.mint)
    }

    pub(super) const fn own_rate(&self) -> Option<&RateSource> {
        self.rate.as_ref()
    }

    /// The mint that a token names, if it is one of ours.
    pub(super) fn counter(&self, mint: &str) -> Option<&Counter> {
        let url = BaseUrl::read(mint)?;
        self.counters.iter().find(|counter| counter.url == url)
    }
}

/// The till of ecash.
pub(super) fn till<'s>(snapshot: &'s Snapshot, ask: &Ask<'_>) -> Option<&'s Till> {
    let mut tills = snapshot.tills.iter().filter(|till| ask.through.includes(till));
    tills.find(|till| till.method == Method::Cashu)
}

/// What a bitcoin costs now.
pub(super) fn price(snapshot: &Snapshot, now: Now) -> Option<BitcoinPrice> {
    let own = snapshot.cashu.as_ref().and_then(Desk::own_rate);
    let rate = own.or_else(|| snapshot.lightning.as_ref().map(|desk| desk.rate()))?;
    rate.rate(now.seconds()).map(|rate| rate.price)
}

/// Satoshi that cover a sum, rounded up.
pub(super) fn sats_for(price: BitcoinPrice, sum: Amount) -> Option<u64> {
    price.msat_for_up(sum).ok().map(|msat| msat.div_ceil(1000).max(1))
}

/// What the mint takes for a token of the usual size, at most, rounded up.
pub(super) fn usual_fee(keysets: &Keysets) -> u64 {
    keysets.fee_ppk_max().saturating_mul(COINS_USUAL).div_ceil(1000)
}

/// The request for payment of a challenge.
pub(crate) fn offer(gate: &Gate, snapshot: &Snapshot, ask: &Ask<'_>, now: Now) -> Offering {
    let Some((desk, till)) = snapshot.cashu.as_ref().zip(till(snapshot, ask)) else {
        return Offering::NotWanted;
    };
    let request = request(gate, snapshot, desk, ask.deposit(till), now);
    request.map_or(Offering::Out, |value| Offering::Lines(HeaderName::from_static(X_CASHU), vec![value]))
}

fn request(gate: &Gate, snapshot: &Snapshot, desk: &Desk, deposit: Amount, now: Now) -> Option<HeaderValue> {
    let price = price(snapshot, now)?;
    let (mut mints, mut fee) = (Vec::new(), 0);
    for counter in desk.counters.iter().filter(|counter| gate.mints.answers(&counter.mint.url)) {
        let (keysets, _) = gate.mints.keysets(&counter.mint.url)?;
        fee = fee.max(usual_fee(&keysets));
        mints.push(counter.mint.url.clone());
    }
    if mints.is_empty() {
        return None;
    }
    let amount = sats_for(price, deposit)?.checked_add(fee)?;
    gate.mints.asked_at(price, now.seconds());
    HeaderValue::from_str(&PaymentRequest { amount, unit: UNIT_SAT, mints: &mints }.encode()).ok()
}

#[cfg(test)]
mod tests {
    use money::{Amount, BitcoinPrice};

    use super::sats_for;

    #[test]
    fn cashu_5_satoshi_are_whole() {
        let price = BitcoinPrice::from_usd_per_btc("100000").unwrap();
        for (nano, sats) in [(1, 1), (1_000_000, 1), (1_000_001, 2), (20_000_000, 20), (0, 1)] {
            assert_eq!(sats_for(price, Amount::from_units(nano)), Some(sats), "{nano}");
        }
        assert_eq!(sats_for(price, Amount::from_units(-1)), None);
    }
}
