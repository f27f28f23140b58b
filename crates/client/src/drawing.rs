//! Paying from a channel: drawing on it, drawing once more where it was behind, and what an answer says of it.

use proof::x402_batch::payer::Contradiction;
use wire::x402::batch::{BatchPayload, ChannelState, Deposit, ResponseExtra};
use wire::x402::decode_payment_signature;

use crate::challenge::Challenge;
use crate::channel::{self, Correction, Draw, Held, PutIn};
use crate::client::{Client, See, Step};
use crate::error::CallError;
use crate::offer::{ChannelTerms, Entry, Offer, Way};
use crate::payment::{Chance, Payment};
use crate::pending::{Kind, Pending, Sum};
use crate::policy::Choice;
use crate::promise::{self, Promise};
use crate::reservation::{End, Reservation};
use crate::sale::{Sale, Sending};
use crate::verdict::{Paid, Settled};
use crate::{Request, Wallet, now_unix_s, printable};

/// What an answer makes of a payment.
pub(crate) struct Outcome {
    pub(crate) paid: Paid,
    pub(crate) end: End,
    /// What the seller may still take, and has not told yet.
    pub(crate) promise: Option<Promise>,
}

impl Sale<'_> {
    /// Holds a channel, signs, and writes down channel and payment, in this order on the disk: reserved, the channel,
    /// the payment, sent.
    pub(crate) fn draw(&self, channel: &ChannelTerms) -> Result<(Payment, Sending), CallError> {
        let (terms, atomic) = (self.chosen.terms, self.chosen.deposit_atomic);
        let salt = Chance::draw()?.nonce;
        let held = channel::hold(self.folder, self.request, (terms, channel), self.wallet, atomic, salt)?;
        let mut held = held.ok_or(CallError::ChannelTaken)?;
        let deposit = if atomic == 0 { PutIn::Nothing } else { PutIn::New(atomic) };
        let (payment, pending) = self.sign_draw(&mut held, deposit)?;
        Ok((payment, Sending { pending, held: Some(held) }))
    }

    fn sign_draw(&self, held: &mut Held, deposit: PutIn<'_>) -> Result<(Payment, Pending), CallError> {
        let chance = Chance::draw()?;
        let ticket = chance.ticket();
        let (terms, request) = (self.chosen.terms, self.request);
        let salt = chance.nonce;
        let draw = Draw { terms, deposit, request, ticket: &ticket, salt, now_unix_s: now_unix_s() };
        let drawn = held.draw(&draw, self.wallet)??;
        let put_in = match &drawn.payload {
            BatchPayload::Deposit { deposit, .. } => deposit.amount,
            BatchPayload::Voucher { .. } | BatchPayload::Refund { .. } => 0,
        };
        let name = held.channel.name();
        let kind = Kind::Batch { channel: name.clone(), deposit: put_in };
        let paid =
            format!("up to {} {} from channel {name}", terms.price.short(terms.asset), terms.asset.name());
        let (challenge, offer) = (self.challenge, self.chosen.offer);
        let written = Payment::of_channel(challenge, offer, &drawn.payload, &chance, drawn.valid_before)
            .map_err(CallError::from)
            .and_then(|payment| {
                let pending = self.write_down(&payment, None, kind, paid, &chance)?;
                Ok((payment, pending))
            });
        if written.is_err() {
            held.release()?;
        }
        written
    }
}

impl Client {
    /// The payment that an earlier process left, with the channel it draws on.
    pub(crate) async fn resume(&self, pending: Pending) -> Result<Sending, CallError> {
        let (Kind::Batch { channel, .. }, Some(folder)) = (pending.kind(), &self.folder) else {
            return Ok(Sending { pending, held: None });
        };
        let held = channel::hold_named(folder, channel).await?;
        Ok(Sending { pending, held })
    }

