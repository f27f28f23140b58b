//! A payment that is genuine, for this request, now: whatever it was signed with, one shape (X402-13). CPU only.

use ledger::AccountId;
use money::{Amount, Asset};
use proof::mpp::permit::{self, PermitCharge};
use proof::x402_echo;
use proof::x402_exact::{self, Binding, ExactError, ExactPayment, Payer};
use proof::x402_permit2::{self, ChargeError, Permit2Error, Permit2Payment};
use proof::x402_svm::{self, SvmError, SvmPayment};
use serde_json::{Map, Value};
use wire::x402::batch::BatchPayload;
use wire::x402::facilitator::SettleRequest;
use wire::x402::payload::{PayloadKind, kind};
use wire::x402::{ExactPayload, base58, v1, v2};

use super::known::{self, Shape};
use super::store_refusal;
use crate::challenge::{Ask, top_up_url};
use crate::channels;
use crate::clock::Now;
use crate::credential::Payment;
use crate::extensions::discovery::{self, Listed};
use crate::gate::Gate;
use crate::mpp::{self, Signed, SignedPayload};
use crate::refusal::{Code, Facts, Refusal};
use crate::snapshot::Snapshot;
use crate::till::{Offer, Till};

/// A genuine payment for this request, nothing claimed yet.
pub(crate) struct Verified {
    pub(super) till: Till,
    pub(super) credit: Amount,
    pub(super) proof: Proof,
    pub(super) sent: Sent,
    /// What a facilitator's catalogue is told with it.
    listed: Option<Listed>,
}

/// How it came: what its payer is told of it comes the same way.
#[derive(Clone, Debug)]
pub(super) enum Sent {
    X402(Payment),
    /// For a challenge of the `Payment` scheme.
    Mpp(Signed),
}

/// What was signed, and the offer of ours that it takes.
#[derive(Clone, Debug)]
pub(super) enum Proof {
    /// EIP-3009, or the test rail.
    Transfer(x402_exact::Offer, ExactPayment),
    /// Permit2, `exact` or `upto`.
    Permit(x402_permit2::Offer, Permit2Payment),
    /// A permit for a challenge of the `Payment` scheme, which we send ourselves.
    Charge(permit::Offer, Box<PermitCharge>),
    /// A voucher, and perhaps what comes into its channel.
    Channel(Box<channels::Presented>),
    /// A transaction on Solana.
    Transaction(x402_svm::Offer, Box<SvmPayment>),
}

impl Proof {
    /// The same for every presentation of this payment (X402-1). A voucher's is its channel.
    pub(super) const fn deposit_key(&self) -> [u8; 32] {
        match self {
            Self::Channel(presented) => presented.voucher.channel_id,
            Self::Transfer(_, payment) => payment.deposit_key,
            Self::Permit(_, payment) => payment.deposit_key,
            Self::Charge(_, payment) => payment.deposit_key,
            Self::Transaction(_, payment) => payment.deposit_key,
        }
    }

    /// Where it goes when no key names an account.
    pub(super) fn account(&self) -> AccountId {
        AccountId(match self {
            Self::Channel(presented) => return channels::account_of(&presented.voucher.channel_id),
            Self::Transfer(_, payment) => payment.account,
            Self::Permit(_, payment) => payment.account,
            Self::Charge(_, payment) => payment.account,
            Self::Transaction(_, payment) => payment.account,
        })
    }

    /// Atomic units that were signed for.
    pub(super) fn amount(&self) -> u128 {
        match self {
            Self::Transfer(_, payment) => payment.amount,
            Self::Permit(_, payment) => payment.permit.amount,
            Self::Charge(_, payment) => payment.amount,
            Self::Channel(presented) => presented.offer.amount,
            Self::Transaction(_, payment) => payment.amount.into(),
        }
    }

    /// Unix seconds after which it cannot settle any more. A Solana transaction does not say: it lives as long as its
    /// blockhash, and for longer than that its key is kept (X402-33).
    pub(super) fn valid_before_s(&self, now_s: u64) -> u64 {
        match self {
            Self::Transfer(_, payment) => payment.valid_before,
            Self::Permit(_, payment) => payment.permit.deadline.saturating_add(1),
            Self::Charge(_, payment) => payment.permit.deadline.saturating_add(1),
            // It has no end: where its channel stands decides.
            Self::Channel(_) => u64::MAX,
            Self::Transaction(..) => now_s.saturating_add(BLOCKHASH_SECONDS_MAX),
        }
    }

