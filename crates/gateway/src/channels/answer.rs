//! What a payer is told of his channel: in the head of an answer, and in a challenge that puts him right.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use proof::x402_batch::{BatchError, Offer};
use wire::x402::batch::{ChannelState, ResponseExtra, VoucherState};
use wire::x402::{SettlementResponse, header as x402, v2};

use super::presented::Presented;
use crate::refusal::{Code, Facts, Money, Refusal};

/// Money that was put into the channel by the same request.
#[derive(Clone, Debug)]
pub(crate) struct Escrowed {
    /// Transaction hash.
    pub(crate) transaction: String,
    /// Atomic units.
    pub(crate) amount: u128,
}

/// `PAYMENT-RESPONSE` of a call: what it was charged, and where the channel stands now (X402-26). A voucher moves no
/// token, so it has neither transaction nor amount.
pub(crate) fn charged(
    network: &str,
    payer: &str,
    charge: u128,
    state: ChannelState,
    escrowed: Option<&Escrowed>,
) -> HeaderMap {
    let extra =
        ResponseExtra { charged_amount: Some(charge), channel_state: Some(state), voucher_state: None };
    let said = SettlementResponse {
        success: true,
        transaction: escrowed.map_or_else(String::new, |escrowed| escrowed.transaction.clone()),
        network: network.to_owned(),
        payer: Some(payer.to_owned()),
        amount: Some(escrowed.map_or_else(String::new, |escrowed| escrowed.amount.to_string())),
        extra: Some(extra.to_extra()),
        ..SettlementResponse::default()
    };
    header(&said)
}

/// `PAYMENT-RESPONSE` of a refund.
pub(crate) fn refunded(
    network: &str,
    payer: &str,
    transaction: &str,
    amount: u128,
    state: ChannelState,
) -> HeaderMap {
    let extra = ResponseExtra { charged_amount: None, channel_state: Some(state), voucher_state: None };
    let said = SettlementResponse {
        success: true,
        transaction: transaction.to_owned(),
        network: network.to_owned(),
        payer: Some(payer.to_owned()),
        amount: Some(amount.to_string()),
        extra: Some(extra.to_extra()),
        ..SettlementResponse::default()
    };
    header(&said)
}

fn header(said: &SettlementResponse) -> HeaderMap {
    let value = HeaderValue::from_str(&x402::encode(said)).unwrap_or(HeaderValue::from_static(""));
    HeaderMap::from_iter([(HeaderName::from_static(x402::PAYMENT_RESPONSE), value)])
}

/// A plain refusal: the payer gets our offers, if paying otherwise would help.
pub(crate) fn refusal(error: BatchError) -> Refusal {
    let code = match error {
        BatchError::Busy => return busy(),
        BatchError::StaleMirror => return unseen(),
        BatchError::Terms(error) => return crate::payments::transfer_refusal(error),
        BatchError::PayloadType => Code::MalformedCredential,
        BatchError::TokenMismatch => Code::WrongAsset,
        BatchError::ReceiverMismatch => Code::WrongPayee,
        BatchError::ExceedsBalance => Code::ProofUnderpaid,
        BatchError::ChannelIdMismatch
        | BatchError::ReceiverAuthorizerMismatch
        | BatchError::WithdrawDelayMismatch
        | BatchError::ContractSigner
        | BatchError::Signature(_)
        | BatchError::DepositSignature(_)
        | BatchError::DepositBelowMin
        | BatchError::DepositElsewhere
        | BatchError::CumulativeMismatch { .. }
        | BatchError::BelowClaimed
        | BatchError::RefundNoBalance
        | BatchError::RefundAmount => Code::ProofInvalid,
    };
    let reason = error.scheme_code().map_or_else(|| error.to_string(), str::to_owned);
    let facts = Facts { reason: Some(reason), ..Facts::default() };
    Refusal::new(code, format!("The channel does not pay for this request: {error}.")).facts(facts)
}

/// One call per channel (X402-24).
pub(crate) fn busy() -> Refusal {
    let reason = BatchError::Busy.scheme_code().map(str::to_owned);
    Refusal::new(Code::InProgress, "Another call on this channel is under way.")
        .facts(Facts { reason, ..Facts::default() })
        .retry_after(1)
}

/// Nobody could tell where the channel stands on its chain, and without that nothing is taken.
pub(crate) fn unseen() -> Refusal {
    let detail = "No facilitator could tell where the channel stands on its chain.";
    Refusal::new(Code::FacilitatorFailed, detail).retry_after(5)
}

/// The journal could not take it, so nothing was charged.
pub(crate) fn unwritten(error: &store::StoreError) -> Refusal {
    tracing::error!(%error, "a channel could not be recorded");
    Refusal::new(Code::StoreUnavailable, "The gateway cannot record payments now.").retry_after(5)
}

/// A challenge that puts the payer right (X402-29): our one offer with the channel's state, under the code that stock
/// clients look for, and no result header beside it.
pub(crate) fn corrective(
    presented: &Presented,
    error: BatchError,
    state: Option<&ChannelState>,
    voucher: Option<&VoucherState>,
) -> Refusal {
    let code = error.scheme_code().unwrap_or_default();
    let offer: &Offer = &presented.offer;
    let accepts = match state {
        Some(state) => offer.corrective_v2(state, voucher),
        None => offer.requirements_v2(),
    };
    let required = v2::PaymentRequired {
        x402_version: v2::VERSION,
        error: Some(code.to_owned()),
        resource: presented.resource.clone(),
        accepts: vec![accepts],
        extensions: None,
    };
    let header = HeaderValue::from_str(&x402::encode(&required)).unwrap_or(HeaderValue::from_static(""));
    let facts = Facts { reason: Some(code.to_owned()), ..Facts::default() };
    Refusal::new(Code::ProofInvalid, "The voucher does not continue from where the channel stands.")
        .facts(facts)
        .money(Money::NothingTaken)
        .offers(Arc::default(), header, presented.top_up_url.clone())
}
