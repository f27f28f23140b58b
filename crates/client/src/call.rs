//! One call, top to bottom: ask, choose, sign, write down, pay, and find out what became of it.

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use money::{Amount, Asset};
use wire::credit_key::CreditKey;

use crate::challenge::{self, Challenge, Said};
use crate::client::{Client, Response, See, Step};
use crate::connection::{Answer, Body, Outgoing, SendError};
use crate::error::CallError;
use crate::folder::Folder;
use crate::keyring;
use crate::offer::{Offer, Terms};
use crate::payment::Payment;
use crate::pending::{self, Facts, Pending};
use crate::receipt::ReceiptRef;
use crate::request::KEY_FIELDS;
use crate::reservation::{End, Reservation};
use crate::verdict::{self, Paid, Verdict};
use crate::{Policy, Request, Secret, Wallet, now_unix_s, printable};

type Credential = (HeaderName, HeaderValue);

/// Header with the key to what a payment left over.
const KEY_HEADER: &str = "farthing-key";
/// Largest body of a failed answer we read before handing it on.
const FAILED_BODY_BYTES_MAX: usize = 256 * 1024;

impl Client {
    /// Sends a request, pays at most one 402, and hands on the answer.
    ///
    /// # Errors
    /// [`CallError`] says what happened to the money. After [`CallError::Unknown`] call again with the same
    /// request: it sends the same payment.
    ///
    /// # Cancel safety
    /// Dropped midway, a payment may have been sent. It is written down: the same request sends it again.
    pub async fn call(&self, request: &Request, see: &mut See<'_>) -> Result<Response, CallError> {
        if (request.brings_key() || request.brings_payment()) && !request.target.may_carry_credentials() {
            return Err(CallError::ClearText(request.target.origin_text()));
        }
        self.check_own(request)?;
        if let Some(left) = self.left_over(request)? {
            // It counts as spent already, so no cap is asked again: this may be how its answer is reached.
            self.permit(request)?;
            see(Step::Resuming { paid: left.paid() });
            return self.present(request, left, see).await;
        }
        let (answer, key) = self.open(request, see).await?;
        if answer.status != StatusCode::PAYMENT_REQUIRED || request.brings_payment() {
            return self.unpaid(request, answer, key, see).await;
        }
        self.end(key.as_ref().and_then(|key| key.reserved.as_ref()), End::Nothing, see);
        let challenge = Self::read_challenge(answer, see).await?;
        let pending = self.pay(request, &challenge, key, see)?;
        self.present(request, pending, see).await
    }

    /// The first request: with a credit key if there is one, and never above cap and budget.
    async fn open(
        &self,
        request: &Request,
        see: &mut See<'_>,
    ) -> Result<(Answer, Option<UsedKey>), CallError> {
        let network = |error: SendError| CallError::Network(error.to_string());
        let Some(key) = self.key_for(request)? else {
            return Ok((self.ask(request, &[], see).await.map_err(network)?, None));
        };
        let unasked = self.policy_for(request)?.unasked();
        let mut reserved = self.reserve_narrowed(request, unasked)?;
        let text = match key.capped(reserved.as_ref().map_or(unasked, |reserved| reserved.amount)) {
            Some(narrowed) => narrowed,
            // The key cannot carry the cap, so the price is asked first.
            None => {
                self.end(reserved.as_ref(), End::Nothing, see);
                match self.admitted(request, see).await? {
                    Ok(price) => reserved = price,
                    Err(free) => return Ok((free, None)),
                }
                key.text().clone()
            }
        };
        let credential = key_header(request, &text);
        let answer = match self.ask(request, std::slice::from_ref(&credential), see).await {
            Ok(answer) => answer,
            Err(error) => {
                if let SendError::NotSent(_) = error {
                    self.end(reserved.as_ref(), End::Nothing, see);
                }
                return Err(network(error));
            }
        };
        // A key that its issuer no longer knows: what it opened is reached again by paying.
        if answer.status == StatusCode::UNAUTHORIZED && key.is_saved() {
            self.end(reserved.as_ref(), End::Nothing, see);
            return Ok((self.ask(request, &[], see).await.map_err(network)?, None));
        }
        Ok((answer, Some(UsedKey { credential, asset: key.asset(), reserved })))
    }

