//! A stand-in for a chain with Permit2 on it, and for its node: transactions are run as they come in, each in a block of
//! its own, unless a test says otherwise. What is signed is hashed here from its text, as the contract does it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use proof::eip712::keccak256;
use proof::secp::Signature;
use serde_json::{Value, json};
use wire::hex;
use wire::x402::{Address, contracts::PERMIT2};

use crate::evm_transaction::Transaction;
use crate::payer::now_s;
use crate::upstream::{Seen, Upstream, plain};

/// The chain's id.
pub const CHAIN: u64 = 84532;
/// Signs for the gateway and pays for its transactions.
pub const SENDER_KEY: (&str, &str) =
    ("SENDER_KEY", "ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");
/// Its address.
pub const SENDER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

/// What a node does once in place of what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trick {
    /// Runs the transaction and answers nothing that can be read.
    RunThenFail,
    /// Answers nothing that can be read, and forgets it.
    Fail,
    /// Says that it has it, and leaves it where it is until [`PermitChain::mine`].
    Hold,
    /// Takes back what the token allowed, and runs it.
    RunTooLate,
    /// Says that it has it, and lets another transaction of its sender come in instead.
    Outrun,
}

/// What the chain knows.
#[derive(Default)]
pub struct State {
    /// Of the token, by owner.
    pub balances: HashMap<Address, u128>,
    /// Who lets Permit2 move how much.
    pub allowed: HashMap<Address, u128>,
    /// From, to, how much.
    pub moved: Vec<(Address, Address, u128)>,
    /// What is done in place of the next transactions.
    pub tricks: VecDeque<Trick>,
    /// Everything that was handed over, in order.
    pub sent: Vec<String>,
    /// Seconds by which its clock is ahead of ours.
    pub ahead_s: u64,
    /// Per unit of gas.
    pub gas_price: u64,
    /// The sender's, in the chain's own coin.
    pub coins: u128,
    /// It answers nothing at all.
    pub is_down: bool,
    used: HashSet<(Address, [u8; 32])>,
    held: Vec<String>,
    receipts: HashMap<String, Value>,
    nonces: HashMap<Address, u64>,
}

/// A node on loopback.
pub struct PermitChain {
    /// Where it listens.
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
    _server: Upstream,
}

impl PermitChain {
    /// With nothing on it.
    pub fn start() -> Self {
        let state =
            Arc::new(Mutex::new(State { gas_price: 1_000_000_000, coins: u128::MAX, ..State::default() }));
        let ours = Arc::clone(&state);
        let server = Upstream::start(move |request, stream| serve(&ours, request, stream));
        Self { address: server.address, state, _server: server }
    }

    /// What it knows, to be looked at or changed.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Gives somebody so much, all of which Permit2 may move.
    pub fn fund(&self, owner: Address, amount: u128) {
        let mut state = self.state();
        state.balances.insert(owner, amount);
        state.allowed.insert(owner, u128::MAX);
    }

    /// Runs what was held back: of one place the transaction that pays most.
    pub fn mine(&self) {
        let mut state = self.state();
        let mut held = std::mem::take(&mut state.held);
        held.sort_by_key(|raw| std::cmp::Reverse(read(raw).fee_per_gas));
        for raw in held {
            let _ = state.run(&raw);
        }
    }

    /// The transactions that were handed over, each once, in order.
    pub fn transactions(&self) -> Vec<Transaction> {
        let mut seen = HashSet::new();
        let state = self.state();
        state.sent.iter().filter(|raw| seen.insert((*raw).clone())).map(|raw| read(raw)).collect()
    }
}

fn read(raw: &str) -> Transaction {
    Transaction::read(&hex::decode(raw.strip_prefix("0x").unwrap()).unwrap())
}

