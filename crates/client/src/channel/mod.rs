//! Payment channels that this machine has opened, one file each (`channels/<id>.json`).
//!
//! Invariant: what was signed for a channel is on the disk before it leaves, and nothing more is signed for a channel
//! whose seller contradicted what was agreed (X402-27). The money in a channel is the payer's until it is charged;
//! whoever loses the file loses the salt, and with it the way to withdraw.

mod pool;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};
use wire::hex;
use wire::x402::batch::{
    BatchPayload, ChannelConfig, ChannelState, Deposit, ResponseExtra, Voucher, VoucherState,
};
use wire::x402::network;

use proof::eip712::{self, Separator};
use proof::x402_batch::payer::{self, Contradiction, DepositTerms, OnChain, PayerChannel};
use proof::x402_batch::{self, deposit};

use crate::folder::FileError;
use crate::offer::{ChannelTerms, Terms};
use crate::payment::PaymentError;
use crate::{Request, Wallet};

pub(crate) use pool::{Held, Standing, hold, hold_named, standing};
pub use pool::{find, list};

const VERSION: u8 = 1;

/// A channel as its payer keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    version: u8,
    /// Who is paid from it: a channel serves one origin only.
    pub origin: String,
    /// CAIP-2.
    pub network: String,
    /// What makes it; its hash is its name.
    pub config: ChannelConfig,
    /// Charged in all, in atomic units.
    #[serde(with = "crate::atomic")]
    pub charged: u128,
    /// Deposited and not given back, as far as a seller has confirmed it.
    #[serde(with = "crate::atomic")]
    pub balance: u128,
    /// The most that the calls so far can have been charged in all: more than `charged` where the end of one was never
    /// learnt.
    #[serde(with = "crate::atomic")]
    may_be: u128,
    /// The highest promise that was ever signed: what the seller could claim at most.
    pub signed: Option<Voucher>,
    /// A call whose end is not known.
    in_flight: Option<InFlight>,
    /// The call whose voucher was refused last: if the seller charged it nevertheless, it is not paid again.
    refused: Option<InFlight>,
    /// The call that was answered last: to a seller the same promise for the same request is the same call.
    answered: Option<InFlight>,
    /// Why nothing more is signed for it.
    pub stopped: Option<String>,
    /// What it paid last: where a refund is asked for.
    pub last_url: Option<String>,
}

/// What is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct InFlight {
    /// Name of the request.
    request: String,
    /// Which payment of that request.
    ticket: String,
    /// The most that the calls before it can have been charged in all.
    #[serde(with = "crate::atomic")]
    before: u128,
    /// What it promises in all.
    #[serde(with = "crate::atomic")]
    promise: u128,
}

/// What a corrective challenge tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Correction {
    /// We were behind: the call may be paid from where the channel stands.
    Behind,
    /// More was charged than the calls before can have cost, so this call was charged. It is not paid again.
    ThisCall,
}

/// What one call is paid with.
#[derive(Clone, Debug)]
pub(crate) struct Drawn {
    pub(crate) payload: BatchPayload,
    /// Unix seconds: until then a deposit can be taken. A voucher alone has no end.
    pub(crate) valid_before: u64,
}

/// What goes into the channel with a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum PutIn<'a> {
    /// Nothing: it has enough.
    Nothing,
    /// So many atomic units.
    New(u128),
    /// What an earlier payment of the same call put in, if it has not arrived: the same signature, so it moves once.
    Same(&'a Deposit, u64),
}

/// What a call is to be paid with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Draw<'a> {
    pub(crate) terms: &'a Terms,
    pub(crate) deposit: PutIn<'a>,
    pub(crate) request: &'a Request,
    /// Name of the payment that will be written down.
    pub(crate) ticket: &'a str,
    /// Random.
    pub(crate) salt: [u8; 32],
    pub(crate) now_unix_s: u64,
}

impl Channel {
    /// One that nothing was signed for yet.
    fn fresh(origin: &str, terms: &ChannelTerms, wallet: &Wallet, salt: [u8; 32]) -> Self {
        let payer = wallet.evm_address();
        let config = ChannelConfig {
            payer,
            payer_authorizer: payer,
            receiver: terms.receiver,
            receiver_authorizer: terms.receiver_authorizer,
            token: *terms.token.contract(),
            withdraw_delay: terms.withdraw_delay,
            salt,
        };
        Self {
            version: VERSION,
            origin: origin.to_owned(),
            network: terms.token.network().to_owned(),
            config,
            charged: 0,
            balance: 0,
            may_be: 0,
            signed: None,
            in_flight: None,
            refused: None,
            answered: None,
            stopped: None,
            last_url: None,
        }
    }

    /// Its id, computed here and never taken from a seller; `None` on a network that is no EVM chain.
    fn id(&self) -> Option<[u8; 32]> {
        Some(self.separator()?.digest(&eip712::channel_config(&self.config)))
    }