    /// Asks for the price of a call that a key is to pay, and reserves it. `Err(answer)` if it is free.
    async fn admitted(
        &self,
        request: &Request,
        see: &mut See<'_>,
    ) -> Result<Result<Option<Reservation>, Answer>, CallError> {
        let answer =
            self.ask(request, &[], see).await.map_err(|error| CallError::Network(error.to_string()))?;
        if answer.status != StatusCode::PAYMENT_REQUIRED {
            return Ok(Err(answer));
        }
        let challenge = Self::read_challenge(answer, see).await?;
        let Some(price) = challenge.lowest_price() else {
            return Err(self.policy.nothing_payable(&challenge).into());
        };
        // Of the caps of a call the budget names its own.
        Policy { max: self.policy.max, ..self.policy_for(request)? }.admit(price)?;
        let reserved = self.reserve_priced(request, price)?;
        Ok(Ok(reserved))
    }

    /// Chooses an offer, reserves its price, signs it, and writes the payment down.
    fn pay(
        &self,
        request: &Request,
        challenge: &Challenge,
        key: Option<UsedKey>,
        see: &mut See<'_>,
    ) -> Result<Pending, CallError> {
        let refusal = &challenge.refusal;
        let by_limit = matches!(refusal.code.as_str(), "over_key_budget" | "over_token_budget");
        if key.is_some() && (by_limit || refusal.limit_source == "per_call") {
            // More money would not help: the key itself sets the limit.
            let narrow = key.and_then(|key| key.reserved?.too_narrow(refusal));
            let (status, said) = (StatusCode::PAYMENT_REQUIRED, Box::new(refusal.clone()));
            return Err(narrow.unwrap_or(CallError::KeyRefused { status, said }));
        }
        if !request.target.may_carry_credentials() {
            return Err(CallError::ClearText(request.target.origin_text()));
        }
        let chosen = self.choose_within_caps(request, challenge)?;
        let wallet = self.wallet.as_ref().ok_or(CallError::NoWallet { price: challenge.lowest_price() })?;
        let folder = self.folder.as_ref().ok_or(CallError::NoFolder)?.pending_folder();
        let reserved = self.reserve_payment(request, chosen.1.price)?;
        let signed = sign(request, challenge, chosen, wallet, &folder, key, reserved.as_ref());
        match signed {
            Ok((payment, pending)) => {
                see(Step::Paying { offer: chosen.0, payment: &payment });
                Ok(pending)
            }
            Err(error) => {
                self.end(reserved.as_ref(), End::Nothing, see);
                Err(error)
            }
        }
    }

    /// Sends a payment until somebody can say what became of it: the same bytes each time.
    async fn present(
        &self,
        request: &Request,
        pending: Pending,
        see: &mut See<'_>,
    ) -> Result<Response, CallError> {
        let mut sent = pending.sent;
        let mut pauses = Pauses { patience: self.patience, left: self.patience.replays };
        loop {
            let (why, after) = match self.ask(request, &pending.headers(), see).await {
                Err(SendError::NotSent(why)) if !sent => {
                    self.end(self.reserved(request, &pending).as_ref(), End::Nothing, see);
                    self.note(pending.discard(), see);
                    return Err(CallError::Network(why));
                }
                Err(SendError::NotSent(why) | SendError::Lost(why)) => (why, None),
                Ok(answer) => match self.judge(request, answer, &pending).await {
                    Judged::Unknown { why, after } => (why, after),
                    Judged::Taken { answer, transaction } => {
                        return Ok(self.taken(request, answer, transaction, pending, see));
                    }
                    Judged::Refused { answer, said } => {
                        return self.refused(request, answer, said, pending, see);
                    }
                },
            };
            sent = true;
            let Some(pause) = pauses.next(after) else {
                self.end(self.reserved(request, &pending).as_ref(), End::Open, see);
                let (paid, path) = (pending.paid().to_owned(), pending.path().to_owned());
                return Err(CallError::Unknown { paid, why, path });
            };
            see(Step::Waiting { pause, why: &why });
            tokio::time::sleep(pause).await;
        }
    }

