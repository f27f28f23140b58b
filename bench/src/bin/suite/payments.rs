//! The payer's part, done before anything is timed: reads the offers of a 402 and signs.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use proof::identity::{self, HOLDER_WINDOW_S, Tag};
use proof::secp::SecretKey;
use proof::x402_batch::payer::{DepositTerms, sign_deposit, sign_voucher};
use proof::x402_exact::EvmToken;
use proof::{SigningKey, credit_key, eip712, test_rail};
use rails::lightning::test_node;
use serde_json::{Value, json};
use wire::l402::{Credential, Token};
use wire::message_signature::{Request, Unsigned};
use wire::x402::batch::{BatchPayload, ChannelConfig};
use wire::x402::network::FARTHING_TEST;
use wire::x402::{ExactPayload, Transfer};
use wire::{base64, content_digest, hex};

use crate::load::{self, Target};
use crate::tls;

/// The chain that everybody sells on.
pub(crate) const NETWORK: &str = "eip155:84532";
/// Who is paid.
pub(crate) const PAY_TO: &str = "0x976EA74026E726554dB657fA54763abd0C3a0aa9";
/// Payers who take turns.
const PAYERS: u8 = 16;
/// Holders of a key who take turns.
const HOLDERS: u8 = 64;

/// Sellers want a deposit to be for several calls.
const DEPOSIT_CALLS_MIN: u128 = 20;

/// A chat completion of usual size.
pub(crate) const CALL: &str = r#"{"model":"m","max_tokens":64,"messages":[{"role":"system","content":"You answer in ten words."},{"role":"user","content":"What does it cost to be paid for one call, and how would one know?"}]}"#;
/// The same for Anthropic's Messages.
pub(crate) const MESSAGE_CALL: &str = r#"{"model":"m","max_tokens":64,"system":"You answer in ten words.","messages":[{"role":"user","content":"What does it cost to be paid for one call, and how would one know?"}]}"#;

/// Bytes of a POST of JSON.
fn post(target: &Target, path: &str, headers: &[(&str, &str)], body: &str) -> Bytes {
    let address = target.address;
    let host =
        if target.tls.is_some() { format!("{}:{}", tls::HOST, address.port()) } else { address.to_string() };
    let mut text = format!("POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n");
    for (name, value) in headers {
        text.push_str(name);
        text.push_str(": ");
        text.push_str(value);
        text.push_str("\r\n");
    }
    text.push_str(&format!("content-length: {}\r\n\r\n{body}", body.len()));
    text.into()
}

/// What is asked for, and where.
#[derive(Clone)]
pub(crate) struct Call {
    pub(crate) target: Target,
    pub(crate) path: String,
    pub(crate) body: String,
}

/// An offer of a 402, as it came.
#[derive(Clone)]
pub(crate) struct Offer {
    accepted: Value,
    resource: Value,
    token: EvmToken,
}

impl Call {
    /// The request without a payment.
    pub(crate) fn unpaid(&self) -> Bytes {
        self.with(&[])
    }

    /// The request with these headers.
    pub(crate) fn with(&self, headers: &[(&str, &str)]) -> Bytes {
        post(&self.target, &self.path, headers, &self.body)
    }

    /// The request with a credit key.
    pub(crate) fn with_key(&self, key: &str) -> Bytes {
        self.with(&[("authorization", &format!("Bearer {key}"))])
    }

    /// The request with a payment.
    fn paid(&self, accepted: &Value, resource: &Value, payload: &Value) -> Bytes {
        let payment =
            json!({"x402Version": 2, "resource": resource, "accepted": accepted, "payload": payload});
        let payment = base64::encode_std(payment.to_string().as_bytes());
        self.with(&[("payment-signature", &payment)])
    }

