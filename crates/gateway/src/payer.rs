//! Who pays: a credit key checked without await or disk, or the account of a deposit.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use ledger::{Account, AccountId, Budget, Hold, Reserve, ReserveError};
use money::{Amount, Asset};
use proof::credit_key::{self, Forbidden, KeyError, VerifiedKey};
use wire::credit_key::{CreditKey, Mode};

use crate::config::Route;
use crate::gate::Gate;
use crate::quote::{Fitted, Quote};
use crate::refusal::{Code, Facts, Refusal};

/// Verified keys remembered per thread.
const KNOWN_MAX: usize = 4096;

/// Keys this thread has verified, by their whole text. Only successes are kept (PERF-24).
#[derive(Default)]
pub(crate) struct KnownKeys(RefCell<HashMap<Box<str>, Rc<VerifiedKey>>>);

impl KnownKeys {
    /// Checks a key: genuine, in time, not revoked.
    pub(crate) fn verify(&self, gate: &Gate, text: &str, now_s: u64) -> Result<Rc<VerifiedKey>, Refusal> {
        let known = self.0.borrow().get(text).map(Rc::clone);
        let key = match known {
            Some(key) => key,
            None => {
                let parsed = CreditKey::parse(text).map_err(|_| unknown_key())?;
                let verified = credit_key::verify(&gate.keys.masters, gate.keys.mode, &parsed, now_s);
                let verified = Rc::new(verified.map_err(key_refusal)?);
                self.remember(text, &verified);
                verified
            }
        };
        if key.expires.is_some_and(|end| now_s >= end) {
            return Err(expired_key());
        }
        let ids = key.links.iter().chain([&key.key_id, &key.account]);
        if gate.is_revoked(ids) {
            return Err(Refusal::new(Code::KeyRevoked, "This credit key has been revoked."));
        }
        Ok(key)
    }

    fn remember(&self, text: &str, key: &Rc<VerifiedKey>) {
        let mut known = self.0.borrow_mut();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(text.into(), Rc::clone(key));
    }
}

fn unknown_key() -> Refusal {
    Refusal::new(Code::KeyUnknown, "This credit key is not one of ours.")
}

fn expired_key() -> Refusal {
    Refusal::new(Code::KeyExpired, "This credit key has expired.")
}

fn key_refusal(error: KeyError) -> Refusal {
    match error {
        KeyError::Unknown => unknown_key(),
        KeyError::Expired(_) => expired_key(),
        KeyError::Widened(_) | KeyError::UnknownCaveat(_) | KeyError::Caveat(_) | KeyError::SeveralAssets => {
            let reason = Facts { reason: Some("caveat_refused".to_owned()), ..Facts::default() };
            Refusal::new(Code::KeyUnknown, "A restriction written into this key is not valid.").facts(reason)
        }
    }
}

/// The account that pays, and the limits of the key that opens it.
#[derive(Clone)]
pub(crate) struct Payer {
    pub(crate) account: Arc<Account>,
    pub(crate) key: Option<Rc<VerifiedKey>>,
    /// `key`, `x402-v1`, `x402-v2`.
    pub(crate) protocol: &'static str,
}

impl Payer {
    /// The payer behind a key. An account nobody has paid into yet is empty, not unknown.
    pub(crate) fn of_key(gate: &Gate, key: Rc<VerifiedKey>) -> Self {
        let id = AccountId(key.account);
        let usual = key.asset().unwrap_or(usual_asset(gate.keys.mode));
        let found = gate.book.find(id, usual).or_else(|| gate.book.find_any(id));
        // Not put into the book: a key alone must not make us remember anything.
        let empty = || Arc::new(Account::new(id, usual, Amount::ZERO, Amount::ZERO));
        Self { account: found.unwrap_or_else(empty), key: Some(key), protocol: "key" }
    }

    fn budgets(&self) -> Vec<Budget> {
        let budgets = self.key.iter().flat_map(|key| &key.budgets);
        budgets
            .map(|budget| Budget { link: AccountId(budget.link), limit: budget.limit, ends_s: None })
            .collect()
    }

    /// Whether the key permits this route and model now.
    pub(crate) fn permits(&self, route: &Route, quote: &Quote, now_s: u64) -> Result<(), Refusal> {
        let Some(key) = &self.key else { return Ok(()) };
        credit_key::permits(key, &route.name, Some(&quote.model), now_s).map_err(|forbidden| {
            let (code, detail) = match forbidden {
                Forbidden::Expired(_) => return expired_key(),
                Forbidden::HolderProofMissing => {
                    (Code::HolderProofMissing, "This key demands requests signed by its holder.")
                }
                Forbidden::NotBefore(_) => (Code::KeyForbidden, "This key is not valid yet."),
                Forbidden::Route => (Code::KeyForbidden, "This key does not cover this route."),
                Forbidden::Model => (Code::KeyForbidden, "This key does not cover this model."),
            };
            Refusal::new(code, detail)
        })
    }