fn serve(state: &Mutex<State>, request: &Seen, stream: &mut TcpStream) {
    let asked: Value = serde_json::from_slice(&request.body).unwrap();
    let params = &asked["params"];
    let mut state = state.lock().unwrap();
    if state.is_down {
        let _ = stream.write_all(&plain(502, "text/plain", "bad gateway"));
        return;
    }
    let sender = |value: &Value| value.as_str().unwrap().parse::<Address>().unwrap();
    let result = match asked["method"].as_str().unwrap() {
        "eth_call" => Ok(json!(state.look(&params[0]))),
        "eth_estimateGas" => {
            let data = hex::decode(params[0]["data"].as_str().unwrap().strip_prefix("0x").unwrap()).unwrap();
            match state.checked(sender(&params[0]["from"]), &data) {
                Ok(_) => Ok(json!("0x186a0")),
                Err(why) => Err(format!("execution reverted: {why}")),
            }
        }
        "eth_gasPrice" => Ok(json!(format!("{:#x}", state.gas_price))),
        "eth_getBalance" => Ok(json!(format!("{:#x}", state.coins))),
        "eth_maxPriorityFeePerGas" => Ok(json!("0x5")),
        "eth_getTransactionCount" => {
            let of = sender(&params[0]);
            let pending = if params[1] == "pending" {
                state
                    .held
                    .iter()
                    .map(|raw| read(raw))
                    .filter(|one| one.from == of)
                    .map(|one| one.nonce + 1)
                    .max()
            } else {
                None
            };
            let mined = state.nonces.get(&of).copied().unwrap_or(0);
            Ok(json!(format!("{:#x}", pending.unwrap_or(mined).max(mined))))
        }
        "eth_sendRawTransaction" => match state.take(params[0].as_str().unwrap()) {
            Some(result) => result.map(Value::from),
            None => {
                let _ = stream.write_all(&plain(502, "text/plain", "bad gateway"));
                return;
            }
        },
        "eth_getTransactionReceipt" => {
            Ok(state.receipts.get(params[0].as_str().unwrap()).cloned().unwrap_or(Value::Null))
        }
        "eth_getBlockByNumber" => Ok(json!({"timestamp": format!("{:#x}", now_s() + state.ahead_s)})),
        other => panic!("{other}"),
    };
    let answer = match result {
        Ok(result) => json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}),
        Err(message) => {
            json!({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": 3, "message": message}})
        }
    };
    let _ = stream.write_all(&plain(200, "application/json", &answer.to_string()));
}

/// One call of `permitWitnessTransferFrom`, taken apart.
struct Call {
    token: Address,
    owner: Address,
    to: Address,
    nonce: [u8; 32],
    amount: u128,
}

impl State {
    /// What a question about Permit2 or the token is answered.
    fn look(&self, call: &Value) -> String {
        let data = hex::decode(call["data"].as_str().unwrap().strip_prefix("0x").unwrap()).unwrap();
        let (selector, words) = (data[..4].to_vec(), data[4..].as_chunks::<32>().0);
        let is = |name: &str| keccak256(name.as_bytes())[..4] == selector;
        let owner = address(&words[0]);
        if is("nonceBitmap(address,uint256)") {
            assert_eq!(call["to"].as_str().unwrap().parse(), Ok(PERMIT2));
            let bits = (0..=255_u8).map(|bit| {
                let mut nonce = [0; 32];
                nonce[..31].copy_from_slice(&words[1][1..]);
                nonce[31] = bit;
                self.used.contains(&(owner, nonce))
            });
            let mut word = [0_u8; 32];
            for (bit, _) in bits.enumerate().filter(|(_, is_set)| *is_set) {
                word[31 - bit / 8] |= 1 << (bit % 8);
            }
            return hex::encode_0x(&word);
        }
        let of =
            |known: &HashMap<Address, u128>| format!("0x{:064x}", known.get(&owner).copied().unwrap_or(0));
        if is("balanceOf(address)") {
            return of(&self.balances);
        }
        assert!(is("allowance(address,address)") && address(&words[1]) == PERMIT2);
        of(&self.allowed)
    }

    /// Takes a transaction as a node does, or as the next trick says; none: no answer.
    fn take(&mut self, raw: &str) -> Option<Result<String, String>> {
        self.sent.push(raw.to_owned());
        let hash = hash_of(raw);
        if self.held.iter().any(|held| held == raw) || self.receipts.contains_key(&hash) {
            return Some(Err("already known".to_owned()));
        }
        match self.tricks.pop_front() {
            None => Some(self.run(raw)),
            Some(Trick::RunThenFail) => {
                let _ = self.run(raw);
                None
            }
            Some(Trick::Fail) => None,
            Some(Trick::Hold) => {
                self.held.push(raw.to_owned());
                Some(Ok(hash))
            }
            Some(Trick::RunTooLate) => {
                self.allowed.clear();
                Some(self.run(raw))
            }
            Some(Trick::Outrun) => {
                *self.nonces.entry(read(raw).from).or_default() += 1;
                Some(Ok(hash))
            }
        }
    }

