//! The budget of everybody who pays from one folder: caps, what was spent, whom may be paid (UX-14).
//!
//! Invariant: in no hour and no day does more than its cap leave the wallet, and no more than its cap is used
//! up, by whatever number of processes. What a call may cost is reserved, durably, before anything is signed or
//! a credit key is sent. A reservation counts as spent until it is known what it came to; that it was refused,
//! or that its answer was lost, is no such knowledge.

mod breaker;
mod error;
mod limits;
mod nano;
mod settings;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use money::Amount;
use serde::{Deserialize, Serialize};

use crate::Policy;
use crate::folder::{self, FileError};

pub use breaker::Stop;
pub use error::{BudgetError, Cap, Over};
pub use limits::{Host, HostError, Limits, SpanCap, SpanCapError};
pub use settings::Line;
pub use window::{Span, Spent};

pub(crate) use breaker::Shape;
use breaker::{Breaker, Prices};
use window::{Sides, Stamp, Windows};

const VERSION: u8 = 1;
/// Most hosts that are counted, and most that are on the allow-list.
pub(crate) const HOSTS_MAX: usize = 256;
/// Most reservations whose end is still waited for. An older one stays spent as it was reserved.
const OPEN_MAX: usize = 512;

/// `budget.json`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    version: Version,
    /// Of all hosts together.
    #[serde(default)]
    all: Account,
    #[serde(default)]
    hosts: BTreeMap<Host, Account>,
    /// Who alone may be paid; everybody if there is no list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    allowed: Option<BTreeSet<Host>>,
    /// Reservations whose end is not known, oldest first.
    #[serde(default)]
    open: Vec<Open>,
    #[serde(default)]
    prices: Prices,
}

/// Required, so that nothing else passes for a budget without caps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
struct Version;

/// Caps, what was spent, and the breaker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    spent: Windows,
    #[serde(default)]
    breaker: Breaker,
}

/// A reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Open {
    id: String,
    host: Host,
    at: Stamp,
    reserved: Spent,
}

