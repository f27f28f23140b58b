//! A payer with a payment channel, as stock clients keep one, and a facilitator with the contract's state.

use std::collections::{HashMap, VecDeque};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use proof::eip712;
use proof::secp::{SecretKey, Signature};
use serde_json::{Value, json};
use wire::hex;
use wire::x402::batch::{
    BatchPayload, ChannelConfig, ClaimEntry, ClaimPayload, Deposit, DepositAuthorization, Erc3009Deposit,
    RefundPayload, Voucher,
};
use wire::x402::{Address, Transfer, contracts};

use crate::gateway::Gateway;
use crate::http::Answer;
use crate::payer::{BASE_SEPOLIA, challenge, decode, encode, fresh_nonce, now_s, token};
use crate::upstream::{Seen, Upstream, plain};

/// The authorizer's key of the gateways under test, which the environment hands over.
pub const AUTHORIZER: (&str, &str) =
    ("AUTHORIZER_KEY", "5b1c2d3e4f5061728394a5b6c7d8e9fa0b1c2d3e4f5061728394a5b6c7d8e9fa");

/// A payer's channel, kept as stock clients keep it: what they were told was charged, and what they have put in.
pub struct Channel {
    key: SecretKey,
    salt: [u8; 32],
    /// As the payer knows it.
    pub charged: u128,
    /// As the payer knows it.
    pub balance: u128,
}

impl Channel {
    /// The channel of this payer. Equal numbers are one channel.
    pub fn new(payer: u8, salt: u8) -> Self {
        let key = SecretKey::from_bytes(&[payer; 32]).unwrap();
        Self { key, salt: [salt; 32], charged: 0, balance: 0 }
    }

    /// What makes it, for an offer.
    pub fn config(&self, offer: &Value) -> ChannelConfig {
        let address = |value: &Value| value.as_str().unwrap().parse().unwrap();
        ChannelConfig {
            payer: self.key.address(),
            payer_authorizer: self.key.address(),
            receiver: address(&offer["payTo"]),
            receiver_authorizer: address(&offer["extra"]["receiverAuthorizer"]),
            token: address(&offer["asset"]),
            withdraw_delay: offer["extra"]["withdrawDelay"].as_u64().unwrap(),
            salt: self.salt,
        }
    }

    /// Its name.
    pub fn id(&self, offer: &Value) -> [u8; 32] {
        token(offer).batch_separator().digest(&eip712::channel_config(&self.config(offer)))
    }

    /// Its account in the ledger.
    pub fn account(&self, offer: &Value) -> String {
        hex::encode(&self.id(offer)[..16])
    }

    /// A promise of so much in all.
    pub fn voucher(&self, offer: &Value, max_claimable_amount: u128) -> Voucher {
        let channel_id = self.id(offer);
        let digest =
            token(offer).batch_separator().digest(&eip712::voucher(&channel_id, max_claimable_amount));
        let signature = hex::encode_0x(self.key.sign(&digest).unwrap().as_bytes());
        Voucher { channel_id, max_claimable_amount, signature }
    }

    /// The header of a call paid from the channel; with a deposit of `add` before it, if any.
    pub fn pays(&self, unpaid: &Answer, add: Option<u128>) -> String {
        let offer = batch_offer(unpaid);
        let max = self.charged + amount(&offer);
        self.header(unpaid, &self.payload(&offer, max, add))
    }

    /// A voucher for `max`, and a deposit of `add` with it.
    pub fn payload(&self, offer: &Value, max: u128, add: Option<u128>) -> BatchPayload {
        let (channel_config, voucher) = (self.config(offer), self.voucher(offer, max));
        let Some(amount) = add else { return BatchPayload::Voucher { channel_config, voucher } };
        let salt = fresh_nonce();
        let transfer = Transfer {
            from: self.key.address(),
            to: contracts::ERC3009_COLLECTOR,
            value: amount,
            valid_after: 0,
            valid_before: now_s() + offer["maxTimeoutSeconds"].as_u64().unwrap(),
            nonce: proof::x402_batch::deposit::erc3009_nonce(&voucher.channel_id, &salt),
        };
        let digest = token(offer).separator().digest(&eip712::receive_with_authorization(&transfer));
        let signature = hex::encode_0x(self.key.sign(&digest).unwrap().as_bytes());
        let (valid_after, valid_before) = (transfer.valid_after, transfer.valid_before);
        let sent = Erc3009Deposit { valid_after, valid_before, salt, signature };
        let deposit = Deposit { amount, authorization: DepositAuthorization::Erc3009(sent) };
        BatchPayload::Deposit { channel_config, voucher, deposit }
    }

