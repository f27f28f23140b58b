//! A channel by the captured flow: what it signs, what it believes, and what it remembers.

use proof::SigningKey;
use proof::secp::SecretKey;
use serde_json::Value;
use wire::x402::batch::{BatchPayload, ResponseExtra};

use super::{Channel, Correction, Draw, PutIn, deposit_size};
use crate::challenge::Challenge;
use crate::offer::{ChannelTerms, Terms, Way};
use crate::{Request, Wallet};
use proof::x402_batch::payer::Contradiction;

const FLOWS: [&str; 3] = [
    include_str!("../../../../specs/vectors/x402/v2_batch_settlement_deposit.json"),
    include_str!("../../../../specs/vectors/x402/v2_batch_settlement_voucher.json"),
    include_str!("../../../../specs/vectors/x402/v2_batch_settlement_voucher2.json"),
];

struct Desk {
    wallet: Wallet,
    terms: Terms,
    flows: Vec<Value>,
}

impl Desk {
    fn new() -> Self {
        let flows: Vec<Value> = FLOWS.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        let header = flows[0]["steps"][0]["response"]["headers"]["payment-required"].as_str().unwrap();
        let mut headers = http::HeaderMap::new();
        headers.insert("payment-required", header.parse().unwrap());
        let terms = Challenge::read(&headers, b"{}").unwrap().offers[0].terms.clone().unwrap();
        let key = SecretKey::parse(flows[0]["payer"]["privateKey"].as_str().unwrap()).unwrap();
        let wallet = Wallet::from_keys(key, SigningKey::from_bytes(&[1; 32]));
        Self { wallet, terms, flows }
    }

    fn channel_terms(&self) -> &ChannelTerms {
        match &self.terms.way {
            Way::Channel(channel) => channel,
            Way::Transfer(_) | Way::Permit { .. } | Way::Solana(_) | Way::Invoice(_) => panic!(),
        }
    }

    /// Stock clients leave the salt zero.
    fn fresh(&self) -> Channel {
        Channel::fresh("https://x", self.channel_terms(), &self.wallet, [0; 32])
    }

    fn sent(&self, place: usize) -> BatchPayload {
        let decoded = &self.flows[place]["steps"][1]["decoded"];
        BatchPayload::from_value(&decoded["payment-signature"]["payload"]).unwrap()
    }

    fn told(&self, place: usize) -> ResponseExtra {
        let extra = &self.flows[place]["steps"][1]["decoded"]["payment-response"]["extra"];
        ResponseExtra::from_extra(extra.as_object().unwrap()).unwrap()
    }

    fn draw(
        &self,
        channel: &mut Channel,
        deposit: PutIn<'_>,
        salt: [u8; 32],
        now: u64,
        body: &str,
    ) -> BatchPayload {
        let request = Request::new(http::Method::POST, "https://x/").unwrap().body(body.to_owned());
        let draw =
            Draw { terms: &self.terms, deposit, request: &request, ticket: "t", salt, now_unix_s: now };
        channel.draw(&draw, &self.wallet).unwrap().payload
    }
}

fn erc3009(payload: &BatchPayload) -> (u128, [u8; 32], u64) {
    use wire::x402::batch::DepositAuthorization::{Erc3009, Permit2};
    let BatchPayload::Deposit { deposit, .. } = payload else { panic!() };
    match &deposit.authorization {
        Erc3009(authorization) => (deposit.amount, authorization.salt, authorization.valid_before),
        Permit2(_) => panic!(),
    }
}

