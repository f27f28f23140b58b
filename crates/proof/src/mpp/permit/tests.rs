use serde_json::Value;
use wire::hex;
use wire::mpp::evm::{ChargePayload, ChargeRequest, Permit2};
use wire::mpp::{Credential, payload};

use super::{Offer, PermitCharge, PermitError as E, SETTLE_MARGIN_S, verify, verify_again};
use crate::deposit_key::{self, EvmMethod};
use crate::secp::SignatureError;
use crate::x402_exact::{EvmToken, ExactError};
use wire::x402::contracts::PERMIT2;

/// The deadline of the vectors.
const DEADLINE_S: u64 = 1_795_996_800;
const NOW_S: u64 = DEADLINE_S - 300;

/// What one vector asks for and answers.
struct Answer {
    offer: Offer,
    credential: Credential,
    payload: Permit2,
}

impl Answer {
    fn of(case: &Value) -> Self {
        let text = case["authorization"].as_str().unwrap();
        let credential = Credential::read([("authorization", text.as_bytes())]).unwrap().unwrap();
        let request: ChargeRequest = payload::read(&credential.challenge.request_object().unwrap()).unwrap();
        let details = &request.method_details;
        let network = format!("eip155:{}", details.chain_id);
        let token = EvmToken::new(&network, request.currency.parse().unwrap(), "USDC", "2").unwrap();
        let offer = Offer {
            token: token.into(),
            pay_to: request.recipient.parse().unwrap(),
            amount: request.amount.parse().unwrap(),
            spender: details.spender.as_deref().unwrap().parse().unwrap(),
            external_id: case["externalId"].as_str().unwrap().to_owned(),
        };
        let ChargePayload::Permit2(payload) = payload::read(&credential.payload).unwrap() else { panic!() };
        Self { offer, credential, payload }
    }

    fn verify(&self) -> Result<PermitCharge, E> {
        self.verify_at(NOW_S)
    }

    fn verify_at(&self, now_s: u64) -> Result<PermitCharge, E> {
        let Credential { challenge, source, .. } = &self.credential;
        verify(&self.offer, challenge, source.as_deref(), &self.payload, now_s)
    }
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../../../../../specs/vectors/mpp/evm-charge-permit2.json")).unwrap()
}

fn good() -> Answer {
    Answer::of(&vectors()["cases"][0])
}

/// What viem signs is good, in either spelling, and the contract is called as viem would call it.
#[test]
fn permits_of_another_signer_are_good_and_called_as_it_calls() {
    let vectors = vectors();
    let payer = vectors["payer"].as_str().unwrap().parse().unwrap();
    for case in vectors["cases"].as_array().unwrap() {
        let answer = Answer::of(case);
        let charge = answer.verify().unwrap();
        assert_eq!((charge.permit.from, charge.amount), (payer, 10_000), "{case}");
        assert_eq!(hex::encode_0x(&charge.witness), case["witness"].as_str().unwrap());
        assert_eq!(hex::encode_0x(&charge.call()), case["call"].as_str().unwrap());
        let network = answer.offer.token.network();
        let key = deposit_key::evm(EvmMethod::Permit2, network, &PERMIT2, &payer, &charge.permit.nonce);
        assert_eq!(charge.deposit_key, key, "MPP-23: the key of the same nonce in a payment of x402");
        assert_eq!(
            verify_again(&answer.offer, answer.credential.source.as_deref(), &answer.payload, 0),
            Ok(charge)
        );
    }
}

#[test]
fn a_permit_outlives_its_settlement() {
    let answer = good();
    assert!(answer.verify_at(DEADLINE_S - SETTLE_MARGIN_S).is_ok());
    assert_eq!(
        answer.verify_at(DEADLINE_S - SETTLE_MARGIN_S + 1),
        Err(ExactError::Expired(DEADLINE_S).into())
    );
}