    /// Asks for `amount` back, or for everything.
    pub fn asks_back(&self, unpaid: &Answer, amount: Option<u128>) -> String {
        let offer = batch_offer(unpaid);
        let (channel_config, voucher) = (self.config(&offer), self.voucher(&offer, self.charged));
        self.header(unpaid, &BatchPayload::Refund { channel_config, voucher, amount })
    }

    /// A payload as the value of `PAYMENT-SIGNATURE`.
    pub fn header(&self, unpaid: &Answer, payload: &BatchPayload) -> String {
        let resource = challenge(unpaid)["resource"].clone();
        encode(
            &json!({"x402Version": 2, "resource": resource, "accepted": batch_offer(unpaid), "payload": payload}),
        )
    }

    /// Takes in what an answer says was charged, as strictly as stock clients do: what does not follow from what they
    /// knew is not taken in.
    #[track_caller]
    pub fn learns(&mut self, answer: &Answer, added: u128) -> u128 {
        let said = decode(answer.must("payment-response"));
        assert_eq!((&said["success"], &said["network"]), (&json!(true), &json!(BASE_SEPOLIA)), "{said}");
        let number = |value: &Value| value.as_str().unwrap().parse::<u128>().unwrap();
        let charge = number(&said["extra"]["chargedAmount"]);
        let state = &said["extra"]["channelState"];
        assert_eq!(number(&state["chargedCumulativeAmount"]), self.charged + charge, "{said}");
        assert_eq!(number(&state["balance"]), self.balance + added, "{said}");
        self.charged += charge;
        self.balance += added;
        charge
    }
}

/// The offer of a 402 that is paid from a channel.
#[track_caller]
pub fn batch_offer(unpaid: &Answer) -> Value {
    let challenge = challenge(unpaid);
    let offers = challenge["accepts"].as_array().unwrap().clone();
    let found = offers.into_iter().find(|offer| offer["scheme"] == "batch-settlement");
    found.unwrap_or_else(|| panic!("{challenge}"))
}

/// What an offer asks for, in atomic units.
pub fn amount(offer: &Value) -> u128 {
    offer["amount"].as_str().unwrap().parse().unwrap()
}

/// What a facilitator does once in place of what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trick {
    /// Acts, then answers 502.
    ActThenFail,
    /// Does nothing and answers 502.
    Fail,
    /// Does nothing and says so, with this code.
    Refuse(&'static str),
}

/// One channel in the contract.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OnChain {
    /// Deposited and not withdrawn or refunded.
    pub balance: u128,
    /// Claimed in all.
    pub claimed: u128,
    /// Unix seconds; 0: nothing was asked for.
    pub withdraw_requested_at: u64,
    /// How much of it; facilitators do not tell.
    pub withdrawing: u128,
    /// Counts refunds.
    pub refund_nonce: u64,
}

/// The contract.
#[derive(Default)]
pub struct Contract {
    /// By id, in hexadecimal.
    pub channels: HashMap<String, OnChain>,
    /// Nonces of deposits.
    used: Vec<String>,
    /// Moved to receivers.
    pub settled: u128,
    /// What is done in place of the next settlement of a type: `deposit`, `claim`, `settle`, `refund`.
    pub tricks: VecDeque<(&'static str, Trick)>,
    /// Vouchers that everybody can read.
    pub published: Vec<u128>,
    /// Whether no question is answered.
    pub silent: bool,
}

/// A facilitator on loopback, with the contract behind it.
pub struct ChannelFacilitator {
    /// Where it listens.
    pub address: SocketAddr,
    server: Upstream,
    contract: Arc<Mutex<Contract>>,
}

impl ChannelFacilitator {
    /// Settles what it is asked to.
    pub fn start() -> Self {
        let contract = Arc::new(Mutex::new(Contract::default()));
        let ours = Arc::clone(&contract);
        let any = ([127, 0, 0, 1], 0).into();
        let server = Upstream::start_at(any, move |request, stream| serve(&ours, request, stream));
        Self { address: server.address, server, contract }
    }

