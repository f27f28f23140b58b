//! `rails.cashu`: payments by ecash (specs/cashu.md).

use std::time::Duration;

use money::Amount;

use super::Mode;
use super::l402::{self, BitcoinPrice};
use super::section::{Keys, Section};
use super::url::{BaseUrl, Scheme};
use super::value;

/// Ecash of mints that the operator trusts with what it holds.
#[derive(Clone, Debug)]
pub struct Cashu {
    /// Whose ecash is taken, at least one. Only these are ever asked (SEC-40).
    pub mints: Vec<BaseUrl>,
    /// What a bitcoin costs; absent, as `rails.l402` has it.
    pub price: Option<BitcoinPrice>,
    /// What a token is asked for at least; the call's ceiling when absent.
    pub deposit: Option<Amount>,
    /// The most one request for payment asks for, default 1 USD.
    pub ceiling_max: Amount,
    /// For one answer of a mint, default 15 s.
    pub time_max: Duration,
}

const KEYS: Keys =
    Keys::new(&["mints", "unit", "price", "deposit", "ceiling_max", "timeout"], &["lock", "melt"]);

/// One dollar.
const USD_1: Amount = Amount::from_units(1_000_000_000);
const TIME_MAX: Duration = Duration::from_secs(15);
/// Most mints that are taken: all of them stand in each request for payment.
const MINTS_MAX: usize = 8;
/// Mints whose ecash is worth nothing.
const TEST_HOSTS: [&str; 1] = ["testnut.cashu.space"];

pub(super) fn read(rails: &Section<'_>) -> Option<Cashu> {
    let section = rails.section("cashu", KEYS)?;
    let _ = section.value("unit", |text| match text {
        wire::cashu::UNIT_SAT => Ok(()),
        _ => Err(format!("\"{text}\" is no unit that we take; this version has sat")),
    });
    let price = section.get("price").and_then(|_| l402::read_price(&section));
    if section.get("price").is_none() && rails.get("l402").is_none() {
        section.missing(
            "rails.cashu needs \"price\": what does a bitcoin cost? { usd_per_btc: .. } or { url, pointer }; or rails.l402, \
             which has one",
        );
    }
    let deposit = section.value("deposit", value::some_usd);
    let ceiling_max = section.value("ceiling_max", value::some_usd).unwrap_or(USD_1);
    if deposit.is_some_and(|deposit| deposit > ceiling_max) {
        section.complain("deposit", "rails.cashu.deposit is more than ceiling_max");
    }
    Some(Cashu {
        mints: read_mints(&section),
        price,
        deposit,
        ceiling_max,
        time_max: section.value("timeout", value::duration).unwrap_or(TIME_MAX),
    })
}

fn read_mints(cashu: &Section<'_>) -> Vec<BaseUrl> {
    let mode = cashu.context.mode;
    let Some(written) = cashu.values("mints", |text| mint(text, mode)) else {
        cashu.missing("rails.cashu needs \"mints\": whose ecash is taken?");
        return Vec::new();
    };
    let mut mints: Vec<BaseUrl> = Vec::new();
    for (span, mint) in written {
        if mints.contains(&mint) {
            cashu.context.report.add(span, format!("rails.cashu.mints: {mint} stands twice"));
        }
        mints.push(mint);
    }
    if mints.is_empty() || mints.len() > MINTS_MAX {
        cashu.complain("mints", format!("rails.cashu.mints: between 1 and {MINTS_MAX} of them"));
    }
    mints
}

fn mint(text: &str, mode: Mode) -> Result<BaseUrl, String> {
    let url = super::rail::encrypted(text, "a mint")?;
    match (mode, url.scheme) {
        (Mode::Live, Scheme::Http) => Err("a mint is reached by https in mode live".to_owned()),
        (Mode::Live, Scheme::Https) if TEST_HOSTS.contains(&url.host.as_str()) => {
            Err("the ecash of this mint is worth nothing; test mints exist in mode test only".to_owned())
        }
        (Mode::Live, Scheme::Https) | (Mode::Test, Scheme::Http | Scheme::Https) => Ok(url),
    }
}
