//! A stand-in for the contract that keeps channels of sessions on Tempo, and for a node of its chain: transactions are run
//! as they come in, each in a block of its own.

use std::collections::{HashMap, VecDeque};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use proof::eip712::keccak256;
use proof::secp::Signature;
use proof::voucher::evm::{Descriptor, Escrow, Protocol};
use serde_json::{Value, json};
use wire::hex;
use wire::x402::Address;

use crate::evm_transaction::Transaction;
use crate::payer::now_s;
use crate::upstream::{Seen, Upstream, plain};

/// The chain's id.
pub const CHAIN: u64 = 42431;

/// What the channels of this chain are kept by.
pub fn escrow() -> Escrow {
    Escrow::new(Protocol::TempoV2, CHAIN, Escrow::TEMPO_V2)
}

/// The contract of version 1.
pub fn escrow_v1() -> Escrow {
    Escrow::new(Protocol::TempoV1, CHAIN, Address([0x33; 20]))
}

/// One channel in the contract.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OnChain {
    /// Put in and not given back.
    pub deposit: u128,
    /// Taken by the payee.
    pub settled: u128,
    /// Unix seconds; 0: nothing was asked for.
    pub close_requested_at: u64,
}

/// How a channel has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The payee's, in all.
    pub captured: u128,
    /// The payer's.
    pub refunded: u128,
}

/// What a node does once in place of what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trick {
    /// Runs the transaction and answers nothing that can be read.
    RunThenFail,
    /// Answers nothing that can be read.
    Fail,
}

/// The contract and its chain.
pub struct Contract {
    escrow: Escrow,
    made: HashMap<[u8; 32], Descriptor>,
    /// Channels that are open.
    pub channels: HashMap<[u8; 32], OnChain>,
    /// Those that have ended.
    pub ended: HashMap<[u8; 32], Ended>,
    /// Names of what was called and done, in order.
    pub done: Vec<&'static str>,
    /// Sums of vouchers that everybody can read.
    pub published: Vec<u128>,
    /// What is done in place of the next transactions.
    pub tricks: VecDeque<Trick>,
    receipts: HashMap<String, bool>,
    nonces: HashMap<Address, u64>,
}

/// A node on loopback.
pub struct Reserve {
    /// Where it listens.
    pub address: SocketAddr,
    contract: Arc<Mutex<Contract>>,
    server: Upstream,
}

impl Reserve {
    /// Of version 2, with nothing in it.
    pub fn start() -> Self {
        Self::of(escrow())
    }

    /// This contract, with nothing in it.
    pub fn of(escrow: Escrow) -> Self {
        let contract = Arc::new(Mutex::new(Contract::new(escrow)));
        let ours = Arc::clone(&contract);
        let server = Upstream::start(move |request, stream| serve(&ours, request, stream));
        Self { address: server.address, contract, server }
    }

    /// The contract, to be looked at or changed.
    pub fn contract(&self) -> std::sync::MutexGuard<'_, Contract> {
        self.contract.lock().unwrap()
    }

    /// A channel; all zero when it is none.
    pub fn channel(&self, id: &[u8; 32]) -> OnChain {
        self.contract().channels.get(id).copied().unwrap_or_default()
    }

    /// How a channel has ended, if it has.
    pub fn ended(&self, id: &[u8; 32]) -> Option<Ended> {
        self.contract().ended.get(id).copied()
    }

    /// Its payer asks for his money on the chain.
    pub fn request_close(&self, id: &[u8; 32]) {
        self.contract().channels.get_mut(id).unwrap().close_requested_at = now_s();
    }

    /// How many questions came in.
    pub fn questions(&self) -> usize {
        self.server.hits()
    }
}

fn serve(contract: &Mutex<Contract>, request: &Seen, stream: &mut TcpStream) {
    let asked: Value = serde_json::from_slice(&request.body).unwrap();
    let params = &asked["params"];
    let mut contract = contract.lock().unwrap();
    let result = match asked["method"].as_str().unwrap() {
        "eth_call" => Ok(json!(contract.state(params[0]["data"].as_str().unwrap()))),
        "eth_sendRawTransaction" => match contract.tricks.pop_front() {
            None => contract.run(params[0].as_str().unwrap()).map(Value::from),
            Some(trick) => {
                if trick == Trick::RunThenFail {
                    let _ = contract.run(params[0].as_str().unwrap());
                }
                let _ = stream.write_all(&plain(502, "text/plain", "bad gateway"));
                return;
            }
        },
        "eth_getTransactionReceipt" => Ok(contract.receipt(params[0].as_str().unwrap())),
        "eth_estimateGas" => Ok(json!("0x186a0")),
        "eth_gasPrice" => Ok(json!("0x1")),
        "eth_getTransactionCount" => {
            let sender = params[0].as_str().unwrap().parse().unwrap();
            Ok(json!(format!("{:#x}", contract.nonces.get(&sender).copied().unwrap_or(0))))
        }
        other => panic!("{other}"),
    };
    let answer = match result {
        Ok(result) => json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}),
        Err(message) => {
            json!({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -32000, "message": message}})
        }
    };
    let _ = stream.write_all(&plain(200, "application/json", &answer.to_string()));
}