    /// Sets money aside for the call, with less output where the whole does not fit.
    pub(crate) fn hold(
        &self,
        gate: &Gate,
        quote: &Quote,
        may_clamp: bool,
    ) -> Result<(Hold, Fitted), Refusal> {
        let asset = self.account.asset();
        if !asset.is_dollar_parity() {
            let detail = "This account's asset has no rate to the currency of the prices.";
            return Err(Refusal::new(Code::WrongAsset, detail));
        }
        if let Some(key) = &self.key
            && let Some(other) = key.asset().filter(|limit| *limit != asset)
        {
            let detail = format!("This key limits spending in {other}, but its account holds {asset}.");
            return Err(Refusal::new(Code::KeyForbidden, detail));
        }
        let budgets = self.budgets();
        // Another call may take what was just seen: look again rather than refuse what a smaller fit allows.
        for _ in 0..3 {
            let room = self.room(gate, &budgets);
            let Some(fitted) = quote.fit(room.amount, may_clamp) else {
                return Err(self.short(gate, quote, room));
            };
            let wanted = Reserve { account: &self.account, budgets: &budgets, amount: fitted.hold };
            match gate.book.reserve(wanted) {
                Ok(hold) => return Ok((hold, fitted)),
                Err(ReserveError::Balance { .. } | ReserveError::Budget { .. }) => {}
                Err(ReserveError::Frozen | ReserveError::Closed) => {
                    return Err(Refusal::new(
                        Code::AccountFrozen,
                        "This account is frozen: ask the operator.",
                    ));
                }
                Err(ReserveError::TooManyBudgets) => {
                    return Err(Refusal::new(
                        Code::KeyForbidden,
                        "This account has too many keys with budgets.",
                    ));
                }
                Err(ReserveError::Negative | ReserveError::WindowOver | ReserveError::Ended) => {
                    return Err(Refusal::new(Code::Internal, "The price came out of range."));
                }
            }
        }
        let room = self.room(gate, &budgets);
        Err(self.short(gate, quote, room))
    }

    fn room(&self, gate: &Gate, budgets: &[Budget]) -> Room {
        let asset = self.account.asset();
        let mut room = Room { amount: self.account.available(), limit: Limit::Balance };
        for budget in budgets {
            let left = gate.book.budget_left(*budget, asset);
            if left < room.amount {
                room = Room { amount: left, limit: Limit::Budget };
            }
        }
        match self.key.as_ref().and_then(|key| key.per_call) {
            Some((_, per_call)) if per_call < room.amount => Room { amount: per_call, limit: Limit::PerCall },
            Some(_) | None => room,
        }
    }

    fn short(&self, gate: &Gate, quote: &Quote, room: Room) -> Refusal {
        let asset = self.account.asset();
        let balance = gate.book.balance(&self.account);
        let (need, have) = (quote.ceiling.short(asset), room.amount.short(asset));
        let (code, source, detail) = match room.limit {
            Limit::Balance => (
                Code::InsufficientBalance,
                "balance",
                format!("This call needs up to {need} {asset}; the balance is {have} {asset}."),
            ),
            Limit::Budget => (
                Code::OverTokenBudget,
                "token_budget",
                format!("This call needs up to {need} {asset}; the key's budget has {have} {asset} left."),
            ),
            Limit::PerCall => (
                Code::KeyForbidden,
                "per_call",
                format!("This call needs up to {need} {asset}; the key allows {have} {asset} a call."),
            ),
        };
        Refusal::new(code, detail).facts(Facts {
            need: Some((quote.ceiling, asset)),
            balance: Some((balance.available, asset)),
            limit_source: Some(source),
            affordable_max_tokens: quote.would_fit(room.amount),
            reason: None,
        })
    }
}

#[derive(Clone, Copy)]
struct Room {
    amount: Amount,
    limit: Limit,
}

#[derive(Clone, Copy)]
enum Limit {
    Balance,
    Budget,
    PerCall,
}

/// What accounts hold in this mode when nothing says otherwise.
pub(crate) const fn usual_asset(mode: Mode) -> Asset {
    match mode {
        Mode::Live => Asset::Usd,
        Mode::Test => Asset::Test,
    }
}