    /// As the rail writes him.
    pub(super) fn payer(&self) -> String {
        match self {
            Self::Transfer(_, ExactPayment { payer: Payer::Evm(address), .. }) => address.to_string(),
            Self::Transfer(_, ExactPayment { payer: Payer::Test(key), .. }) => wire::hex::encode(key),
            Self::Permit(_, payment) => payment.permit.from.to_string(),
            Self::Charge(_, payment) => payment.permit.from.to_string(),
            Self::Channel(presented) => presented.payer(),
            Self::Transaction(_, payment) => base58::encode(&payment.payer),
        }
    }

    /// CAIP-2.
    pub(super) fn network(&self) -> &str {
        match self {
            Self::Transfer(offer, _) => offer.network(),
            Self::Permit(offer, _) => offer.token.network(),
            Self::Charge(offer, _) => offer.token.network(),
            Self::Channel(presented) => presented.network(),
            Self::Transaction(offer, _) => offer.token.network(),
        }
    }
}

/// A blockhash is good for 60 to 90 seconds; X402-33 wants at least 120.
const BLOCKHASH_SECONDS_MAX: u64 = 180;

impl Verified {
    fn new(till: Till, proof: Proof, sent: Sent, listed: Option<Listed>) -> Result<Self, Refusal> {
        let too_big = || Refusal::new(Code::ProofInvalid, "The payment is larger than an account can hold.");
        let credit = till.credit(proof.amount()).ok_or_else(too_big)?;
        Ok(Self { till, credit, proof, sent, listed })
    }

    /// What a facilitator is asked to look at: as it would be settled, for all that was signed. None on the test rail.
    pub(super) fn verify_request(&self) -> Option<SettleRequest> {
        match &self.proof {
            Proof::Permit(offer, payment) => Some(offer.verify_request(payment, None)),
            Proof::Channel(_) | Proof::Charge(..) => None,
            Proof::Transfer(..) | Proof::Transaction(..) => {
                self.settle_request(self.proof.amount()).ok().flatten()
            }
        }
    }

    /// The name of its protocol in logs and receipts.
    pub(crate) const fn protocol(&self) -> &'static str {
        match &self.sent {
            Sent::X402(payment) => payment.protocol(),
            Sent::Mpp(_) => mpp::PROTOCOL,
        }
    }

    /// Whether the extensions of x402 concern it.
    pub(crate) const fn is_x402(&self) -> bool {
        matches!(self.sent, Sent::X402(_))
    }

    /// The account it goes to when no key names one.
    pub(crate) fn account(&self) -> AccountId {
        self.proof.account()
    }

    /// What an account has from it; none where that stays in a channel.
    pub(crate) const fn brings(&self) -> Option<(Amount, Asset)> {
        match &self.proof {
            Proof::Transfer(..) | Proof::Permit(..) | Proof::Charge(..) | Proof::Transaction(..) => {
                Some((self.credit, self.till.asset))
            }
            Proof::Channel(_) => None,
        }
    }

    /// Whether it wants money back and no call.
    pub(crate) const fn asks_for_refund(&self) -> bool {
        match &self.proof {
            Proof::Channel(presented) => matches!(presented.payload, BatchPayload::Refund { .. }),
            Proof::Transfer(..) | Proof::Permit(..) | Proof::Charge(..) | Proof::Transaction(..) => false,
        }
    }

    /// Whether it came before.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn is_known(&self, gate: &Gate) -> Result<bool, Refusal> {
        let known = gate.store.reader().payment(&self.proof.deposit_key());
        known.map(|known| known.is_some()).map_err(|error| store_refusal(&error))
    }

    /// Our offer of x402 that it takes; none where it takes one of another protocol.
    pub(crate) fn requirements(&self) -> Option<v2::PaymentRequirements> {
        Some(match &self.proof {
            Proof::Transfer(offer, _) => offer.requirements_v2(),
            Proof::Permit(offer, _) => offer.requirements_v2(),
            Proof::Charge(..) => return None,
            Proof::Channel(presented) => presented.offer.requirements_v2(),
            Proof::Transaction(offer, _) => offer.requirements_v2(),
        })
    }

    /// What it brings back of the extensions.
    pub(crate) const fn extensions(&self) -> Option<&Map<String, Value>> {
        match &self.sent {
            Sent::X402(payment) => payment.extensions(),
            Sent::Mpp(_) => None,
        }
    }

    /// What a facilitator is asked to settle: our values in the payer's form, and nothing private (X402-11). None on
    /// the test rail, where nobody is asked.
    ///
    /// # Errors
    /// Less or more was to be taken than was signed.
    pub(super) fn settle_request(&self, charge: u128) -> Result<Option<SettleRequest>, ChargeError> {
        let version_1 = matches!(self.sent, Sent::X402(Payment::V1(_)));
        let request = match &self.proof {
            Proof::Transfer(offer, _) => {
                let payload = match &self.sent {
                    Sent::X402(Payment::V1(sent)) => ExactPayload::from_value(&sent.payload),
                    Sent::X402(Payment::V2(sent)) => ExactPayload::from_value(&sent.payload),
                    Sent::Mpp(signed) => signed.transfer().cloned(),
                };
                let evm = payload.filter(|_| self.till.kind().is_some());
                let required_v1 = offer.requirements_v1("", "", MIME_TYPE).filter(|_| version_1);
                evm.map(|payload| match required_v1 {
                    Some(required) => request_v1(required, &payload),
                    None => x402_echo::facilitator_request(offer.requirements_v2(), &payload, None, charge),
                })
            }
            // A voucher is settled by nobody, and what comes into its channel is another matter; a permit for a charge by us.
            Proof::Channel(_) | Proof::Charge(..) => None,
            Proof::Permit(offer, payment) => Some(offer.settle_request(payment, None, charge)?),
            Proof::Transaction(offer, payment) => {
                let required_v1 = offer.requirements_v1("", "", MIME_TYPE).filter(|_| version_1);
                let payload = payment.to_wire();
                Some(match required_v1 {
                    Some(required) => request_v1(required, &payload),
                    None => x402_echo::facilitator_request(offer.requirements_v2(), &payload, None, charge),
                })
            }
        };
        Ok(request.map(|request| match &self.listed {
            Some(listed) => listed.told_with(request),
            None => request,
        }))
    }
}