    /// Its name: `0x` and 64 digits.
    #[must_use]
    pub fn name(&self) -> String {
        self.id().map(|id| hex::encode_0x(&id)).unwrap_or_default()
    }

    /// Whether a call with it is on its way, or its end is not known.
    #[must_use]
    pub const fn is_in_flight(&self) -> bool {
        self.in_flight.is_some()
    }

    /// What the seller could not claim whatever it charged.
    #[must_use]
    pub fn free(&self) -> u128 {
        let promised = self.signed.as_ref().map_or(0, |voucher| voucher.max_claimable_amount);
        self.balance.saturating_sub(promised.max(self.charged))
    }

    fn separator(&self) -> Option<Separator> {
        network::chain_id(&self.network).map(eip712::batch_separator)
    }

    fn position(&self) -> Option<PayerChannel> {
        Some(PayerChannel { channel_id: self.id()?, charged: self.charged, balance: self.balance })
    }

    /// Whether it is one for these terms.
    pub(crate) fn serves(&self, origin: &str, terms: &ChannelTerms, wallet: &Wallet) -> bool {
        let salt = self.config.salt;
        self.origin == origin
            && self.network == terms.token.network()
            && self.config == Self::fresh(origin, terms, wallet, salt).config
    }

    /// What is missing in it for a call.
    pub(crate) fn missing(&self, atomic: u128) -> u128 {
        self.position().map_or(u128::MAX, |position| position.missing(atomic))
    }

    /// Whether its next promise for this request would be the one that was answered last, because nothing was charged
    /// for it: the seller would give that answer again instead of a new one (reference item 15).
    fn would_repeat(&self, atomic: u128, request: &Request) -> bool {
        let promise = self.position().and_then(|position| position.promise(atomic));
        self.answered.as_ref().is_some_and(|answered| {
            Some(answered.promise) == promise && answered.request == crate::pending::name_of(request)
        })
    }

    /// Signs what pays a call, and checks it as the seller will. Nothing of it may leave before the channel is kept.
    fn draw(&mut self, draw: &Draw<'_>, wallet: &Wallet) -> Result<Drawn, PaymentError> {
        let crate::offer::Way::Channel(terms) = &draw.terms.way else {
            return Err(PaymentError::Unanswerable);
        };
        let position = self.position().ok_or(PaymentError::Unanswerable)?;
        let promise = position.promise(draw.terms.atomic).ok_or(PaymentError::Unanswerable)?;
        let separator = terms.token.batch_separator();
        let voucher = payer::sign_voucher(&wallet.evm, separator, position.channel_id, promise)
            .map_err(|_| PaymentError::SelfCheck)?;
        let offer = terms.offer(draw.terms.atomic, draw.terms.max_timeout_s);
        let genuine =
            x402_batch::verify(&offer, &self.config, &voucher).map_err(|_| PaymentError::SelfCheck)?;
        let (channel_config, signed) = (self.config, voucher.clone());
        let put_in = match draw.deposit {
            PutIn::Nothing => None,
            PutIn::Same(deposit, valid_before) => Some((deposit.clone(), valid_before)),
            PutIn::New(amount) => {
                let valid_before = draw.now_unix_s.saturating_add(draw.terms.max_timeout_s);
                let (channel_id, salt) = (position.channel_id, draw.salt);
                let put_in = DepositTerms { channel_id, amount, valid_before, salt };
                let deposit = payer::sign_deposit(&wallet.evm, terms.token.separator(), &put_in)
                    .map_err(|_| PaymentError::SelfCheck)?;
                deposit::verify(&offer, &genuine, &deposit, draw.now_unix_s)
                    .map_err(|_| PaymentError::SelfCheck)?;
                Some((deposit, valid_before))
            }
        };
        let drawn = match put_in {
            None => {
                Drawn { payload: BatchPayload::Voucher { channel_config, voucher }, valid_before: u64::MAX }
            }
            Some((deposit, valid_before)) => {
                Drawn { payload: BatchPayload::Deposit { channel_config, voucher, deposit }, valid_before }
            }
        };
        self.note_signed(signed, draw.request, draw.ticket);
        Ok(drawn)
    }

    fn note_signed(&mut self, voucher: Voucher, request: &Request, ticket: &str) {
        let request_name = crate::pending::name_of(request);
        // Signed once more for the same call, after a correction or a refusal: what can have been charged before the
        // call stays what it was.
        let refused = self.refused.as_ref().filter(|refused| refused.request == request_name);
        let before = self.in_flight.as_ref().or(refused).map_or(self.may_be, |flight| flight.before);
        let promise = voucher.max_claimable_amount;
        let ticket = ticket.to_owned();
        self.in_flight = Some(InFlight { request: request_name, ticket, before, promise });
        self.last_url = Some(request.target.url());
        if self.signed.as_ref().is_none_or(|signed| signed.max_claimable_amount <= promise) {
            self.signed = Some(voucher);
        }
    }

