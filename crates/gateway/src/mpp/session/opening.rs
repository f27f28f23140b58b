//! The channel of a credential, with a view of it on its chain: opened, filled, or just looked at.
//!
//! A payer's transaction is passed to a node as it came. What it was is not read out of it: what it did stands on the chain,
//! under the id that is the hash of what the channel is made of.

use std::sync::Arc;
use std::time::Duration;

use proof::eip712::keccak256;
use proof::voucher::Mirror;
use proof::voucher::evm::{Descriptor, Escrow, Protocol};
use rails::{Mined, Parties, Sent, SessionOnChain};
use wire::hex;
use wire::mpp::Problem;
use wire::mpp::problem::SessionProblem;

use super::presented::{Action, Presented};
use super::receive::For;
use super::{Kept, Made, Slot, told};
use crate::channels::{self, Beside};
use crate::clock::Now;
use crate::identity;
use crate::mpp::refused;
use crate::payments::{store_refusal, unknown_outcome};
use crate::refusal::{Code, Facts, Refusal};

/// How often a node is asked whether it has a transaction, and the wait between.
const ASKED_MAX: u32 = 40;
const ASK_AGAIN: Duration = Duration::from_millis(500);

impl For<'_> {
    /// The channel of a credential that may be the first of it. Nothing of one that is known is sent a second time.
    ///
    /// # Errors
    /// The refusal says what happened to the money.
    ///
    /// # Cancel safety
    /// None: dropped midway, a transaction may have been sent.
    pub(super) async fn slot(&self, presented: &Presented) -> Result<Arc<Slot>, Refusal> {
        let sessions = &self.gate.sessions;
        if let Some(slot) = sessions.channels.find(&presented.id) {
            self.serves(presented, &slot.config)?;
            return Ok(slot);
        }
        let transaction = match &presented.action {
            Action::Open { transaction, .. } => Some(transaction.as_str()),
            // State that was lost: the channel is what its chain says it is (X402-30).
            Action::Voucher(_) => None,
            Action::TopUp { .. } | Action::Close(_) => return Err(told::not_found()),
        };
        let _claim = self.gate.claims.take(presented.id, presented.id).map_err(|_| told::busy())?;
        if let Some(slot) = sessions.channels.find(&presented.id) {
            self.serves(presented, &slot.config)?;
            return Ok(slot);
        }
        if !sessions.channels.may_look_for_unknown(Now::read().seconds()) {
            return Err(told::too_many("unknown_channels"));
        }
        if let Some(made) = &presented.made {
            self.serves(presented, made)?;
            self.has_room(made).await?;
        }
        let escrow = &self.terms.rules.escrow;
        let mut seen = self.seen(escrow, &presented.id).await?;
        if seen.deposit == 0
            && !seen.finalized
            && let Some(transaction) = transaction
        {
            self.passed_on(transaction).await?;
            seen = self.seen(escrow, &presented.id).await?;
        }
        self.opened(presented, seen).await
    }

    /// From a payer who is blocked nothing is taken; what is his in a channel goes back (IDN-35).
    fn serves(&self, presented: &Presented, made: &Made) -> Result<(), Refusal> {
        let gives_back = matches!(presented.action, Action::Close(_));
        if !gives_back && identity::is_payer_blocked(self.snapshot, &made.payer.to_string()) {
            return Err(Refusal::new(Code::AgentBlocked, "This payer is not served here."));
        }
        Ok(())
    }

    /// A channel that was seen for the first time becomes one of ours.
    async fn opened(&self, presented: &Presented, seen: SessionOnChain) -> Result<Arc<Slot>, Refusal> {
        let rules = &self.terms.rules;
        if seen.finalized || seen.close_requested_at > 0 {
            return Err(told::not_taken(proof::voucher::NotTaken::Closing));
        }
        if seen.deposit == 0 {
            return Err(told::not_found());
        }
        if seen.deposit < self.terms.units(rules.min_deposit) {
            let detail = "The channel holds less than the minimum deposit.";
            return Err(refused(Problem::PaymentInsufficient, "min_deposit", detail));
        }
        let made = match (rules.escrow.protocol(), &presented.made, seen.parties) {
            (Protocol::TempoV2, Some(made), _) => made.clone(),
            (Protocol::TempoV1 | Protocol::Evm, _, Some(parties)) => {
                let made = self.told_by_contract(&parties)?;
                self.serves(presented, &made)?;
                self.has_room(&made).await?;
                made
            }
            (Protocol::TempoV1 | Protocol::TempoV2 | Protocol::Evm, _, _) => return Err(told::unseen()),
        };
        // Before anything is kept: whoever opens it is who signs for it.
        if let Action::Open { voucher, .. } | Action::Voucher(voucher) = &presented.action {
            voucher.clone().checked(self.terms, &presented.id, &made)?;
        }
        let (network, unit) = (rules.network(), self.terms.unit());
        let range = || Refusal::new(Code::WrongAsset, "The channel's account holds another asset.");
        let opened = Kept::opened(presented.id, made, &network, unit, mirror(&seen, Now::read().seconds()));
        let mut kept = opened.ok_or_else(range)?;
        let record = kept.record.clone();
        let written = channels::write(&self.gate.store, &mut kept, record, Beside::default()).await;
        written.map_err(|error| store_refusal(&error))?;
        self.gate.sessions.channels.add(kept, &self.gate.book).ok_or_else(range)
    }

    /// Who is in a channel whose id is not told apart by its payload.
    fn told_by_contract(&self, parties: &Parties) -> Result<Made, Refusal> {
        let rules = &self.terms.rules;
        if parties.payee != rules.pay_to || parties.token != rules.token {
            let detail = "The channel is not one that pays us as our challenge says.";
            return Err(refused(Problem::VerificationFailed, "payee", detail));
        }
        let channel = Descriptor {
            payer: parties.payer,
            payee: parties.payee,
            operator: wire::x402::Address::ZERO,
            token: parties.token,
            salt: [0; 32],
            authorized_signer: parties.authorized_signer,
            expiring_nonce_hash: [0; 32],
        };
        Ok(Made::of(&rules.escrow, &channel))
    }

    /// Whether a payer may have another channel (ENG-6).
    async fn has_room(&self, made: &Made) -> Result<(), Refusal> {
        let mut open = 0;
        for slot in self.gate.sessions.channels.all() {
            if slot.config.payer == made.payer && slot.lock().await.record.closing.is_none() {
                open += 1;
            }
        }
        if open >= self.terms.rules.channels_per_payer { Err(told::too_many("channels")) } else { Ok(()) }
    }

    /// Passes a payer's transaction on and waits until it stands on the chain. One that is not taken may stand there
    /// already: the look that follows tells.
    pub(super) async fn passed_on(&self, transaction: &str) -> Result<Option<String>, Refusal> {
        let node = &self.terms.node;
        let hash = match node.send(transaction).await {
            Sent::Taken(hash) => hash,
            // Perhaps because the chain has it already.
            Sent::Refused(message) => {
                let hash = hash_of(transaction);
                return match node.mined(&hash).await {
                    Mined::Done => Ok(Some(hash)),
                    Mined::Reverted => Err(reverted()),
                    Mined::NotYet => {
                        tracing::info!(message, "a payer's transaction was not taken");
                        Ok(None)
                    }
                };
            }
            Sent::Unknown => return Err(unknown_outcome()),
        };
        for _ in 0..ASKED_MAX {
            match node.mined(&hash).await {
                Mined::Done => return Ok(Some(hash)),
                Mined::Reverted => return Err(reverted()),
                Mined::NotYet => tokio::time::sleep(ASK_AGAIN).await,
            }
        }
        Err(unknown_outcome())
    }

    /// Where a channel stands on its chain, as the contract tells that keeps it.
    pub(super) async fn seen(&self, escrow: &Escrow, id: &[u8; 32]) -> Result<SessionOnChain, Refusal> {
        self.terms.node.session(escrow, id).await.ok_or_else(told::unseen)
    }

    /// Looks at a channel that we know and keeps what was seen.
    pub(super) async fn look(&self, slot: &Slot) -> Result<(), Refusal> {
        let seen = self.seen(&slot.config.escrow(), &slot.id).await?;
        let written = self.keep(slot, &seen).await;
        written.map_err(|error| store_refusal(&error))
    }
}

/// What was seen, as the engine counts it. What is put in and what was taken are both whole sums there.
pub(super) const fn mirror(seen: &SessionOnChain, now_s: u64) -> Mirror {
    Mirror {
        balance: seen.deposit,
        total_claimed: seen.settled,
        withdrawing: 0,
        withdraw_requested_at: seen.close_requested_at,
        refund_nonce: [0; 32],
        synced_at_s: now_s,
    }
}

/// What a transaction is found by.
fn hash_of(transaction: &str) -> String {
    let bytes = hex::decode(transaction.strip_prefix("0x").unwrap_or_default()).unwrap_or_default();
    hex::encode_0x(&keccak256(&bytes))
}

/// A payer's transaction did nothing.
pub(super) fn reverted() -> Refusal {
    let detail = "The transaction stands on the chain and did nothing.";
    refused(Problem::Session(SessionProblem::TransactionReverted), "reverted", detail)
}

/// A channel that was to be filled holds what it held.
pub(super) fn not_filled() -> Refusal {
    let facts = Facts { reason: Some("not_filled".to_owned()), ..Facts::default() };
    Refusal::new(Code::SettlementFailed, "The channel holds no more than before.").facts(facts)
}
