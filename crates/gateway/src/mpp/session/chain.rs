//! What sessions are told by the chain that keeps their channels, and what is asked of it: one answer of two, by what
//! [`tempo`](super::tempo) and [`solana`](super::solana) say.

use proof::solana::transaction::Call;
use proof::voucher::{Channel, Closing, Lower, Mirror, Rules, Signed, Step, Withdrawal};
use rails::{Mined, Parties, Secret, Sent};
use wire::mpp::Problem;
use wire::mpp::problem::SessionProblem;
use wire::mpp::solana::ChannelAccount;
use wire::x402::Address;

use super::{Made, Presented, Signature, Solana, Tempo, solana, tempo, told};
use crate::channels::Unit;
use crate::config::{ChannelTerms, MppMethod};
use crate::gate::Gate;
use crate::mpp::{Demand, Echo, Offer};
use crate::refusal::Refusal;

/// What one configuration makes of the sessions of one chain.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) rules: ChannelTerms,
    pub(crate) chain: Chain,
}

/// Who keeps the channels.
#[derive(Debug)]
pub(crate) enum Chain {
    Tempo(Tempo),
    Solana(Solana),
}

/// A channel, with the chain that keeps it as it is configured now.
#[derive(Clone, Copy)]
pub(super) enum On<'a> {
    Tempo(&'a Tempo, &'a tempo::Made),
    Solana(&'a Solana, &'a solana::Made),
}

/// A channel as it was seen on its chain. Base units.
#[derive(Debug)]
pub(super) struct Seen {
    /// Put in, in all; nothing: there is no such channel, or no longer.
    pub(super) deposit: u128,
    /// Taken in all.
    pub(super) settled: u128,
    /// Unix seconds of its payer's wish to end it; 0: none.
    pub(super) close_requested_at: u64,
    /// Whether it has ended, and everybody is paid.
    pub(super) finalized: bool,
    pub(super) who: Who,
}

/// What a chain says of what a channel is made of.
#[derive(Debug)]
pub(super) enum Who {
    /// Nothing: its id does.
    Unsaid,
    Parties(Parties),
    Account(Box<ChannelAccount>),
}

/// A voucher that was not held against anybody's key yet.
#[derive(Clone, Debug)]
pub(super) struct Unchecked {
    pub(super) sum: u128,
    pub(super) signature: Secret,
    /// Unix seconds that were signed with it; 0: it does not end.
    pub(super) expires_at: i64,
}

/// What a transaction of ours calls.
#[derive(Clone, Debug)]
pub(super) enum Calls {
    Evm { to: Address, data: Vec<u8> },
    Solana(Vec<Call>),
}

/// A transaction of ours, signed.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) hash: String,
    pub(super) raw: String,
    pub(super) counts_until: u64,
}

/// Why one was not signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotWritten {
    /// It would do nothing now, says the node.
    Useless(String),
    /// The node does not say what it needs, or the key is not the one that has to sign.
    Unable,
}

/// By what a channel is to end.
#[derive(Clone, Copy)]
pub(super) enum By {
    /// A voucher of its payer's choice.
    Voucher(Signed<Signature>),
    /// Whichever promise that is kept serves best: its payer signs nothing more.
    Kept,
}

/// How a channel ends, and by which promise; by none where everything was taken before.
#[derive(Clone, Copy)]
pub(super) struct Ends {
    pub(super) closing: Closing,
    pub(super) promise: Option<Signed<Signature>>,
}

/// An end that was decided, to be brought about.
pub(super) struct Decided {
    /// What is ours in all.
    pub(super) capture: u128,
    /// What it was to be shown by.
    pub(super) promise: Option<Signed<Signature>>,
    /// What else there is to show, where that is not taken any more.
    pub(super) kept: Channel<Signature>,
    /// Of the token.
    pub(super) decimals: u32,
}

/// How an end that was decided is brought about.
pub(super) enum Ending {
    /// By these calls; `taken` is what will have been taken in all.
    By { calls: Calls, taken: u128 },
    /// Somebody else has ended it, and so much was taken.
    Over { taken: u128 },
    /// What was decided can be shown to nobody.
    Impossible,
}

/// In base units, rounded up.
pub(super) fn units(rules: &ChannelTerms, amount: money::Amount) -> u128 {
    money::atomic_from_ledger_up(amount, rules.asset.exponent(), rules.decimals).unwrap_or(u128::MAX)
}

