//! Who pays: a credit key checked without await or disk, or the account of a deposit.

use std::cell::{Cell, OnceCell};
use std::ops::Deref;
use std::rc::Rc;

use ledger::{Account, AccountId, AccountRef, AccountState, Budget, Hold, Reserve, ReserveError};
use money::{Amount, Asset};
use proof::credit_key::{self, Forbidden, KeyError, VerifiedKey};
use wire::credit_key::{CreditKey, Mode};

use crate::call::Arrived;
use crate::config::Route;
use crate::gate::Gate;
use crate::identity::{self, Content};
use crate::lightning::{OpenToken, PROTOCOL, TokenUse};
use crate::quote::{Fitted, Quote};
use crate::refusal::{Code, Facts, Refusal};
use crate::remembered::Remembered;
use crate::session::Session;
use crate::snapshot::Snapshot;

/// The window of an account's spend limit.
const DAY_SECONDS: u64 = 24 * 3600;
/// Its name in the books and in refusals.
const PER_DAY: &str = "per_day";

/// What the operator lets an account spend, whatever its balance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SpendLimits {
    pub(crate) per_call: Option<Amount>,
    pub(crate) per_day: Option<Amount>,
}

/// What is there, before anything is set aside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Funds {
    pub(crate) balance: Amount,
    /// That, within every limit of key and account.
    pub(crate) spendable: Amount,
}

/// Money that is still to come for a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Credit {
    /// How much of it there will be at most.
    pub(crate) most: Amount,
    /// How far below its floor the account may be taken, by all of its calls together.
    pub(crate) beyond: Amount,
}

/// The terms on which money is set aside.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HoldTerms {
    /// A payment that settles after the hold is taken.
    pub(crate) credit: Option<Credit>,
    pub(crate) limits: SpendLimits,
    /// Whether less output may be allowed where the whole does not fit (MTR-34).
    pub(crate) may_clamp: bool,
    /// Unix seconds.
    pub(crate) now_s: u64,
}

/// A key that was verified, and the account it opens once that was there (PERF-26).
pub(crate) struct KnownKey {
    verified: VerifiedKey,
    opens: OnceCell<AccountRef>,
    /// The day that its last call was counted in, and of which account: its link is a hash.
    day: Cell<Option<(AccountId, Budget)>>,
}

impl Deref for KnownKey {
    type Target = VerifiedKey;

    fn deref(&self) -> &VerifiedKey {
        &self.verified
    }
}

impl KnownKey {
    /// The account in the asset that the key is for. It is looked for by its name until it is there, and then never again:
    /// accounts stay.
    fn account(&self, gate: &Gate, usual: Asset) -> Option<AccountRef> {
        if let Some(known) = self.opens.get() {
            return Some(known.clone());
        }
        let found = gate.book.find(AccountId(self.verified.account), usual)?;
        Some(self.opens.get_or_init(|| found).clone())
    }

    /// The day of its account, with this limit.
    fn day(&self, account: AccountId, now_s: u64, limit: Amount) -> Budget {
        let known = self.day.get().filter(|(of, day)| *of == account && day.is_on(now_s, DAY_SECONDS));
        let day = known.map_or_else(|| day_of(account, now_s, limit), |(_, day)| Budget { limit, ..day });
        self.day.set(Some((account, day)));
        day
    }
}

/// Keys this thread has verified.
pub(crate) type KnownKeys = Remembered<KnownKey>;

impl KnownKeys {
    /// Checks a key: genuine, in time, not revoked.
    pub(crate) fn verify(&self, gate: &Gate, text: &str, now_s: u64) -> Result<Rc<KnownKey>, Refusal> {
        let masters = gate.keys.masters.load();
        let key = match self.get(&masters, text) {
            Some(key) => key,
            None => {
                let parsed = CreditKey::parse(text).map_err(|_| unknown_key())?;
                let verified = credit_key::verify(&masters.credit, gate.keys.mode, &parsed, now_s);
                let verified = verified.map_err(key_refusal)?;
                let key = Rc::new(KnownKey { verified, opens: OnceCell::new(), day: Cell::new(None) });
                self.keep(&masters, text, &key);
                key
            }
        };
        if key.expires.is_some_and(|end| now_s >= end) {
            return Err(expired_key());
        }
        if gate.is_revoked(names_of(&key)) {
            return Err(Refusal::new(Code::KeyRevoked, "This credit key has been revoked."));
        }
        Ok(key)
    }
}

/// What an account may spend today.
fn day_of(account: AccountId, now_s: u64, limit: Amount) -> Budget {
    Budget::window(account, PER_DAY, DAY_SECONDS, now_s, limit)
}

/// What a key can be revoked by: each point of its chain, its name, its account (L402-44).
fn names_of(key: &VerifiedKey) -> impl Iterator<Item = &[u8; 16]> {
    key.links.iter().chain([&key.key_id, &key.account])
}

