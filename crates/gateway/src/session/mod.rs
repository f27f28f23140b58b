//! A payer who came with a session: money of his can still come in while a stream of his runs. So a stream that is used
//! up waits for it ([`pause`]), tells him what is wanted, and ends with what it came to (ENG-8, ENG-9).

mod arrivals;
mod pause;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ledger::Account;
use money::Amount;
use wire::mpp::event::{self, NeedTopup, NeedVoucher};
use wire::mpp::problem::{LightningProblem, SessionProblem};
use wire::mpp::{Problem, Receipt, SESSION, lightning, solana};
use wire::rfc3339;

pub(crate) use arrivals::Arrivals;
pub(crate) use pause::{Look, Pause, Waited};

use crate::channels::Unit;
use crate::identity;
use crate::mpp;
use crate::refusal::Refusal;
use crate::snapshot::Snapshot;

/// A satoshi, as Lightning counts.
const MSAT_PER_SAT: u64 = 1000;

/// A session, as one of its calls sees it.
#[derive(Debug)]
pub(crate) struct Session {
    /// The challenge that its credential echoes.
    pub(crate) challenge_id: String,
    /// How long a stream of it waits for money.
    pub(crate) grace: Duration,
    /// Who pays, as his chain writes him; none where nobody knows.
    pub(crate) payer: Option<String>,
    pub(crate) kind: Kind,
}

/// How money comes into a session.
#[derive(Debug)]
pub(crate) enum Kind {
    /// By vouchers on a payment channel.
    Channel(Channel),
    /// By invoices that are paid.
    Lightning(Lightning),
}

/// A payment channel.
#[derive(Debug)]
pub(crate) struct Channel {
    /// The method's name: `tempo`, `solana`.
    pub(crate) method: &'static str,
    /// Names the channel, as its method writes that.
    pub(crate) id: String,
    pub(crate) unit: Unit,
    /// The least that a voucher has to add; base units.
    pub(crate) delta_min: u128,
    /// Seconds without a voucher after which it is ended, where its method says that in receipts.
    pub(crate) idle_s: Option<u64>,
    pub(crate) standing: Arc<Standing<Vouched>>,
}

/// A Lightning session.
#[derive(Debug)]
pub(crate) struct Lightning {
    /// The payment hash of the invoice that opened it, in hex.
    pub(crate) id: String,
    pub(crate) standing: Arc<Standing<Deposited>>,
}

/// Where a session stands: written by whoever brings money into it, before that wakes its streams; read by them.
#[derive(Debug, Default)]
pub(crate) struct Standing<T>(Mutex<T>);

/// What was vouched for on a channel. Base units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Vouched {
    /// By the highest voucher that was accepted.
    pub(crate) accepted: u128,
    /// What the channel holds on its chain.
    pub(crate) deposit: u128,
    /// Whether no voucher is taken any more.
    pub(crate) closed: bool,
}

/// What was paid into a Lightning session in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deposited {
    pub(crate) msat: u64,
    /// What that came to in its account.
    pub(crate) credit: Amount,
    /// Whether nothing comes in any more.
    pub(crate) closed: bool,
}

impl<T: Copy> Standing<T> {
    pub(crate) const fn new(stands: T) -> Self {
        Self(Mutex::new(stands))
    }

    pub(crate) fn get(&self) -> T {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, stands: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = stands;
    }
}

/// What a stream lacks. Ledger units, beyond all that its account can give now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lack {
    /// For what was generated and not passed on yet.
    pub(crate) least: Amount,
    /// For the whole next step of its hold.
    pub(crate) step: Amount,
}

/// What a payer is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    /// What has to have come in, in all; in the session's own unit.
    pub(crate) total: u128,
    /// The event that asks for it.
    pub(crate) event: String,
}

/// What a stream came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Came<'a> {
    pub(crate) account: &'a Account,
    /// What its call was charged.
    pub(crate) charged: Amount,
    /// Unix seconds.
    pub(crate) at_s: u64,
}

impl Session {
    /// Whether money can still come in.
    pub(crate) fn is_open(&self) -> bool {
        !match &self.kind {
            Kind::Channel(channel) => channel.standing.get().closed,
            Kind::Lightning(session) => session.standing.get().closed,
        }
    }

