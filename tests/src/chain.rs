//! A chain that only counts: what moved, once per proof, and what the channels hold.

use std::collections::HashMap;

use serde_json::{Value, json};
use wire::x402::uint256;

use crate::payer::now_s;

/// Transfers by the identity of what was signed. A token takes each nonce once.
#[derive(Debug, Default)]
pub struct Chain {
    moved: HashMap<String, u128>,
    /// The same with all that is known of them, for whoever looks at the chain.
    made: Vec<Asked>,
    /// Seconds by which its clock is ahead of ours.
    ahead_s: u64,
    /// By their configuration, in lower case.
    channels: HashMap<String, Channel>,
    /// Claimed and not yet settled.
    claimed: u128,
    writes: u64,
    /// What the payers have left, all together; none where they have enough.
    funds: Option<u128>,
}

#[derive(Debug, Default)]
struct Channel {
    id: String,
    balance: u128,
    total_claimed: u128,
    refunds: u64,
}

/// What one request of a gateway to a facilitator is about.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What was signed, named so that each is one.
    pub identity: String,
    /// As the request writes him; empty where nobody pays.
    pub payer: String,
    /// CAIP-2, or a name of version 1.
    pub network: String,
    /// How the chain names what is done about it: the same every time it is told.
    pub hash: String,
    /// Atomic units that move.
    pub amount: u128,
    token: String,
    to: String,
    payload: Value,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value) -> u128 {
    value.as_str().unwrap_or_default().parse().unwrap_or_default()
}

/// The hash of a transfer is made from its nonce here.
fn hash_of(nonce: &[u8; 32]) -> String {
    wire::hex::encode_0x(nonce)
}

impl Asked {
    /// Reads a body of `/verify` or `/settle`.
    pub fn read(body: &Value) -> Self {
        let payload = body["paymentPayload"]["payload"].clone();
        let required = &body["paymentRequirements"];
        let charged = number(&required["amount"]);
        let seller = format!("seller:{payload}");
        let (identity, payer, hash, amount) = match payload["type"].as_str() {
            Some("deposit") => {
                let deposit = &payload["deposit"];
                let signed = &deposit["authorization"];
                let salt = &signed["erc3009Authorization"]["salt"];
                let nonce = salt.as_str().map_or_else(
                    || uint256::parse(&text(&signed["permit2Authorization"]["nonce"])).unwrap(),
                    |salt| wire::hex::decode_0x_array(salt).unwrap(),
                );
                let payer = text(&payload["channelConfig"]["payer"]);
                let id = text(&payload["voucher"]["channelId"]);
                (
                    format!("deposit:{id}:{}", hash_of(&nonce)),
                    payer,
                    hash_of(&nonce),
                    number(&deposit["amount"]),
                )
            }
            Some("claim" | "settle") => (seller, String::new(), String::new(), 0),
            Some("refund") => {
                (seller, text(&payload["channelConfig"]["payer"]), String::new(), number(&payload["amount"]))
            }
            Some("voucher") => (seller, text(&payload["channelConfig"]["payer"]), String::new(), 0),
            Some(_) | None if payload["permit2Authorization"].is_object() => {
                let permit = &payload["permit2Authorization"];
                let nonce = uint256::parse(permit["nonce"].as_str().unwrap()).unwrap();
                (format!("permit2:{}", hash_of(&nonce)), text(&permit["from"]), hash_of(&nonce), charged)
            }
            Some(_) | None if payload["transaction"].is_string() => {
                let transaction = text(&payload["transaction"]);
                let start: Vec<u8> = transaction.bytes().rev().chain([7; 64]).take(64).collect();
                let hash = wire::x402::base58::encode(&start);
                (transaction, text(&required["extra"]["feePayer"]), hash, charged)
            }
            Some(_) | None => {
                let transfer = &payload["authorization"];
                // A token compares values: upper and lower case are one nonce.
                let nonce = text(&transfer["nonce"]);
                let identity = nonce.to_ascii_lowercase();
                (identity, text(&transfer["from"]), nonce, number(&transfer["value"]))
            }
        };
        let (token, to) = (text(&required["asset"]), text(&required["payTo"]));
        Self { identity, payer, network: text(&required["network"]), hash, amount, token, to, payload }
    }
}

impl Asked {
    fn payer_word(&self) -> String {
        address_word(&self.payer)
    }

    /// What the token and the contract with the nonce tell about it.
    fn logs(&self) -> Vec<Value> {
        let hash = &self.hash;
        let transfer = json!({"address": self.token, "transactionHash": hash,
            "topics": ["0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef",
                       self.payer_word(), address_word(&self.to)],
            "data": format!("{:#066x}", self.amount)});
        if self.identity.starts_with("permit2:") {
            return vec![transfer];
        }
        let used = json!({"address": self.token, "transactionHash": hash, "data": "0x",
            "topics": ["0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5",
                       self.payer_word(), self.identity]});
        vec![used, transfer]
    }
}

fn address_word(address: &str) -> String {
    format!("0x{:0>64}", address.trim_start_matches("0x").to_ascii_lowercase())
}