/// X402-26, X402-27 over three captured calls.
#[test]
fn x402_27_the_captured_channel_is_signed_and_believed() {
    let desk = Desk::new();
    let mut channel = desk.fresh();
    for place in 0..3 {
        let sent = desk.sent(place);
        let payload = match &sent {
            BatchPayload::Deposit { .. } => {
                let (amount, salt, end) = erc3009(&sent);
                assert_eq!(channel.missing(20_000), 20_000);
                assert_eq!(deposit_size(desk.channel_terms(), 20_000, 20_000, 1_000_000), Some(amount));
                let now = end - desk.terms.max_timeout_s;
                desk.draw(&mut channel, PutIn::New(amount), salt, now, "x")
            }
            BatchPayload::Voucher { .. } | BatchPayload::Refund { .. } => {
                assert_eq!(channel.missing(20_000), 0);
                desk.draw(&mut channel, PutIn::Nothing, [0; 32], 1_795_170_900, "x")
            }
        };
        assert_eq!(payload, sent);
        assert!(channel.is_in_flight());
        let deposited = if place == 0 { 200_000 } else { 0 };
        assert_eq!(channel.settle(20_000, deposited, &desk.told(place)), Ok(1_858));
    }
    assert_eq!((channel.charged, channel.balance, channel.stopped.as_deref()), (5_574, 200_000, None));
    assert_eq!(channel.signed.as_ref().unwrap().max_claimable_amount, 23_716);
    assert_eq!(channel.free(), 176_284);
    let kept: Channel = serde_json::from_slice(&serde_json::to_vec(&channel).unwrap()).unwrap();
    assert_eq!(kept, channel);
    assert_eq!(channel.name(), "0xcccf131c9941f11ec97c6c8ff47411f9782a2976bff4b012056a009838e19b77");
}

#[test]
fn x402_27_a_result_that_does_not_add_up_stops_the_channel() {
    let desk = Desk::new();
    for (what, told) in [
        ("nothing", ResponseExtra::default()),
        ("too much", ResponseExtra { charged_amount: Some(20_001), ..desk.told(0) }),
        ("another sum", desk.told(1)),
    ] {
        let mut channel = desk.fresh();
        desk.draw(&mut channel, PutIn::New(200_000), [3; 32], 1_000, "x");
        assert!(channel.settle(20_000, 200_000, &told).is_err(), "{what}");
        assert!(channel.stopped.is_some() && !channel.is_in_flight(), "{what}");
        assert_eq!(
            (channel.charged, channel.balance),
            (0, 0),
            "{what}: what cannot be believed changes nothing"
        );
    }
}

/// X402-29, H12: a correction is believed as far as we signed, and a call is never signed for twice.
#[test]
fn x402_29_corrections() {
    let desk = Desk::new();
    let state = desk.told(1).channel_state.unwrap();
    let with = |charged, balance| wire::x402::batch::ChannelState {
        charged_cumulative_amount: Some(charged),
        balance,
        ..state
    };
    // Two calls are paid, 3716 in all; one was refused and may have been charged up to 23716; the next is on its way.
    let flying = || {
        let mut channel = desk.fresh();
        desk.draw(&mut channel, PutIn::New(200_000), [3; 32], 1_000, "1");
        channel.settle(20_000, 200_000, &desk.told(0)).unwrap();
        desk.draw(&mut channel, PutIn::Nothing, [0; 32], 1_000, "2");
        channel.settle(20_000, 0, &desk.told(1)).unwrap();
        channel
    };
    let flying = |refused: bool| {
        let mut channel = flying();
        if refused {
            desk.draw(&mut channel, PutIn::Nothing, [0; 32], 1_000, "refused");
            channel.refused = channel.forget_call();
        }
        desk.draw(&mut channel, PutIn::Nothing, [0; 32], 1_000, "3");
        channel
    };
    for (what, told, expected, charged) in [
        ("the refused call cost something", with(10_000, 200_000), Ok(Correction::Behind), 10_000),
        ("all that it can have cost", with(23_716, 200_000), Ok(Correction::Behind), 23_716),
        ("the seller forgot", with(1_858, 200_000), Ok(Correction::Behind), 1_858),
        ("more than was ever signed", with(23_717, 200_000), Err(Contradiction::Correction), 3_716),
        (
            "money is gone",
            with(3_716, 199_999),
            Err(Contradiction::Balance { told: 199_999, expected: 200_000 }),
            3_716,
        ),
        ("money we never put in", with(3_716, 900_000), Ok(Correction::Behind), 3_716),
    ] {
        let mut channel = flying(true);
        assert_eq!(channel.correct(&told, 0), expected, "{what}");
        assert_eq!((channel.charged, channel.balance), (charged, 200_000), "{what}");
        assert_eq!(channel.stopped.is_some(), expected.is_err(), "{what}");
        assert_eq!(channel.is_in_flight(), expected == Ok(Correction::Behind), "{what}");
    }
    // Where every end is known, whatever was charged beyond is this call's.
    for charged in [3_717, 23_716] {
        let mut channel = flying(false);
        assert_eq!(channel.correct(&with(charged, 200_000), 0), Ok(Correction::ThisCall));
        assert_eq!((channel.charged, channel.is_in_flight()), (charged, false));
    }
    // Signed once more for the same call: what can have been charged before it does not grow by its own promise.
    let mut channel = flying(true);
    channel.correct(&with(10_000, 200_000), 0).unwrap();
    desk.draw(&mut channel, PutIn::Nothing, [0; 32], 1_000, "3");
    assert_eq!(channel.signed.as_ref().unwrap().max_claimable_amount, 30_000);
    assert_eq!(channel.correct(&with(30_000, 200_000), 0), Ok(Correction::ThisCall));
    // Nor when it was refused and the same command is run again; another call may find it charged.
    for (body, expected) in [("3", Correction::ThisCall), ("4", Correction::Behind)] {
        let mut channel = flying(false);
        channel.refused = channel.forget_call();
        desk.draw(&mut channel, PutIn::Nothing, [0; 32], 1_000, body);
        assert_eq!(channel.correct(&with(20_000, 200_000), 0), Ok(expected), "{body}");
    }
}