    /// Whether the operator takes nothing from its payer any more (IDN-35).
    pub(crate) fn is_blocked(&self, snapshot: &Snapshot) -> bool {
        self.payer.as_ref().is_some_and(|payer| identity::is_payer_blocked(snapshot, payer))
    }

    /// How a call of it is refused that it has so much too little for.
    pub(crate) fn short(&self, refusal: Refusal, lacks: Amount) -> Refusal {
        match &self.kind {
            Kind::Channel(channel) => refusal
                .problem(channel.problem(SessionProblem::InsufficientBalance))
                .extension("requiredTopUp", channel.up(lacks).to_string()),
            Kind::Lightning(_) => refusal.problem(Problem::Lightning(LightningProblem::InsufficientBalance)),
        }
    }

    /// How one is refused that comes when it has ended.
    pub(crate) fn over(&self) -> Refusal {
        let problem = match &self.kind {
            Kind::Channel(channel) => channel.problem(SessionProblem::ChannelFinalized),
            Kind::Lightning(_) => Problem::Lightning(LightningProblem::SessionClosed),
        };
        mpp::refused(problem, "session_closed", "The session has ended.")
    }

    /// What a receipt calls it: the channel, or the payment hash that opened it.
    pub(crate) fn reference(&self) -> &str {
        match &self.kind {
            Kind::Channel(channel) => &channel.id,
            Kind::Lightning(session) => &session.id,
        }
    }

    /// What the payer has to do so that a stream goes on: before a whole step, if he can.
    pub(crate) fn need(&self, account: &Account, lack: Lack) -> Need {
        match &self.kind {
            Kind::Channel(channel) => channel.need(lack),
            Kind::Lightning(session) => session.need(account, lack),
        }
    }

    /// The event that says that he has not done so in time, where his method has one.
    pub(crate) fn timed_out(&self, account: &Account, lack: Lack) -> Option<String> {
        match &self.kind {
            Kind::Channel(_) => None,
            Kind::Lightning(session) => {
                Some(event::encode(event::SESSION_TIMEOUT, &session.balance(account, lack)))
            }
        }
    }

    /// The event with which a stream says what it came to, before it ends.
    pub(crate) fn receipt_event(&self, came: Came<'_>) -> String {
        event::frame(event::RECEIPT, &self.receipt(came).to_json())
    }

    const fn method(&self) -> &'static str {
        match &self.kind {
            Kind::Channel(channel) => channel.method,
            Kind::Lightning(_) => lightning::METHOD,
        }
    }

    /// What the head of an answer says: where the session stands before the call has cost anything.
    pub(crate) fn receipt_of_head(&self, account: &Account, at_s: u64) -> Receipt {
        let mut receipt = self.receipt(Came { account, charged: Amount::ZERO, at_s });
        // Of a stream of Lightning both are known at its end only.
        receipt.units = None;
        receipt.more.clear();
        receipt
    }

    fn receipt(&self, came: Came<'_>) -> Receipt {
        let (method, reference) = (self.method(), self.reference());
        let mut receipt = Receipt::new(method, reference, &rfc3339::format(came.at_s).unwrap_or_default());
        receipt.intent = Some(SESSION.to_owned());
        receipt.challenge_id = Some(self.challenge_id.clone());
        match &self.kind {
            Kind::Channel(channel) => {
                receipt.channel_id = Some(channel.id.clone());
                receipt.accepted_cumulative = Some(channel.standing.get().accepted.to_string());
                receipt.spent = Some(channel.spent(came.account).to_string());
                receipt.units = u64::try_from(channel.up(came.charged)).ok();
                receipt.idle_timeout_seconds = channel.idle_s;
            }
            Kind::Lightning(session) => {
                // Of this stream, and a number: so its method has it.
                let charged = session.sats_up(came.charged);
                receipt.more.insert("spent".to_owned(), charged.into());
                receipt.units = u64::try_from(charged).ok();
            }
        }
        receipt
    }
}

/// What an account still has of what came in, whatever is in flight: what a call has set aside is not spent.
///
/// A hold is noted before it is taken and given back before it is forgotten, so two equal looks at both words have seen
/// every unit at least once.
pub(crate) fn unspent(account: &Account) -> Amount {
    let look = || (account.available(), account.held());
    let mut seen = look();
    loop {
        let again = look();
        if again == seen {
            return Amount::from_units(seen.0.units().saturating_add(seen.1.units()));
        }
        seen = again;
    }
}