fn frozen() -> Refusal {
    Refusal::new(Code::AccountFrozen, "This account is frozen: ask the operator.")
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
    pub(crate) account: AccountRef,
    pub(crate) key: Option<Rc<KnownKey>>,
    /// The L402 token that draws on its payment, with what it may.
    pub(crate) token: Option<TokenUse>,
    /// The session that more money can come into while a call runs.
    pub(crate) session: Option<Rc<Session>>,
    /// `key`, `sign-in`, `x402-v1`, `x402-v2`, `l402`.
    pub(crate) protocol: &'static str,
}

impl Payer {
    /// The payer behind a key. An account nobody has paid into yet is empty, not unknown.
    pub(crate) fn of_key(gate: &Gate, key: Rc<KnownKey>) -> Self {
        let id = AccountId(key.account);
        let usual = key.asset().unwrap_or(usual_asset(gate.keys.mode));
        let found = key.account(gate, usual).or_else(|| gate.book.find_any(id));
        // Not put into the book: a key alone must not make us remember anything.
        let empty = || AccountRef::from(Account::new(id, usual, Amount::ZERO, Amount::ZERO));
        Self {
            account: found.unwrap_or_else(empty),
            key: Some(key),
            token: None,
            session: None,
            protocol: "key",
        }
    }

    /// The payer behind a token whose payment is in its own account. None: that is not known yet.
    pub(crate) fn of_token(gate: &Gate, token: &OpenToken) -> Option<Self> {
        let account = gate.book.find_any(token.account()).filter(|_| token.is_in())?;
        Some(Self { account, key: None, token: None, session: None, protocol: PROTOCOL })
    }

    /// Whether a price in a signed header debits the account.
    pub(crate) fn is_crawler(&self) -> bool {
        self.protocol == identity::CRAWL
    }

    /// Whether it was revoked since it was let in: by the account, by what opens it, or by what that was made of.
    pub(crate) fn is_revoked(&self, gate: &Gate) -> bool {
        let account = self.account.id();
        let of_key = self.key.iter().flat_map(|key| names_of(key));
        let of_token = self.token.iter().flat_map(TokenUse::links);
        // The payer of a session is known by his address, and may be blocked like an agent (IDN-35).
        let is_blocked = |session: &Rc<Session>| session.is_blocked(&gate.snapshot.load());
        gate.is_revoked(of_key.chain(of_token).chain([&account.0]))
            || self.session.as_ref().is_some_and(is_blocked)
    }

    /// Every limit that a call is counted against besides the balance: the budgets of the key, outermost
    /// first, and the day of the account (LED-13, LED-14).
    fn budgets(&self, limits: SpendLimits, now_s: u64) -> Vec<Budget> {
        let budgets = self.key.iter().flat_map(|key| &key.budgets);
        let of_key =
            budgets.map(|budget| Budget { link: AccountId(budget.link), limit: budget.limit, ends_s: None });
        let of_token = self.token.iter().flat_map(TokenUse::budgets);
        let account = self.account.id();
        let day = |limit| match &self.key {
            Some(key) => key.day(account, now_s, limit),
            None => day_of(account, now_s, limit),
        };
        of_key.chain(of_token).chain(limits.per_day.map(day)).collect()
    }

    /// Whether the holder of the key has signed the request, where the key is bound to one (IDN-26).
    pub(crate) fn proves_holder(
        &self,
        gate: &Gate,
        arrived: &Arrived,
        content: Content<'_>,
    ) -> Result<(), Refusal> {
        let holder = self.key.as_ref().and_then(|key| key.holder);
        holder.map_or(Ok(()), |holder| identity::check_holder(gate, arrived, &holder, content))
    }

