//! A call that is to be paid: what signs and writes down what pays it.

use crate::call::{Credential, UsedKey};
use crate::challenge::Challenge;
use crate::channel::Held;
use crate::error::CallError;
use crate::folder::Folder;
use crate::offer::Scheme;
use crate::payment::{Chance, Payment};
use crate::pending::{self, Facts, Kind, Pending, Sum};
use crate::policy::Choice;
use crate::promise;
use crate::reservation::Reservation;
use crate::{Request, Wallet, now_unix_s};

/// A call that is to be paid, and with what.
pub(crate) struct Sale<'a> {
    pub(crate) request: &'a Request,
    pub(crate) challenge: &'a Challenge,
    pub(crate) chosen: Choice<'a>,
    pub(crate) wallet: &'a Wallet,
    pub(crate) folder: &'a Folder,
    pub(crate) reserved: Option<&'a Reservation>,
}

/// A payment that is written down, and the channel that it draws on.
pub(crate) struct Sending {
    pub(crate) pending: Pending,
    /// `None` for other schemes, and where the channel's file is gone.
    pub(crate) held: Option<Held>,
}

impl Sale<'_> {
    /// Signs a payment and writes it down, in this order on the disk: reserved, written down, sent.
    pub(crate) fn sign(&self, key: Option<UsedKey>) -> Result<(Payment, Sending), CallError> {
        let (chance, now) = (Chance::draw()?, now_unix_s());
        let (offer, terms) = (self.chosen.offer, self.chosen.terms);
        let payment = Payment::sign(self.challenge, offer, terms, self.wallet, &chance, now)?;
        let (kind, what) = match terms.scheme() {
            Scheme::Upto => (Kind::Upto, "up to "),
            Scheme::Permit2 => (Kind::Permit2, ""),
            Scheme::Exact | Scheme::Batch | Scheme::L402 => (Kind::Exact, ""),
        };
        // Beside a key a deposit tops up its account, which takes its own asset only.
        let tops_up = |key: &UsedKey| key.asset == Some(terms.asset) && kind != Kind::Upto;
        let key = key.filter(tops_up).map(|key| key.credential);
        let paid = format!("{what}{}", promise::describe(terms.price, terms.asset, offer.pay_to()));
        let pending = self.write_down(&payment, key, kind, paid, &chance)?;
        Ok((payment, Sending { pending, held: None }))
    }

    /// Writes a payment down, durably.
    pub(crate) fn write_down(
        &self,
        payment: &Payment,
        key: Option<Credential>,
        kind: Kind,
        paid: String,
        chance: &Chance,
    ) -> Result<Pending, CallError> {
        let folder = self.folder.pending_folder();
        pending::sweep(&folder, now_unix_s());
        let terms = self.chosen.terms;
        let mut headers = vec![(payment.name.clone(), payment.value.clone())];
        headers.extend(key);
        let facts = Facts {
            headers: &headers,
            paid,
            network: self.chosen.offer.network(),
            asset: Some(terms.asset),
            kind,
            sum: Some(Sum {
                atomic: terms.atomic,
                decimals: terms.decimals,
                token: terms.token(),
                pay_to: self.chosen.offer.pay_to().to_owned(),
            }),
            promise: self.chosen.offer.promise.as_deref().cloned(),
            intent: None,
            ticket: &chance.ticket(),
            valid_before: payment.valid_before,
            reserved: self.reserved.map(Reservation::id),
        };
        Ok(Pending::create(&folder, self.request, &facts)?)
    }
}