impl Channel {
    /// The type that its method has for a problem.
    fn problem(&self, problem: SessionProblem) -> Problem {
        if self.method == solana::METHOD { problem.plain() } else { Problem::Session(problem) }
    }

    /// The voucher that lets a stream go on (ENG-3). What the chain holds for it bounds a step, if that is enough to go on
    /// at all: a voucher is quicker than a transaction.
    fn need(&self, lack: Lack) -> Need {
        let Vouched { accepted, deposit, .. } = self.standing.get();
        let reach = |more: Amount| accepted.saturating_add(self.up(more).max(self.delta_min).max(1));
        let (least, step) = (reach(lack.least), reach(lack.step));
        let total = if step > deposit && least <= deposit { deposit } else { step };
        let wants = NeedVoucher {
            channel_id: self.id.clone(),
            required_cumulative: total.to_string(),
            accepted_cumulative: accepted.to_string(),
            deposit: deposit.to_string(),
        };
        Need { total, event: event::encode(event::NEED_VOUCHER, &wants) }
    }

    /// Base units that cover an amount; below zero none.
    fn up(&self, amount: Amount) -> u128 {
        let Unit { asset, decimals } = self.unit;
        money::atomic_from_ledger_up(amount.max(Amount::ZERO), asset.exponent(), decimals)
            .unwrap_or(u128::MAX)
    }

    /// What was spent of what was vouched for, whole units (ENG-3).
    fn spent(&self, account: &Account) -> u128 {
        self.standing.get().accepted.saturating_sub(self.unit.whole(unspent(account)))
    }
}

impl Lightning {
    fn need(&self, account: &Account, lack: Lack) -> Need {
        let wants = self.balance(account, lack);
        // All that came in, and what is wanted beside it.
        let total =
            (self.standing.get().msat / MSAT_PER_SAT).saturating_add(wants.balance_required.unsigned_abs());
        Need { total: total.into(), event: event::encode(event::NEED_TOPUP, &wants) }
    }

    /// Satoshis that were spent, and that are wanted.
    fn balance(&self, account: &Account, lack: Lack) -> NeedTopup {
        let spent = self.standing.get().credit.minus(unspent(account)).unwrap_or(Amount::ZERO);
        NeedTopup {
            session_id: self.id.clone(),
            balance_spent: self.sats_up(spent),
            balance_required: self.sats_up(lack.step).max(1),
        }
    }

