//! A stand-in for a Solana node and for the program that keeps payment channels there (specs/vouchers.md, "Solana").
//!
//! What a transaction does is found out as the chain would: signatures, blockhash, fee, then one instruction after the other
//! and all or none. The tokens are SPL Token's; there is no Token-2022 here.

mod channel_program;
mod ledger;
mod payer;
mod tokens;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

use serde_json::{Value, json};
use wire::x402::base58;
use wire::x402::svm::{SvmPayload, Transaction};

use crate::upstream::{Seen, Upstream, plain};

pub use channel_program::{OnChain, Status};
pub use ledger::{Account, Failure, Fault, Key, Ledger};
pub use payer::{Payer, Terms, asked};

/// What the channels here hold.
pub const MINT: &str = "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU";
/// Decimals of it.
pub const DECIMALS: u8 = 6;

const COMPUTE_BUDGET: &str = "ComputeBudget111111111111111111111111111111";
const ED25519: &str = "Ed25519SigVerify111111111111111111111111111";
const INSTRUCTIONS: &str = "Sysvar1nstructions1111111111111111111111111";
/// Whatever is said by it has no effect.
const MEMO: &str = "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr";
const RENT: &str = "SysvarRent111111111111111111111111111111111";
/// The system's own program, and who owns what has no data.
const SYSTEM: Key = [0; 32];

/// What a node does once in place of what it should with a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trick {
    /// Runs it and answers nothing that can be read.
    RunThenFail,
    /// Answers nothing that can be read.
    Fail,
    /// Says that it has it, and forgets it.
    Lose,
    /// Says that it has it, and runs it when [`Ledger::land_held`] says so: by then it may fail.
    Hold,
}

/// A node on loopback.
pub struct Node {
    /// Where it listens.
    pub address: SocketAddr,
    ledger: Arc<Mutex<Ledger>>,
    server: Upstream,
}

impl Node {
    /// A chain with the programs and the mint on it.
    pub fn start() -> Self {
        let ledger = Arc::new(Mutex::new(Ledger::genesis()));
        let ours = Arc::clone(&ledger);
        let server = Upstream::start(move |request, stream| serve(&ours, request, stream));
        Self { address: server.address, ledger, server }
    }

    /// The chain, to be looked at or moved on.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap()
    }

    /// A payer with SOL for fees and a thousand dollars of the mint.
    pub fn payer(&self, number: u8, salt: u64) -> Payer {
        Payer::new(Arc::clone(&self.ledger), number, salt)
    }

    /// A channel, while its account is there.
    pub fn channel(&self, id: &Key) -> Option<OnChain> {
        self.ledger().channel(id)
    }

    /// How many questions came in.
    pub fn questions(&self) -> usize {
        self.server.hits()
    }
}

/// The bytes of a key.
fn key(text: &str) -> Key {
    base58::decode_array(text).unwrap()
}

fn serve(ledger: &Mutex<Ledger>, request: &Seen, stream: &mut TcpStream) {
    let asked: Value = serde_json::from_slice(&request.body).unwrap();
    let mut ledger = ledger.lock().unwrap();
    let said = match answer(&mut ledger, asked["method"].as_str().unwrap(), &asked["params"]) {
        Some(Ok(result)) => json!({"jsonrpc": "2.0", "id": asked["id"], "result": result}),
        Some(Err(error)) => json!({"jsonrpc": "2.0", "id": asked["id"], "error": error}),
        None => {
            let _ = stream.write_all(&plain(502, "text/plain", "bad gateway"));
            return;
        }
    };
    let _ = stream.write_all(&plain(200, "application/json", &said.to_string()));
}

/// `None` where the node is to fail.
fn answer(ledger: &mut Ledger, method: &str, params: &Value) -> Option<Result<Value, Value>> {
    let text = |place: usize| params[place].as_str().unwrap();
    let seen = |ledger: &Ledger, value: Value| json!({"context": {"slot": ledger.slot()}, "value": value});
    Some(Ok(match method {
        "getAccountInfo" => {
            if params[1]["encoding"] != "base64" {
                return Some(Err(complaint(-32602, "this node writes accounts in base64")));
            }
            let account = ledger.account(&key(text(0))).map_or(Value::Null, described);
            seen(ledger, account)
        }
        "getLatestBlockhash" => {
            let recent = json!({
                "blockhash": base58::encode(&ledger.blockhash()),
                "lastValidBlockHeight": ledger.last_valid_height(),
            });
            seen(ledger, recent)
        }
        "getBlockHeight" => json!(ledger.height()),
        "getSlot" => json!(ledger.slot()),
        "getSignatureStatuses" => {
            let all = params[0].as_array().unwrap().iter();
            let statuses = all.map(|id| ledger.status(&base58::decode_array(id.as_str().unwrap()).unwrap()));
            let statuses = statuses.collect();
            seen(ledger, statuses)
        }
        "sendTransaction" => {
            if params[1]["encoding"] != "base64" {
                return Some(Err(complaint(-32602, "invalid base58 encoding")));
            }
            let payload = SvmPayload { transaction: text(0).to_owned() };
            let Ok(transaction) = payload.transaction() else {
                return Some(Err(complaint(-32602, "failed to deserialize the transaction")));
            };
            return sent(ledger, transaction);
        }
        _ => return Some(Err(complaint(-32601, "Method not found"))),
    }))
}

fn sent(ledger: &mut Ledger, transaction: Transaction) -> Option<Result<Value, Value>> {
    let id = json!(base58::encode(&transaction.signatures[0]));
    let trick = ledger.tricks.pop_front();
    if trick == Some(Trick::Fail) {
        return None;
    }
    // A node tries a transaction before it passes it on.
    if let Err(failure) = ledger.simulate(&transaction) {
        return Some(Err(refusal(&failure)));
    }
    match trick {
        None => ledger.land(&transaction),
        Some(Trick::RunThenFail | Trick::Fail) => {
            ledger.land(&transaction);
            return None;
        }
        Some(Trick::Lose) => {}
        Some(Trick::Hold) => ledger.hold(transaction),
    }
    Some(Ok(id))
}

fn described(account: &Account) -> Value {
    json!({
        "data": [wire::base64::encode_std(&account.data), "base64"],
        "executable": account.is_program,
        "lamports": account.lamports,
        "owner": base58::encode(&account.owner),
        "rentEpoch": 0,
        "space": account.data.len(),
    })
}

fn complaint(code: i64, message: &str) -> Value {
    json!({"code": code, "message": message})
}

fn refusal(failure: &Failure) -> Value {
    if *failure == Failure::Whole("SignatureFailure") {
        return complaint(-32003, "Transaction signature verification failure");
    }
    let mut error = complaint(-32002, &format!("Transaction simulation failed: {failure}"));
    error["data"] = json!({"err": failure.to_json(), "logs": [], "unitsConsumed": 0});
    error
}