impl Seen {
    /// As the engine counts it. What is put in and what was taken are both whole sums there.
    pub(super) const fn mirror(&self, now_s: u64) -> Mirror {
        Mirror {
            balance: self.deposit,
            total_claimed: self.settled,
            withdrawing: 0,
            withdraw_requested_at: self.close_requested_at,
            refund_nonce: [0; 32],
            synced_at_s: now_s,
        }
    }
}

impl Terms {
    /// The method whose sessions these are.
    pub(crate) const fn method(&self) -> MppMethod {
        match self.chain {
            Chain::Tempo(_) => MppMethod::Tempo,
            Chain::Solana(_) => MppMethod::Solana,
        }
    }

    /// Seconds without a voucher after which a channel is ended. None: none is for that.
    pub(super) const fn idle_s(&self) -> Option<u64> {
        match &self.chain {
            Chain::Tempo(_) => None,
            Chain::Solana(solana) => Some(solana.rules.idle_s),
        }
    }

    /// CAIP-2.
    pub(super) fn network(&self) -> String {
        match &self.chain {
            Chain::Tempo(tempo) => tempo.rules.network(),
            Chain::Solana(solana) => solana.rules.network.caip2().to_owned(),
        }
    }

    pub(super) const fn unit(&self) -> Unit {
        Unit { asset: self.rules.asset, decimals: self.rules.decimals }
    }

    /// In base units, rounded up.
    pub(super) fn units(&self, amount: money::Amount) -> u128 {
        units(&self.rules, amount)
    }

    /// What is asked of a voucher of a channel (ENG-2).
    pub(super) fn voucher_rules(&self, made: &Made) -> Rules {
        let least = self.units(self.rules.min_delta);
        let step = Step::AtLeast { least, lower: Lower::Refused };
        Rules { step, withdrawal: Withdrawal::Ends, withdraw_delay: made.grace_s() }
    }

    /// The type that this method has for a problem.
    pub(super) const fn problem(&self, problem: SessionProblem) -> Problem {
        match self.chain {
            Chain::Tempo(_) => Problem::Session(problem),
            Chain::Solana(_) => problem.plain(),
        }
    }

    /// The challenge of a session. None: it cannot be made now.
    pub(crate) async fn offer(&self, demand: &Demand<'_>) -> Option<Offer> {
        match &self.chain {
            Chain::Tempo(tempo) => Some(tempo.offer(self, demand).await),
            Chain::Solana(solana) => solana.offer(self, demand),
        }
    }

    /// Reads a credential, and checks its voucher where it is known who has to have signed it. CPU only.
    ///
    /// # Errors
    /// Nothing was claimed.
    pub(crate) fn read(&self, gate: &Gate, echo: &Echo) -> Result<Presented, Refusal> {
        match &self.chain {
            Chain::Tempo(tempo) => tempo.read(self, gate, echo),
            Chain::Solana(solana) => solana.read(self, gate, echo),
        }
    }

    /// A channel on its chain. None: it is on another one, of which our node knows nothing.
    pub(super) fn on<'a>(&'a self, made: &'a Made) -> Option<On<'a>> {
        match (&self.chain, made) {
            (Chain::Tempo(tempo), Made::Tempo(made)) => tempo.keeps(made).then_some(On::Tempo(tempo, made)),
            (Chain::Solana(solana), Made::Solana(made)) => {
                solana.keeps(made).then_some(On::Solana(solana, made))
            }
            (Chain::Tempo(_), Made::Solana(_)) | (Chain::Solana(_), Made::Tempo(_)) => None,
        }
    }

    /// A channel that has no record. None: the node does not say.
    pub(super) async fn seen(&self, id: &[u8; 32]) -> Option<Seen> {
        match &self.chain {
            Chain::Tempo(tempo) => tempo.seen(&tempo.rules.escrow, id).await,
            Chain::Solana(solana) => solana.seen(&solana.rules.program.address, id).await,
        }
    }

    /// What a channel is made of that was seen for the first time; it pays us.
    ///
    /// # Errors
    /// It does not, or nobody can tell.
    pub(super) fn made(&self, id: &[u8; 32], presented: Option<&Made>, seen: &Seen) -> Result<Made, Refusal> {
        match &self.chain {
            Chain::Tempo(tempo) => tempo.made(presented, seen).map(Made::Tempo),
            Chain::Solana(solana) => solana.made(id, seen).map(Made::Solana),
        }
    }