/// What is to be reserved.
#[derive(Clone, Debug)]
pub(crate) enum Claim<'c> {
    /// A payment of this price leaves the wallet for a call.
    Payment { price: Amount, shape: &'c Shape },
    /// A payment of this price leaves the wallet and becomes balance.
    TopUp { price: Amount, shape: &'c Shape },
    /// So much goes into a payment channel, from which a call of this price is paid.
    Deposit { deposit: Amount, price: Amount, shape: &'c Shape },
    /// A credit key that cannot be narrowed, or a payment channel, pays this price.
    Priced { price: Amount, shape: &'c Shape },
    /// A credit key is narrowed to what is granted, at most so much.
    Narrowed { most: Amount },
}

/// What a cap must have room for.
#[derive(Clone, Copy)]
struct Want {
    amount: Amount,
    /// Whole or not at all.
    is_price: bool,
    sides: Sides,
    /// The cap of a call counts.
    of_call: bool,
}

/// What was reserved.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) amount: Amount,
    /// The cap that made it less than was wanted.
    pub(crate) narrowed_by: Option<Box<Over>>,
}

impl Budget {
    /// Reads the file; without one nothing is limited.
    ///
    /// # Errors
    /// [`FileError`]; then nothing may be paid.
    pub fn load(file: &Path) -> Result<Self, FileError> {
        folder::load(file)
    }

    /// Changes the file under its lock, so that commands at the same time see each other's reservations. It is
    /// on the disk when this returns.
    ///
    /// # Errors
    /// [`FileError`]; nothing was changed.
    pub fn change<R>(file: &Path, change: impl FnOnce(&mut Self) -> R) -> Result<R, FileError> {
        folder::update(file, change)
    }

    /// Whether anything is limited at this host.
    pub(crate) fn limits(&self, host: &Host) -> bool {
        let own = self.hosts.get(host).is_some_and(|account| !account.limits.is_empty());
        own || self.allowed.is_some() || !self.all.limits.is_empty()
    }

    /// The policy within the caps of a call.
    pub(crate) fn narrow(&self, host: &Host, policy: Policy) -> Policy {
        let policy = self.all.limits.narrow(policy);
        match self.hosts.get(host) {
            Some(account) => account.limits.narrow(policy),
            None => policy,
        }
    }

    /// That a host is one that may be paid.
    pub(crate) fn permit(&self, host: &Host) -> Result<(), BudgetError> {
        match &self.allowed {
            Some(allowed) if !allowed.contains(host) => Err(BudgetError::NotAllowed(host.clone())),
            Some(_) | None => Ok(()),
        }
    }

    /// Reserves what a call may cost. From here on it counts as spent.
    ///
    /// # Errors
    /// [`BudgetError`]; nothing was reserved. A price that jumped has opened the breaker.
    pub(crate) fn reserve(
        &mut self,
        id: &str,
        host: &Host,
        claim: &Claim<'_>,
        now_unix_s: u64,
    ) -> Result<Granted, BudgetError> {
        self.roll(now_unix_s);
        self.permit(host)?;
        let last = claim.price().and_then(|(price, shape)| Some((self.prices.jump(shape, price)?, price)));
        let breaker = &mut self.account(host)?.breaker;
        let stop = breaker.stop().or_else(|| last.map(|(last, asked)| breaker.jump(last, asked)));
        if let Some(stop) = stop {
            return Err(BudgetError::Stopped { host: host.clone(), stop, now_unix_s });
        }
        let granted = self.grant(host, claim, now_unix_s)?;
        if let Some((price, shape)) = claim.price() {
            self.prices.learn(shape, host, price);
        }
        let reserved = claim.reserved(granted.amount);
        let at = self.all.spent.stamp();
        self.all.spent.add(reserved);
        self.account(host)?.spent.add(reserved);
        self.open.push(Open { id: id.to_owned(), host: host.clone(), at, reserved });
        let surplus = self.open.len().saturating_sub(OPEN_MAX);
        self.open.drain(..surplus);
        Ok(granted)
    }

    /// How much of a claim every cap has room for.
    fn grant(&self, host: &Host, claim: &Claim<'_>, now_unix_s: u64) -> Result<Granted, BudgetError> {
        if let Claim::Deposit { deposit, .. } = claim {
            // It leaves the wallet and is used up later: the caps of windows hold it, the cap of a call does not.
            let want = Want { amount: *deposit, is_price: true, sides: Sides::Paid, of_call: false };
            self.grant_side(host, want, now_unix_s)?;
        }
        let (amount, is_price) = match claim {
            Claim::Payment { price, .. }
            | Claim::TopUp { price, .. }
            | Claim::Deposit { price, .. }
            | Claim::Priced { price, .. } => (*price, true),
            Claim::Narrowed { most } => (*most, false),
        };
        self.grant_side(host, Want { amount, is_price, sides: claim.sides(), of_call: true }, now_unix_s)
    }

    fn grant_side(&self, host: &Host, want: Want, now_unix_s: u64) -> Result<Granted, BudgetError> {
        let Want { sides, is_price, .. } = want;
        let price = is_price.then_some(want.amount);
        let own = self.hosts.get(host).map(|account| (Some(host), account));
        let mut granted = Granted { amount: want.amount, narrowed_by: None };
        for (host, account) in own.into_iter().chain([(None, &self.all)]) {
            let mut caps: Vec<(Amount, Amount, Cap)> = Vec::new();
            let of_call = account.limits.call.filter(|_| want.of_call);
            caps.extend(of_call.map(|limit| (limit, limit, Cap::Call)));
            for span in Span::ALL {
                let Some(limit) = account.limits.of(span) else { continue };
                let window = account.spent.of(span);
                let left = window.spent.room(limit, sides);
                let held = self.held_in(host, account, span, sides);
                caps.push((limit, left, Cap::Window { span, left, held, free_at: window.end(span) }));
            }
            for (limit, room, cap) in caps {
                if room < granted.amount {
                    let over = Over {
                        cap,
                        host: host.cloned(),
                        limit,
                        price,
                        is_deposit: !want.of_call,
                        now_unix_s,
                    };
                    granted = Granted { amount: room, narrowed_by: Some(Box::new(over)) };
                }
            }
        }
        match granted.narrowed_by {
            // A price is paid whole or not at all, and a key that may spend nothing is of no use.
            Some(over) if is_price || granted.amount == Amount::ZERO => Err(BudgetError::Over(over)),
            narrowed_by => Ok(Granted { narrowed_by, ..granted }),
        }
    }

    /// What of a window is held for calls whose end is not known.
    fn held_in(&self, host: Option<&Host>, account: &Account, span: Span, sides: Sides) -> Amount {
        let open = self.open.iter().filter(|open| host.is_none_or(|host| open.host == *host));
        let open = open.filter(|open| open.at.is_in(&account.spent, span));
        let held = open.fold(Spent::default(), |sum, open| sum.plus(open.reserved));
        held.on(sides)
    }

    /// A call came to nothing: its payment was never sent, or its key was not charged.
    pub(crate) fn release(&mut self, id: &str) {
        if let Some(open) = self.take(id) {
            self.correct(&open, Spent::default());
        }
    }

    /// A call was charged so much, by its receipt. What left the wallet for it has left.
    pub(crate) fn charge(&mut self, id: &str, charged: Amount) {
        if let Some(open) = self.take(id) {
            self.correct(&open, Spent { used: charged, ..open.reserved });
        }
    }

    /// So much of what was signed was taken, and so much was used.
    pub(crate) fn settle(&mut self, id: &str, came_to: Spent) {
        if let Some(open) = self.take(id) {
            self.correct(&open, came_to);
        }
    }

    /// So much left the wallet for a call; what of it is used is told later.
    pub(crate) fn pay(&mut self, id: &str, paid: Amount) {
        let Some(index) = self.open.iter().position(|open| open.id == id) else { return };
        let open = self.open[index].clone();
        // What is balance afterwards is not used by that.
        let used = if open.reserved.used == Amount::ZERO { Amount::ZERO } else { paid };
        let came_to = Spent { paid, used };
        self.correct(&open, came_to);
        self.open[index].reserved = came_to;
    }

    /// A call cost what was reserved, and nobody will say it more exactly.
    pub(crate) fn close(&mut self, id: &str) {
        self.take(id);
    }

    /// A host refused a payment, or left open what became of it.
    pub(crate) fn fail(&mut self, host: &Host, now_unix_s: u64) {
        if let Ok(account) = self.account(host) {
            account.breaker.roll(now_unix_s);
            account.breaker.fail(now_unix_s);
        }
    }

    /// A host served a paid call.
    pub(crate) fn serve(&mut self, host: &Host) {
        if let Some(account) = self.hosts.get_mut(host) {
            account.breaker.serve();
        }
    }

    fn take(&mut self, id: &str) -> Option<Open> {
        let index = self.open.iter().position(|open| open.id == id)?;
        Some(self.open.remove(index))
    }

    fn correct(&mut self, open: &Open, came_to: Spent) {
        self.all.spent.correct(open.at, open.reserved, came_to);
        if let Some(account) = self.hosts.get_mut(&open.host) {
            account.spent.correct(open.at, open.reserved, came_to);
        }
    }

    /// The account of a host, made when it is first needed.
    fn account(&mut self, host: &Host) -> Result<&mut Account, BudgetError> {
        if !self.hosts.contains_key(host) && self.hosts.len() >= HOSTS_MAX {
            return Err(BudgetError::TooManyHosts(HOSTS_MAX));
        }
        let fresh = || Account { spent: self.all.spent.begun(), ..Account::default() };
        Ok(self.hosts.entry(host.clone()).or_insert_with(fresh))
    }

    /// Begins the windows of `now`, and forgets what counts no more.
    fn roll(&mut self, now_unix_s: u64) {
        self.all.spent.roll(now_unix_s);
        let windows = self.all.spent;
        self.open.retain(|open| open.at.is_in(&windows, Span::Day));
        self.hosts.retain(|_, account| {
            account.spent.follow(&windows);
            account.breaker.roll(now_unix_s);
            let spent = account.spent.of(Span::Day).spent;
            spent != Spent::default() || !account.limits.is_empty() || !account.breaker.is_idle()
        });
    }
}

impl TryFrom<u8> for Version {
    type Error = &'static str;

    fn try_from(number: u8) -> Result<Self, Self::Error> {
        if number == VERSION { Ok(Self) } else { Err("another version of the file") }
    }
}

impl From<Version> for u8 {
    fn from(_: Version) -> Self {
        VERSION
    }
}

impl<'c> Claim<'c> {
    const fn sides(&self) -> Sides {
        match self {
            Self::Payment { .. } => Sides::Both,
            Self::TopUp { .. } => Sides::Paid,
            Self::Deposit { .. } | Self::Priced { .. } | Self::Narrowed { .. } => Sides::Used,
        }
    }

    /// What counts as spent when `granted` of it was.
    const fn reserved(&self, granted: Amount) -> Spent {
        let (paid, used) = match self {
            Self::Payment { .. } => (granted, granted),
            Self::TopUp { .. } => (granted, Amount::ZERO),
            Self::Deposit { deposit, .. } => (*deposit, granted),
            Self::Priced { .. } | Self::Narrowed { .. } => (Amount::ZERO, granted),
        };
        Spent { paid, used }
    }

    const fn price(&self) -> Option<(Amount, &'c Shape)> {
        match self {
            Self::Payment { price, shape }
            | Self::TopUp { price, shape }
            | Self::Deposit { price, shape, .. }
            | Self::Priced { price, shape } => Some((*price, *shape)),
            Self::Narrowed { .. } => None,
        }
    }
}
