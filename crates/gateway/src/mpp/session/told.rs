//! What payers are told: the offer of a session, its receipts, and why a voucher is not taken.

use std::rc::Rc;
use std::sync::Arc;

use proof::voucher::NotTaken;
use proof::voucher::evm::Protocol;
use wire::mpp::problem::SessionProblem;
use wire::mpp::tempo::{SessionDetails, SessionProtocol, SessionRequest};
use wire::mpp::{Problem, SESSION, payload};
use wire::x402::Address;

use super::{Slot, Terms, snapshot};
use crate::config::MppMethod;
use crate::mpp::{Demand, Offer, refused};
use crate::refusal::{Code, Refusal};
use crate::session::{Channel, Kind, Session};

/// What is asked of a payer who wants to pay by vouchers: enough for this call to begin, and some to go on.
pub(crate) async fn offer(demand: &Demand<'_>, terms: &Terms) -> Offer {
    let rules = &terms.rules;
    let begins = terms.units(demand.ask.begins).max(1);
    let protocol = match rules.escrow.protocol() {
        Protocol::TempoV2 => SessionProtocol::V2,
        Protocol::TempoV1 | Protocol::Evm => SessionProtocol::V1,
    };
    let (operator, least) = (rules.operator(), terms.units(rules.min_delta));
    let request = SessionRequest {
        amount: begins.to_string(),
        unit_type: Some("request".to_owned()),
        suggested_deposit: Some(terms.units(rules.suggested_deposit).max(begins).to_string()),
        currency: rules.token.to_string(),
        recipient: rules.pay_to.to_string(),
        method_details: SessionDetails {
            escrow_contract: Some(rules.escrow.contract().to_string()),
            chain_id: Some(rules.escrow.chain_id()),
            channel_id: None,
            min_voucher_delta: (least > 0).then(|| least.to_string()),
            operator: (operator != Address::ZERO).then(|| operator.to_string()),
            session_protocol: Some(protocol),
            fee_payer: None,
            session_snapshot: snapshot::of(demand, terms).await,
        },
    };
    Offer {
        method: MppMethod::Tempo,
        intent: SESSION,
        request: payload::canonical(&request),
        expires_at_s: None,
        credit: None,
    }
}

/// The session as one of its calls sees it.
pub(super) fn session(demand: &super::receive::For<'_>, slot: &Slot, challenge_id: String) -> Rc<Session> {
    let channel = Channel {
        method: MppMethod::Tempo.name(),
        id: wire::hex::encode_0x(&slot.id),
        unit: slot.unit,
        delta_min: demand.terms.units(demand.terms.rules.min_delta),
        standing: Arc::clone(&slot.standing),
    };
    Rc::new(Session { challenge_id, grace: demand.grace, kind: Kind::Channel(channel) })
}

/// A voucher that is not taken, and what helps.
pub(super) fn not_taken(error: NotTaken) -> Refusal {
    use SessionProblem as S;
    let (problem, reason, detail) = match error {
        NotTaken::Busy => return busy(),
        NotTaken::Stale => return unseen(),
        NotTaken::Closing => (
            S::ChannelFinalized,
            "closing",
            "The channel is closing, or closed: nothing more is taken from it.",
        ),
        // Whoever reads it on the chain learns nothing but that.
        NotTaken::Published | NotTaken::DeltaTooSmall | NotTaken::Mismatch | NotTaken::BelowClaimed => {
            (S::DeltaTooSmall, "delta", "The voucher does not raise what was accepted, or by too little.")
        }
        NotTaken::ExceedsDeposit => {
            (S::AmountExceedsDeposit, "deposit", "The channel does not hold what the voucher promises.")
        }
    };
    refused(Problem::Session(problem), reason, detail)
}

/// Something is done on the channel that must not be done twice at once.
pub(super) fn busy() -> Refusal {
    Refusal::new(Code::InProgress, "Something else is under way on this channel.").retry_after(1)
}

/// The node could not tell, and without that nothing is taken.
pub(super) fn unseen() -> Refusal {
    let detail = "Nobody could tell where the channel stands on its chain.";
    Refusal::new(Code::FacilitatorFailed, detail).retry_after(5)
}

/// There is no such channel, or nothing is in it.
pub(super) fn not_found() -> Refusal {
    let detail = "There is no such channel, or nothing is in it.";
    refused(Problem::Session(SessionProblem::ChannelNotFound), "channel", detail)
}

/// More vouchers than anybody needs (ENG-6).
pub(super) fn too_many(reason: &'static str) -> Refusal {
    let facts = crate::refusal::Facts { reason: Some(reason.to_owned()), ..Default::default() };
    Refusal::new(Code::RateLimited, "Too much is asked of this channel, or of its payer's.")
        .facts(facts)
        .retry_after(1)
}
