//! Paying an invoice, once: written down, paid or looked up, and then shown to the seller.
//!
//! ```text
//! reserve (durable) -> write the invoice down (durable) -> pay -> write the preimage down (durable) -> send
//! ```
//! Whatever interrupts this, the same request finds the file. It asks the wallet about this very invoice, and pays no
//! other in its place before the wallet says that nothing was paid and nothing will be.

use std::fmt;

use http::{HeaderName, HeaderValue};
use money::{Amount, Asset};
use rails::lightning::{Outgoing, Sent};
use serde::{Deserialize, Serialize};
use wire::hex;
use wire::l402::{Offered, PaymentHash, Preimage, Scheme};
use zeroize::Zeroize as _;

use super::invoice::{sat, worth_up};
use super::{InvoiceTerms, Lightning, Token, tokens};
use crate::call::Credential;
use crate::client::{Client, See, Step};
use crate::error::CallError;
use crate::pauses::Pauses;
use crate::payment::Chance;
use crate::pending::{self, Facts, Kind, Pending};
use crate::policy::Choice;
use crate::reservation::{End, Reservation};
use crate::sale::Sending;
use crate::{Request, now_unix_s, printable};

/// Tells a seller like us that a call sent again is the same call.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Stands for the preimage until it is known: the file is overwritten in place.
const NOT_KNOWN: [u8; 32] = [0; 32];
/// An order that a wallet knows nothing of may still reach it until the invoice has expired, by any clock.
const EXPIRY_GRACE_S: u64 = 120;

/// An invoice that is to be paid, and its token. `Debug` hides the token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Intent {
    /// Which wallet pays: another one is not asked.
    wallet: String,
    scheme: String,
    token: String,
    invoice: String,
    payment_hash: String,
    amount_msat: u64,
    fee_max_msat: u64,
    expires_at: u64,
    /// Nano-dollars for a millisatoshi, as a fraction.
    price: (u64, u64),
    /// A credit key goes beside it: then the payment is the key's, and its token opens nothing by itself.
    #[serde(default)]
    tops_up: bool,
    /// Of the same length known and unknown.
    preimage: String,
}

/// What became of an invoice.
pub(crate) enum Invoiced {
    /// It is paid, and what it bought can be sent.
    Paid(Box<Sending>),
    /// Nothing was paid, and nothing will be.
    NotPaid {
        /// What it would have paid.
        what: String,
        /// What the wallet says.
        reason: String,
    },
}

/// What the wallet says of an invoice.
enum Heard {
    Paid {
        preimage: Preimage,
        fee_msat: u64,
    },
    Failed(String),
    /// The wallet knows nothing of it.
    Absent,
    /// Nobody told.
    Unknown(String),
}

impl Intent {
    fn new(wallet: &Lightning, terms: &InvoiceTerms, tops_up: bool) -> Self {
        Self {
            wallet: wallet.name.clone(),
            scheme: terms.offered.scheme().name().to_owned(),
            token: terms.offered.token().to_owned(),
            invoice: terms.offered.invoice().to_owned(),
            payment_hash: terms.payment_hash.to_string(),
            amount_msat: terms.amount_msat,
            fee_max_msat: terms.fee_max_msat,
            expires_at: terms.expires_at_s,
            price: terms.price.fraction(),
            tops_up,
            preimage: hex::encode(&NOT_KNOWN),
        }
    }

    /// Notes what opens the token.
    pub(crate) fn open(&mut self, preimage: &Preimage) {
        self.preimage.zeroize();
        self.preimage = hex::encode(preimage.as_bytes());
    }

    /// The preimage, once it is known. One that does not open the invoice was cut off while it was written.
    fn preimage(&self) -> Option<Preimage> {
        let known = Preimage::parse(&self.preimage).ok().filter(|preimage| *preimage.as_bytes() != NOT_KNOWN);
        known.filter(|preimage| self.is_opened_by(preimage))
    }

    fn is_opened_by(&self, preimage: &Preimage) -> bool {
        PaymentHash::parse(&self.payment_hash) == Ok(preimage.payment_hash())
    }

    fn offered(&self) -> Option<Offered> {
        Offered::new(Scheme::parse(&self.scheme)?, &self.token, &self.invoice).ok()
    }