    /// The contract, to look at and to change.
    pub fn contract(&self) -> MutexGuard<'_, Contract> {
        self.contract.lock().unwrap()
    }

    /// A channel of it.
    pub fn channel(&self, id: &[u8; 32]) -> OnChain {
        self.contract().channels.get(&hex::encode(id)).cloned().unwrap_or_default()
    }

    /// Plays a trick in place of the next settlement of this type.
    pub fn trick(&self, kind: &'static str, trick: Trick) {
        self.contract().tricks.push_back((kind, trick));
    }

    /// Everything it was asked but what it supports, as `verify` or the type of a settlement.
    pub fn asked(&self) -> Vec<String> {
        let named = |seen: &Seen| match seen.target.as_str() {
            "/verify" => Some("verify".to_owned()),
            "/node" => None,
            "/settle" => {
                let body: Value = serde_json::from_slice(&seen.body).unwrap();
                Some(body["paymentPayload"]["payload"]["type"].as_str().unwrap().to_owned())
            }
            _ => None,
        };
        self.server.seen().iter().filter_map(named).collect()
    }

    /// How often it was asked for this.
    pub fn count(&self, what: &str) -> usize {
        self.asked().iter().filter(|asked| *asked == what).count()
    }

    /// The `rails` section of a gateway that settles through it; `batch` are more keys of `batch`.
    pub fn rails(&self, batch: &str) -> String {
        let pay_to = crate::facilitator::PAY_TO;
        format!(
            "rails: {{ x402: {{ schemes: [batch-settlement, exact], \
             networks: {{ \"{BASE_SEPOLIA}\": {{ asset: USDC, pay_to: \"{pay_to}\" }} }}, \
             facilitators: [\"http://{}\"], settle_timeout: 2s, \
             batch: {{ authorizer_key: \"${{env:AUTHORIZER_KEY}}\", withdraw_delay: 15m, min_deposit: 0.2 USD{batch} }} }} }}\n",
            self.address
        )
    }

    /// The same with a node of its chain, which is asked in place of it where that is possible.
    pub fn rails_with_node(&self, batch: &str) -> String {
        let node = format!("asset: USDC, rpc: \"http://{}/node\",", self.address);
        self.rails(batch).replace("asset: USDC,", &node)
    }

    /// A gateway that is paid through it.
    pub fn gateway(&self, upstream: SocketAddr, batch: &str) -> Gateway {
        Gateway::start_in(upstream, &self.rails(batch), &[AUTHORIZER])
    }
}

fn serve(contract: &Mutex<Contract>, request: &Seen, stream: &mut TcpStream) {
    let mut contract = contract.lock().unwrap();
    let (status, body) = match request.target.as_str() {
        "/verify" | "/node" if contract.silent => (502, json!({})),
        "/node" => (200, node(&contract, &parsed(request))),
        "/verify" => (200, verify(&contract, &parsed(request))),
        "/settle" => {
            let request = parsed(request);
            let kind = request["paymentPayload"]["payload"]["type"].as_str().unwrap().to_owned();
            let trick = contract.tricks.iter().position(|(of, _)| *of == kind);
            match trick.and_then(|place| contract.tricks.remove(place)).map(|(_, trick)| trick) {
                None => (200, settle(&mut contract, &request)),
                Some(Trick::ActThenFail) => {
                    settle(&mut contract, &request);
                    (502, json!({}))
                }
                Some(Trick::Fail) => (502, json!({})),
                Some(Trick::Refuse(code)) => (200, refused(code)),
            }
        }
        _ => {
            let kind = |scheme| json!({"x402Version": 2, "scheme": scheme, "network": BASE_SEPOLIA});
            (
                200,
                json!({"kinds": [kind("exact"), kind("batch-settlement")], "extensions": [], "signers": {}}),
            )
        }
    };
    drop(contract);
    let _ = stream.write_all(&plain(status, "application/json", &body.to_string()));
}

