//! What a payer is told of a settlement: `PAYMENT-RESPONSE`, and the refusal where nothing moved.

use http::{HeaderMap, HeaderName, HeaderValue};
use wire::x402::code::Code as KnownCode;
use wire::x402::{SettlementResponse, header as x402, network};

use super::Verified;
use super::verified::Sent;
use crate::credential::Payment;
use crate::refusal::{Code, Facts, Refusal};

/// The header that tells a settled payment.
pub(super) fn payment_response(verified: &Verified, transaction: &str) -> HeaderMap {
    let said = SettlementResponse {
        success: true,
        transaction: transaction.to_owned(),
        network: network_text(verified),
        payer: Some(verified.proof.payer()),
        ..SettlementResponse::default()
    };
    response_header(&verified.sent, &said).into_iter().collect()
}

/// A result in the header of the version that was paid by. None where a receipt says it, and only when the call has
/// succeeded (MPP-18).
pub(super) fn response_header(sent: &Sent, said: &SettlementResponse) -> Option<(HeaderName, HeaderValue)> {
    let name = match sent {
        Sent::X402(Payment::V1(_)) => x402::X_PAYMENT_RESPONSE,
        Sent::X402(Payment::V2(_)) => x402::PAYMENT_RESPONSE,
        Sent::Mpp(_) => return None,
    };
    let value = HeaderValue::from_str(&x402::encode(said)).unwrap_or(HeaderValue::from_static(""));
    Some((HeaderName::from_static(name), value))
}

/// The network as that version names it.
pub(super) fn network_text(verified: &Verified) -> String {
    let caip2 = verified.proof.network();
    match &verified.sent {
        Sent::X402(Payment::V1(_)) => network::v1_from_caip2(caip2).unwrap_or(caip2).to_owned(),
        Sent::X402(Payment::V2(_)) | Sent::Mpp(_) => caip2.to_owned(),
    }
}

/// The rail refuses a payment.
pub(super) fn settlement_refused(verified: &Verified, code: &str) -> Refusal {
    let reason = Facts { reason: Some(code.to_owned()), ..Facts::default() };
    // What the payer has to do first, a stock client finds by this status and code (X402-20).
    if verified.is_x402() && wire::x402::code::known(code) == Some(KnownCode::AllowanceRequired) {
        let detail =
            "The token does not let Permit2 move it yet: approve that once, then send the request again.";
        return Refusal::new(Code::Permit2AllowanceRequired, detail).facts(reason);
    }
    let said = SettlementResponse {
        success: false,
        network: network_text(verified),
        error_reason: Some(code.to_owned()),
        payer: Some(verified.proof.payer()),
        ..SettlementResponse::default()
    };
    let detail = "The payment was refused when it was to be settled.";
    let refusal = Refusal::new(Code::SettlementFailed, detail).facts(reason);
    let header = response_header(&verified.sent, &said);
    header.into_iter().fold(refusal, |refusal, (name, value)| refusal.header(name, value))
}