    /// The header that shows the payment; `None` until it is made.
    pub(crate) fn credential(&self) -> Option<Credential> {
        tokens::credential(&self.offered()?, &self.preimage()?)
    }

    /// Whether a credit key goes beside it.
    pub(crate) const fn tops_up(&self) -> bool {
        self.tops_up
    }

    /// Names the payment.
    pub(crate) fn payment_hash(&self) -> &str {
        &self.payment_hash
    }

    /// What so many millisatoshi were worth when it was decided to pay.
    fn worth(&self, msat: u64) -> Option<Amount> {
        worth_up(self.price, msat)
    }

    /// What was bought, to be kept.
    pub(crate) fn bought(&self, metered: bool) -> Option<Token> {
        if self.tops_up {
            return None;
        }
        let worth = self.worth(self.amount_msat)?;
        Some(Token::new(&self.offered()?, &self.preimage()?, worth, metered, now_unix_s()))
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        self.token.zeroize();
        self.preimage.zeroize();
    }
}

impl fmt::Debug for Intent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Intent({} msat by {}, {})", self.amount_msat, self.wallet, self.payment_hash)
    }
}

impl Lightning {
    async fn pay(&self, intent: &Intent) -> Heard {
        match self.node.pay(&intent.invoice, intent.fee_max_msat).await {
            Sent::Paid { preimage, fee_msat } => Heard::Paid { preimage, fee_msat },
            Sent::Failed(reason) => Heard::Failed(reason),
            Sent::Unknown => {
                Heard::Unknown("the Lightning wallet does not say whether the invoice is paid".to_owned())
            }
        }
    }

    async fn look_up(&self, intent: &Intent) -> Heard {
        match self.node.outgoing(&intent.invoice).await {
            Ok(Outgoing::Paid { preimage, fee_msat }) => Heard::Paid { preimage, fee_msat },
            Ok(Outgoing::Failed(reason)) => Heard::Failed(reason),
            Ok(Outgoing::UnderWay) => Heard::Unknown("the Lightning payment is on its way".to_owned()),
            Ok(Outgoing::Absent) => Heard::Absent,
            Err(error) => Heard::Unknown(format!("the Lightning wallet cannot be asked: {error}")),
        }
    }
}

impl Client {
    /// Writes down that an invoice is to be paid, durably. Only then may it be.
    pub(crate) fn intend(
        &self,
        request: &Request,
        choice: &Choice<'_>,
        terms: &InvoiceTerms,
        reserved: Option<&Reservation>,
        key: Option<Credential>,
        see: &mut See<'_>,
    ) -> Result<Sending, CallError> {
        let folder = self.folder.as_ref().ok_or(CallError::NoFolder)?.pending_folder();
        let wallet = self.lightning.as_ref().ok_or(CallError::NoLightning)?;
        let (chance, now) = (Chance::draw()?, now_unix_s());
        pending::sweep(&folder, now);
        let mut headers: Vec<Credential> = key.iter().cloned().collect();
        if !request.has_header(&IDEMPOTENCY_KEY)
            && let Ok(name) = HeaderValue::try_from(chance.ticket())
        {
            headers.push((IDEMPOTENCY_KEY, name));
        }
        let worth = terms.worth_up(terms.amount_msat).unwrap_or(choice.terms.price).short(Asset::Usd);
        let payee = printable(choice.offer.pay_to());
        let facts = Facts {
            headers: &headers,
            paid: format!("{} ({worth} USD) over Lightning to {payee}", sat(terms.amount_msat)),
            network: choice.offer.network(),
            asset: None,
            kind: Kind::Invoice,
            sum: None,
            promise: None,
            intent: Some(Intent::new(wallet, terms, key.is_some())),
            ticket: &chance.ticket(),
            valid_before: now.saturating_add(pending::PROOF_S),
            reserved: reserved.map(Reservation::id),
        };
        let pending = Pending::create(&folder, request, &facts)?;
        see(Step::PayingInvoice {
            offer: choice.offer,
            payment_hash: &terms.payment_hash,
            fee_max_msat: terms.fee_max_msat,
        });
        Ok(Sending { pending, held: None })
    }