impl Contract {
    fn new(escrow: Escrow) -> Self {
        Self {
            escrow,
            made: HashMap::new(),
            channels: HashMap::new(),
            ended: HashMap::new(),
            done: Vec::new(),
            published: Vec::new(),
            tricks: VecDeque::new(),
            receipts: HashMap::new(),
            nonces: HashMap::new(),
        }
    }

    fn state(&self, data: &str) -> String {
        let bytes = hex::decode(data.strip_prefix("0x").unwrap()).unwrap();
        assert_eq!(bytes[..4], self.escrow.state_call(&[0; 32])[..4]);
        let id: [u8; 32] = bytes[4..].try_into().unwrap();
        let channel = self.channels.get(&id).copied().unwrap_or_default();
        let at = u128::from(channel.close_requested_at);
        if self.escrow.protocol() == Protocol::TempoV2 {
            return format!("0x{:064x}{:064x}{at:064x}", channel.settled, channel.deposit);
        }
        let who = |of: fn(&Descriptor) -> Address| {
            let address = self.made.get(&id).map_or(Address::ZERO, of);
            format!("{}{}", "0".repeat(24), hex::encode(&address.0))
        };
        let finalized = u8::from(self.ended.contains_key(&id));
        let parties = [
            who(|made| made.payer),
            who(|made| made.payee),
            who(|made| made.token),
            who(|made| made.authorized_signer),
        ];
        format!(
            "0x{finalized:064x}{at:064x}{}{:064x}{:064x}",
            parties.concat(),
            channel.deposit,
            channel.settled
        )
    }

    fn receipt(&self, hash: &str) -> Value {
        match self.receipts.get(hash) {
            None => Value::Null,
            Some(done) => json!({"status": if *done { "0x1" } else { "0x0" }, "transactionHash": hash}),
        }
    }

    /// Runs a transaction; one with another nonce than the next is not taken.
    fn run(&mut self, raw: &str) -> Result<String, String> {
        let bytes = hex::decode(raw.strip_prefix("0x").unwrap()).unwrap();
        let hash = hex::encode_0x(&keccak256(&bytes));
        let transaction = Transaction::read(&bytes);
        let nonce = self.nonces.entry(transaction.from).or_default();
        if transaction.nonce != *nonce {
            return Err(format!("nonce is {}, not {nonce}", transaction.nonce));
        }
        *nonce += 1;
        let opened_by = keccak256(&[&bytes, transaction.from.as_bytes().as_slice()].concat());
        let done = self.call(&transaction, opened_by);
        if let Some(name) = done {
            self.done.push(name);
        }
        self.receipts.insert(hash.clone(), done.is_some());
        Ok(hash)
    }

