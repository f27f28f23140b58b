//! A Cashu mint that does what the test says: it signs, remembers what it has signed and what was spent, and may lie
//! about any of it.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use proof::cashu::{blind, hash_to_curve};
use secp256k1::{PublicKey, SecretKey};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use wire::cashu::{Dleq, KeysetId, Point, Proof, Token};
use wire::hex;

use crate::upstream::{Seen, Upstream, plain};

/// How `/v1/swap` behaves once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conduct {
    /// As it should.
    Well,
    /// Swaps, and no answer comes.
    SwapThenSilence,
    /// Does nothing, and no answer comes.
    Silence,
    /// Says 500 and does nothing.
    Fails,
    /// Says 429 and does nothing.
    Busy,
    /// Spends the payer's coins for somebody else.
    Steals,
    /// Swaps, and says that it signed half of each amount.
    LiesAboutAmounts,
    /// Swaps, and answers with signatures by another key.
    LiesAboutKeys,
    /// Swaps, and gives no evidence.
    GivesNoEvidence,
    /// Swaps, and answers with one signature less.
    GivesLess,
}

/// A scripted mint on loopback.
pub struct Mint {
    /// Where it listens.
    pub address: SocketAddr,
    server: Upstream,
    vault: Arc<Mutex<Vault>>,
}

struct Vault {
    fee_ppk: u64,
    plan: VecDeque<Conduct>,
    /// By the points of their secrets.
    spent: HashSet<String>,
    /// By what was blinded.
    signed: HashMap<String, Value>,
    swaps: u32,
    /// Whether `/v1/restore` answers.
    remembers: bool,
    /// Whether nothing does.
    is_away: bool,
}

const AMOUNTS: [u64; 16] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768];

impl Mint {
    /// Takes nothing for spending coins.
    pub fn start(plan: impl IntoIterator<Item = Conduct>) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), 0, plan)
    }

    /// At an address that a gateway knows already, with a fee in thousandths of a satoshi for each coin.
    pub fn start_at(address: SocketAddr, fee_ppk: u64, plan: impl IntoIterator<Item = Conduct>) -> Self {
        let vault = Arc::new(Mutex::new(Vault {
            fee_ppk,
            plan: plan.into_iter().collect(),
            spent: HashSet::new(),
            signed: HashMap::new(),
            swaps: 0,
            remembers: true,
            is_away: false,
        }));
        let ours = Arc::clone(&vault);
        let server = Upstream::start_at(address, move |request, stream| serve(&ours, request, stream));
        Self { address: server.address, server, vault }
    }

    /// As tokens name it.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The `rails` section of a gateway that takes this mint's ecash and nothing else, at 100,000 USD a bitcoin: a
    /// satoshi is a thousandth of a dollar.
    pub fn rails(&self) -> String {
        rails(&self.url())
    }

    /// A fresh token of these coins.
    pub fn token(&self, amounts: &[u64]) -> Token {
        Token {
            mint: self.url(),
            unit: "sat".to_owned(),
            proofs: amounts.iter().map(|amount| coin(*amount)).collect(),
        }
    }

    /// How often coins were swapped.
    pub fn swaps(&self) -> u32 {
        self.vault.lock().unwrap().swaps
    }

    /// How often it was asked for this.
    pub fn asked(&self, target: &str) -> usize {
        self.server.seen().iter().filter(|seen| seen.target == target).count()
    }

    /// Bodies of every `/v1/swap` so far.
    pub fn swap_bodies(&self) -> Vec<Vec<u8>> {
        let swaps = self.server.seen().into_iter().filter(|seen| seen.target == "/v1/swap");
        swaps.map(|seen| seen.body).collect()
    }

    /// Whether it answers what it has signed before.
    pub fn remember(&self, remembers: bool) {
        self.vault.lock().unwrap().remembers = remembers;
    }

    /// From now on it hangs up on everybody.
    pub fn leave(&self) {
        self.vault.lock().unwrap().is_away = true;
    }

    /// Somebody else spends these coins.
    pub fn spend(&self, token: &Token) {
        let points = token.proofs.iter().map(|proof| point_of(&proof.secret).to_text());
        self.vault.lock().unwrap().spent.extend(points);
    }

    /// Whether a token is money: each coin signed, and none spent.
    #[track_caller]
    pub fn assert_money(&self, token: &Token) {
        let spent = &self.vault.lock().unwrap().spent;
        for proof in &token.proofs {
            let point = point_of(&proof.secret);
            assert!(!spent.contains(&point.to_text()), "spent");
            let expected = key(&point).mul_tweak(&secret(proof.amount).into()).unwrap();
            assert_eq!(proof.signature.0, expected.serialize(), "not signed by this mint");
        }
    }
}

