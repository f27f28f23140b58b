//! What stands for an account wherever one is used.

use std::ops::Deref;

use crate::Account;
use crate::sync::Arc;

/// An account to reserve on, give to, look at. A copy is the same account.
///
/// One of a book is a word that nobody counts: it is there for good. One apart from it goes with its last reference:
/// a budget, which is forgotten with its window, or a payer that nobody has paid in for, whom we need not remember.
#[derive(Clone, Debug)]
pub struct AccountRef(Place);

#[derive(Clone, Debug)]
enum Place {
    Book(&'static Account),
    Apart(Arc<Account>),
}

impl AccountRef {
    pub(crate) const fn of_book(account: &'static Account) -> Self {
        Self(Place::Book(account))
    }

    /// Whether it is one of a book: what is noted in it stays.
    #[must_use]
    pub const fn is_in_book(&self) -> bool {
        matches!(self.0, Place::Book(_))
    }
}

impl From<Account> for AccountRef {
    /// An account apart from every book.
    fn from(account: Account) -> Self {
        Self(Place::Apart(Arc::new(account)))
    }
}

impl Deref for AccountRef {
    type Target = Account;

    fn deref(&self) -> &Account {
        match &self.0 {
            Place::Book(account) => account,
            Place::Apart(account) => account,
        }
    }
}
