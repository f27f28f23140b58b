//! What payers are told: where a session stands, and why a voucher is not taken.

use std::rc::Rc;
use std::sync::Arc;

use proof::voucher::{Closing, NotTaken};
use wire::mpp::Problem;
use wire::mpp::problem::SessionProblem;

use super::receive::For;
use super::{Slot, Terms};
use crate::mpp::refused;
use crate::refusal::{Code, Refusal};
use crate::session::{Channel, Kind, Session};

/// The session as one of its calls sees it.
pub(super) fn session(place: &For<'_>, slot: &Slot, challenge_id: String) -> Rc<Session> {
    let channel = Channel {
        method: place.terms.method().name(),
        id: slot.config.name(&slot.id),
        unit: slot.unit,
        delta_min: place.terms.units(place.terms.rules.min_delta),
        idle_s: place.terms.idle_s(),
        standing: Arc::clone(&slot.standing),
    };
    let payer = Some(slot.config.payer());
    Rc::new(Session { challenge_id, grace: place.grace, payer, kind: Kind::Channel(channel) })
}

/// A voucher that is not taken, and what helps.
pub(super) fn not_taken(terms: &Terms, error: NotTaken) -> Refusal {
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
    refused(terms.problem(problem), reason, detail)
}

/// Who has signed a voucher is not who was to.
pub(super) fn other_signer(terms: &Terms) -> Refusal {
    let detail = "The voucher was signed by somebody else, or for something else.";
    refused(terms.problem(SessionProblem::SignerMismatch), "signer", detail)
}

/// A channel that does not end by this voucher.
pub(super) fn not_closed(terms: &Terms, error: NotTaken) -> Refusal {
    match error {
        NotTaken::Mismatch => {
            let detail = "The voucher promises less than was used.";
            refused(Problem::VerificationFailed, "below_spent", detail)
        }
        NotTaken::Busy
        | NotTaken::Closing
        | NotTaken::Published
        | NotTaken::DeltaTooSmall
        | NotTaken::BelowClaimed
        | NotTaken::Stale
        | NotTaken::ExceedsDeposit => not_taken(terms, error),
    }
}

/// The chain would take all that is promised.
pub(super) fn not_in_part(closing: &Closing) -> Refusal {
    let detail = "This chain takes all that a voucher promises: sign one of what was used.";
    refused(Problem::VerificationFailed, "above_spent", detail)
        .extension("spent", closing.capture.to_string())
}

/// Something is done on the channel that must not be done twice at once.
pub(super) fn busy() -> Refusal {
    Refusal::new(Code::InProgress, "Something else is under way on this channel.").retry_after(1)
}

/// Less than a channel has to hold.
pub(super) fn too_little() -> Refusal {
    let detail = "The channel holds less than the minimum deposit.";
    refused(Problem::PaymentInsufficient, "min_deposit", detail)
}

/// The node could not tell, and without that nothing is taken.
pub(super) fn unseen() -> Refusal {
    let detail = "Nobody could tell where the channel stands on its chain.";
    Refusal::new(Code::FacilitatorFailed, detail).retry_after(5)
}

/// There is no such channel, or nothing is in it.
pub(super) fn not_found(terms: &Terms) -> Refusal {
    let detail = "There is no such channel, or nothing is in it.";
    refused(terms.problem(SessionProblem::ChannelNotFound), "channel", detail)
}

/// A transaction stands on the chain and did nothing.
pub(super) fn reverted(terms: &Terms) -> Refusal {
    let detail = "The transaction stands on the chain and did nothing.";
    refused(terms.problem(SessionProblem::TransactionReverted), "reverted", detail)
}

/// More vouchers than anybody needs (ENG-6).
pub(super) fn too_many(reason: &'static str) -> Refusal {
    let facts = crate::refusal::Facts { reason: Some(reason.to_owned()), ..Default::default() };
    Refusal::new(Code::RateLimited, "Too much is asked of this channel, or of its payer's.")
        .facts(facts)
        .retry_after(1)
}