    async fn judge(&self, request: &Request, mut answer: Answer, pending: &Pending) -> Judged {
        let mut said = Said::default();
        if !answer.status.is_success() {
            let body = std::mem::replace(&mut answer.body, Body::memory(Bytes::new()));
            let body = body.collect(FAILED_BODY_BYTES_MAX).await.unwrap_or_default();
            said = Said::parse(&body);
            answer.body = Body::memory(body);
        }
        match verdict::read(answer.status, &answer.headers, &said, pending.network()) {
            Verdict::Taken { transaction } => Judged::Taken { answer, transaction },
            Verdict::Refused => Judged::Refused { answer, said },
            Verdict::Unknown { after } => {
                let why = format!(
                    "{} answered {} {}",
                    request.target.origin_text(),
                    answer.status.as_u16(),
                    said.code
                );
                Judged::Unknown { why: why.trim_end().to_owned(), after }
            }
        }
    }

    /// The payment is the seller's. The key to its change is kept before the payment is forgotten.
    fn taken(
        &self,
        request: &Request,
        mut answer: Answer,
        transaction: String,
        pending: Pending,
        see: &mut See<'_>,
    ) -> Response {
        let key = received_key(&mut answer);
        let folder = self.folder.as_ref().filter(|_| self.save_keys).map(Folder::keys_file);
        if let (Some(key), Some(file)) = (&key, folder) {
            let origin = request.target.origin_text();
            match keyring::save(&file, &origin, key, pending.asset()) {
                Ok(()) => see(Step::KeySaved),
                Err(error) => see(Step::Warning(&error)),
            }
        }
        let paid = Paid::Taken { what: pending.paid().to_owned(), transaction };
        // The new key opens the receipt; without one, what was sent does.
        let credential = match &key {
            Some(key) => Some(key_header(request, key)),
            None => pending.headers().pop(),
        };
        let receipt = ReceiptRef::read(&answer.headers, &request.target, credential);
        let reserved = self.reserved(request, &pending);
        let end = match &receipt {
            Some(_) => End::Served,
            // The call failed, and a key to the whole deposit is here: it is paid, and not used yet.
            None if key.is_some() && !answer.status.is_success() => End::Charged(Amount::ZERO),
            None => End::ServedInFull,
        };
        self.end(reserved.as_ref(), end, see);
        let receipt = receipt.map(|receipt| receipt.with_reserved(reserved));
        self.note(pending.discard(), see);
        see(Step::Response { status: answer.status, headers: &answer.headers });
        let Answer { status, headers, body } = answer;
        Response { status, headers, body, paid, key, receipt }
    }

    /// The seller did not take the payment, so it says. No other one is signed for this call (H12).
    fn refused(
        &self,
        request: &Request,
        mut answer: Answer,
        said: Said,
        pending: Pending,
        see: &mut See<'_>,
    ) -> Result<Response, CallError> {
        let now = now_unix_s();
        let (what, valid_before) = (pending.paid().to_owned(), pending.valid_before());
        self.end(self.reserved(request, &pending).as_ref(), End::Open, see);
        self.note(pending.refuse(now), see);
        let status = answer.status;
        if matches!(status.as_u16(), 401..=403 | 409) {
            let seconds = valid_before.saturating_sub(now);
            return Err(CallError::Refused { status, said: Box::new(said), paid: what, seconds });
        }
        let _ = received_key(&mut answer);
        see(Step::Response { status, headers: &answer.headers });
        let receipt = ReceiptRef::read(&answer.headers, &request.target, None);
        let Answer { status, headers, body } = answer;
        let paid = Paid::Kept { what, valid_before };
        Ok(Response { status, headers, body, paid, key: None, receipt })
    }