const MIME_TYPE: &str = "application/json";

fn request_v1<T: serde::Serialize>(requirements: v1::PaymentRequirements, payload: &T) -> SettleRequest {
    // Objects of ours have text keys and no floats, so writing them cannot fail.
    let payment = v1::PaymentPayload {
        x402_version: v1::VERSION,
        scheme: requirements.scheme.clone(),
        network: requirements.network.clone(),
        payload: serde_json::to_value(payload).unwrap_or_default(),
    };
    SettleRequest {
        x402_version: v1::VERSION,
        payment_payload: serde_json::to_value(payment).unwrap_or_default(),
        payment_requirements: serde_json::to_value(requirements).unwrap_or_default(),
    }
}

/// Checks a payment against our offers for this request.
///
/// # Errors
/// A refusal to be made a challenge; nothing was claimed.
pub(crate) fn verify(
    gate: &Gate,
    snapshot: &Snapshot,
    payment: Payment,
    ask: &Ask<'_>,
    now: Now,
) -> Result<Verified, Refusal> {
    let offered = ask.takes(gate, snapshot, now);
    let checked = match genuine(gate, snapshot, &payment, ask, &offered, now.seconds()) {
        Ok(proof) => proof,
        Err(refused) => match known::again(gate, snapshot, Shape::of(&payment), ask.fingerprint())? {
            Some(seen) => seen,
            None => channel_again(gate, snapshot, &payment, ask, &offered)?.ok_or(refused)?,
        },
    };
    let (till, proof) = checked;
    let listed = discovery::forwarded(snapshot, ask, payment.extensions());
    Verified::new(till, proof, Sent::X402(payment), listed)
}

/// A genuine transfer that a challenge of the `Payment` scheme has bound to its request.
///
/// # Errors
/// No account can hold so much.
pub(crate) fn of_charge(
    till: Till,
    offer: x402_exact::Offer,
    payment: ExactPayment,
    signed: Signed,
) -> Result<Verified, Refusal> {
    Verified::new(till, Proof::Transfer(offer, payment), Sent::Mpp(signed), None)
}

/// A genuine permit that such a challenge has bound to its request.
///
/// # Errors
/// No account can hold so much.
pub(crate) fn of_permit(
    till: Till,
    offer: permit::Offer,
    charge: PermitCharge,
    signed: Signed,
) -> Result<Verified, Refusal> {
    Verified::new(till, Proof::Charge(offer, Box::new(charge)), Sent::Mpp(signed), None)
}