    /// Asks without paying, and finds the offer of a scheme on [`NETWORK`]. None: there is a challenge without it.
    pub(crate) async fn offer(&self, scheme: &str) -> Result<Option<Offer>, String> {
        let Some((accepted, resource)) = self.entry(scheme, NETWORK).await? else { return Ok(None) };
        let contract = text(&accepted, "/asset").parse().map_err(|_| "no token".to_owned())?;
        let (name, version) = (text(&accepted, "/extra/name"), text(&accepted, "/extra/version"));
        let token = EvmToken::new(NETWORK, contract, name, version).map_err(|error| error.to_string())?;
        Ok(Some(Offer { accepted, resource, token }))
    }

    /// An entry of the challenge and what the challenge is for.
    async fn entry(&self, scheme: &str, network: &str) -> Result<Option<(Value, Value)>, String> {
        let (status, head) = load::ask_once(&self.target, &self.unpaid()).await?;
        let challenge = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("payment-required").then(|| value.trim().to_owned())
        });
        let Some(challenge) = challenge.filter(|_| status == 402) else {
            return Err(format!("{} {}: no challenge: {head}", self.target.address, self.path));
        };
        let bytes = base64::decode_any(&challenge, 64 << 10).map_err(|error| error.to_string())?;
        let challenge: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        let offers = challenge.get("accepts").and_then(Value::as_array).cloned().unwrap_or_default();
        let fits = |offer: &Value| text(offer, "/scheme") == scheme && text(offer, "/network") == network;
        let resource = challenge.get("resource").cloned().unwrap_or_default();
        Ok(offers.into_iter().find(fits).map(|accepted| (accepted, resource)))
    }

    /// So many payments by `exact`, each for one call.
    pub(crate) async fn exact(&self, count: usize) -> Result<Vec<Bytes>, String> {
        let offer = self.offer("exact").await?.ok_or("no exact offer")?;
        let keys = (1..=PAYERS).map(key).collect::<Result<Vec<_>, _>>()?;
        let keys = keys.iter().cycle().take(count);
        keys.map(|key| Ok(self.paid(&offer.accepted, &offer.resource, &transfer(&offer, key)?))).collect()
    }

    /// So many payments with play money, which no facilitator is asked about.
    pub(crate) async fn test_rail(&self, count: usize) -> Result<Vec<Bytes>, String> {
        let entry = self.entry("exact", FARTHING_TEST).await?;
        let (accepted, resource) = entry.ok_or("no offer on the test rail")?;
        let keys: Vec<_> = (1..=PAYERS).map(|payer| SigningKey::from_bytes(&[payer; 32])).collect();
        let pay = |key: &SigningKey| {
            let transfer = test_rail::Transfer {
                from: key.verifying_key().to_bytes(),
                to: hex::decode_array(text(&accepted, "/payTo"))
                    .map_err(|_| "no payee in the offer".to_owned())?,
                value: text(&accepted, "/amount").parse().map_err(|_| "no amount in the offer".to_owned())?,
                valid_after: 0,
                valid_before: valid_before(&accepted)?,
                nonce: fresh_bytes(),
            };
            let payload = ExactPayload::from_test(&transfer.to_wire(), &transfer.sign(key));
            Ok(self.paid(&accepted, &resource, &json!(payload)))
        };
        keys.iter().cycle().take(count).map(pay).collect()
    }

    /// Calls with a key that is bound to its holder, each signed by him. The key was narrowed for many holders, because a gateway
    /// remembers a bounded number of signatures of each.
    pub(crate) fn held(&self, key: &str, count: usize) -> Result<Vec<Bytes>, String> {
        let holders: Vec<_> =
            (1..=HOLDERS).map(|holder| Holder::of(key, holder)).collect::<Result<_, _>>()?;
        holders.iter().cycle().take(count).map(|holder| self.signed_by(holder)).collect()
    }

    fn signed_by(&self, holder: &Holder) -> Result<Bytes, String> {
        let authority = self.target.address.to_string();
        let digest = content_digest::of(self.body.as_bytes());
        let fields = |name: &str| match name {
            "authorization" => vec![holder.bearer.as_bytes()],
            "content-digest" => vec![digest.as_bytes()],
            _ => Vec::new(),
        };
        let request = Request {
            method: "POST",
            scheme: "http",
            authority: &authority,
            path: &self.path,
            query: None,
            fields: &fields,
        };
        let now_s = now_s()?;
        let components = ["@method", "@authority", "@path", "authorization", "content-digest"];
        let unsigned = Unsigned {
            components: components.map(str::to_owned).into(),
            created: now_s,
            expires: now_s + HOLDER_WINDOW_S,
            nonce: Some(hex::encode(&fresh_bytes())),
            tag: Tag::Holder.name().to_owned(),
        };
        let signed = identity::sign(&holder.signs, "holder", &unsigned, &request);
        let signed = signed.map_err(|error| error.to_string())?;
        Ok(self.with(&[
            ("authorization", &holder.bearer),
            ("content-digest", &digest),
            ("signature-input", &signed.input),
            ("signature", &signed.signature),
        ]))
    }

    /// A token that was paid for, as the value of `Authorization`: so many, each narrowed in another way, so that none is
    /// known from before. All draw on one payment.
    pub(crate) async fn l402(&self, count: usize) -> Result<Vec<Bytes>, String> {
        let (status, head) = load::ask_once(&self.target, &self.unpaid()).await?;
        let line = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            let value = value.trim();
            (name.eq_ignore_ascii_case("www-authenticate") && value.starts_with("L402 "))
                .then(|| value.to_owned())
        });
        let line = line.ok_or_else(|| format!("status {status} without an L402 challenge: {head}"))?;
        let parameter = |name: &str| {
            let rest = line.split_once(&format!("{name}=\""))?.1;
            Some(rest.split_once('"')?.0)
        };
        let (token, invoice) =
            parameter("macaroon").zip(parameter("invoice")).ok_or("an L402 challenge without parts")?;
        let preimage = test_node::preimage_of(invoice).ok_or("an invoice that is not the test node's")?;
        let token = Token::from_base64(token).map_err(|error| error.to_string())?;
        let until = now_s()? + 86_400;
        let narrowed = (0u64..).take(count).map(|number| {
            let mut token = token.clone();
            token
                .add_caveat(format!("expires={}", until + number).as_bytes())
                .map_err(|error| error.to_string())?;
            let value = Credential::new(token, preimage.clone()).to_authorization();
            Ok(self.with(&[("authorization", &value)]))
        });
        narrowed.collect()
    }

    /// A channel of its own with money for so many calls: the request that opens it, which is a call too, and the
    /// calls that follow, in order. Every call costs the whole amount of the offer.
    pub(crate) fn channel(
        &self,
        offer: &Offer,
        payer: u8,
        calls: usize,
    ) -> Result<(Bytes, Vec<Bytes>), String> {
        let key = key(payer)?;
        let config = channel_config(offer, &key)?;
        let separator = offer.token.batch_separator();
        let channel_id = separator.digest(&eip712::channel_config(&config));
        let price = amount(offer)?;
        let voucher = |number: usize| {
            let promised = price.saturating_mul(number as u128);
            sign_voucher(&key, separator, channel_id, promised).map_err(|error| error.to_string())
        };
        let terms = DepositTerms {
            channel_id,
            amount: price.saturating_mul((calls as u128 + 1).max(DEPOSIT_CALLS_MIN)),
            valid_before: valid_before(&offer.accepted)?,
            salt: fresh_bytes(),
        };
        let deposit =
            sign_deposit(&key, offer.token.separator(), &terms).map_err(|error| error.to_string())?;
        let opens = BatchPayload::Deposit { channel_config: config, voucher: voucher(1)?, deposit };
        let follows = (2..=calls + 1).map(|number| {
            let payload = BatchPayload::Voucher { channel_config: config, voucher: voucher(number)? };
            Ok(self.paid(&offer.accepted, &offer.resource, &json!(payload)))
        });
        let opens = self.paid(&offer.accepted, &offer.resource, &json!(opens));
        Ok((opens, follows.collect::<Result<_, String>>()?))
    }
}