/// What a node says of the contract.
fn node(contract: &Contract, request: &Value) -> Value {
    let word = |number: u128| format!("{number:064x}");
    let result = match request["method"].as_str().unwrap() {
        "eth_blockNumber" => "0x10".to_owned(),
        "eth_call" => {
            assert_eq!(request["params"][1], "0x10", "one block for all");
            let to: Address = request["params"][0]["to"].as_str().unwrap().parse().unwrap();
            assert_eq!(to, contracts::BATCH_SETTLEMENT);
            let data = request["params"][0]["data"].as_str().unwrap();
            let (selector, id) = data.split_at(10);
            let channel = contract.channels.get(id).cloned().unwrap_or_default();
            match selector {
                "0x7a7ebd7b" => format!("0x{}{}", word(channel.balance), word(channel.claimed)),
                "0xb7f06ebe" => {
                    let asked = u128::from(channel.withdraw_requested_at);
                    format!("0x{}{}", word(channel.withdrawing), word(asked))
                }
                "0xf0dc792e" => format!("0x{}", word(channel.refund_nonce.into())),
                other => panic!("{other}"),
            }
        }
        other => panic!("{other}"),
    };
    json!({"jsonrpc": "2.0", "id": 1, "result": result})
}

fn parsed(request: &Seen) -> Value {
    serde_json::from_slice(&request.body).unwrap()
}

fn refused(code: &str) -> Value {
    json!({"success": false, "errorReason": code, "transaction": "", "network": BASE_SEPOLIA})
}

fn code(short: &str) -> String {
    format!("invalid_batch_settlement_evm_{short}")
}

fn state(id: &str, channel: &OnChain) -> Value {
    json!({"channelId": format!("0x{id}"), "balance": channel.balance.to_string(),
           "totalClaimed": channel.claimed.to_string(), "withdrawRequestedAt": channel.withdraw_requested_at,
           "refundNonce": channel.refund_nonce.to_string()})
}

/// As the deployed facilitator judges deposits, vouchers and refunds.
fn verify(contract: &Contract, request: &Value) -> Value {
    let payload = BatchPayload::from_value(&request["paymentPayload"]["payload"]).unwrap();
    let (voucher, config) = (payload.voucher(), payload.channel_config());
    let id = hex::encode(&voucher.channel_id);
    let channel = contract.channels.get(&id).cloned().unwrap_or_default();
    let invalid =
        |short: &str| json!({"isValid": false, "invalidReason": code(short), "payer": config.payer});
    let separator = eip712::batch_separator(84532);
    let digest = separator.digest(&eip712::voucher(&voucher.channel_id, voucher.max_claimable_amount));
    if Signature::parse(&voucher.signature).unwrap().verify(&digest, &config.payer_authorizer).is_err() {
        return invalid("voucher_signature");
    }
    let (added, is_refund) = match &payload {
        BatchPayload::Deposit { deposit, .. } => (deposit.amount, false),
        BatchPayload::Voucher { .. } => (0, false),
        BatchPayload::Refund { .. } => (0, true),
    };
    let max = voucher.max_claimable_amount;
    if channel.balance + added == 0 {
        return invalid("channel_not_found");
    }
    if max > channel.balance + added {
        return invalid("cumulative_exceeds_balance");
    }
    if max < channel.claimed || max == channel.claimed && !is_refund {
        return invalid("cumulative_below_claimed");
    }
    json!({"isValid": true, "payer": config.payer, "extra": state(&id, &channel)})
}

fn done(hash: &str, payer: Option<Address>, amount: Option<u128>, extra: Value) -> Value {
    let mut said = json!({"success": true, "transaction": format!("0x{hash}"), "network": BASE_SEPOLIA});
    if let Some(payer) = payer {
        said["payer"] = json!(payer);
    }
    if let Some(amount) = amount {
        said["amount"] = json!(amount.to_string());
    }
    if extra.is_object() {
        said["extra"] = extra;
    }
    said
}

