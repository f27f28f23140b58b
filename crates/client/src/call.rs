//! One call, top to bottom: ask, choose, sign, write down, pay, and find out what became of it.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use money::Asset;
use wire::credit_key::CreditKey;

use crate::challenge::{self, Challenge, Said};
use crate::client::{Client, Response, See, Step};
use crate::connection::{Answer, Outgoing, SendError};
use crate::error::CallError;
use crate::judged::Judged;
use crate::lightning::{Intent, Invoiced};
use crate::offer::Way;
use crate::pauses::Pauses;
use crate::pending::{Kind, Pending};
use crate::policy::Choice;
use crate::receipt::ReceiptRef;
use crate::request::KEY_FIELDS;
use crate::reservation::{End, Reservation};
use crate::sale::{Sale, Sending};
use crate::verdict::{Paid, Settled};
use crate::{Policy, Request, Secret, keyring, now_unix_s};

pub(crate) type Credential = (HeaderName, HeaderValue);

/// Longest wait before a request is signed anew.
const RESIGN_AFTER_MAX: Duration = Duration::from_secs(2);
/// Header with the key to what a payment left over.
const KEY_HEADER: &str = "farthing-key";
/// Largest body of a failed answer we read before handing it on.
pub(crate) const FAILED_BODY_BYTES_MAX: usize = 256 * 1024;

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
            let sending = self.resume(left).await?;
            match self.open_invoice(request, sending, see).await? {
                Invoiced::Paid(sending) => return self.present(request, *sending, see).await,
                // Nothing left the wallet, and nothing will: the call begins anew.
                Invoiced::NotPaid { what, reason } => {
                    see(Step::Doubt(&format!("an earlier run did not pay {what} after all: {reason}")));
                }
            }
        }
        let Opened { answer, key, refused } = self.open(request, see).await?;
        if answer.status != StatusCode::PAYMENT_REQUIRED || request.brings_payment() {
            return self.unpaid(request, answer, key, see).await;
        }
        self.end(key.as_ref().and_then(|key| key.reserved.as_ref()), End::Nothing, see);
        let challenge = self.read_challenge(answer, see).await?;
        if key.is_none() && self.may_sign_in(request, &challenge, refused) {
            return self.call_signed_in(request, challenge, see).await;
        }
        self.buy(request, &challenge, key, see).await
    }

    /// Opens the balance whose key was lost, and pays with it; pays anew where there is none, or too little.
    async fn call_signed_in(
        &self,
        request: &Request,
        challenge: Challenge,
        see: &mut See<'_>,
    ) -> Result<Response, CallError> {
        if let Err(error) = self.sign_in(&request.target, see).await {
            see(Step::Doubt(&format!("the wallet did not sign in: {error}")));
            return self.buy(request, &challenge, None, see).await;
        }
        let Opened { answer, key, .. } = self.open(request, see).await?;
        if answer.status != StatusCode::PAYMENT_REQUIRED {
            return self.unpaid(request, answer, key, see).await;
        }
        self.end(key.as_ref().and_then(|key| key.reserved.as_ref()), End::Nothing, see);
        let challenge = self.read_challenge(answer, see).await?;
        self.buy(request, &challenge, key, see).await
    }

    /// Pays a challenge, and shows the payment.
    async fn buy(
        &self,
        request: &Request,
        challenge: &Challenge,
        key: Option<UsedKey>,
        see: &mut See<'_>,
    ) -> Result<Response, CallError> {
        let sending = self.pay(request, challenge, key, see)?;
        match self.open_invoice(request, sending, see).await? {
            Invoiced::Paid(sending) => self.present(request, *sending, see).await,
            Invoiced::NotPaid { what, reason } => Err(CallError::NotPaid { what, reason }),
        }
    }

    /// The first request: with a credit key if there is one, else with a token that was paid for, and never above cap
    /// and budget.
    async fn open(&self, request: &Request, see: &mut See<'_>) -> Result<Opened, CallError> {
        let network = |error: SendError| CallError::Network(error.to_string());
        let Some(key) = self.key_for(request)? else { return self.open_with_token(request, see).await };
        let unasked = self.policy_for(request)?.unasked();
        let mut reserved = self.reserve_narrowed(request, unasked)?;
        let text = match key.capped(reserved.as_ref().map_or(unasked, |reserved| reserved.amount)) {
            Some(narrowed) => narrowed,
            // The key cannot carry the cap, so the price is asked first.
            None => {
                self.end(reserved.as_ref(), End::Nothing, see);
                match self.admitted(request, see).await? {
                    Ok(price) => reserved = price,
                    Err(free) => return Ok(Opened::without(free)),
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
        // A key that its issuer no longer knows: what it opened is reached again by a token, by signing in, or by
        // paying.
        if answer.status == StatusCode::UNAUTHORIZED && key.is_saved() {
            self.end(reserved.as_ref(), End::Nothing, see);
            return Ok(Opened { refused: true, ..self.open_with_token(request, see).await? });
        }
        let key = Some(UsedKey { credential, asset: key.asset(), reserved });
        Ok(Opened { answer, key, refused: false })
    }

    /// Asks for the price of a call that a key is to pay, and reserves it. `Err(answer)` if it is free.
    pub(crate) async fn admitted(
        &self,
        request: &Request,
        see: &mut See<'_>,
    ) -> Result<Result<Option<Reservation>, Answer>, CallError> {
        let answer =
            self.ask(request, &[], see).await.map_err(|error| CallError::Network(error.to_string()))?;
        if answer.status != StatusCode::PAYMENT_REQUIRED {
            return Ok(Err(answer));
        }
        let challenge = self.read_challenge(answer, see).await?;
        let Some(price) = challenge.lowest_price() else {
            return Err(self.policy.nothing_payable(&challenge, &[]).into());
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
    ) -> Result<Sending, CallError> {
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
        let is_invoice = matches!(chosen.terms.way, Way::Invoice(_));
        if !is_invoice && self.wallet.is_none() {
            return Err(CallError::NoWallet { price: challenge.lowest_price() });
        }
        if self.folder.is_none() {
            return Err(CallError::NoFolder);
        }
        let reserved = self.reserve_payment(request, &chosen)?;
        let written = match &chosen.terms.way {
            Way::Invoice(invoice) => {
                let key = key.and_then(|key| key.beside_proof(request));
                self.intend(request, &chosen, invoice, reserved.as_ref(), key, see)
            }
            Way::Channel(_) | Way::Transfer(_) | Way::Permit { .. } | Way::Solana(_) => {
                self.sign(request, challenge, chosen, reserved.as_ref(), key, see)
            }
        };
        if written.is_err() {
            self.end(reserved.as_ref(), End::Nothing, see);
        }
        written
    }

    /// Signs a payment with the wallet's own keys, and writes it down.
    fn sign(
        &self,
        request: &Request,
        challenge: &Challenge,
        chosen: Choice<'_>,
        reserved: Option<&Reservation>,
        key: Option<UsedKey>,
        see: &mut See<'_>,
    ) -> Result<Sending, CallError> {
        let wallet = self.wallet.as_ref().ok_or(CallError::NoWallet { price: challenge.lowest_price() })?;
        let folder = self.folder.as_ref().ok_or(CallError::NoFolder)?;
        let sale = Sale { request, challenge, chosen, wallet, folder, reserved };
        let (payment, sending) = match &chosen.terms.way {
            Way::Channel(channel) => sale.draw(channel)?,
            Way::Transfer(_) | Way::Permit { .. } | Way::Solana(_) | Way::Invoice(_) => sale.sign(key)?,
        };
        see(Step::Paying { offer: chosen.offer, payment: &payment });
        Ok(sending)
    }

    /// Sends a payment until somebody can say what became of it: the same bytes each time. Only a channel that was
    /// behind its seller is drawn on once more, from where it stands.
    async fn present(
        &self,
        request: &Request,
        mut sending: Sending,
        see: &mut See<'_>,
    ) -> Result<Response, CallError> {
        // A paid invoice is money that is gone, even if its proof never leaves this machine.
        let mut sent = sending.pending.sent || *sending.pending.kind() == Kind::Invoice;
        let mut corrected = false;
        let mut pauses = Pauses::new(self.patience);
        loop {
            let pending = &sending.pending;
            let trailers = *pending.kind() == Kind::Upto;
            // What a paid seller answered last: when it is enough, that is the answer.
            let (why, after, last) = match self.send(request, &pending.headers(), trailers, see).await {
                Err(SendError::NotSent(why)) if !sent => {
                    self.never_left(request, sending, see);
                    return Err(CallError::Network(why));
                }
                Err(SendError::NotSent(why) | SendError::Lost(why)) => (why, None, None),
                Ok(answer) => match self.judge(request, answer, pending).await {
                    Judged::Unknown { why, after, answer } => (why, after, answer),
                    Judged::Taken { answer, settled } => {
                        return Ok(self.taken(request, answer, settled, sending, see));
                    }
                    Judged::Refused { answer, said, challenge } => {
                        let again = match challenge.filter(|_| !corrected) {
                            Some(challenge) => self.draw_again(request, &challenge, &mut sending, see)?,
                            None => false,
                        };
                        if !again {
                            return self.refused(request, answer, said, sending, see);
                        }
                        corrected = true;
                        sent = false;
                        continue;
                    }
                },
            };
            sent = true;
            let Some(pause) = pauses.next(after) else {
                if let Some(answer) = last {
                    let settled = Settled::of_invoice(pending.intent().map_or("", Intent::payment_hash));
                    return Ok(self.taken(request, *answer, settled, sending, see));
                }
                self.end(self.reserved(request, pending).as_ref(), End::Open, see);
                let (paid, path) = (pending.paid().to_owned(), pending.path().to_owned());
                return Err(CallError::Unknown { paid, why, path });
            };
            see(Step::Waiting { pause, why: &why });
            tokio::time::sleep(pause).await;
        }
    }

    /// Not one byte of the payment left this machine.
    fn never_left(&self, request: &Request, mut sending: Sending, see: &mut See<'_>) {
        self.end(self.reserved(request, &sending.pending).as_ref(), End::Nothing, see);
        if let Some(held) = &mut sending.held {
            self.note(held.release(), see);
        }
        self.note(sending.pending.discard(), see);
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
        Ok(Response {
            status,
            headers,
            body,
            paid: Paid::Nothing,
            key: None,
            receipt,
            promise: None,
            attested: None,
        })
    }

    pub(crate) async fn ask(
        &self,
        request: &Request,
        credentials: &[Credential],
        see: &mut See<'_>,
    ) -> Result<Answer, SendError> {
        self.send(request, credentials, false, see).await
    }

    /// Sends a request; with `trailers` the end of the answer may say what the call cost.
    async fn send(
        &self,
        request: &Request,
        credentials: &[Credential],
        trailers: bool,
        see: &mut See<'_>,
    ) -> Result<Answer, SendError> {
        let mut headers = request.headers.clone();
        for (name, value) in credentials {
            headers.append(name, value.clone());
        }
        let names = credentials.iter().map(|(name, _)| name.as_str()).collect();
        see(Step::Request { method: &request.method, url: request.target.url(), credentials: names });
        let answer = self.send_once(request, headers.clone(), credentials, trailers).await?;
        match self.resign_after(&answer) {
            None => Ok(answer),
            Some(pause) => {
                tokio::time::sleep(pause).await;
                self.send_once(request, headers, credentials, trailers).await
            }
        }
    }

    async fn send_once(
        &self,
        request: &Request,
        headers: HeaderMap,
        credentials: &[Credential],
        trailers: bool,
    ) -> Result<Answer, SendError> {
        let secret = !credentials.is_empty() || request.brings_key() || request.brings_payment();
        let (method, target, body) = (request.method.clone(), &request.target, request.body.clone());
        let patience = (self.patience.head_max, self.patience.idle_max);
        let signer = self.signer.as_ref();
        Outgoing { method, target, headers, body, secret, trailers, signer }
            .send(&self.dialer, patience)
            .await
    }

    /// A gateway that has just started takes no signature of before, since it does not know which it has seen: a moment
    /// later a new one counts.
    fn resign_after(&self, answer: &Answer) -> Option<Duration> {
        self.signer.as_ref().filter(|_| answer.status == StatusCode::UNAUTHORIZED)?;
        let seconds = answer.headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
        Some(Duration::from_secs(seconds)).filter(|pause| *pause <= RESIGN_AFTER_MAX)
    }

    /// Reads a 402, and says of each offer what it asks of this client's means.
    pub(crate) async fn read_challenge(
        &self,
        answer: Answer,
        see: &mut See<'_>,
    ) -> Result<Challenge, CallError> {
        let body = answer.body.collect(challenge::BODY_BYTES_MAX).await;
        let body = body.map_err(|error| CallError::Network(error.to_string()))?;
        let mut challenge = Challenge::read(&answer.headers, &body)
            .map_err(|error| CallError::Challenge { error, said: Box::new(Said::parse(&body)) })?;
        self.name_blockhash(&mut challenge).await;
        self.value_invoices(&mut challenge).await;
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
    pub(crate) fn reserved(&self, request: &Request, pending: &Pending) -> Option<Reservation> {
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
    pub(crate) fn note(&self, done: Result<(), crate::FileError>, see: &mut See<'_>) {
        if let Err(error) = done {
            see(Step::Warning(&error));
        }
    }
}

/// The answer to the first request.
pub(crate) struct Opened {
    pub(crate) answer: Answer,
    /// What it was sent with.
    pub(crate) key: Option<UsedKey>,
    /// A key was sent before, and its issuer did not know it.
    pub(crate) refused: bool,
}

impl Opened {
    /// An answer to a request that carried nothing of ours.
    pub(crate) const fn without(answer: Answer) -> Self {
        Self { answer, key: None, refused: false }
    }
}

/// The key or token that a request was sent with.
pub(crate) struct UsedKey {
    pub(crate) credential: Credential,
    pub(crate) asset: Option<Asset>,
    /// What the budget has set aside for it.
    pub(crate) reserved: Option<Reservation>,
}

impl UsedKey {
    /// The key as it goes beside the proof of a paid invoice, so that the payment tops up its account: not where the
    /// proof stands, and only for an account of the asset that the seller is paid in.
    fn beside_proof(&self, request: &Request) -> Option<Credential> {
        let text = self.credential.1.to_str().ok()?;
        let key = Secret::new(text.strip_prefix("Bearer ").unwrap_or(text).to_owned());
        if self.asset.is_none() || keyring::usual_asset(&key) != self.asset {
            return None;
        }
        let free =
            |name: &&HeaderName| **name != header::AUTHORIZATION && !request.headers.contains_key(*name);
        let mut value = HeaderValue::from_str(key.expose()).ok()?;
        value.set_sensitive(true);
        Some((KEY_FIELDS.iter().find(free)?.clone(), value))
    }
}

/// Puts a key where the caller has put nothing.
pub(crate) fn key_header(request: &Request, key: &Secret) -> Credential {
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
pub(crate) fn received_key(answer: &mut Answer) -> Option<Secret> {
    let value = answer.headers.remove(KEY_HEADER)?;
    let text = value.to_str().ok()?.trim();
    CreditKey::parse(text).ok()?;
    Some(Secret::new(text.to_owned()))
}