/// The `rails` section of a gateway that takes ecash of this mint, see [`Mint::rails`].
pub fn rails(url: &str) -> String {
    format!(
        "rails: {{ cashu: {{ mints: [\"{url}\"], price: {{ usd_per_btc: 100000 }}, deposit: 0.02 USD, timeout: 1s }} }}\n"
    )
}

/// A coin with evidence.
pub fn coin(amount: u64) -> Proof {
    let mut random = [0; 32];
    random.copy_from_slice(&Sha256::digest(format!(
        "{amount} {:?} {:?}",
        std::time::Instant::now(),
        std::thread::current().id()
    )));
    let text = hex::encode(&random);
    let (k, r) = (secret(amount), [7; 32]);
    let signature = key(&point_of(&text)).mul_tweak(&k.into()).unwrap();
    let blinded = key(&blind(&text, &r).unwrap());
    let (_, e, s) = signed(&blinded, k);
    let keyset = KeysetId::parse(&keyset_id()).unwrap();
    Proof {
        amount,
        keyset,
        secret: text,
        signature: Point(signature.serialize()),
        dleq: Some(Dleq { e, s, r }),
    }
}

fn point_of(secret: &str) -> Point {
    hash_to_curve(secret.as_bytes()).unwrap()
}

/// The mint's key for an amount.
fn secret(amount: u64) -> SecretKey {
    SecretKey::from_secret_bytes(Sha256::digest(format!("a mint of tests {amount}")).into()).unwrap()
}

fn key(point: &Point) -> PublicKey {
    PublicKey::from_byte_array_compressed(point.0).unwrap()
}

fn keys() -> BTreeMap<String, String> {
    AMOUNTS
        .iter()
        .map(|amount| (amount.to_string(), hex::encode(&secret(*amount).public_key().serialize())))
        .collect()
}

/// Of version 0: the hash of the keys in the order of their amounts.
fn keyset_id() -> String {
    let keys = AMOUNTS.iter().map(|amount| secret(*amount).public_key().serialize());
    let hash = keys.fold(Sha256::new(), |hash, key| hash.chain_update(key)).finalize();
    format!("00{}", &hex::encode(&hash)[..14])
}

/// A signature of what was blinded, with evidence.
fn signed(blinded: &PublicKey, k: SecretKey) -> (PublicKey, [u8; 32], [u8; 32]) {
    let signed = blinded.mul_tweak(&k.into()).unwrap();
    let nonce: [u8; 32] =
        Sha256::new().chain_update(blinded.serialize()).chain_update(k.to_secret_bytes()).finalize().into();
    let nonce = SecretKey::from_secret_bytes(nonce).unwrap();
    let points = [nonce.public_key(), blinded.mul_tweak(&nonce.into()).unwrap(), k.public_key(), signed];
    let texts = points.iter().map(|point| hex::encode(&point.serialize_uncompressed()));
    let e: [u8; 32] = texts.fold(Sha256::new(), |hash, text| hash.chain_update(text)).finalize().into();
    let s = SecretKey::from_secret_bytes(e)
        .unwrap()
        .mul_tweak(&k.into())
        .unwrap()
        .add_tweak(&nonce.into())
        .unwrap();
    (signed, e, s.to_secret_bytes())
}

fn serve(vault: &Mutex<Vault>, request: &Seen, stream: &mut TcpStream) {
    let body = || serde_json::from_slice::<Value>(&request.body).unwrap();
    let (fee_ppk, is_away) = {
        let vault = vault.lock().unwrap();
        (vault.fee_ppk, vault.is_away)
    };
    if is_away {
        return;
    }
    let id = keyset_id();
    let (status, said) = match request.target.as_str() {
        "/v1/info" => {
            let supported = json!({"supported": true});
            (
                200,
                json!({"name": "a mint of tests", "nuts": {"7": supported, "9": supported, "12": supported}}),
            )
        }
        "/v1/keysets" => (
            200,
            json!({"keysets": [
            {"id": "00ffffffffffffff", "unit": "usd", "active": true},
            {"id": id, "unit": "sat", "active": true, "input_fee_ppk": fee_ppk}]}),
        ),
        target if target == format!("/v1/keys/{id}") => {
            (200, json!({"keysets": [{"id": id, "unit": "sat", "keys": keys()}]}))
        }
        "/v1/swap" => match swap(vault, &body()) {
            Some(answer) => answer,
            None => {
                // Ends when the asker hangs up.
                let _ = std::io::copy(stream, &mut std::io::sink());
                return;
            }
        },
        "/v1/restore" => restore(vault, &body()),
        "/v1/checkstate" => check(vault, &body()),
        _ => (404, json!({"detail": "Not Found"})),
    };
    let _ = stream.write_all(&plain(status, "application/json", &said.to_string()));
}

fn refusal(code: u32) -> Option<(u16, Value)> {
    Some((400, json!({"detail": "no", "code": code})))
}