impl Chain {
    /// Does what was signed, unless that was done before. Returns what a truthful success says.
    pub fn apply(&mut self, asked: &Asked) -> Value {
        let mut said = json!({"success": true, "transaction": asked.hash, "network": asked.network});
        match asked.payload["type"].as_str() {
            Some("deposit") => {
                let is_new = self.pay(asked);
                let channel = self.channel(&asked.payload["channelConfig"]);
                channel.id = text(&asked.payload["voucher"]["channelId"]);
                if is_new {
                    channel.balance += asked.amount;
                }
                said["amount"] = json!(asked.amount.to_string());
                said["extra"] = json!({"channelState": channel.state()});
            }
            Some("claim") => {
                self.claim(&asked.payload["claims"]);
                said["transaction"] = json!(self.write());
            }
            Some("settle") => {
                said["amount"] = json!(std::mem::take(&mut self.claimed).to_string());
                said["transaction"] = json!(self.write());
            }
            Some("refund") => {
                self.claim(&asked.payload["claims"]);
                let channel = self.channel(&asked.payload["channelConfig"]);
                channel.balance = channel.balance.saturating_sub(asked.amount);
                channel.refunds += 1;
                said["amount"] = json!(asked.amount.to_string());
                said["extra"] = json!({"channelState": channel.state()});
                said["transaction"] = json!(self.write());
            }
            Some(_) | None => {
                self.pay(asked);
            }
        }
        if !asked.payer.is_empty() {
            said["payer"] = json!(asked.payer);
        }
        said
    }

    /// From now on the payers have so much, all together.
    pub fn fund(&mut self, funds: u128) {
        self.funds = Some(funds);
    }

    /// Whether the payer has what is to move, or it has moved before.
    pub fn covers(&self, asked: &Asked) -> bool {
        self.moved.contains_key(&asked.identity) || self.funds.is_none_or(|funds| asked.amount <= funds)
    }

    /// What `/verify` tells of a channel beside its opinion.
    pub fn state_of(&mut self, asked: &Asked) -> Option<Value> {
        let config = &asked.payload["channelConfig"];
        config.is_object().then(|| {
            let channel = self.channel(config);
            channel.id = text(&asked.payload["voucher"]["channelId"]);
            channel.state()
        })
    }

    /// How many transfers there were. Each proof moves money once.
    pub fn transfers(&self) -> u32 {
        u32::try_from(self.moved.len()).unwrap()
    }

    /// Atomic units that moved, in all.
    pub fn moved(&self) -> u128 {
        self.moved.values().sum()
    }

    /// Puts its clock ahead.
    pub fn pass(&mut self, seconds: u64) {
        self.ahead_s += seconds;
    }

    /// What a node of this chain answers.
    pub fn answer(&self, question: &Value) -> Value {
        let params = &question["params"];
        let result = match question["method"].as_str().unwrap() {
            "eth_blockNumber" => json!("0x1000"),
            "eth_getBlockByNumber" => json!({"timestamp": format!("{:#x}", now_s() + self.ahead_s)}),
            "eth_getTransactionReceipt" => {
                let made = self.made.iter().find(|made| params[0] == made.hash);
                made.map_or(Value::Null, |made| json!({"status": "0x1", "logs": made.logs()}))
            }
            "eth_getLogs" => {
                let all = self.made.iter().flat_map(Asked::logs);
                json!(all.filter(|log| log["topics"] == params[0]["topics"]).collect::<Vec<_>>())
            }
            "eth_call" => {
                let call = params[0]["data"].as_str().unwrap();
                let (which, from, place) = (&call[..10], &call[10..74], &call[74..138]);
                let of_payer = self.made.iter().filter(|made| made.payer_word()[2..] == *from);
                match which {
                    "0xe94a0102" => {
                        let used = of_payer.filter(|made| made.identity[2..] == *place).count();
                        json!(format!("{used:#066x}"))
                    }
                    "0x4fe02b44" => {
                        let mut word = [0_u8; 32];
                        for nonce in of_payer.filter_map(|made| made.identity.strip_prefix("permit2:0x")) {
                            if nonce[..62] == place[2..] {
                                let bit = u8::from_str_radix(&nonce[62..], 16).unwrap();
                                word[31 - usize::from(bit / 8)] |= 1 << (bit % 8);
                            }
                        }
                        json!(wire::hex::encode_0x(&word))
                    }
                    _ => panic!("{question}"),
                }
            }
            _ => panic!("{question}"),
        };
        json!({"jsonrpc": "2.0", "id": question["id"], "result": result})
    }

    /// Whether it is new.
    fn pay(&mut self, asked: &Asked) -> bool {
        // Nothing is written for nothing.
        asked.amount > 0 && {
            let is_new = !self.moved.contains_key(&asked.identity);
            if is_new {
                self.moved.insert(asked.identity.clone(), asked.amount);
                self.made.push(asked.clone());
            }
            if let Some(funds) = self.funds.as_mut().filter(|_| is_new) {
                *funds = funds.saturating_sub(asked.amount);
            }
            is_new
        }
    }

    fn claim(&mut self, rows: &Value) {
        for row in rows.as_array().into_iter().flatten() {
            let total = number(&row["totalClaimed"]);
            let channel = self.channel(&row["voucher"]["channel"]);
            let more = total.saturating_sub(channel.total_claimed);
            channel.total_claimed += more;
            self.claimed += more;
        }
    }

    fn channel(&mut self, config: &Value) -> &mut Channel {
        self.channels.entry(config.to_string().to_ascii_lowercase()).or_default()
    }

    fn write(&mut self) -> String {
        self.writes += 1;
        let mut hash = [0xc1; 32];
        hash[24..].copy_from_slice(&self.writes.to_be_bytes());
        wire::hex::encode_0x(&hash)
    }
}

impl Channel {
    fn state(&self) -> Value {
        json!({"channelId": self.id, "balance": self.balance.to_string(),
               "totalClaimed": self.total_claimed.to_string(), "withdrawRequestedAt": 0,
               "refundNonce": self.refunds.to_string()})
    }
}
