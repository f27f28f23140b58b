//! The channel of a credential, with a view of it on its chain: opened, filled, or just looked at.
//!
//! A payer's transaction is passed to a node as it came. What it was is not read out of it: what it did stands on the chain,
//! under the id that is the hash of what the channel is made of.

use std::sync::Arc;
use std::time::Duration;

use proof::voucher::NotTaken;
use rails::{Mined, Sent};

use super::chain::Seen;
use super::presented::{Action, Presented};
use super::receive::For;
use super::room::Opening;
use super::{Kept, Made, Slot, told};
use crate::channels::{self, Beside};
use crate::clock::Now;
use crate::identity;
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
            Action::TopUp { .. } | Action::Close(_) => return Err(told::not_found(self.terms)),
        };
        let _claim = self.gate.claims.take(presented.id, presented.id).map_err(|_| told::busy())?;
        if let Some(slot) = sessions.channels.find(&presented.id) {
            self.serves(presented, &slot.config)?;
            return Ok(slot);
        }
        if !sessions.channels.may_look_for_unknown(Now::read().seconds()) {
            return Err(told::too_many("unknown_channels"));
        }
        let room = match &presented.made {
            Some(made) => {
                self.serves(presented, made)?;
                Some(self.room(made)?)
            }
            None => None,
        };
        let mut seen = self.seen(&presented.id).await?;
        if seen.deposit == 0
            && !seen.finalized
            && let Some(transaction) = transaction
        {
            self.passed_on(transaction).await?;
            seen = self.seen(&presented.id).await?;
        }
        self.opened(presented, seen, room).await
    }

    /// From a payer who is blocked nothing is taken; what is his in a channel goes back (IDN-35).
    fn serves(&self, presented: &Presented, made: &Made) -> Result<(), Refusal> {
        let gives_back = matches!(presented.action, Action::Close(_));
        if !gives_back && identity::is_payer_blocked(self.snapshot, &made.payer()) {
            return Err(Refusal::new(Code::AgentBlocked, "This payer is not served here."));
        }
        Ok(())
    }

    /// A channel that was seen for the first time becomes one of ours.
    async fn opened(
        &self,
        presented: &Presented,
        seen: Seen,
        room: Option<Opening<'_>>,
    ) -> Result<Arc<Slot>, Refusal> {
        let terms = self.terms;
        if seen.finalized || seen.close_requested_at > 0 {
            return Err(told::not_taken(terms, NotTaken::Closing));
        }
        if seen.deposit == 0 {
            return Err(told::not_found(terms));
        }
        if seen.deposit < terms.units(terms.rules.min_deposit) {
            return Err(told::too_little());
        }
        let made = terms.made(&presented.id, presented.made.as_ref(), &seen)?;
        let room = match room {
            Some(room) => room,
            // Who is in a channel may be known only now.
            None => {
                self.serves(presented, &made)?;
                self.room(&made)?
            }
        };
        // Before anything is kept: whoever opens it is who signs for it.
        if let Action::Open { voucher: Some(voucher), .. } | Action::Voucher(voucher) = &presented.action {
            voucher.clone().checked(terms, &presented.id, &made)?;
        }
        let (network, unit) = (terms.network(), terms.unit());
        let range = || Refusal::new(Code::WrongAsset, "The channel's account holds another asset.");
        let opened = Kept::opened(presented.id, made, &network, unit, seen.mirror(Now::read().seconds()));
        let mut kept = opened.ok_or_else(range)?;
        let record = store::Channel { used_ms: Now::read().millis(), ..kept.record.clone() };
        let written = channels::write(&self.gate.store, &mut kept, record, Beside::default()).await;
        written.map_err(|error| store_refusal(&error))?;
        room.kept(|| self.gate.sessions.channels.add(kept, &self.gate.book)).ok_or_else(range)
    }

    /// Whether a payer may have another channel (ENG-6).
    fn room(&self, made: &Made) -> Result<Opening<'_>, Refusal> {
        let sessions = &self.gate.sessions;
        let is_his = |slot: &Arc<Slot>| slot.config.has_payer_of(made) && !slot.standing.get().closed;
        let open = || sessions.channels.all().iter().filter(|slot| is_his(slot)).count();
        let most = self.terms.rules.channels_per_payer;
        let room = sessions.openings.begin(made.payer(), most, open);
        room.ok_or_else(|| told::too_many("channels"))
    }

    /// Passes a payer's transaction on and waits until it stands on the chain. One that is not taken may stand there
    /// already: the look that follows tells.
    pub(super) async fn passed_on(&self, transaction: &str) -> Result<Option<String>, Refusal> {
        let terms = self.terms;
        let hash = match terms.send(transaction).await {
            Sent::Taken(hash) => hash,
            // Perhaps because the chain has it already.
            Sent::Refused(message) => {
                let hash = terms.hash_of(transaction);
                return match terms.mined(&hash).await {
                    Mined::Done => Ok(Some(hash)),
                    Mined::Reverted => Err(told::reverted(terms)),
                    Mined::NotYet => {
                        tracing::info!(message, "a payer's transaction was not taken");
                        Ok(None)
                    }
                };
            }
            Sent::Unknown => return Err(unknown_outcome()),
        };
        for _ in 0..ASKED_MAX {
            match terms.mined(&hash).await {
                Mined::Done => return Ok(Some(hash)),
                Mined::Reverted => return Err(told::reverted(terms)),
                Mined::NotYet => tokio::time::sleep(ASK_AGAIN).await,
            }
        }
        Err(unknown_outcome())
    }

    /// A channel that has no record.
    async fn seen(&self, id: &[u8; 32]) -> Result<Seen, Refusal> {
        self.terms.seen(id).await.ok_or_else(told::unseen)
    }

    /// Looks at a channel that we know and keeps what was seen.
    pub(super) async fn look(&self, slot: &Slot) -> Result<(), Refusal> {
        let channel = self.terms.on(&slot.config).ok_or_else(told::unseen)?;
        let seen = channel.seen(&slot.id).await.ok_or_else(told::unseen)?;
        let written = self.keep(slot, &seen).await;
        written.map_err(|error| store_refusal(&error))
    }
}

/// A channel that was to be filled holds what it held.
pub(super) fn not_filled() -> Refusal {
    let facts = Facts { reason: Some("not_filled".to_owned()), ..Facts::default() };
    Refusal::new(Code::SettlementFailed, "The channel holds no more than before.").facts(facts)
}
