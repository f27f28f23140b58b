//! Invoices of other software, and the check of what a node returns.

use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::secp256k1::{Secp256k1, SecretKey};
use lightning_invoice::{
    Currency, InvoiceBuilder, PaymentSecret, RawBolt11Invoice, SiPrefix, SignedRawBolt11Invoice,
};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use std::time::Duration;
use wire::hex;

use crate::lightning::bolt11::{Bolt11Error, Description, Returned, check, decode};
use crate::lightning::test_node::node_key;
use crate::lightning::{Expect, Network, Wanted};

const NOW_S: u64 = 1_790_000_000;

#[test]
fn l402_60_invoices_of_other_software() {
    let vectors = include_str!("../../../../../specs/vectors/l402/invoices.json");
    let vectors: Value = serde_json::from_str(vectors).unwrap();
    let invoices = vectors["invoices"].as_array().unwrap();
    assert_eq!(invoices.len(), 6);
    for vector in invoices {
        let text = |name: &str| vector[name].as_str().unwrap();
        let read = decode(text("bolt11")).unwrap();
        let network = match text("currency") {
            "bc" => Network::Mainnet,
            "tb" => Network::Testnet,
            "bcrt" => Network::Regtest,
            other => panic!("{other}"),
        };
        assert_eq!(read.network, network);
        assert_eq!(read.amount_msat, vector["amount_msat"].as_u64(), "{vector}");
        assert_eq!(hex::encode(&read.payment_hash), text("payment_hash"));
        assert_eq!(hex::encode(&read.payee), vector["npm_bolt11_decodes"][2].as_str().unwrap());
        assert_eq!(read.issued_at_s, vector["timestamp"].as_u64().unwrap());
        assert_eq!(read.expires_at_s - read.issued_at_s, vector["expiry"].as_u64().unwrap());
        assert_eq!(read.description, Description::Text(text("description").to_owned()));
    }
}

#[test]
fn l402_60_invoices_that_were_really_paid() {
    let vectors = include_str!("../../../../../specs/vectors/l402/paid_regtest_ldk.json");
    let vectors: Value = serde_json::from_str(vectors).unwrap();
    let payments = vectors["payments"].as_array().unwrap();
    assert_eq!(payments.len(), 20);
    for payment in payments {
        let read = decode(payment["bolt11"].as_str().unwrap()).unwrap();
        assert_eq!(read.network, Network::Regtest);
        assert_eq!(read.amount_msat, payment["amount_msat"].as_u64());
        assert_eq!(hex::encode(&read.payment_hash), payment["payment_hash"].as_str().unwrap());
        let preimage = hex::decode(payment["preimage"].as_str().unwrap()).unwrap();
        assert_eq!(<[u8; 32]>::from(Sha256::digest(preimage)), read.payment_hash);
    }
}

#[test]
fn what_is_no_invoice() {
    let good = invoice(&Made::default());
    let forged = format!("{}{}", &good[..good.len() - 20], "q".repeat(20));
    let mut uneven = good.clone();
    uneven.replace_range(10..11, "Q");
    for (case, text, expected) in [
        ("nothing", String::new(), Bolt11Error::Malformed),
        ("words", "pay me".to_owned(), Bolt11Error::Malformed),
        ("cut off", good[..good.len() - 1].to_owned(), Bolt11Error::Malformed),
        ("wrong checksum", forged, Bolt11Error::Malformed),
        ("mixed case", uneven, Bolt11Error::Malformed),
        ("endless", format!("lnbcrt1{}", "q".repeat(3000)), Bolt11Error::TooLong),
        ("simnet", invoice(&Made { network: Currency::Simnet, ..Made::default() }), Bolt11Error::Network),
        (
            "a payee who did not sign",
            invoice(&Made { claims: Some([3; 32]), ..Made::default() }),
            Bolt11Error::Signature,
        ),
    ] {
        assert_eq!(decode(&text), Err(expected), "{case}");
    }
    assert!(decode(&good.to_ascii_uppercase()).is_ok(), "wallets show them so");
}