    /// Draws once more on a channel that was behind its seller, for the same call. `false` where that is not borne
    /// out by what we signed, or would take more than was reserved (X402-29).
    pub(crate) fn draw_again(
        &self,
        request: &Request,
        challenge: &Challenge,
        sending: &mut Sending,
        see: &mut See<'_>,
    ) -> Result<bool, CallError> {
        let Kind::Batch { deposit, .. } = *sending.pending.kind() else { return Ok(false) };
        let (Some(wallet), Some(folder), Some(held)) = (&self.wallet, &self.folder, &mut sending.held) else {
            return Ok(false);
        };
        let origin = request.target.origin_text();
        let serves = |offer: &&Offer| match offer.terms.as_ref().map(|terms| &terms.way) {
            Ok(Way::Channel(channel)) => held.channel.serves(&origin, channel, wallet),
            Ok(Way::Transfer(_) | Way::Permit { .. } | Way::Solana(_) | Way::Invoice(_)) | Err(_) => false,
        };
        let offer = challenge.offers.iter().find(serves);
        let Some((offer, terms)) = offer.and_then(|offer| Some((offer, offer.terms.as_ref().ok()?))) else {
            return Ok(false);
        };
        let Some(told) = corrective(offer) else { return Ok(false) };
        match held.correct(&told, deposit)? {
            Ok(Correction::Behind) => {}
            Ok(Correction::ThisCall) => {
                see(Step::Doubt(
                    "the seller says that it has charged this very call; the call is not paid again",
                ));
                return Ok(false);
            }
            Err(contradiction) => {
                see(Step::Doubt(&stopped(held, contradiction)));
                return Ok(false);
            }
        }
        let reserved = sending.pending.sum().map_or(0, |sum| sum.atomic);
        let left = signed_deposit(&sending.pending);
        let deposit = match (held.channel.missing(terms.atomic), &left) {
            (0, _) => PutIn::Nothing,
            (missing, Some(left)) if missing <= left.amount => {
                PutIn::Same(left, sending.pending.valid_before())
            }
            _ => return Ok(false),
        };
        if terms.atomic > reserved {
            return Ok(false);
        }
        let chosen = Choice { offer, terms, deposit: money::Amount::ZERO, deposit_atomic: 0 };
        let of_call = self.reserved(request, &sending.pending);
        let sale = Sale { request, challenge, chosen, wallet, folder, reserved: of_call.as_ref() };
        let (payment, pending) = sale.sign_draw(held, deposit)?;
        see(Step::Paying { offer, payment: &payment });
        let behind = std::mem::replace(&mut sending.pending, pending);
        self.note(behind.discard(), see);
        Ok(true)
    }

    /// What an answer makes of a payment that was taken. `whole` is what a payment of the whole sum came to.
    pub(crate) fn outcome(
        &self,
        settled: &Settled,
        sending: &mut Sending,
        whole: End,
        reserved: Option<&Reservation>,
        see: &mut See<'_>,
    ) -> Outcome {
        let pending = &sending.pending;
        let ours = settled.payer.as_deref().is_none_or(|payer| self.is_ours(payer, pending.network()));
        if !ours {
            see(Step::Doubt("the seller's result names another payer"));
        }
        let taken =
            |what: &str| Paid::Taken { what: what.to_owned(), transaction: settled.transaction.clone() };
        let Some(sum) = pending.sum() else {
            return Outcome { paid: taken(pending.paid()), end: whole, promise: None };
        };
        match pending.kind() {
            Kind::Exact | Kind::Permit2 | Kind::Invoice => {
                if let Err(misfit) = promise::whole(sum, settled.amount.as_deref()) {
                    see(Step::Doubt(&misfit.to_string()));
                }
                Outcome { paid: taken(pending.paid()), end: whole, promise: None }
            }
            Kind::Upto => metered(settled, pending, sum, reserved, see),
            Kind::Batch { deposit, .. } => {
                let (deposit, sum) = (*deposit, sum.clone());
                drawn(settled, sending, &sum, deposit, whole, see)
            }
        }
    }

    /// On Solana some facilitators name who paid the fee.
    fn is_ours(&self, payer: &str, network: &str) -> bool {
        let ours = |wallet: &Wallet| wallet.address_on(network).eq_ignore_ascii_case(payer);
        network.starts_with("solana:") || self.wallet.as_ref().is_none_or(ours)
    }
}