    /// Hands a signed transaction over.
    pub(super) async fn send(&self, raw: &str) -> Sent {
        match &self.chain {
            Chain::Tempo(tempo) => tempo.node.send(raw).await,
            Chain::Solana(solana) => solana.node.send(raw).await,
        }
    }

    /// What became of a transaction.
    pub(super) async fn mined(&self, hash: &str) -> Mined {
        match &self.chain {
            Chain::Tempo(tempo) => tempo.node.mined(hash).await,
            Chain::Solana(solana) => solana.node.mined(hash).await,
        }
    }

    /// What a payer's transaction is found by.
    pub(super) fn hash_of(&self, transaction: &str) -> String {
        match self.chain {
            Chain::Tempo(_) => tempo::hash_of(transaction),
            Chain::Solana(_) => solana::id_of(transaction).unwrap_or_default(),
        }
    }

    /// Signs a transaction of ours.
    ///
    /// # Errors
    /// [`NotWritten`]: nothing was signed.
    pub(super) async fn write(&self, calls: &Calls) -> Result<Written, NotWritten> {
        match (&self.chain, calls) {
            (Chain::Tempo(tempo), Calls::Evm { to, data }) => tempo.write(to, data).await,
            (Chain::Solana(solana), Calls::Solana(calls)) => solana.write(calls).await,
            (Chain::Tempo(_), Calls::Solana(_)) | (Chain::Solana(_), Calls::Evm { .. }) => {
                Err(NotWritten::Unable)
            }
        }
    }

    /// How far the chain has counted of what our transactions count by. None: the node does not say.
    pub(super) async fn counted(&self) -> Option<u64> {
        match &self.chain {
            Chain::Tempo(tempo) => tempo.node.count(&tempo.rules.sender).await,
            Chain::Solana(solana) => solana.node.height().await,
        }
    }
}

impl On<'_> {
    /// Checks a voucher against who was to sign for the channel when it was opened (MPP-31).
    pub(super) fn genuine(
        self,
        terms: &Terms,
        id: &[u8; 32],
        voucher: &Unchecked,
    ) -> Result<Signed<Signature>, Refusal> {
        match self {
            Self::Tempo(tempo, made) => tempo.genuine(terms, id, made, voucher),
            Self::Solana(_, made) => made.genuine(terms, id, voucher),
        }
    }

    /// Where it stands, as whoever keeps it tells. None: the node does not say.
    pub(super) async fn seen(self, id: &[u8; 32]) -> Option<Seen> {
        match self {
            Self::Tempo(tempo, made) => tempo.seen(&made.escrow(), id).await,
            Self::Solana(solana, made) => solana.seen(&made.program().address, id).await,
        }
    }

    /// The calls that take a promise. None: they cannot be made now.
    pub(super) async fn settle(self, id: &[u8; 32], promise: &Signed<Signature>) -> Option<Calls> {
        match self {
            Self::Tempo(_, made) => made.settle(id, promise),
            Self::Solana(solana, made) => made.settle(solana, id, promise).await,
        }
    }

    /// How the channel would end now. The refusal says why not by this.
    pub(super) fn ends(
        self,
        terms: &Terms,
        channel: &Channel<Signature>,
        by: &By,
        now_s: u64,
    ) -> Result<Ends, Refusal> {
        let ends = match by {
            By::Voucher(signed) => {
                let closing = channel.close(signed.max_claimable);
                let closing = closing.map_err(|error| told::not_closed(terms, error))?;
                Ends { closing, promise: Some(*signed) }
            }
            By::Kept => {
                let is_good = |promise: &Signed<Signature>| promise.signature.is_good(now_s);
                let promise = channel.promise_for(channel.used(), is_good);
                Ends { closing: channel.close_by_kept(promise.as_ref()), promise }
            }
        };
        match self {
            Self::Tempo(_, made) => made.ends(terms, channel, by, ends),
            // What is too much of a promise goes back, and by none an end can be had too.
            Self::Solana(..) => Ok(ends),
        }
    }

    /// How an end that was decided is brought about. None: the node does not say where the channel stands.
    pub(super) async fn end(self, id: &[u8; 32], decided: &Decided, now_s: u64) -> Option<Ending> {
        match self {
            Self::Tempo(_, made) => Some(made.end(id, decided)),
            Self::Solana(solana, made) => made.end(solana, id, decided, now_s).await,
        }
    }
}
