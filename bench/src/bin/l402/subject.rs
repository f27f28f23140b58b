//! The credential that is checked, and what it is checked with.

use std::collections::HashMap;
use std::hint::black_box;
use std::rc::Rc;

use money::{Amount, Asset};
use proof::caveat::{Context, UnknownCaveats};
use proof::l402::{self, Sale, Verified};
use proof::{EpochState, MasterKey, MasterKeys};
use wire::hex;
use wire::l402::{Credential, Preimage, Token};
use zeroize::Zeroizing;

const NOW_S: u64 = 1_795_000_000;
const SOLD_S: u32 = 1_790_000_000;
/// As many as we mint at most, each of a kind that clients know.
const CAVEATS: [&str; 3] =
    ["services=inference:0", "inference_capabilities=chat", "inference_valid_until=1900000000"];

/// A token of ours over one payment, in every form that a row needs.
#[derive(Clone)]
pub(crate) struct Subject {
    keys: Rc<MasterKeys>,
    pub(crate) preimage: [u8; 32],
    /// The whole `Authorization` value.
    pub(crate) header: String,
    /// The same with a preimage that opens nothing.
    guessed: String,
    pub(crate) token_text: String,
    pub(crate) token_bytes: Vec<u8>,
    /// In hex, for others.
    pub(crate) root: String,
}

impl Subject {
    pub(crate) fn new() -> Self {
        let master = MasterKey { epoch: 7, state: EpochState::Mint, secret: Zeroizing::new([0x42; 32]) };
        let keys = Rc::new(MasterKeys::new([master]).expect("one epoch"));
        let preimage = [5; 32];
        let token = minted(&keys, &Preimage::new(preimage));
        let root = keys.root(7, &token.macaroon().identifier).expect("an epoch in force");
        let header = |preimage| Credential::new(token.clone(), Preimage::new(preimage)).to_authorization();
        Self {
            preimage,
            header: header(preimage),
            guessed: header([6; 32]),
            token_text: token.to_base64(),
            token_bytes: token.macaroon().encode(),
            root: hex::encode(&*root),
            keys,
        }
    }

    pub(crate) fn credential(&self) -> Credential {
        Credential::parse(&self.header).expect("reads").expect("is L402's")
    }

    pub(crate) fn verified(&self) -> Verified {
        l402::verify(&self.keys, &self.credential()).expect("is genuine")
    }

    pub(crate) fn verify(&self, credential: &Credential) {
        black_box(l402::verify(&self.keys, credential)).expect("is genuine");
    }

    pub(crate) fn permit(&self, verified: &Verified) {
        black_box(l402::permits(verified, &context(), |_| false)).expect("is permitted");
    }

    /// From the header's text to a token that may pay.
    pub(crate) fn cold(&self) {
        let credential = Credential::parse(black_box(&self.header)).expect("reads").expect("is L402's");
        let verified = l402::verify(&self.keys, &credential).expect("is genuine");
        black_box(l402::permits(&verified, &context(), |_| false)).expect("is permitted");
    }

    pub(crate) fn guessed(&self) {
        let credential = Credential::parse(black_box(&self.guessed)).expect("reads").expect("is L402's");
        black_box(l402::verify(&self.keys, &credential)).expect_err("nobody paid");
    }
}

fn minted(keys: &MasterKeys, preimage: &Preimage) -> Token {
    let sale = Sale {
        asset: Asset::Btc,
        credit: Amount::from_units(10_000),
        amount_msat: 10_000,
        issued_at_s: SOLD_S,
        random: [9; 8],
    };
    let caveats = CAVEATS.map(str::to_owned);
    l402::mint(keys, preimage.payment_hash(), &sale, &caveats).expect("mints")
}

fn context() -> Context<'static> {
    Context {
        now_unix_s: NOW_S,
        service: "inference",
        tier: 0,
        capability: Some("chat"),
        route: "chat",
        model: Some("m"),
        preimage: None,
        holder: None,
        unknown: UnknownCaveats::Reject,
        require_scope: true,
    }
}

/// Verified credentials of a thread by their whole header value, as the gateway keeps them. Every look-up is of another one.
pub(crate) struct Known {
    known: HashMap<Box<str>, Rc<Verified>>,
    asked: Vec<String>,
    next: usize,
}

impl Known {
    pub(crate) fn new(subject: &Subject, size: usize) -> Self {
        let mut known = HashMap::new();
        let mut asked = Vec::new();
        let verified = Rc::new(subject.verified());
        for number in 0..u64::try_from(size).expect("fits") {
            let mut preimage = [0; 32];
            preimage[..8].copy_from_slice(&number.to_be_bytes());
            let preimage = Preimage::new(preimage);
            let value = Credential::new(minted(&subject.keys, &preimage), preimage).to_authorization();
            // As many as come between two look-ups of one: all of the small table, some of the large one.
            if number.is_multiple_of(u64::try_from(size / 2048).expect("fits").max(1)) {
                asked.push(value.clone());
            }
            known.insert(value.into(), Rc::clone(&verified));
        }
        Self { known, asked, next: 0 }
    }

    pub(crate) fn look_up(&mut self) {
        self.next = (self.next + 1) % self.asked.len();
        let value = self.asked.get(self.next).expect("within");
        black_box(self.known.get(black_box(value.as_str())).map(Rc::clone)).expect("is known");
    }
}