    /// Whether the key permits this route and model now, to the holder who has proven himself.
    pub(crate) fn permits(&self, arrived: &Arrived, route: &Route, quote: &Quote) -> Result<(), Refusal> {
        let Some(key) = &self.key else { return Ok(()) };
        let (holder, now_s) = (arrived.identity.holder(), arrived.now.seconds());
        let permitted = credit_key::permits(key, &route.name, Some(quote.model()), holder.as_ref(), now_s);
        permitted.map_err(|forbidden| {
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
        terms: HoldTerms,
    ) -> Result<(Hold, Fitted), Refusal> {
        self.may_spend()?;
        let budgets = self.budgets(terms.limits, terms.now_s);
        let beyond = terms.credit.map_or(Amount::ZERO, |credit| credit.beyond);
        // Another call may take what was just seen: look again rather than refuse what a smaller fit allows.
        for _ in 0..3 {
            let room = self.room(gate, &budgets, terms.limits, terms.credit);
            let Some(fitted) = self.fit(quote, room.amount, terms.may_clamp) else {
                return Err(self.short(gate, quote, room, terms.now_s));
            };
            let wanted = Reserve { account: &self.account, budgets: &budgets, amount: fitted.hold, beyond };
            match gate.book.reserve(wanted) {
                Ok(hold) => {
                    // Nor does it grow to more than what is there and what is to come.
                    let whole = terms.credit.map(|credit| self.with(credit));
                    return Ok((hold, self.growing(quote, fitted, terms.limits, whole)));
                }
                Err(ReserveError::Balance { .. } | ReserveError::Budget { .. }) => {}
                Err(ReserveError::Frozen | ReserveError::Closed) => {
                    return Err(frozen());
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
        let room = self.room(gate, &budgets, terms.limits, terms.credit);
        Err(self.short(gate, quote, room, terms.now_s))
    }

    /// What [`Payer::hold`] would set aside now.
    pub(crate) fn would_hold(&self, gate: &Gate, quote: &Quote, terms: HoldTerms) -> Result<Fitted, Refusal> {
        self.may_spend()?;
        let budgets = self.budgets(terms.limits, terms.now_s);
        let room = self.room(gate, &budgets, terms.limits, terms.credit);
        let fitted = self.fit(quote, room.amount, terms.may_clamp);
        fitted
            .map(|fitted| self.growing(quote, fitted, terms.limits, None))
            .ok_or_else(|| self.short(gate, quote, room, terms.now_s))
    }

    /// Money of a session may still come in while its call runs.
    fn fit(&self, quote: &Quote, available: Amount, may_clamp: bool) -> Option<Fitted> {
        let as_it_comes = self.session.as_ref().and_then(|_| quote.fit_as_it_comes(available));
        as_it_comes.or_else(|| quote.fit(available, may_clamp))
    }

    /// Whether anything at all can be spent from this account with this key.
    fn may_spend(&self) -> Result<(), Refusal> {
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
        // Before the balance: who pays more into such an account gets no further.
        if self.account.state() != AccountState::Open {
            return Err(frozen());
        }
        Ok(())
    }

    fn growing(&self, quote: &Quote, fitted: Fitted, limits: SpendLimits, whole: Option<Amount>) -> Fitted {
        let most = self.per_call(limits).into_iter().chain(whole).min();
        most.map_or(fitted, |most| quote.growing_within(fitted, most))
    }

    /// What is there to be spent, credit line included; below zero what is owed beyond that.
    fn purse(&self) -> i64 {
        self.account.available().units().saturating_add(self.account.overdraft().units())
    }

    /// That, with what is to come for one call.
    fn with(&self, credit: Credit) -> Amount {
        Amount::from_units(self.purse().max(0).saturating_add(credit.most.units()))
    }

    /// Most that one call may cost, by the key or the account.
    fn per_call(&self, limits: SpendLimits) -> Option<Amount> {
        let of_key = self.key.as_ref().and_then(|key| key.per_call).map(|(_, most)| most);
        let of_token = self.token.as_ref().and_then(TokenUse::per_call);
        of_key.into_iter().chain(of_token).chain(limits.per_call).min()
    }

    /// What a call could be paid with now.
    pub(crate) fn funds(&self, gate: &Gate, snapshot: &Snapshot, now_s: u64) -> Funds {
        let limits = gate.spend_limits(self.account.id(), &snapshot.config.limits);
        let spendable = self.room(gate, &self.budgets(limits, now_s), limits, None).amount;
        Funds { balance: self.account.available(), spendable }
    }

    fn room(&self, gate: &Gate, budgets: &[Budget], limits: SpendLimits, credit: Option<Credit>) -> Room {
        let asset = self.account.asset();
        let of_key = self.key.as_ref().map_or(0, |key| key.budgets.len())
            + self.token.as_ref().map_or(0, |token| token.budgets().count());
        let purse = self.purse();
        let spendable = match credit {
            None => Amount::from_units(purse),
            Some(credit) => {
                let deep = Amount::from_units(purse.saturating_add(credit.beyond.units()));
                self.with(credit).min(deep)
            }
        };
        let mut room = Room { amount: spendable, limit: Limit::Balance };
        for (place, budget) in budgets.iter().enumerate() {
            let left = gate.book.budget_left(*budget, asset);
            if left < room.amount {
                room =
                    Room { amount: left, limit: if place < of_key { Limit::Budget } else { Limit::PerDay } };
            }
        }
        match self.per_call(limits) {
            Some(per_call) if per_call < room.amount => Room { amount: per_call, limit: Limit::PerCall },
            Some(_) | None => room,
        }
    }

    fn short(&self, gate: &Gate, quote: &Quote, room: Room, now_s: u64) -> Refusal {
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
                format!("This call needs up to {need} {asset}; {have} {asset} are allowed for one call."),
            ),
            Limit::PerDay => (
                Code::RateLimited,
                PER_DAY,
                format!(
                    "This call needs up to {need} {asset}; the account may spend {have} {asset} more today."
                ),
            ),
        };
        let refusal = Refusal::new(code, detail);
        let refusal = match room.limit {
            // Paying would not help: the day must end.
            Limit::PerDay => {
                refusal.retry_after(u32::try_from(DAY_SECONDS - now_s % DAY_SECONDS).unwrap_or(u32::MAX))
            }
            Limit::Balance | Limit::Budget | Limit::PerCall => refusal,
        };
        refusal.facts(Facts {
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
    PerDay,
}

/// What accounts hold in this mode when nothing says otherwise.
pub(crate) const fn usual_asset(mode: Mode) -> Asset {
    match mode {
        Mode::Live => Asset::Usd,
        Mode::Test => Asset::Test,
    }
}