/// What became of such a transfer that was shown before, whatever is wrong with its challenge by now. None: nobody has
/// seen it.
///
/// # Errors
/// It was made for another request, or is not genuine.
pub(crate) fn charged_before(
    gate: &Gate,
    snapshot: &Snapshot,
    signed: Signed,
    fingerprint: &[u8; 32],
) -> Result<Option<Verified>, Refusal> {
    let found = match &signed.payload {
        SignedPayload::Transfer(payload) => {
            // It has text keys and no floats, so writing it cannot fail.
            let payload = serde_json::to_value(payload).unwrap_or_default();
            let shape = Shape { network: Some(&signed.network), payload: &payload };
            known::again(gate, snapshot, shape, fingerprint)?
        }
        SignedPayload::Permit { source, payload } => {
            known::permit_again(gate, snapshot, source.as_deref(), payload, fingerprint)?
        }
    };
    let Some((till, proof)) = found else { return Ok(None) };
    Verified::new(till, proof, Sent::Mpp(signed), None).map(Some)
}

/// What a payer signed, as one of our offers takes it. Which check it has follows from the payload: the echo of an
/// offer by Permit2 contains the one by EIP-3009.
fn genuine(
    gate: &Gate,
    snapshot: &Snapshot,
    payment: &Payment,
    ask: &Ask<'_>,
    offered: &[(Till, Offer)],
    now_s: u64,
) -> Result<(Till, Proof), Refusal> {
    let url = ask.url(snapshot);
    let binding =
        Binding { key: &gate.keys.quote, scope: ask.scope(gate), ceiling: ask.ceiling, resource_url: &url };
    let reading = match payment {
        Payment::V1(sent) => kind(&sent.payload),
        Payment::V2(sent) => kind(&sent.payload),
    };
    let proof = match reading {
        Some(PayloadKind::Transfer) => transfer(payment, offered, &binding, now_s).map_err(transfer_refusal),
        Some(PayloadKind::Permit2) => permit(payment, offered, &binding, now_s).map_err(permit_refusal),
        Some(PayloadKind::Transaction) => {
            transaction(payment, offered, &binding, now_s).map_err(transaction_refusal)
        }
        Some(PayloadKind::Channel) => channel(payment, snapshot, offered, &binding, now_s),
        None => Err(transfer_refusal(ExactError::Malformed)),
    }?;
    let made = |offer: &Offer| match (offer, &proof) {
        (Offer::Exact(offer), Proof::Transfer(taken, _)) => offer == taken,
        (Offer::Permit2(offer), Proof::Permit(taken, _)) => offer == taken,
        (Offer::Solana(offer), Proof::Transaction(taken, _)) => offer == taken,
        (Offer::Channel(offer), Proof::Channel(presented)) => *offer == presented.offer,
        (Offer::Exact(_) | Offer::Permit2(_) | Offer::Channel(_) | Offer::Solana(_), _) => false,
    };
    let unmatched = || Refusal::new(Code::Internal, "The payment matches no till of ours.");
    let till = offered.iter().find(|(_, offer)| made(offer)).ok_or_else(unmatched)?;
    Ok((till.0.clone(), proof))
}

fn transfer(
    payment: &Payment,
    offered: &[(Till, Offer)],
    binding: &Binding<'_>,
    now_s: u64,
) -> Result<Proof, ExactError> {
    let ours = |offer: &Offer| match offer {
        Offer::Exact(offer) => Some(offer.clone()),
        Offer::Permit2(_) | Offer::Channel(_) | Offer::Solana(_) => None,
    };
    let offers: Vec<_> = offered.iter().filter_map(|(_, offer)| ours(offer)).collect();
    let (offer, verified) = match payment {
        Payment::V1(payment) => x402_exact::verify_v1(payment, &offers, now_s)?,
        Payment::V2(payment) => x402_exact::verify_v2(payment, &offers, binding, now_s)?,
    };
    Ok(Proof::Transfer(offer.clone(), verified))
}

fn permit(
    payment: &Payment,
    offered: &[(Till, Offer)],
    binding: &Binding<'_>,
    now_s: u64,
) -> Result<Proof, Permit2Error> {
    let ours = |offer: &Offer| match offer {
        Offer::Permit2(offer) => Some(offer.clone()),
        Offer::Exact(_) | Offer::Channel(_) | Offer::Solana(_) => None,
    };
    let offers: Vec<_> = offered.iter().filter_map(|(_, offer)| ours(offer)).collect();
    match payment {
        // Version 1 has no such payload.
        Payment::V1(_) => Err(ExactError::Malformed.into()),
        Payment::V2(payment) => {
            let (offer, verified) = x402_permit2::verify_v2(payment, &offers, binding, now_s)?;
            Ok(Proof::Permit(offer.clone(), verified))
        }
    }
}