/// What is signed for one challenge answers no other, and nothing in it can be changed.
#[test]
fn a_permit_answers_one_challenge() {
    let stranger = wire::x402::Address([7; 20]);
    let (wrong_signer, malformed) =
        (E::from(ExactError::from(SignatureError::WrongSigner)), E::from(ExactError::Malformed));
    let is_wrong = |result: Result<PermitCharge, E>, what: &str| match result {
        // Another text recovers to another key, or to none.
        Err(error) => assert!(
            error == wrong_signer || error == E::from(ExactError::from(SignatureError::NoKey)),
            "{what}: {error}"
        ),
        Ok(_) => panic!("{what}"),
    };
    let changed = |change: &dyn Fn(&mut Answer)| {
        let mut answer = good();
        change(&mut answer);
        answer.verify()
    };
    is_wrong(changed(&|a| a.offer.spender = stranger), "another may send it");
    is_wrong(changed(&|a| a.payload.permit.nonce = "4661".into()), "another nonce");
    is_wrong(changed(&|a| a.payload.permit.permitted[0].amount = "10001".into()), "another limit");
    is_wrong(changed(&|a| a.payload.permit.deadline = (DEADLINE_S + 1).to_string()), "another end");
    is_wrong(
        changed(&|a| a.credential.source = Some(format!("did:pkh:eip155:84532:{stranger}"))),
        "another payer",
    );
    type Change = fn(&mut Answer);
    let rows: [(&str, Change, E); 16] = [
        ("another challenge", |a| a.credential.challenge.id.push('A'), E::Witness),
        ("another realm", |a| a.credential.challenge.realm.push('m'), E::Witness),
        ("another hash", |a| a.payload.witness.challenge_hash = hex::encode_0x(&[1; 32]), E::Witness),
        ("a name that nobody gave", |a| a.payload.witness.external_id = "x".into(), E::Witness),
        (
            "another payee",
            |a| a.payload.transfer_details[0].to = "0x0000000000000000000000000000000000000001".into(),
            ExactError::WrongPayee.into(),
        ),
        (
            "another token",
            |a| a.payload.permit.permitted[0].token = "0x0000000000000000000000000000000000000001".into(),
            ExactError::WrongAsset.into(),
        ),
        (
            "less than is asked",
            |a| a.payload.transfer_details[0].requested_amount = "9999".into(),
            ExactError::Underpaid { paid: 9_999, asked: 10_000 }.into(),
        ),
        (
            "more than is asked",
            |a| a.payload.transfer_details[0].requested_amount = "10001".into(),
            ExactError::Overpaid { paid: 10_001, asked: 10_000 }.into(),
        ),
        (
            "less is permitted",
            |a| a.payload.permit.permitted[0].amount = "9999".into(),
            ExactError::Underpaid { paid: 9_999, asked: 10_000 }.into(),
        ),
        (
            "two transfers",
            |a| a.payload.transfer_details.push(a.payload.transfer_details[0].clone()),
            malformed,
        ),
        ("no permission", |a| a.payload.permit.permitted.clear(), malformed),
        ("no number", |a| a.payload.permit.nonce = "-1".into(), malformed),
        ("nobody pays", |a| a.credential.source = None, E::NoSource),
        (
            "a payer elsewhere",
            |a| a.credential.source = a.credential.source.take().map(|s| s.replace("84532", "8453")),
            E::Source,
        ),
        (
            "two payers",
            |a| a.payload.from = Some("0x0000000000000000000000000000000000000001".into()),
            E::Source,
        ),
        (
            "no signature",
            |a| a.payload.signature = "0x".into(),
            ExactError::from(SignatureError::Length(0)).into(),
        ),
    ];
    for (what, change, expected) in rows {
        assert_eq!(changed(&change), Err(expected), "{what}");
    }
}

/// MPP-30 for permits: the twin of a signature is refused, although the contract would take it.
#[test]
fn a_high_s_is_refused() {
    let answer = |s: &str, v: u8| {
        let mut answer = good();
        let text = answer.payload.signature.clone();
        answer.payload.signature = format!("{}{s}{v:02x}", &text[..66]);
        answer.verify()
    };
    let text = good().payload.signature;
    assert!(answer(&text[66..130], u8::from_str_radix(&text[130..], 16).unwrap()).is_ok());
    let order = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    let high = minus(order, &text[66..130]);
    for v in [27, 28] {
        assert_eq!(answer(&high, v), Err(ExactError::from(SignatureError::HighS).into()));
    }
}

/// The payload may name who pays where the credential does not.
#[test]
fn a_payload_may_name_its_payer() {
    let mut answer = good();
    answer.credential.source = None;
    answer.payload.from = Some(vectors()["payer"].as_str().unwrap().to_owned());
    assert!(answer.verify().is_ok());
}

/// Of two numbers of 32 bytes in hexadecimal.
fn minus(from: &str, less: &str) -> String {
    let (from, less): ([u8; 32], [u8; 32]) =
        (hex::decode_array(from).unwrap(), hex::decode_array(less).unwrap());
    let mut borrow = 0;
    let mut difference = [0; 32];
    for at in (0..32).rev() {
        let value = i16::from(from[at]) - i16::from(less[at]) - borrow;
        borrow = i16::from(value < 0);
        difference[at] = u8::try_from(value.rem_euclid(256)).unwrap();
    }
    hex::encode(&difference)
}
