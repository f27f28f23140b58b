//! What is the same for channels of sessions, whichever chain keeps them (specs/vouchers.md).

use std::time::Duration;

use money::{Amount, Asset};

use super::network::symbol;
use super::section::Section;
use super::value;

/// How the sums of channels are counted, what a channel has to hold, and when what it owes is taken.
#[derive(Clone, Copy, Debug)]
pub struct ChannelTerms {
    /// Decimal places of the token's unit, default 6.
    pub decimals: u32,
    /// What a voucher in it counts as, default USDC.
    pub asset: Asset,
    /// What a channel has to hold at least, default 0.01 USD.
    pub min_deposit: Amount,
    /// What clients are told to put in, default 1 USD.
    pub suggested_deposit: Amount,
    /// What a voucher has to add at least, default nothing.
    pub min_delta: Amount,
    /// Channels that one payer may have open, default 16.
    pub channels_per_payer: usize,
    /// A channel that owes more is settled, default 1 USD.
    pub claim_above: Amount,
    /// A channel that owes anything and was not used for so long is settled, default one hour.
    pub claim_idle: Duration,
    /// How often a channel that is used is looked at on its chain, default 30 s.
    pub look_every: Duration,
}

/// Their keys in the section of a chain.
pub(super) const KEYS: [&str; 9] = [
    "decimals",
    "asset",
    "min_deposit",
    "suggested_deposit",
    "min_delta",
    "channels_per_payer",
    "claim_above",
    "claim_idle",
    "look_every",
];

const HOUR: Duration = Duration::from_secs(3600);
const LOOK_EVERY: Duration = Duration::from_secs(30);
const USD_1: Amount = Amount::from_units(1_000_000_000);
const CENT: Amount = Amount::from_units(10_000_000);
const CHANNELS_PER_PAYER: u32 = 16;
const DECIMALS: u32 = 6;

/// Reads them; `decimals_max` is what the chain's tokens have at most.
pub(super) fn read(section: &Section<'_>, decimals_max: u32) -> ChannelTerms {
    let decimals = |text: &str| match value::count(text)? {
        decimals if decimals <= decimals_max => Ok(decimals),
        _ => Err(format!("is at most {decimals_max}")),
    };
    let channels = section.value("channels_per_payer", value::count).unwrap_or(CHANNELS_PER_PAYER);
    ChannelTerms {
        decimals: section.value("decimals", decimals).unwrap_or(DECIMALS),
        asset: section.value("asset", symbol).unwrap_or(Asset::Usdc),
        min_deposit: section.value("min_deposit", value::usd).unwrap_or(CENT),
        suggested_deposit: section.value("suggested_deposit", value::some_usd).unwrap_or(USD_1),
        min_delta: section.value("min_delta", value::usd).unwrap_or_default(),
        channels_per_payer: usize::try_from(channels).unwrap_or(usize::MAX),
        claim_above: section.value("claim_above", value::usd).unwrap_or(USD_1),
        claim_idle: section.value("claim_idle", value::duration).unwrap_or(HOUR),
        look_every: section.value("look_every", value::duration).unwrap_or(LOOK_EVERY),
    }
}