/// Whatever is changed of a real invoice, and wherever it is cut: nothing panics, and nothing is an invoice any more.
#[test]
fn one_letter_makes_it_none() {
    let paid = include_str!("../../../../../specs/vectors/l402/paid_regtest_ldk.json");
    let paid: Value = serde_json::from_str(paid).unwrap();
    let good = paid["payments"][0]["bolt11"].as_str().unwrap();
    for at in 0..good.len() {
        assert!(decode(&good[..at]).is_err(), "cut at {at}");
        for other in ["q", "p", "1", "l", "0", " ", "\0", "é", "Q"] {
            let changed = format!("{}{other}{}", &good[..at], &good[at + 1..]);
            assert!(changed == good || decode(&changed).is_err(), "{other} at {at}");
        }
    }
}

/// An amount that cannot be counted is no invoice without one.
#[test]
fn amounts_that_are_none() {
    for (raw_amount, si_prefix, expected) in [
        (Some(u64::MAX), None, Err(Bolt11Error::Amount)),
        (Some(1), Some(SiPrefix::Pico), Err(Bolt11Error::Amount)),
        (Some(10), Some(SiPrefix::Pico), Ok(Some(1))),
        (Some(1), None, Ok(Some(100_000_000_000))),
        (None, None, Ok(None)),
    ] {
        let signed: SignedRawBolt11Invoice = invoice(&Made::default()).parse().unwrap();
        let (mut raw, _, _) = signed.into_parts();
        raw.hrp.raw_amount = raw_amount;
        raw.hrp.si_prefix = si_prefix;
        let read = decode(&sign(raw, &Made::default().signer));
        assert_eq!(read.map(|read| read.amount_msat), expected, "{raw_amount:?} {si_prefix:?}");
    }
}

/// An invoice to be made, field by field.
struct Made {
    network: Currency,
    amount_msat: Option<u64>,
    preimage: [u8; 32],
    description: Description,
    expiry_s: Option<u64>,
    issued_at_s: u64,
    signer: [u8; 32],
    claims: Option<[u8; 32]>,
}

impl Default for Made {
    /// As wanted.
    fn default() -> Self {
        Self {
            network: Currency::Regtest,
            amount_msat: Some(21_001),
            preimage: [5; 32],
            description: Description::Text("farthing".to_owned()),
            expiry_s: Some(300),
            issued_at_s: NOW_S,
            signer: *b"farthing's public lightning key!",
            claims: None,
        }
    }
}

fn invoice(made: &Made) -> String {
    let secp = Secp256k1::new();
    let mut builder = InvoiceBuilder::new(made.network.clone());
    if let Some(amount_msat) = made.amount_msat {
        builder = builder.amount_milli_satoshis(amount_msat);
    }
    if let Some(expiry_s) = made.expiry_s {
        builder = builder.expiry_time(Duration::from_secs(expiry_s));
    }
    if let Some(claimed) = made.claims {
        builder = builder.payee_pub_key(SecretKey::from_slice(&claimed).unwrap().public_key(&secp));
    }
    let described = match &made.description {
        Description::Text(text) => builder.description(text.clone()),
        Description::Hash(hash) => builder.description_hash(sha256::Hash::from_byte_array(*hash)),
    };
    let raw = described
        .payment_hash(sha256::Hash::hash(&made.preimage))
        .payment_secret(PaymentSecret([9; 32]))
        .duration_since_epoch(Duration::from_secs(made.issued_at_s))
        .min_final_cltv_expiry_delta(18)
        .build_raw()
        .unwrap();
    sign(raw, &made.signer)
}

/// One that leaves its amount to the payer.
pub(super) fn without_amount() -> super::fake::Made {
    let made = Made { amount_msat: None, ..Made::default() };
    super::fake::Made {
        bolt11: invoice(&made),
        hash: Sha256::digest(made.preimage).into(),
        preimage: wire::hex::encode(&made.preimage),
    }
}

fn sign(raw: RawBolt11Invoice, signer: &[u8; 32]) -> String {
    let key = SecretKey::from_slice(signer).unwrap();
    raw.sign::<_, ()>(|hash| Ok(Secp256k1::new().sign_ecdsa_recoverable(hash, &key))).unwrap().to_string()
}