    /// Runs a call; none where it reverts.
    fn call(&mut self, transaction: &Transaction, opened_by: [u8; 32]) -> Option<&'static str> {
        assert_eq!(transaction.to, *self.escrow.contract());
        if self.escrow.protocol() == Protocol::TempoV1 {
            return self.call_v1(transaction);
        }
        let (selector, data) = transaction.data.split_at(4);
        let words = data.as_chunks::<32>().0;
        let name = NAMES.into_iter().find(|(_, text)| keccak256(text.as_bytes())[..4] == *selector)?.0;
        if name == "open" {
            let channel = Descriptor {
                payer: transaction.from,
                payee: address(&words[0]),
                operator: address(&words[1]),
                token: address(&words[2]),
                salt: words[4],
                authorized_signer: address(&words[5]),
                expiring_nonce_hash: opened_by,
            };
            let deposit = number(&words[3]);
            let id = self.escrow.channel_id(&channel);
            self.channels.insert(id, OnChain { deposit, ..OnChain::default() });
            return (deposit > 0).then_some(name);
        }
        let channel = Descriptor {
            payer: address(&words[0]),
            payee: address(&words[1]),
            operator: address(&words[2]),
            token: address(&words[3]),
            salt: words[4],
            authorized_signer: address(&words[5]),
            expiring_nonce_hash: words[6],
        };
        let id = self.escrow.channel_id(&channel);
        let is_payee = transaction.from == channel.payee || transaction.from == channel.operator;
        let open = self.channels.get_mut(&id)?;
        match name {
            "topUp" => {
                open.deposit += number(&words[7]);
                open.close_requested_at = 0;
            }
            "settle" => {
                let sum = number(&words[7]);
                let fits = is_payee && sum > open.settled && sum <= open.deposit;
                genuine(&self.escrow, &id, sum, &channel, data, &words[8]).filter(|()| fits)?;
                open.settled = sum;
                self.published.push(sum);
            }
            "close" => {
                let (sum, capture) = (number(&words[7]), number(&words[8]));
                let fits = is_payee && capture >= open.settled && capture <= sum && sum <= open.deposit;
                genuine(&self.escrow, &id, sum, &channel, data, &words[9]).filter(|()| fits)?;
                let ended = Ended { captured: capture, refunded: open.deposit - capture };
                self.channels.remove(&id);
                self.ended.insert(id, ended);
                self.published.push(sum);
            }
            _ => return None,
        }
        Some(name)
    }
}

impl Contract {
    /// The same by the contract of version 1, which knows its channels by their ids and takes whole promises.
    fn call_v1(&mut self, transaction: &Transaction) -> Option<&'static str> {
        let (selector, data) = transaction.data.split_at(4);
        let words = data.as_chunks::<32>().0;
        let name = NAMES_V1.into_iter().find(|(_, text)| keccak256(text.as_bytes())[..4] == *selector)?.0;
        if name == "open" {
            let channel = Descriptor {
                payer: transaction.from,
                payee: address(&words[0]),
                operator: Address::ZERO,
                token: address(&words[1]),
                salt: words[3],
                authorized_signer: address(&words[4]),
                expiring_nonce_hash: [0; 32],
            };
            let id = self.escrow.channel_id(&channel);
            self.channels.insert(id, OnChain { deposit: number(&words[2]), ..OnChain::default() });
            self.made.insert(id, channel);
            return Some(name);
        }
        let id = words[0];
        let channel = *self.made.get(&id)?;
        let open = self.channels.get_mut(&id)?;
        let sum = number(&words[1]);
        if name == "topUp" {
            open.deposit += sum;
            return Some(name);
        }
        let fits = transaction.from == channel.payee && sum >= open.settled && sum <= open.deposit;
        genuine(&self.escrow, &id, sum, &channel, data, &words[2]).filter(|()| fits)?;
        self.published.push(sum);
        if name == "settle" {
            open.settled = sum;
        } else {
            let ended = Ended { captured: sum, refunded: open.deposit - sum };
            self.channels.remove(&id);
            self.ended.insert(id, ended);
        }
        Some(name)
    }
}

const NAMES_V1: [(&str, &str); 4] = [
    ("open", "open(address,address,uint128,bytes32,address)"),
    ("topUp", "topUp(bytes32,uint256)"),
    ("settle", "settle(bytes32,uint128,bytes)"),
    ("close", "close(bytes32,uint128,bytes)"),
];

const NAMES: [(&str, &str); 4] = [
    ("open", "open(address,address,address,uint96,bytes32,address)"),
    ("topUp", "topUp((address,address,address,address,bytes32,address,bytes32),uint96)"),
    ("settle", "settle((address,address,address,address,bytes32,address,bytes32),uint96,bytes)"),
    ("close", "close((address,address,address,address,bytes32,address,bytes32),uint96,uint96,bytes)"),
];

/// Whether the voucher in a call is its signer's.
fn genuine(
    escrow: &Escrow,
    id: &[u8; 32],
    sum: u128,
    channel: &Descriptor,
    data: &[u8],
    place: &[u8; 32],
) -> Option<()> {
    let start = usize::try_from(number(place)).unwrap();
    let length = usize::try_from(number(data[start..start + 32].try_into().unwrap())).unwrap();
    let bytes: [u8; 65] = data[start + 32..start + 32 + length].try_into().ok()?;
    let signature = Signature::from_bytes(&bytes).ok()?;
    signature.verify(&escrow.digest(id, sum), &channel.signer()).ok()
}

fn number(word: &[u8; 32]) -> u128 {
    u128::from_be_bytes(word[16..].try_into().unwrap())
}

fn address(word: &[u8; 32]) -> Address {
    Address(word[12..].try_into().unwrap())
}