/// What a call cost that was paid up to a ceiling.
fn metered(
    settled: &Settled,
    pending: &Pending,
    sum: &Sum,
    reserved: Option<&Reservation>,
    see: &mut See<'_>,
) -> Outcome {
    let signed = |end| Outcome {
        paid: Paid::Taken { what: pending.paid().to_owned(), transaction: settled.transaction.clone() },
        end,
        promise: None,
    };
    let Some(asset) = pending.asset() else { return signed(End::Served) };
    let Some(told) = &settled.amount else {
        let promise = Promise {
            sum: sum.clone(),
            asset,
            network: pending.network().to_owned(),
            reserved: reserved.cloned(),
        };
        let paid = Paid::Promised { what: pending.paid().to_owned() };
        return Outcome { paid, end: End::Served, promise: Some(promise) };
    };
    match promise::taken(sum, told) {
        Ok(atomic) => match promise::spent(sum, asset, atomic) {
            Some(spent) => {
                let what = promise::describe(spent.paid, asset, &sum.pay_to);
                let paid = Paid::Taken { what, transaction: settled.transaction.clone() };
                Outcome { paid, end: End::Took(spent), promise: None }
            }
            None => signed(End::Open),
        },
        Err(misfit) => {
            see(Step::Doubt(&misfit.to_string()));
            signed(End::Open)
        }
    }
}

/// What a call cost that a channel paid, if the result adds up; else the channel signs nothing more (X402-27).
fn drawn(
    settled: &Settled,
    sending: &mut Sending,
    sum: &Sum,
    deposit: u128,
    whole: End,
    see: &mut See<'_>,
) -> Outcome {
    let (transaction, asset) = (settled.transaction.clone(), sending.pending.asset());
    let promised = sending.pending.paid().to_owned();
    let at_most = |end| Outcome {
        paid: Paid::Taken { what: promised.clone(), transaction: transaction.clone() },
        end,
        promise: None,
    };
    let Some(held) = &mut sending.held else {
        see(Step::Doubt(
            "the channel's file is gone or in use, so what the seller charged cannot be checked",
        ));
        return at_most(whole);
    };
    let told = settled.channel.as_deref().cloned().unwrap_or_default();
    match held.settle(sum.atomic, deposit, &told) {
        Ok(Ok(charged)) => {
            let worth = asset.and_then(|asset| Some((promise::spent(sum, asset, charged)?.used, asset)));
            let Some((worth, asset)) = worth else { return at_most(whole) };
            let name = held.channel.name();
            let what = format!("{} {} from channel {name}", worth.short(asset), asset.name());
            // Not what a receipt says: what was charged and not used lowers the next charge, so charges add up.
            Outcome { paid: Paid::Taken { what, transaction }, end: End::Drawn(worth), promise: None }
        }
        Ok(Err(contradiction)) => {
            see(Step::Doubt(&stopped(held, contradiction)));
            at_most(End::Open)
        }
        Err(error) => {
            see(Step::Warning(&error));
            at_most(whole)
        }
    }
}

fn stopped(held: &Held, contradiction: Contradiction) -> String {
    let name = held.channel.name();
    format!(
        "{}: nothing more is signed for channel {name}; what is in it can be withdrawn (farthing wallet channels)",
        printable(&contradiction.to_string())
    )
}

/// Where a corrective offer says that the channel stands.
fn corrective(offer: &Offer) -> Option<ChannelState> {
    let Entry::V2(entry) = &offer.entry else { return None };
    ResponseExtra::from_extra(entry.extra.as_ref()?)?.channel_state
}

/// The deposit that a payment carries.
fn signed_deposit(pending: &Pending) -> Option<Deposit> {
    let headers = pending.headers();
    let value =
        headers.iter().find(|(name, _)| name == wire::x402::header::PAYMENT_SIGNATURE)?.1.to_str().ok()?;
    let payment = decode_payment_signature(value).ok()?;
    match BatchPayload::from_value(&payment.payload)? {
        BatchPayload::Deposit { deposit, .. } => Some(deposit),
        BatchPayload::Voucher { .. } | BatchPayload::Refund { .. } => None,
    }
}
