//! What an answer makes of a payment: taken, refused, or nobody can say.

use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use money::Amount;
use wire::x402::code::{self, Code};
use wire::x402::{batch, contracts, header as x402};

use crate::attested::{self, Attested};
use crate::call::{FAILED_BODY_BYTES_MAX, key_header, received_key};
use crate::challenge::{Challenge, Said};
use crate::client::{Client, Response, See, Step};
use crate::connection::{Answer, Body};
use crate::drawing::Outcome;
use crate::error::{Allowance, CallError};
use crate::folder::Folder;
use crate::keyring;
use crate::pending::{Kind, Pending};
use crate::receipt::ReceiptRef;
use crate::reservation::End;
use crate::sale::Sending;
use crate::verdict::{self, Paid, Settled, Verdict};
use crate::{Request, now_unix_s, printable};

/// An answer to a payment, judged.
pub(crate) enum Judged {
    Taken {
        answer: Answer,
        settled: Settled,
    },
    Unknown {
        why: String,
        after: Option<Duration>,
        /// Of a seller that was paid before it was asked: the money is not in question.
        answer: Option<Box<Answer>>,
    },
    Refused {
        answer: Answer,
        said: Said,
        /// If it says where a channel stands.
        challenge: Option<Box<Challenge>>,
    },
}

impl Client {
    pub(crate) async fn judge(&self, request: &Request, mut answer: Answer, pending: &Pending) -> Judged {
        let mut said = Said::default();
        if !answer.status.is_success() {
            let body = std::mem::replace(&mut answer.body, Body::memory(Bytes::new()));
            let body = body.collect(FAILED_BODY_BYTES_MAX).await.unwrap_or_default();
            said = Said::parse(&body);
            answer.body = Body::memory(body);
        }
        let challenge = refusal(&answer, &mut said);
        let verdict = match pending.intent() {
            Some(intent) => verdict::of_proof(answer.status, &answer.headers, &said, intent.payment_hash()),
            None => verdict::read(answer.status, &answer.headers, &said, pending.network()),
        };
        match verdict {
            Verdict::Taken(settled) => Judged::Taken { answer, settled },
            Verdict::Refused => Judged::Refused { answer, said, challenge },
            Verdict::Unknown { after } => {
                let why = format!(
                    "{} answered {} {}",
                    request.target.origin_text(),
                    answer.status.as_u16(),
                    said.code
                );
                let paid = *pending.kind() == Kind::Invoice;
                let answer = paid.then(|| Box::new(answer));
                Judged::Unknown { why: why.trim_end().to_owned(), after, answer }
            }
        }
    }

    /// The payment is the seller's. The key to its change is kept before the payment is forgotten.
    pub(crate) fn taken(
        &self,
        request: &Request,
        mut answer: Answer,
        settled: Settled,
        mut sending: Sending,
        see: &mut See<'_>,
    ) -> Response {
        let key = received_key(&mut answer);
        let folder = self.folder.as_ref().filter(|_| self.save_keys).map(Folder::keys_file);
        if let (Some(key), Some(file)) = (&key, folder) {
            let origin = request.target.origin_text();
            let asset = sending.pending.asset().or_else(|| keyring::usual_asset(key));
            match keyring::save(&file, &origin, key, asset) {
                Ok(()) => see(Step::KeySaved),
                Err(error) => see(Step::Warning(&error)),
            }
        }
        // The new key opens the receipt; without one, what was sent does.
        let credential = match &key {
            Some(key) => Some(key_header(request, key)),
            None => sending.pending.opener(),
        };
        let receipt = ReceiptRef::read(&answer.headers, &request.target, credential);
        self.keep_token(request, &sending.pending, receipt.is_some(), see);
        let reserved = self.reserved(request, &sending.pending);
        let invoice = *sending.pending.kind() == Kind::Invoice;
        let whole = match &receipt {
            Some(_) => End::Served,
            // The call failed, and a key to the whole deposit is here: it is paid, and not used yet.
            None if key.is_some() && !answer.status.is_success() => End::Charged(Amount::ZERO),
            None if invoice && verdict::is_undecided(answer.status) => End::Open,
            None => End::ServedInFull,
        };
        let Outcome { paid, end, promise } =
            self.outcome(&settled, &mut sending, whole, reserved.as_ref(), see);
        self.end(reserved.as_ref(), end, see);
        let attested = self.attested(request, &settled, &sending.pending, see);
        let metered = sending.pending.sum().filter(|_| *sending.pending.kind() == Kind::Upto).cloned();
        let receipt = receipt.map(|receipt| receipt.with_reserved(reserved).with_metered(metered));
        self.note(sending.pending.discard(), see);
        see(Step::Response { status: answer.status, headers: &answer.headers });
        let Answer { status, headers, body } = answer;
        Response { status, headers, body, paid, key, receipt, promise, attested }
    }