fn settle(contract: &mut Contract, request: &Value) -> Value {
    let payload = &request["paymentPayload"]["payload"];
    match payload["type"].as_str().unwrap() {
        "deposit" => deposit(contract, &BatchPayload::from_value(payload).unwrap()),
        "claim" => claim(contract, &serde_json::from_value(payload.clone()).unwrap()),
        "settle" => {
            let claimed: u128 = contract.channels.values().map(|channel| channel.claimed).sum();
            let moved = claimed - contract.settled;
            if moved == 0 {
                return refused(&code("nothing_to_settle"));
            }
            contract.settled = claimed;
            done(&"5e".repeat(32), None, Some(moved), Value::Null)
        }
        "refund" => refund(contract, &serde_json::from_value(payload.clone()).unwrap()),
        other => panic!("{other}"),
    }
}

fn deposit(contract: &mut Contract, payload: &BatchPayload) -> Value {
    let BatchPayload::Deposit { channel_config, voucher, deposit } = payload else { panic!() };
    let DepositAuthorization::Erc3009(sent) = &deposit.authorization else { panic!() };
    let (id, salt) = (hex::encode(&voucher.channel_id), hex::encode(&sent.salt));
    let again = contract.used.contains(&salt);
    let channel = contract.channels.entry(id.clone()).or_default();
    if !again {
        channel.balance += deposit.amount;
    }
    let extra = json!({ "channelState": state(&id, channel) });
    contract.used.push(salt.clone());
    done(&salt, Some(channel_config.payer), Some(deposit.amount), extra)
}

/// Takes what the signatures allow; a sum that was reached before is passed over.
fn claim(contract: &mut Contract, payload: &ClaimPayload) -> Value {
    let separator = eip712::batch_separator(84532);
    let mut entries = Vec::new();
    for row in &payload.claims {
        let channel_id = separator.digest(&eip712::channel_config(&row.voucher.channel));
        let max_claimable = row.voucher.max_claimable_amount;
        let digest = separator.digest(&eip712::voucher(&channel_id, max_claimable));
        let signed = Signature::parse(&row.signature).unwrap();
        signed.verify(&digest, &row.voucher.channel.payer_authorizer).unwrap();
        assert!(row.total_claimed <= max_claimable, "more than was promised");
        entries.push(ClaimEntry { channel_id, max_claimable, total_claimed: row.total_claimed });
    }
    if let Some(row) = payload.claims.first() {
        let signed = Signature::parse(payload.claim_authorizer_signature.as_ref().unwrap()).unwrap();
        let digest = separator.digest(&eip712::claim_batch(&entries));
        signed.verify(&digest, &row.voucher.channel.receiver_authorizer).unwrap();
    }
    for entry in &entries {
        let channel = contract.channels.get_mut(&hex::encode(&entry.channel_id)).unwrap();
        assert!(entry.total_claimed <= channel.balance, "more than there is");
        channel.claimed = channel.claimed.max(entry.total_claimed);
        contract.published.push(entry.max_claimable);
    }
    done(&"c1".repeat(32), None, None, Value::Null)
}

fn refund(contract: &mut Contract, payload: &RefundPayload) -> Value {
    let separator = eip712::batch_separator(84532);
    let id = payload.voucher.channel_id;
    let digest = separator.digest(&eip712::refund(&id, &payload.refund_nonce, payload.amount));
    let signed = Signature::parse(payload.refund_authorizer_signature.as_ref().unwrap()).unwrap();
    signed.verify(&digest, &payload.channel_config.receiver_authorizer).unwrap();
    let claims = ClaimPayload {
        claims: payload.claims.clone(),
        claim_authorizer_signature: payload.claim_authorizer_signature.clone(),
    };
    let nonce = u64::from_be_bytes(payload.refund_nonce[24..].try_into().unwrap());
    let text = hex::encode(&id);
    if contract.channels.get(&text).unwrap().refund_nonce != nonce {
        return refused(&code("refund_simulation_failed"));
    }
    claim(contract, &claims);
    let channel = contract.channels.get_mut(&text).unwrap();
    let amount = payload.amount.min(channel.balance - channel.claimed);
    channel.balance -= amount;
    channel.refund_nonce += 1;
    channel.withdraw_requested_at = 0;
    let extra = json!({ "channelState": state(&text, channel) });
    done(&"f0".repeat(32), Some(payload.channel_config.payer), Some(amount), extra)
}