/// Each field that a node may get wrong, one by one: none makes an invoice that a token could be minted over.
#[test]
fn l402_60_every_field_is_held_against_what_was_asked() {
    let wanted = Wanted { amount_msat: 21_001, description: "farthing", expiry_s: 300, label: "one" };
    let expect = Expect { network: Network::Regtest, node_key: Some(node_key()) };
    let hash = <[u8; 32]>::from(Sha256::digest([5; 32]));
    let checked = |made: &Made| {
        let returned = Returned { bolt11: invoice(made), payment_hash: hash };
        check(returned, &wanted, wanted.amount_msat, &expect, NOW_S)
    };

    let good = checked(&Made::default()).unwrap();
    assert_eq!((good.amount_msat, good.payment_hash, good.expires_at_s), (21_001, hash, NOW_S + 300));
    let hashed = Description::Hash(Sha256::digest("farthing").into());
    assert!(checked(&Made { description: hashed, ..Made::default() }).is_ok(), "the hash of what was asked");

    let text = |text: &str| Description::Text(text.to_owned());
    let made = Made::default;
    for (case, made, expected) in [
        ("another hash", Made { preimage: [6; 32], ..made() }, "payment hash"),
        ("more", Made { amount_msat: Some(21_002), ..made() }, "amount"),
        ("less", Made { amount_msat: Some(21_000), ..made() }, "amount"),
        ("whatever the payer likes", Made { amount_msat: None, ..made() }, "amount"),
        ("another chain", Made { network: Currency::Bitcoin, ..made() }, "network"),
        ("a test chain that is not ours", Made { network: Currency::Signet, ..made() }, "network"),
        ("a chain nobody has", Made { network: Currency::Simnet, ..made() }, "network"),
        ("longer", Made { expiry_s: Some(301), ..made() }, "expiry"),
        ("shorter", Made { expiry_s: Some(299), ..made() }, "expiry"),
        ("BOLT11's own hour", Made { expiry_s: None, ..made() }, "expiry"),
        ("made long ago", Made { issued_at_s: NOW_S - 61, ..made() }, "timestamp"),
        ("made in the future", Made { issued_at_s: NOW_S + 61, ..made() }, "timestamp"),
        ("for something else", Made { description: text("rent"), ..made() }, "description"),
        ("for nothing", Made { description: text(""), ..made() }, "description"),
        (
            "for a hash of something else",
            Made { description: Description::Hash([1; 32]), ..made() },
            "description",
        ),
        ("for somebody else", Made { signer: [2; 32], ..made() }, "payee"),
        ("signed by somebody else", Made { signer: [2; 32], claims: Some([3; 32]), ..made() }, "signature"),
    ] {
        assert_eq!(checked(&made), Err(expected), "{case}");
    }

    let elsewhere = Returned { bolt11: invoice(&Made::default()), payment_hash: [0; 32] };
    assert_eq!(
        check(elsewhere, &wanted, 21_001, &expect, NOW_S),
        Err("payment hash"),
        "the hash beside the invoice"
    );
    let nothing = Returned { bolt11: String::new(), payment_hash: hash };
    assert_eq!(check(nothing, &wanted, 21_001, &expect, NOW_S), Err("invoice"));
}

/// A node of whole satoshi is asked for more than is wanted, never for less.
#[test]
fn l402_60_rounded_amounts() {
    let wanted = Wanted { amount_msat: 21_001, description: "farthing", expiry_s: 300, label: "one" };
    let expect = Expect { network: Network::Regtest, node_key: None };
    let hash = <[u8; 32]>::from(Sha256::digest([5; 32]));
    for (asked, made, expected) in
        [(22_000, 22_000, Ok(22_000)), (22_000, 21_001, Err("amount")), (21_000, 21_000, Err("amount"))]
    {
        let bolt11 = invoice(&Made { amount_msat: Some(made), ..Made::default() });
        let checked = check(Returned { bolt11, payment_hash: hash }, &wanted, asked, &expect, NOW_S);
        assert_eq!(checked.map(|invoice| invoice.amount_msat), expected, "{asked} {made}");
    }
}