    /// What the seller signed about a payment, kept.
    fn attested(
        &self,
        request: &Request,
        settled: &Settled,
        pending: &Pending,
        see: &mut See<'_>,
    ) -> Option<Attested> {
        let wallet = self.wallet.as_ref()?;
        let facts = attested::Facts {
            origin: &request.target,
            network: pending.network(),
            pay_to: pending.sum().map_or("", |sum| sum.pay_to.as_str()),
            payer: wallet.address_on(pending.network()),
            transaction: &settled.transaction,
        };
        let receipt = settled.receipt.as_deref().cloned();
        let attested = Attested::new(&facts, pending.promise().cloned(), receipt)?;
        if let Some(folder) = &self.folder
            && let Err(error) = attested.save(&folder.attested_folder())
        {
            see(Step::Warning(&error));
        }
        Some(attested)
    }

    /// The seller did not take the payment, so it says. No other one is signed for this call (H12).
    pub(crate) fn refused(
        &self,
        request: &Request,
        mut answer: Answer,
        said: Said,
        mut sending: Sending,
        see: &mut See<'_>,
    ) -> Result<Response, CallError> {
        let now = now_unix_s();
        let pending = sending.pending;
        let (what, valid_before) = (pending.paid().to_owned(), pending.valid_before());
        let status = answer.status;
        let said = Box::new(said);
        let reserved = self.reserved(request, &pending);
        if let Some(missing) = self.missing_allowance(status, &said, &pending, now) {
            // Not the seller's fault, and nothing of it moved. The permit can be taken once it is allowed: it stays
            // spent.
            self.note(pending.refuse(now), see);
            return Err(missing);
        }
        self.end(reserved.as_ref(), End::Open, see);
        if *pending.kind() == Kind::Invoice {
            let seconds = pending.shown_until(now).saturating_sub(now);
            self.note(pending.refuse(now), see);
            return Err(CallError::TokenRefused { status, said, paid: what, seconds });
        }
        if let Kind::Batch { deposit: 0, .. } = pending.kind() {
            // A voucher has no end and needs none: the next one contains it.
            if let Some(held) = &mut sending.held {
                self.note(held.refuse(), see);
            }
            self.note(pending.discard(), see);
            return Err(CallError::VoucherRefused { status, said, paid: what });
        }
        self.note(pending.refuse(now), see);
        if matches!(status.as_u16(), 401..=403 | 409 | 412) {
            let seconds = valid_before.saturating_sub(now);
            return Err(CallError::Refused { status, said, paid: what, seconds });
        }
        let _ = received_key(&mut answer);
        see(Step::Response { status, headers: &answer.headers });
        let receipt = ReceiptRef::read(&answer.headers, &request.target, None);
        let Answer { status, headers, body } = answer;
        let paid = Paid::Kept { what, valid_before };
        Ok(Response { status, headers, body, paid, key: None, receipt, promise: None, attested: None })
    }

    /// That a permit was refused because the token does not let Permit2 move it.
    fn missing_allowance(
        &self,
        status: StatusCode,
        said: &Said,
        pending: &Pending,
        now: u64,
    ) -> Option<CallError> {
        let permit = matches!(pending.kind(), Kind::Permit2 | Kind::Upto);
        let known = |text: &str| code::known(text) == Some(Code::AllowanceRequired);
        let named = [&said.code, &said.reason].into_iter().any(|text| known(text));
        if !permit || !named || status != StatusCode::PRECONDITION_FAILED {
            return None;
        }
        let missing = Allowance {
            network: printable(pending.network()),
            token: pending.sum()?.token.clone(),
            owner: self.wallet.as_ref()?.evm_address().to_string(),
            permit2: contracts::PERMIT2.to_string(),
            paid: pending.paid().to_owned(),
            seconds: pending.valid_before().saturating_sub(now),
        };
        Some(CallError::Allowance(Box::new(missing)))
    }
}

/// What a refusal says in its header where its body says nothing, and the offers of a corrective one.
fn refusal(answer: &Answer, said: &mut Said) -> Option<Box<Challenge>> {
    if answer.status.is_success() || !answer.headers.contains_key(x402::PAYMENT_REQUIRED) {
        return None;
    }
    let challenge = Challenge::read(&answer.headers, b"").ok()?;
    let named = &challenge.refusal.code;
    if said.code.is_empty() {
        said.code.clone_from(named);
    }
    let corrective = [batch::CUMULATIVE_MISMATCH, batch::CUMULATIVE_BELOW_CLAIMED].contains(&named.as_str());
    // Beside a result it is no correction: then the seller took something (X402-29).
    let taken = [x402::PAYMENT_RESPONSE, x402::X_PAYMENT_RESPONSE];
    let taken = taken.iter().any(|name| answer.headers.contains_key(*name));
    (corrective && !taken && answer.status == StatusCode::PAYMENT_REQUIRED).then(|| Box::new(challenge))
}