/// Who signs calls with a key that is bound to him.
struct Holder {
    signs: SigningKey,
    /// The key that is bound to him, as the value of `Authorization`.
    bearer: String,
}

impl Holder {
    fn of(key: &str, number: u8) -> Result<Self, String> {
        let signs = SigningKey::from_bytes(&[number; 32]);
        let caveat = format!("holder=ed25519:{}", base64::encode_url(&signs.verifying_key().to_bytes()));
        let key = credit_key::attenuate(key, &caveat).map_err(|error| error.to_string())?;
        Ok(Self { signs, bearer: format!("Bearer {key}") })
    }
}

/// The same payment with another signature: as costly to refuse as to accept.
pub(crate) fn spoiled(request: &Bytes) -> Result<Bytes, String> {
    let text = std::str::from_utf8(request).map_err(|error| error.to_string())?;
    let (before, rest) = text.split_once("payment-signature: ").ok_or("no payment to spoil")?;
    let (value, after) = rest.split_once("\r\n").ok_or("a header without an end")?;
    let bytes = base64::decode_any(value, 64 << 10).map_err(|error| error.to_string())?;
    let mut payment: Value = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    // What was signed has another nonce: the signature is by somebody else, or by nobody.
    let nonce = payment.pointer_mut("/payload/authorization/nonce").ok_or("no nonce to spoil")?;
    let turned: String = nonce.as_str().unwrap_or_default().trim_start_matches("0x").chars().rev().collect();
    *nonce = json!(format!("0x{turned}"));
    let value = base64::encode_std(payment.to_string().as_bytes());
    Ok(format!("{before}payment-signature: {value}\r\n{after}").into())
}

