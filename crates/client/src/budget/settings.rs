//! What people set in a budget, and what they are shown of it.

use std::collections::BTreeSet;

use super::{Account, Budget, BudgetError, HOSTS_MAX, Host, Limits, Span, Spent, Stop};

/// One line of what `farthing budget show` prints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Whose; `None` for all together.
    pub host: Option<Host>,
    /// The caps.
    pub limits: Limits,
    /// What was spent in the hour and in the day that run, and when the next ones begin, in Unix seconds.
    pub spent: [(Span, Spent, u64); 2],
    /// Why nothing is paid there.
    pub stop: Option<Stop>,
}

impl Budget {
    /// Sets the caps that `limits` names, for one host or for all together, and leaves the others.
    ///
    /// # Errors
    /// [`BudgetError::TooManyHosts`]
    pub fn set(&mut self, host: Option<&Host>, limits: Limits, now_unix_s: u64) -> Result<(), BudgetError> {
        self.roll(now_unix_s);
        let account = match host {
            Some(host) => self.account(host)?,
            None => &mut self.all,
        };
        account.limits = account.limits.renewed(limits);
        Ok(())
    }

    /// Adds to the hosts that alone may be paid. The first one makes the list.
    ///
    /// # Errors
    /// [`BudgetError::TooManyHosts`]; nothing was added.
    pub fn allow(&mut self, hosts: &[Host]) -> Result<(), BudgetError> {
        let mut allowed = self.allowed.clone().unwrap_or_default();
        allowed.extend(hosts.iter().cloned());
        if allowed.len() > HOSTS_MAX {
            return Err(BudgetError::TooManyHosts(HOSTS_MAX));
        }
        self.allowed = Some(allowed);
        Ok(())
    }

    /// Forgets caps, counts and breaker of a host and that it was allowed, or everything.
    pub fn clear(&mut self, host: Option<&Host>) {
        let Some(host) = host else {
            *self = Self::default();
            return;
        };
        self.reset(host);
        self.hosts.remove(host);
        if let Some(allowed) = &mut self.allowed {
            allowed.remove(host);
        }
    }

    /// Closes the breaker of a host, and forgets what it asked before. Whether there was anything to do.
    pub fn reset(&mut self, host: &Host) -> bool {
        self.prices.forget(host);
        let Some(account) = self.hosts.get_mut(host) else { return false };
        !std::mem::take(&mut account.breaker).is_idle()
    }

    /// All together, then host by host.
    #[must_use]
    pub fn lines(&mut self, now_unix_s: u64) -> Vec<Line> {
        self.roll(now_unix_s);
        let line = |host: Option<&Host>, account: &Account| {
            let spent = Span::ALL.map(|span| {
                let window = account.spent.of(span);
                (span, window.spent, window.end(span))
            });
            Line { host: host.cloned(), limits: account.limits, spent, stop: account.breaker.stop() }
        };
        let hosts = self.hosts.iter().map(|(host, account)| line(Some(host), account));
        std::iter::once(line(None, &self.all)).chain(hosts).collect()
    }

    /// The hosts that alone may be paid.
    #[must_use]
    pub const fn allowed(&self) -> Option<&BTreeSet<Host>> {
        self.allowed.as_ref()
    }

    /// How many calls are in flight or ended without a word, and what is held for them.
    #[must_use]
    pub fn held(&self) -> (usize, Spent) {
        let sum = self.open.iter().fold(Spent::default(), |sum, open| sum.plus(open.reserved));
        (self.open.len(), sum)
    }
}