    /// Runs a transaction; one with another nonce than the next is not taken.
    fn run(&mut self, raw: &str) -> Result<String, String> {
        let transaction = read(raw);
        let nonce = self.nonces.entry(transaction.from).or_default();
        if transaction.nonce != *nonce {
            return Err(format!("nonce is {}, not {nonce}", transaction.nonce));
        }
        *nonce += 1;
        assert_eq!(transaction.to, PERMIT2);
        let hash = hash_of(raw);
        let receipt = match self.checked(transaction.from, &transaction.data) {
            Err(_) => json!({"status": "0x0", "transactionHash": hash, "logs": []}),
            Ok(Call { token, owner, to, nonce, amount }) => {
                self.used.insert((owner, nonce));
                *self.balances.get_mut(&owner).unwrap() -= amount;
                self.moved.push((owner, to, amount));
                let word = |address: &Address| format!("0x{:0>64}", hex::encode(address.as_bytes()));
                json!({"status": "0x1", "transactionHash": hash, "logs": [{
                    "address": token.to_string(),
                    "topics": [hex::encode_0x(&keccak256(b"Transfer(address,address,uint256)")), word(&owner), word(&to)],
                    "data": format!("{amount:#066x}"),
                }]})
            }
        };
        self.receipts.insert(hash.clone(), receipt);
        Ok(hash)
    }

    /// Whether the contract would do what it is called with by `from`.
    fn checked(&self, from: Address, data: &[u8]) -> Result<Call, &'static str> {
        let name = "permitWitnessTransferFrom(((address,uint256),uint256,uint256),(address,uint256),address,bytes32,string,bytes)";
        let (selector, data) = data.split_at(4);
        assert_eq!(selector, &keccak256(name.as_bytes())[..4]);
        let words = data.as_chunks::<32>().0;
        let (token, permitted, nonce, deadline) =
            (address(&words[0]), number(&words[1]), words[2], number(&words[3]));
        let (to, amount, owner, witness) =
            (address(&words[4]), number(&words[5]), address(&words[6]), words[7]);
        let type_end = String::from_utf8(text(data, &words[8])).unwrap();
        let signature: [u8; 65] = text(data, &words[9]).try_into().unwrap();
        if deadline < u128::from(now_s() + self.ahead_s) {
            return Err("SignatureExpired");
        }
        if amount > permitted {
            return Err("InvalidAmount");
        }
        if self.used.contains(&(owner, nonce)) {
            return Err("InvalidNonce");
        }
        let type_text = format!(
            "PermitWitnessTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline,{type_end}"
        );
        let hash = |words: &[[u8; 32]]| keccak256(words.as_flattened());
        let of_permitted =
            hash(&[keccak256(b"TokenPermissions(address token,uint256 amount)"), words[0], words[1]]);
        let mut spender = [0; 32];
        spender[12..].copy_from_slice(from.as_bytes());
        let message =
            hash(&[keccak256(type_text.as_bytes()), of_permitted, spender, nonce, words[3], witness]);
        let digest = proof::eip712::permit2_separator(CHAIN).digest(&message);
        let signer = Signature::from_bytes(&signature).map_err(|_| "InvalidSignature")?.recover(&digest);
        if signer != Ok(owner) {
            return Err("InvalidSigner");
        }
        let of = |known: &HashMap<Address, u128>| known.get(&owner).copied().unwrap_or(0);
        if of(&self.allowed) < amount || of(&self.balances) < amount {
            return Err("TRANSFER_FROM_FAILED");
        }
        Ok(Call { token, owner, to, nonce, amount })
    }
}

fn hash_of(raw: &str) -> String {
    hex::encode_0x(&keccak256(&hex::decode(raw.strip_prefix("0x").unwrap()).unwrap()))
}

/// Bytes of no fixed length, of which a word says where they are.
fn text(data: &[u8], place: &[u8; 32]) -> Vec<u8> {
    let start = usize::try_from(number(place)).unwrap();
    let length = usize::try_from(number(data[start..start + 32].try_into().unwrap())).unwrap();
    data[start + 32..start + 32 + length].to_vec()
}

fn number(word: &[u8; 32]) -> u128 {
    assert_eq!(word[..16], [0; 16]);
    u128::from_be_bytes(word[16..].try_into().unwrap())
}

fn address(word: &[u8; 32]) -> Address {
    Address(word[12..].try_into().unwrap())
}