fn transaction(
    payment: &Payment,
    offered: &[(Till, Offer)],
    binding: &Binding<'_>,
    now_s: u64,
) -> Result<Proof, SvmError> {
    let ours = |offer: &Offer| match offer {
        Offer::Solana(offer) => Some(offer.clone()),
        Offer::Exact(_) | Offer::Permit2(_) | Offer::Channel(_) => None,
    };
    let offers: Vec<_> = offered.iter().filter_map(|(_, offer)| ours(offer)).collect();
    let (offer, verified) = match payment {
        Payment::V1(payment) => x402_svm::verify_v1(payment, &offers)?,
        Payment::V2(payment) => x402_svm::verify_v2(payment, &offers, binding, now_s)?,
    };
    Ok(Proof::Transaction(offer.clone(), Box::new(verified)))
}

fn channel(
    payment: &Payment,
    snapshot: &Snapshot,
    offered: &[(Till, Offer)],
    binding: &Binding<'_>,
    now_s: u64,
) -> Result<Proof, Refusal> {
    match payment {
        // Version 1 has no such payload.
        Payment::V1(_) => Err(transfer_refusal(ExactError::Malformed)),
        Payment::V2(payment) => {
            let url = top_up_url(snapshot);
            let verified = channels::verify(of_channels(offered), payment, binding, url, now_s);
            verified.map(|presented| Proof::Channel(Box::new(presented))).map_err(channels::refusal)
        }
    }
}

/// What a channel was charged, or what is on its way into one, by a payment whose offer is over.
fn channel_again(
    gate: &Gate,
    snapshot: &Snapshot,
    payment: &Payment,
    ask: &Ask<'_>,
    offered: &[(Till, Offer)],
) -> Result<Option<(Till, Proof)>, Refusal> {
    let Payment::V2(sent) = payment else { return Ok(None) };
    let url = top_up_url(snapshot);
    let seen = channels::again(gate, of_channels(offered), sent, ask.fingerprint(), url)?;
    Ok(seen.and_then(|presented| {
        let made =
            |(_, offer): &&(Till, Offer)| matches!(offer, Offer::Channel(offer) if *offer == presented.offer);
        let till = offered.iter().find(made)?.0.clone();
        Some((till, Proof::Channel(Box::new(presented))))
    }))
}

fn of_channels(offered: &[(Till, Offer)]) -> Vec<channels::Offered> {
    let ours = |(till, offer): &(Till, Offer)| match offer {
        Offer::Channel(offer) => Some(channels::Offered { offer: offer.clone(), unit: till.unit() }),
        Offer::Exact(_) | Offer::Permit2(_) | Offer::Solana(_) => None,
    };
    offered.iter().filter_map(ours).collect()
}

pub(crate) fn transfer_refusal(error: ExactError) -> Refusal {
    let code = match &error {
        ExactError::Malformed => Code::MalformedCredential,
        ExactError::WrongNetwork => Code::WrongNetwork,
        ExactError::WrongAsset => Code::WrongAsset,
        ExactError::WrongPayee => Code::WrongPayee,
        ExactError::Underpaid { .. } => Code::ProofUnderpaid,
        ExactError::Quote(_) | ExactError::QuoteMissing | ExactError::QuotePrice => Code::QuoteExpired,
        ExactError::Expired(_) => Code::ProofExpired,
        ExactError::Overpaid { .. }
        | ExactError::OfferAltered
        | ExactError::WrongResource
        | ExactError::NotYetValid(_)
        | ExactError::Signature(_)
        | ExactError::Ed25519 => Code::ProofInvalid,
    };
    refused(code, error.reason())
}

fn permit_refusal(error: Permit2Error) -> Refusal {
    match error {
        Permit2Error::Terms(error) => transfer_refusal(error),
        Permit2Error::WrongSpender | Permit2Error::WrongFacilitator => {
            refused(Code::ProofInvalid, error.reason())
        }
    }
}

fn transaction_refusal(error: SvmError) -> Refusal {
    match error {
        SvmError::Terms(error) => transfer_refusal(error),
        SvmError::Transaction(_) => refused(Code::MalformedCredential, error.reason()),
        SvmError::FeePayer
        | SvmError::FeePayerTouched
        | SvmError::InstructionCount(_)
        | SvmError::Instruction(_)
        | SvmError::ComputePrice
        | SvmError::Memo => refused(Code::ProofInvalid, error.reason()),
    }
}

fn refused(code: Code, reason: &str) -> Refusal {
    let reason = Facts { reason: Some(reason.to_owned()), ..Facts::default() };
    Refusal::new(code, "The payment does not pay for this request.").facts(reason)
}