/// The deposit that was under way may have arrived.
#[test]
fn a_correction_takes_our_own_deposit_into_account_and_no_other_money() {
    let desk = Desk::new();
    let mut channel = desk.fresh();
    desk.draw(&mut channel, PutIn::New(200_000), [3; 32], 1_000, "1");
    let state = desk.told(0).channel_state.unwrap();
    let told = wire::x402::batch::ChannelState { charged_cumulative_amount: Some(0), ..state };
    assert_eq!(channel.clone().correct(&told, 0), Ok(Correction::Behind));
    assert_eq!(channel.correct(&told, 200_000), Ok(Correction::Behind));
    assert_eq!(channel.balance, 200_000);
}

#[test]
fn what_a_refund_leaves() {
    let desk = Desk::new();
    let state = desk.told(0).channel_state.unwrap();
    let told = |balance, charged| wire::x402::batch::ChannelState {
        balance,
        charged_cumulative_amount: charged,
        total_claimed: 500,
        ..state
    };
    for (what, amount, told, expected) in [
        ("nothing is said", 198_142, None, (1_858, 1_858, false)),
        ("what was free", 198_142, Some(told(1_858, Some(1_858))), (1_858, 1_858, false)),
        ("the carry too", 199_500, Some(told(500, Some(500))), (500, 500, false)),
        ("its charge is told by the chain", 199_500, Some(told(500, None)), (500, 500, false)),
        ("more was charged suddenly", 198_142, Some(told(1_858, Some(9_000))), (1_858, 1_858, false)),
        ("more is gone than came back", 100, Some(told(1_858, Some(1_858))), (1_858, 199_900, true)),
    ] {
        let mut channel = desk.fresh();
        desk.draw(&mut channel, PutIn::New(200_000), [3; 32], 1_000, "1");
        channel.settle(20_000, 200_000, &desk.told(0)).unwrap();
        channel.refunded(amount, told.as_ref());
        assert_eq!((channel.charged, channel.balance, channel.stopped.is_some()), expected, "{what}");
    }
}

#[test]
fn deposit_sizes() {
    let desk = Desk::new();
    let terms = |min_deposit| ChannelTerms { min_deposit, ..desk.channel_terms().clone() };
    for (what, least, atomic, missing, most, expected) in [
        ("what the seller wants", Some(200_000), 20_000, 20_000, 1_000_000, Some(200_000)),
        ("more than he wants", Some(10_000), 20_000, 20_000, 1_000_000, Some(20_000)),
        ("five calls", None, 20_000, 20_000, 1_000_000, Some(100_000)),
        ("as far as allowed", None, 20_000, 20_000, 70_000, Some(70_000)),
        ("one call is enough", None, 20_000, 20_000, 20_000, Some(20_000)),
        ("not even that", None, 20_000, 20_000, 19_999, None),
        ("too much wanted", Some(200_000), 20_000, 20_000, 199_999, None),
        ("little is missing", None, 20_000, 1, 1_000_000, Some(100_000)),
    ] {
        assert_eq!(deposit_size(&terms(least), atomic, missing, most), expected, "{what}");
    }
}