fn channel_config(offer: &Offer, key: &SecretKey) -> Result<ChannelConfig, String> {
    let address = |path: &str| {
        text(&offer.accepted, path).parse().map_err(|_| format!("no address at {path} of the offer"))
    };
    let delay = offer.accepted.pointer("/extra/withdrawDelay").and_then(Value::as_u64);
    Ok(ChannelConfig {
        payer: key.address(),
        payer_authorizer: key.address(),
        receiver: address("/payTo")?,
        receiver_authorizer: address("/extra/receiverAuthorizer")?,
        token: address("/asset")?,
        withdraw_delay: delay.ok_or("no withdrawDelay in the offer")?,
        salt: fresh_bytes(),
    })
}

fn transfer(offer: &Offer, key: &SecretKey) -> Result<Value, String> {
    let transfer = Transfer {
        from: key.address(),
        to: text(&offer.accepted, "/payTo").parse().map_err(|_| "no payee in the offer".to_owned())?,
        value: amount(offer)?,
        valid_after: 0,
        valid_before: valid_before(&offer.accepted)?,
        nonce: fresh_bytes(),
    };
    let digest = offer.token.separator().digest(&eip712::transfer_with_authorization(&transfer));
    let signature = key.sign(&digest).map_err(|error| error.to_string())?;
    Ok(json!(ExactPayload::from_evm(&transfer, signature.as_bytes())))
}

fn key(payer: u8) -> Result<SecretKey, String> {
    SecretKey::from_bytes(&[payer; 32]).map_err(|error| error.to_string())
}

fn text<'a>(value: &'a Value, path: &str) -> &'a str {
    value.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

fn amount(offer: &Offer) -> Result<u128, String> {
    text(&offer.accepted, "/amount").parse().map_err(|_| "no amount in the offer".to_owned())
}

fn valid_before(accepted: &Value) -> Result<u64, String> {
    let seconds = accepted.get("maxTimeoutSeconds").and_then(Value::as_u64);
    Ok(now_s()? + seconds.ok_or("no maxTimeoutSeconds in the offer")?)
}

fn now_s() -> Result<u64, String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(|error| error.to_string())?;
    Ok(now.as_secs())
}

/// Bytes that nobody has used in this run.
pub(crate) fn fresh_bytes() -> [u8; 32] {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut bytes = [0x42; 32];
    bytes[24..].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
    bytes
}
