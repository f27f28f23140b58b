//! `limits`: rates per account and per source, applied before any costly work.

use std::num::NonZeroU32;

use money::Amount;

use super::section::{Keys, Section};
use super::value;

/// Rates (SEC-47, SEC-48).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RateLimits {
    /// Calls per minute of one account, default 600.
    pub account_per_minute: NonZeroU32,
    /// Calls of one account at once, default 100.
    pub account_concurrent: NonZeroU32,
    /// Most that one call of an account may cost, in USD; none unless set.
    pub spend_per_call: Option<Amount>,
    /// Most that an account may spend in a day (UTC), in USD; none unless set (LED-14).
    pub spend_per_day: Option<Amount>,
    /// Challenges per minute for one source without a credential, default 30.
    pub unpaid_per_minute: NonZeroU32,
    /// Proofs per minute of one source that fail, default 20; above it no crypto is done.
    pub invalid_per_minute: NonZeroU32,
    /// Failing proofs that may come at once, default 40.
    pub invalid_burst: NonZeroU32,
}

const fn at_least_one(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            account_per_minute: at_least_one(600),
            account_concurrent: at_least_one(100),
            spend_per_call: None,
            spend_per_day: None,
            unpaid_per_minute: at_least_one(30),
            invalid_per_minute: at_least_one(20),
            invalid_burst: at_least_one(40),
        }
    }
}

const KEYS: Keys = Keys::new(&["default", "unpaid", "invalid_proofs"], &["groups"]);
const ACCOUNT_KEYS: Keys = Keys::new(&["rpm", "concurrent", "spend"], &["overdraft", "tpm"]);
const SPEND_KEYS: Keys = Keys::new(&["per_call", "per_day"], &[]);
const UNPAID_KEYS: Keys = Keys::new(&["per_ip"], &[]);
const INVALID_KEYS: Keys = Keys::new(&["per_ip", "burst"], &[]);

pub(super) fn read(top: &Section<'_>) -> RateLimits {
    let mut limits = RateLimits::default();
    let Some(section) = top.section("limits", KEYS) else { return limits };
    let set = |limit: &mut NonZeroU32, read: Option<NonZeroU32>| *limit = read.unwrap_or(*limit);
    if let Some(account) = section.section("default", ACCOUNT_KEYS) {
        set(&mut limits.account_per_minute, account.value("rpm", value::quota));
        set(&mut limits.account_concurrent, account.value("concurrent", value::quota));
        if let Some(spend) = account.section("spend", SPEND_KEYS) {
            limits.spend_per_call = spend.value("per_call", value::some_usd);
            limits.spend_per_day = spend.value("per_day", value::some_usd);
        }
    }
    if let Some(unpaid) = section.section("unpaid", UNPAID_KEYS) {
        set(&mut limits.unpaid_per_minute, unpaid.value("per_ip", value::per_minute));
    }
    if let Some(invalid) = section.section("invalid_proofs", INVALID_KEYS) {
        set(&mut limits.invalid_per_minute, invalid.value("per_ip", value::per_minute));
        set(&mut limits.invalid_burst, invalid.value("burst", value::quota));
    }
    limits
}