    /// What became of the invoice that a call is paid with: paid now, if it was not begun before. Other payments are
    /// handed through.
    ///
    /// # Cancel safety
    /// Dropped midway, it may have been paid. It is written down: the same request looks it up.
    pub(crate) async fn open_invoice(
        &self,
        request: &Request,
        mut sending: Sending,
        see: &mut See<'_>,
    ) -> Result<Invoiced, CallError> {
        let pending = &mut sending.pending;
        let Some(intent) = pending.intent().cloned().filter(|intent| intent.preimage().is_none()) else {
            return Ok(Invoiced::Paid(Box::new(sending)));
        };
        let unknown = |pending: &Pending, why: &str| {
            let (paid, path) = (pending.paid().to_owned(), pending.path().to_owned());
            CallError::Unknown { paid, why: why.to_owned(), path }
        };
        let Some(wallet) = &self.lightning else {
            return Err(unknown(pending, "no Lightning wallet is set any more"));
        };
        if wallet.name != intent.wallet {
            let why = format!("it was begun with another Lightning wallet, {}", printable(&intent.wallet));
            return Err(unknown(pending, &why));
        }
        let mut pauses = Pauses::new(self.patience);
        let mut heard = if pending.sent { wallet.look_up(&intent).await } else { wallet.pay(&intent).await };
        // A wallet that knows nothing of an earlier run's order is given it once more: the same invoice, which it pays
        // once however often it is ordered.
        let mut may_pay = pending.sent;
        loop {
            let now = now_unix_s();
            let why = match heard {
                Heard::Paid { preimage, fee_msat } => {
                    return self.opened(request, sending, &intent, &preimage, fee_msat, see);
                }
                Heard::Failed(reason) => return Ok(self.not_paid(request, sending, &reason, see)),
                Heard::Absent if may_pay && now < intent.expires_at => {
                    may_pay = false;
                    heard = wallet.pay(&intent).await;
                    continue;
                }
                // The order could still arrive.
                Heard::Absent => match intent.expires_at.saturating_add(EXPIRY_GRACE_S).checked_sub(now) {
                    None => {
                        let reason = "the wallet knows nothing of it, and the invoice has expired";
                        return Ok(self.not_paid(request, sending, reason, see));
                    }
                    Some(left_s) => format!(
                        "the Lightning wallet knows nothing of the payment; unless it comes within {left_s} s, \
                         nothing was paid"
                    ),
                },
                Heard::Unknown(why) => why,
            };
            let Some(pause) = pauses.next(None) else { return Err(unknown(&sending.pending, &why)) };
            see(Step::Waiting { pause, why: &why });
            tokio::time::sleep(pause).await;
            heard = wallet.look_up(&intent).await;
        }
    }

    /// The invoice is paid: the money is gone, and the proof is kept before it is sent.
    fn opened(
        &self,
        request: &Request,
        mut sending: Sending,
        intent: &Intent,
        preimage: &Preimage,
        fee_msat: u64,
        see: &mut See<'_>,
    ) -> Result<Invoiced, CallError> {
        if !intent.is_opened_by(preimage) {
            let (paid, path) = (sending.pending.paid().to_owned(), sending.pending.path().to_owned());
            return Err(CallError::WalletLied { paid, path });
        }
        self.note(sending.pending.open(preimage), see);
        if fee_msat > intent.fee_max_msat {
            let (fee, most) = (sat(fee_msat), sat(intent.fee_max_msat));
            see(Step::Doubt(&format!("the Lightning wallet paid a fee of {fee}, where {most} were allowed")));
        }
        if let Some(came_to) = intent.worth(intent.amount_msat.saturating_add(fee_msat)) {
            self.end(self.reserved(request, &sending.pending).as_ref(), End::Paid(came_to), see);
        }
        see(Step::InvoicePaid { payment_hash: intent.payment_hash(), fee_msat });
        Ok(Invoiced::Paid(Box::new(sending)))
    }

    fn not_paid(&self, request: &Request, sending: Sending, reason: &str, see: &mut See<'_>) -> Invoiced {
        self.end(self.reserved(request, &sending.pending).as_ref(), End::Nothing, see);
        let what = sending.pending.paid().to_owned();
        self.note(sending.pending.discard(), see);
        Invoiced::NotPaid { what, reason: printable(reason) }
    }
}