fn swap(vault: &Mutex<Vault>, asked: &Value) -> Option<(u16, Value)> {
    let mut vault = vault.lock().unwrap();
    let conduct = vault.plan.pop_front().unwrap_or(Conduct::Well);
    let (inputs, outputs) = (asked["inputs"].as_array().unwrap(), asked["outputs"].as_array().unwrap());
    assert!(
        inputs.iter().all(|input| input.get("dleq").is_none()),
        "the blinding factor is none of the mint's business"
    );
    let points: Vec<String> =
        inputs.iter().map(|input| point_of(input["secret"].as_str().unwrap()).to_text()).collect();
    match conduct {
        Conduct::Silence => return None,
        Conduct::Fails => return Some((500, json!({"detail": "oops"}))),
        Conduct::Busy => return Some((429, json!({"detail": "later"}))),
        Conduct::Steals => {
            vault.spent.extend(points);
            return refusal(11001);
        }
        Conduct::Well
        | Conduct::SwapThenSilence
        | Conduct::LiesAboutAmounts
        | Conduct::LiesAboutKeys
        | Conduct::GivesNoEvidence
        | Conduct::GivesLess => {}
    }
    let genuine = |(input, point): (&Value, &String)| {
        let amount = input["amount"].as_u64().unwrap();
        let expected = key(&Point::parse(point).unwrap()).mul_tweak(&secret(amount).into()).unwrap();
        input["id"] == keyset_id() && input["C"] == hex::encode(&expected.serialize())
    };
    if !inputs.iter().zip(&points).all(genuine) {
        return refusal(10001);
    }
    if points.iter().any(|point| vault.spent.contains(point)) {
        return refusal(11001);
    }
    let sum = |coins: &[Value]| coins.iter().map(|coin| coin["amount"].as_u64().unwrap()).sum::<u64>();
    let fee = (vault.fee_ppk * inputs.len() as u64).div_ceil(1000);
    if sum(inputs) - fee != sum(outputs) {
        return refusal(11005);
    }
    if outputs.iter().any(|output| vault.signed.contains_key(output["B_"].as_str().unwrap())) {
        return refusal(11003);
    }
    let told: Vec<Value> =
        outputs.iter().map(|output| sign(output, secret(output["amount"].as_u64().unwrap()))).collect();
    for (output, signature) in outputs.iter().zip(&told) {
        vault.signed.insert(output["B_"].as_str().unwrap().to_owned(), signature.clone());
    }
    vault.spent.extend(points);
    vault.swaps += 1;
    let lies: Vec<Value> = match conduct {
        Conduct::SwapThenSilence => return None,
        Conduct::LiesAboutAmounts => told
            .into_iter()
            .map(|mut one| {
                one["amount"] = json!(one["amount"].as_u64().unwrap() / 2);
                one
            })
            .collect(),
        Conduct::LiesAboutKeys => outputs.iter().map(|output| sign(output, secret(77))).collect(),
        Conduct::GivesNoEvidence => told
            .into_iter()
            .map(|mut one| {
                one["dleq"] = Value::Null;
                one
            })
            .collect(),
        Conduct::GivesLess => told[1..].to_vec(),
        Conduct::Well | Conduct::Silence | Conduct::Fails | Conduct::Busy | Conduct::Steals => told,
    };
    Some((200, json!({"signatures": lies})))
}

fn sign(output: &Value, k: SecretKey) -> Value {
    let (signed, e, s) = signed(&key(&Point::parse(output["B_"].as_str().unwrap()).unwrap()), k);
    json!({"amount": output["amount"], "id": output["id"], "C_": hex::encode(&signed.serialize()),
           "dleq": {"e": hex::encode(&e), "s": hex::encode(&s)}})
}

fn restore(vault: &Mutex<Vault>, asked: &Value) -> (u16, Value) {
    let vault = vault.lock().unwrap();
    if !vault.remembers {
        return (500, json!({"detail": "oops"}));
    }
    let known = |output: &&Value| vault.signed.contains_key(output["B_"].as_str().unwrap());
    // Not in the order that they were asked for.
    let outputs: Vec<&Value> = asked["outputs"].as_array().unwrap().iter().rev().filter(known).collect();
    let signatures: Vec<&Value> =
        outputs.iter().map(|output| &vault.signed[output["B_"].as_str().unwrap()]).collect();
    (200, json!({"outputs": outputs, "signatures": signatures}))
}

fn check(vault: &Mutex<Vault>, asked: &Value) -> (u16, Value) {
    let vault = vault.lock().unwrap();
    let state = |point: &Value| {
        let state = if vault.spent.contains(point.as_str().unwrap()) { "SPENT" } else { "UNSPENT" };
        json!({"Y": point, "state": state, "witness": null})
    };
    (200, json!({"states": asked["Ys"].as_array().unwrap().iter().map(state).collect::<Vec<_>>()}))
}