    /// An answer to a request without a payment.
    async fn unpaid(
        &self,
        request: &Request,
        mut answer: Answer,
        key: Option<UsedKey>,
        see: &mut See<'_>,
    ) -> Result<Response, CallError> {
        let (credential, reserved) = key.map(|key| (key.credential, key.reserved)).unzip();
        let (has_key, reserved) = (credential.is_some(), reserved.flatten());
        let credential = credential.or_else(|| own_credential(request));
        let receipt = ReceiptRef::read(&answer.headers, &request.target, credential);
        let end = End::of_key(answer.status, &answer.headers, receipt.is_some());
        self.end(reserved.as_ref(), end, see);
        let about_the_key = matches!(answer.status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
        if has_key && about_the_key {
            let status = answer.status;
            let body = answer.body.collect(FAILED_BODY_BYTES_MAX).await.unwrap_or_default();
            let said = Box::new(Said::parse(&body));
            let narrow = reserved.and_then(|reserved| reserved.too_narrow(&said));
            return Err(narrow.unwrap_or(CallError::KeyRefused { status, said }));
        }
        // Nothing was paid here, so there is no change to have a key for.
        let _ = received_key(&mut answer);
        see(Step::Response { status: answer.status, headers: &answer.headers });
        let receipt = receipt.map(|receipt| receipt.with_reserved(reserved));
        let Answer { status, headers, body } = answer;
        Ok(Response { status, headers, body, paid: Paid::Nothing, key: None, receipt })
    }

    pub(crate) async fn ask(
        &self,
        request: &Request,
        credentials: &[Credential],
        see: &mut See<'_>,
    ) -> Result<Answer, SendError> {
        let mut headers = request.headers.clone();
        for (name, value) in credentials {
            headers.append(name, value.clone());
        }
        let method = request.method.clone();
        let names = credentials.iter().map(|(name, _)| name.as_str()).collect();
        see(Step::Request { method: &method, url: request.target.url(), credentials: names });
        let secret = !credentials.is_empty() || request.brings_key() || request.brings_payment();
        let (target, body) = (&request.target, request.body.clone());
        let patience = (self.patience.head_max, self.patience.idle_max);
        Outgoing { method: method.clone(), target, headers, body, secret }.send(&self.dialer, patience).await
    }

    pub(crate) async fn read_challenge(answer: Answer, see: &mut See<'_>) -> Result<Challenge, CallError> {
        let body = answer.body.collect(challenge::BODY_BYTES_MAX).await;
        let body = body.map_err(|error| CallError::Network(error.to_string()))?;
        let challenge = Challenge::read(&answer.headers, &body)
            .map_err(|error| CallError::Challenge { error, said: Box::new(Said::parse(&body)) })?;
        see(Step::Challenge(&challenge));
        Ok(challenge)
    }

    /// What an earlier run left for this request.
    pub(crate) fn left_over(&self, request: &Request) -> Result<Option<Pending>, CallError> {
        let Some(folder) = &self.folder else { return Ok(None) };
        if request.brings_payment() {
            return Ok(None);
        }
        Ok(Pending::find(&folder.pending_folder(), request, now_unix_s())?)
    }

    /// What a payment has reserved, whichever process reserved it.
    fn reserved(&self, request: &Request, pending: &Pending) -> Option<Reservation> {
        Reservation::of_earlier(self.folder.as_ref()?, request, pending.reserved()?)
    }

    /// Tells the budget what became of a call. What cannot be told stays spent.
    pub(crate) fn end(&self, reserved: Option<&Reservation>, end: End, see: &mut See<'_>) {
        if let Some(reserved) = reserved {
            self.note(reserved.end(end), see);
        }
    }

    /// A payment file that cannot be changed is sent once more at worst, and never paid twice.
    #[expect(clippy::unused_self, reason = "reads as what the client does")]
    fn note(&self, done: Result<(), crate::FileError>, see: &mut See<'_>) {
        if let Err(error) = done {
            see(Step::Warning(&error));
        }
    }
}

/// Signs a payment and writes it down, in this order on the disk: reserved, written down, sent.
fn sign(
    request: &Request,
    challenge: &Challenge,
    (offer, terms): (&Offer, &Terms),
    wallet: &Wallet,
    folder: &Path,
    key: Option<UsedKey>,
    reserved: Option<&Reservation>,
) -> Result<(Payment, Pending), CallError> {
    let mut nonce = [0; 32];
    getrandom::fill(&mut nonce).map_err(|_| CallError::Randomness)?;
    let now = now_unix_s();
    let payment = Payment::sign(challenge, offer, terms, wallet, nonce, now)?;
    pending::sweep(folder, now);
    let mut headers = vec![(payment.name.clone(), payment.value.clone())];
    // Beside a key the payment tops up its account, which takes its own asset only.
    let same = |key: &UsedKey| key.asset == Some(terms.asset);
    headers.extend(key.filter(same).map(|key| key.credential));
    let price = terms.price.short(terms.asset);
    let facts = Facts {
        headers: &headers,
        paid: format!("{price} {} to {}", terms.asset.name(), printable(offer.pay_to())),
        network: offer.network(),
        asset: Some(terms.asset),
        valid_before: payment.valid_before,
        reserved: reserved.map(Reservation::id),
    };
    let pending = Pending::create(folder, request, &facts)?;
    Ok((payment, pending))
}

/// The key that a request was sent with.
struct UsedKey {
    credential: Credential,
    asset: Option<Asset>,
    /// What the budget has set aside for it.
    reserved: Option<Reservation>,
}

/// An answer to a payment, judged.
enum Judged {
    Taken { answer: Answer, transaction: String },
    Unknown { why: String, after: Option<Duration> },
    Refused { answer: Answer, said: Said },
}

/// The pauses between replays.
struct Pauses {
    patience: crate::Patience,
    left: u32,
}

impl Pauses {
    /// How long to wait, or `None` when it is enough. `after` is what the seller asks for.
    fn next(&mut self, after: Option<Duration>) -> Option<Duration> {
        let made = self.patience.replays.saturating_sub(self.left);
        self.left = self.left.checked_sub(1)?;
        let Some(asked) = after else {
            let doubled = self.patience.wait_min.saturating_mul(2u32.saturating_pow(made));
            return Some(doubled.min(self.patience.wait_max));
        };
        (asked <= self.patience.wait_max).then(|| asked.max(self.patience.wait_min))
    }
}

/// Puts a key where the caller has put nothing.
fn key_header(request: &Request, key: &Secret) -> Credential {
    let free = KEY_FIELDS.iter().find(|name| !request.headers.contains_key(*name));
    let name = free.unwrap_or(&KEY_FIELDS[0]).clone();
    let text = if name == header::AUTHORIZATION {
        format!("Bearer {}", key.expose())
    } else {
        key.expose().to_owned()
    };
    // A credit key is base64url behind a prefix, so it is always a header value.
    let mut value = HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""));
    value.set_sensitive(true);
    (name, value)
}

/// What the caller put into the request itself opens the receipt too.
fn own_credential(request: &Request) -> Option<Credential> {
    let mut names = KEY_FIELDS.iter().filter(|_| request.brings_key());
    names.find_map(|name| Some((name.clone(), request.headers.get(name)?.clone())))
}

/// Takes the credit key out of an answer: it is a secret and shows nowhere else.
fn received_key(answer: &mut Answer) -> Option<Secret> {
    let value = answer.headers.remove(KEY_HEADER)?;
    let text = value.to_str().ok()?.trim();
    CreditKey::parse(text).ok()?;
    Some(Secret::new(text.to_owned()))
}