    /// What an amount is in satoshis, at the price at which the session's money came in.
    fn sats_up(&self, amount: Amount) -> i64 {
        let Deposited { msat, credit, .. } = self.standing.get();
        let (Ok(amount), Ok(credit)) = (u128::try_from(amount.units()), u128::try_from(credit.units()))
        else {
            return 0;
        };
        let msat = if credit == 0 { 0 } else { (amount * u128::from(msat)).div_ceil(credit) };
        i64::try_from(msat.div_ceil(MSAT_PER_SAT.into())).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use ledger::{Account, AccountId, AccountRef, Hold};
    use money::{Amount, Asset};
    use serde_json::{Value, json};

    use super::{Came, Channel, Deposited, Kind, Lack, Lightning, Session, Standing, Vouched};
    use crate::channels::Unit;

    fn units(units: i64) -> Amount {
        Amount::from_units(units)
    }

    fn account(available: i64) -> AccountRef {
        AccountRef::from(Account::new(AccountId([1; 16]), Asset::Usdc, units(available), Amount::ZERO))
    }

    fn session(kind: Kind) -> Session {
        Session { challenge_id: "c".into(), grace: Duration::ZERO, payer: None, kind }
    }

    /// A token with six decimals: a base unit is a thousand of the ledger's.
    fn channel(accepted: u128, deposit: u128, delta_min: u128) -> Session {
        channel_of("tempo", None, accepted, deposit, delta_min)
    }

    fn channel_of(
        method: &'static str,
        idle_s: Option<u64>,
        accepted: u128,
        deposit: u128,
        delta_min: u128,
    ) -> Session {
        let standing = Arc::new(Standing::new(Vouched { accepted, deposit, closed: false }));
        let unit = Unit { asset: Asset::Usdc, decimals: 6 };
        session(Kind::Channel(Channel { method, id: "0xab".into(), unit, delta_min, idle_s, standing }))
    }

    /// Of 10 sats, which came to 7,000 units.
    fn lightning() -> Session {
        let standing =
            Arc::new(Standing::new(Deposited { msat: 10_000, credit: units(7_000), closed: false }));
        session(Kind::Lightning(Lightning { id: "aa11".into(), standing }))
    }

    fn data(event: &str, name: &str) -> Value {
        let data = event.strip_prefix(&format!("event: {name}\ndata: ")).unwrap();
        let data = data.strip_suffix("\n\n").unwrap();
        assert!(!data.contains('\n'));
        serde_json::from_str(data).unwrap()
    }

    /// ENG-3 and ENG-8: what is asked for, rounded up, in what is deposited where that is enough to go on.
    #[test]
    fn eng_3_the_voucher_that_is_asked_for() {
        for (accepted, deposit, delta_min, least, step, required) in [
            (250_000, 500_000, 0, 1_000, 25_000, 250_025),
            (250_000, 500_000, 0, 1_000, 24_001, 250_025),
            (250_000, 500_000, 0, 1_000, 25_001, 250_026),
            (250_000, 500_000, 100, 1_000, 25_000, 250_100),
            // Nothing is lacking any more, and yet it does not go on: at least a unit.
            (250_000, 500_000, 0, 0, 0, 250_001),
            (250_000, 250_010, 0, 10_000, 25_000, 250_010),
            (250_000, 250_010, 0, 10_001, 25_000, 250_025),
            (0, 0, 0, 1, 1, 1),
        ] {
            let session = channel(accepted, deposit, delta_min);
            let need = session.need(&account(0), Lack { least: units(least), step: units(step) });
            let expected = json!({
                "channelId": "0xab", "requiredCumulative": required.to_string(),
                "acceptedCumulative": accepted.to_string(), "deposit": deposit.to_string(),
            });
            assert_eq!(data(&need.event, "payment-need-voucher"), expected);
            assert_eq!(need.total, required);
            assert_eq!(session.timed_out(&account(0), Lack { least: units(1), step: units(1) }), None);
        }
    }

    /// MPP 10.2: satoshis as numbers, at the price at which they came in. What a call has set aside is not spent.
    #[test]
    fn eng_8_the_top_up_that_is_asked_for() {
        let account = account(1_400);
        let _held = Hold::on(&account, units(700)).unwrap();
        let lack = Lack { least: units(1), step: units(1_401) };
        let expected = json!({"sessionId": "aa11", "balanceSpent": 8, "balanceRequired": 3});
        let need = lightning().need(&account, lack);
        assert_eq!(data(&need.event, "payment-need-topup"), expected);
        assert_eq!(need.total, 13);
        assert_eq!(data(&lightning().timed_out(&account, lack).unwrap(), "session-timeout"), expected);
    }

    /// MPP-19: what a stream came to, and what a channel did. What is in flight is not spent.
    #[test]
    fn mpp_19_the_receipt_at_the_end_of_a_stream() {
        let account = account(5_500);
        let _held = Hold::on(&account, units(500)).unwrap();
        let came = Came { account: &account, charged: units(1_401), at_s: 1_795_000_000 };
        let common = json!({
            "status": "success", "timestamp": "2026-11-18T11:06:40.000Z", "intent": "session", "challengeId": "c",
        });
        for (session, own) in [
            (
                channel(10, 20, 0),
                json!({"method": "tempo", "reference": "0xab", "channelId": "0xab", "acceptedCumulative": "10",
                       "spent": "5", "units": 2}),
            ),
            (
                channel_of("solana", Some(2_592_000), 10, 20, 0),
                json!({"method": "solana", "reference": "0xab", "channelId": "0xab", "acceptedCumulative": "10",
                       "spent": "5", "units": 2, "idleTimeoutSeconds": 2_592_000}),
            ),
            (lightning(), json!({"method": "lightning", "reference": "aa11", "spent": 3, "units": 3})),
        ] {
            let mut expected = common.clone();
            expected.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
            assert_eq!(data(&session.receipt_event(came), "payment-receipt"), expected);
        }
    }
}