    /// What a result says was charged, if it adds up; else nothing more is signed (X402-27).
    fn settle(&mut self, amount: u128, deposited: u128, told: &ResponseExtra) -> Result<u128, Contradiction> {
        self.answered = self.in_flight.take();
        self.refused = None;
        let after = self
            .position()
            .ok_or(Contradiction::Channel)
            .and_then(|position| position.after_call(amount, deposited, told));
        match after {
            Ok(after) => {
                let charged = after.charged.saturating_sub(self.charged);
                (self.charged, self.may_be, self.balance) = (after.charged, after.charged, after.balance);
                Ok(charged)
            }
            Err(contradiction) => {
                self.stopped = Some(contradiction.to_string());
                Err(contradiction)
            }
        }
    }

    /// Takes over what a corrective challenge says, as far as our own signature bears it out (X402-29).
    ///
    /// Without a node to ask, what was deposited and signed stands in this file, which is kept before anything leaves:
    /// a chain could not show more against us.
    fn correct(&mut self, told: &ChannelState, deposit: u128) -> Result<Correction, Contradiction> {
        let before = self.in_flight.as_ref().map_or(0, |flight| flight.before);
        match self.corrected(told, deposit) {
            Ok(corrected) => {
                let charged = corrected.charged;
                (self.charged, self.may_be, self.balance) = (charged, charged, corrected.balance);
                if corrected.charged <= before {
                    return Ok(Correction::Behind);
                }
                self.in_flight = None;
                self.refused = None;
                Ok(Correction::ThisCall)
            }
            Err(contradiction) => {
                self.in_flight = None;
                self.stopped = Some(contradiction.to_string());
                Err(contradiction)
            }
        }
    }

    fn corrected(&self, told: &ChannelState, deposit: u128) -> Result<PayerChannel, Contradiction> {
        let position = self.position().ok_or(Contradiction::Channel)?;
        let separator = self.separator().ok_or(Contradiction::Channel)?;
        let signed = self.signed.clone().ok_or(Contradiction::Correction)?;
        if told.balance < self.balance {
            return Err(Contradiction::Balance { told: told.balance, expected: self.balance });
        }
        let own =
            VoucherState { signed_max_claimable: signed.max_claimable_amount, signature: signed.signature };
        // A deposit that was under way may have arrived; more than that never was ours.
        let balance = told.balance.min(self.balance.saturating_add(deposit));
        let chain = OnChain { balance, total_claimed: told.total_claimed };
        position.corrected(&separator, &self.config, told, &own, &chain)
    }

    /// After a refund. One of everything takes along what was charged and not used, so less may stand as charged
    /// afterwards; more may not, and no more may be gone than came back.
    fn refunded(&mut self, amount: u128, told: Option<&ChannelState>) {
        let expected = self.balance.saturating_sub(amount);
        self.balance = expected;
        let Some(told) = told else { return };
        if told.balance < expected {
            let contradiction = Contradiction::Balance { told: told.balance, expected };
            self.stopped = Some(contradiction.to_string());
            return;
        }
        let charged = told.charged_cumulative_amount.unwrap_or(told.total_claimed);
        self.charged = self.charged.min(charged);
        self.may_be = self.may_be.min(charged);
    }

    /// Nobody says any more what became of the call in flight: it may have been charged in full.
    fn forget_call(&mut self) -> Option<InFlight> {
        let flight = self.in_flight.take()?;
        self.may_be = self.may_be.max(flight.promise);
        Some(flight)
    }

    /// Asks for what is left: acknowledges what was charged and promises nothing more.
    pub(crate) fn ask_back(&self, wallet: &Wallet) -> Result<BatchPayload, PaymentError> {
        let separator = self.separator().ok_or(PaymentError::Unanswerable)?;
        let id = self.id().ok_or(PaymentError::Unanswerable)?;
        let voucher = payer::sign_voucher(&wallet.evm, &separator, id, self.charged)
            .map_err(|_| PaymentError::SelfCheck)?;
        Ok(BatchPayload::Refund { channel_config: self.config, voucher, amount: None })
    }
}

/// How large a deposit is to be: what the seller wants at least, or five calls as stock clients do, within `most`.
/// `None` if the least that helps is more than that.
pub(crate) fn deposit_size(terms: &ChannelTerms, atomic: u128, missing: u128, most: u128) -> Option<u128> {
    let least = missing.max(terms.min_deposit.unwrap_or_default());
    let wanted = match terms.min_deposit {
        Some(_) => least,
        None => least.max(atomic.saturating_mul(5)),
    };
    (least <= most).then(|| wanted.min(most))
}

/// A file that cannot be kept means that nothing may be signed.
pub(crate) type Kept<T> = Result<T, FileError>;
