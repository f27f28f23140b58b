//! Vectors of every kind of voucher, the five rules, and a channel's life against a simple oracle.

use proptest::prelude::*;
use serde_json::Value;
use wire::hex;
use wire::x402::{Address, base58};

use super::evm::{Descriptor, Escrow, Protocol, VoucherError};
use super::solana;
use super::{Channel, Lower, Mirror, NotTaken, Rules, Signed, Step, Withdrawal};
use crate::eip712::keccak256;
use crate::secp::{SecretKey, SignatureError};

const NOW: u64 = 1_795_170_852;
const TEMPO: &str = include_str!("../../../../specs/vectors/mpp/tempo-session-vouchers.json");
const SOLANA: &str = include_str!("../../../../specs/vectors/mpp/solana-session-vouchers.json");

fn text<'v>(value: &'v Value, member: &str) -> &'v str {
    value[member].as_str().unwrap()
}

fn id(value: &Value) -> [u8; 32] {
    hex::decode_0x_array(text(value, "channelId")).unwrap()
}

fn escrow(case: &Value) -> Escrow {
    let protocol = match text(case, "sessionProtocol") {
        "v1" => Protocol::TempoV1,
        "v2" => Protocol::TempoV2,
        other => panic!("{other}"),
    };
    let domain = &case["domain"];
    Escrow::new(
        protocol,
        domain["chainId"].as_u64().unwrap(),
        text(domain, "verifyingContract").parse().unwrap(),
    )
}

fn each_tempo(check: impl Fn(&Value, Escrow, [u8; 32], u128, Address)) -> usize {
    let file: Value = serde_json::from_str(TEMPO).unwrap();
    let cases = file["vouchers"].as_array().unwrap();
    for case in cases {
        let sum = text(case, "cumulativeAmount").parse().unwrap();
        check(case, escrow(case), id(case), sum, text(case, "signer").parse().unwrap());
    }
    cases.len()
}

/// MPP-30: digest, both encodings, and the twin with the high `s`, which a contract would not take.
#[test]
fn mpp_30_vouchers_of_tempo_are_read_in_both_encodings() {
    let count = each_tempo(|case, escrow, id, sum, signer| {
        assert_eq!(hex::encode_0x(&escrow.digest(&id, sum)), text(case, "signing_hash"));
        let verify = |form: &str| escrow.verify(&id, sum, text(case, form), &signer);
        let full = verify("signature_65").unwrap();
        assert_eq!(hex::encode_0x(&full.signature), text(case, "signature_65"));
        // We emit 65 bytes whatever came.
        assert_eq!(verify("signature_eip2098_64"), Ok(full));
        let refused = verify("signature_high_s_must_reject");
        assert_eq!(refused, Err(VoucherError::Signature(SignatureError::HighS)));
        // A byte of anything that is signed: somebody else's, or nobody's.
        let mut other = id;
        other[31] ^= 1;
        let signature = text(case, "signature_65");
        for moved in [
            escrow.verify(&other, sum, signature, &signer),
            escrow.verify(&id, sum ^ 1, signature, &signer),
            escrow.verify(&id, sum, signature, &Address([9; 20])),
            escrow.verify(&id, sum, signature, &Address::ZERO),
            Escrow::new(escrow.protocol(), 1, *escrow.contract()).verify(&id, sum, signature, &signer),
            Escrow::new(Protocol::Evm, escrow.chain_id(), *escrow.contract())
                .verify(&id, sum, signature, &signer),
        ] {
            assert!(matches!(moved, Err(VoucherError::Signature(_))), "{moved:?}");
        }
        // The other recovery byte is another signer: a contract would not take it either.
        let mut flipped: [u8; 65] = full.signature;
        flipped[64] = 55 - flipped[64];
        assert!(escrow.verify(&id, sum, &hex::encode_0x(&flipped), &signer).is_err());
    });
    assert_eq!(count, 8);
    let wide = Escrow::new(Protocol::TempoV2, 4217, Escrow::TEMPO_V2);
    assert_eq!(wide.verify(&[1; 32], 1 << 96, "0x", &Address([1; 20])), Err(VoucherError::TooWide));
}

#[test]
fn the_channel_id_of_the_vector_is_ours() {
    let file: Value = serde_json::from_str(TEMPO).unwrap();
    let from = &file["channel_descriptor"];
    let address = |member: &str| text(from, member).parse::<Address>().unwrap();
    let channel = Descriptor {
        payer: address("payer"),
        payee: address("payee"),
        operator: address("operator"),
        token: address("token"),
        salt: hex::decode_0x_array(text(from, "salt")).unwrap(),
        authorized_signer: address("authorizedSigner"),
        expiring_nonce_hash: hex::decode_0x_array(text(from, "expiringNonceHash")).unwrap(),
    };
    assert_eq!(file["canonical_v2_escrow"], hex::encode_0x(&Escrow::TEMPO_V2.0));
    let escrow = Escrow::new(Protocol::TempoV2, 4217, Escrow::TEMPO_V2);
    assert_eq!(hex::encode_0x(&escrow.channel_id(&channel)), text(&file, "channel_id_chain_4217"));
    assert_eq!(channel.signer(), channel.payer, "nobody else is named");
    let named = Descriptor { authorized_signer: Address([7; 20]), ..channel };
    assert_eq!(named.signer(), Address([7; 20]));
    // Each member is part of it, in the version that has it.
    let v1 = Escrow::new(Protocol::TempoV1, 4217, Escrow::TEMPO_V2);
    let operated = Descriptor { operator: Address([7; 20]), ..channel };
    assert_ne!(escrow.channel_id(&operated), escrow.channel_id(&channel));
    assert_eq!(v1.channel_id(&operated), v1.channel_id(&channel));
    for other in
        [named, Descriptor { payee: Address([7; 20]), ..channel }, Descriptor { salt: [0; 32], ..channel }]
    {
        assert_ne!(v1.channel_id(&other), v1.channel_id(&channel));
    }
}

/// The evm session has no vector of its own: its digest is that of version 1 under another name, so a voucher of one
/// opens nothing at the other.
#[test]
fn a_voucher_of_one_contract_is_none_of_another() {
    let key = SecretKey::from_bytes(&[0x21; 32]).unwrap();
    let all = [Protocol::TempoV1, Protocol::TempoV2, Protocol::Evm]
        .map(|protocol| Escrow::new(protocol, 4217, Address([5; 20])));
    for signed in &all {
        let signature = key.sign(&signed.digest(&[1; 32], 7)).unwrap();
        for asked in &all {
            let genuine = asked.verify(&[1; 32], 7, &hex::encode_0x(signature.as_bytes()), &key.address());
            assert_eq!(genuine.is_ok(), asked == signed);
        }
    }
}

/// Hashes of what viem 2.55.0 encodes for the contracts' interfaces.
#[test]
fn calls_of_the_contracts_are_encoded_as_others_do() {
    let channel = Descriptor {
        payer: Address([1; 20]),
        payee: Address([2; 20]),
        operator: Address([3; 20]),
        token: Address([4; 20]),
        salt: [5; 32],
        authorized_signer: Address([6; 20]),
        expiring_nonce_hash: [7; 32],
    };
    let mut signature = [8; 65];
    signature[64] = 27;
    let signed = Signed { max_claimable: 1000, signature };
    let v1 = Escrow::new(Protocol::TempoV1, 4217, Address([9; 20]));
    let v2 = Escrow::new(Protocol::TempoV2, 4217, Escrow::TEMPO_V2);
    let id = [9; 32];
    for (what, data, hash) in [
        (
            "v2 close",
            v2.close_call(&id, &channel, &signed, 900),
            "7e954431662d70319f4e1e7400f660012268dd3c8363807050831bc81bc3a408",
        ),
        (
            "v2 settle",
            v2.settle_call(&id, &channel, &signed),
            "05e9671a40d619600ebbfea4baafc2821d03fa74d24f23a66d6508d21481b15c",
        ),
        (
            "v1 close",
            v1.close_call(&id, &channel, &signed, 1000),
            "87e8f891b288085c93164b4ef3b4e5a8e27c02a6c7732f6976f898ebfa3bce3a",
        ),
        (
            "v1 settle",
            v1.settle_call(&id, &channel, &signed),
            "a7358a23b7c2e2543dd7b3fdbbadce5793ae3b7942acc6189b0f6baf0ae6ffce",
        ),
    ] {
        assert_eq!(hex::encode(&keccak256(&data)), hash, "{what}");
    }
    let nines = "09".repeat(32);
    assert_eq!(hex::encode(&v1.state_call(&id)), format!("831c2b82{nines}"));
    assert_eq!(hex::encode(&v2.state_call(&id)), format!("d18da8b1{nines}"));
}

#[test]
fn vouchers_of_solana_are_fifty_bytes() {
    let file: Value = serde_json::from_str(SOLANA).unwrap();
    let signer = base58::decode_array(text(&file, "public_key_b58")).unwrap();
    let cases = file["cases"].as_array().unwrap();
    for case in cases {
        let channel = base58::decode_array(text(case, "channelId_b58")).unwrap();
        let sum: u128 = text(case, "cumulativeAmount").parse().unwrap();
        let expires_at: i64 = text(case, "expiresAt").parse().unwrap();
        let signature = text(case, "signature_b58");
        let verify = |sum, expires_at, signature, good_until| {
            solana::verify(&channel, sum, expires_at, signature, &signer, good_until)
        };
        let genuine = verify(sum, expires_at, signature, NOW).unwrap();
        assert_eq!(hex::encode(&genuine.signature.bytes), text(case, "signature_hex"));
        assert_eq!(verify(sum ^ 1, expires_at, signature, NOW), Err(solana::VoucherError::WrongSigner));
        let longer = verify(sum, expires_at ^ 1 << 40, signature, 0);
        assert_eq!(longer, Err(solana::VoucherError::WrongSigner));
        assert_eq!(verify(1 << 64, expires_at, signature, NOW), Err(solana::VoucherError::TooWide));
        assert_eq!(verify(sum, expires_at, "0", NOW), Err(solana::VoucherError::Encoding));
        if expires_at != 0 {
            let late = verify(sum, expires_at, signature, expires_at.unsigned_abs());
            assert_eq!(late, Err(solana::VoucherError::Expired));
            assert!(verify(sum, expires_at, signature, expires_at.unsigned_abs() - 1).is_ok());
        }
    }
    assert_eq!(cases.len(), 4);
}

type Plain = Channel<[u8; 1]>;

fn mirror(balance: u128) -> Mirror {
    Mirror {
        balance,
        total_claimed: 0,
        withdrawing: 0,
        withdraw_requested_at: 0,
        refund_nonce: [0; 32],
        synced_at_s: NOW,
    }
}

fn rules(least: u128, lower: Lower) -> Rules {
    Rules { step: Step::AtLeast { least, lower }, withdrawal: Withdrawal::Ends, withdraw_delay: 900 }
}

fn signed(max_claimable: u128) -> Signed<[u8; 1]> {
    Signed { max_claimable, signature: [7] }
}

fn taken(channel: &Plain, sum: u128, rules: &Rules) -> Result<u128, NotTaken> {
    channel.judge(signed(sum), rules, NOW).map(|acceptance| acceptance.amount())
}

/// A channel that has accepted `sum`, and nothing of it used.
fn at(deposit: u128, sum: u128) -> Plain {
    let open = Plain::opened(mirror(deposit));
    let acceptance = open.judge(signed(sum), &rules(0, Lower::Refused), NOW).unwrap();
    open.credited(&acceptance)
}

/// The vector's five rules (ENG-2).
#[test]
fn eng_2_the_rules_of_the_vector() {
    let file: Value = serde_json::from_str(TEMPO).unwrap();
    let number = |rule: &Value, member: &str| rule[member].as_str().map(|text| text.parse::<u128>().unwrap());
    let cases = file["monotonic_rules"].as_array().unwrap();
    for rule in cases {
        let channel = at(number(rule, "deposit").unwrap_or(500), number(rule, "accepted").unwrap());
        let least = number(rule, "minVoucherDelta").unwrap_or(0);
        let result = taken(&channel, number(rule, "offer").unwrap(), &rules(least, Lower::Refused));
        let expected = match text(rule, "result") {
            "idempotent, 200, state unchanged" => Ok(0),
            "reject (delta-too-small / lower)" | "reject delta-too-small" => Err(NotTaken::DeltaTooSmall),
            "accept" => Ok(10),
            "reject amount-exceeds-deposit" => Err(NotTaken::ExceedsDeposit),
            other => panic!("{other}"),
        };
        assert_eq!(result, expected, "{rule}");
    }
    assert_eq!(cases.len(), 5);
}

#[test]
fn eng_1_2_5_what_a_session_makes_of_a_voucher() {
    let channel = at(500, 100);
    let refused = rules(10, Lower::Refused);
    let unchanged = rules(10, Lower::Unchanged);
    let asked_back =
        channel.refreshed(Mirror { withdraw_requested_at: NOW, withdrawing: 0, ..channel.mirror });
    let published = channel.with_published(100);
    let settled = channel.refreshed(Mirror { total_claimed: 130, ..channel.mirror });
    let old = channel.refreshed(Mirror { synced_at_s: NOW - 301, ..channel.mirror });
    for (what, channel, sum, rules, expected) in [
        ("all of the deposit", &channel, 500, &refused, Ok(400)),
        ("evm: lower", &channel, 99, &unchanged, Ok(0)),
        ("evm: too small a step", &channel, 109, &unchanged, Err(NotTaken::DeltaTooSmall)),
        ("nothing at all", &channel, 0, &refused, Err(NotTaken::DeltaTooSmall)),
        ("we close", &channel.with_closing(), 200, &refused, Err(NotTaken::Closing)),
        ("we close, the same again", &channel.with_closing(), 100, &refused, Err(NotTaken::Closing)),
        ("its payer closes", &asked_back, 200, &refused, Err(NotTaken::Closing)),
        ("read on the chain", &published, 100, &refused, Err(NotTaken::Published)),
        ("beyond what is public", &published, 110, &refused, Ok(10)),
        ("settled beyond what we know", &settled, 130, &refused, Ok(0)),
        ("on from there", &settled, 140, &refused, Ok(10)),
        ("an old view", &old, 200, &refused, Err(NotTaken::Stale)),
        ("an old view, the same again", &old, 100, &refused, Ok(0)),
    ] {
        assert_eq!(taken(channel, sum, rules), expected, "{what}");
    }
    // The same again is kept as nothing: no sum and no promise moves.
    let same = channel.judge(signed(100), &refused, NOW).unwrap();
    assert_eq!(channel.credited(&same), channel);
}

/// ENG-4: what was used is taken, whatever was promised.
#[test]
fn eng_4_an_end_takes_what_was_used() {
    let used = |used: u128| Plain { carry: 100 - used, ..at(500, 100) };
    for (what, channel, sum, expected) in [
        ("of everything", used(100), 100, Ok((100, 400))),
        ("of a part, by the accepted voucher", used(30), 100, Ok((30, 470))),
        ("of a part, by one made for it", used(30), 30, Ok((30, 470))),
        ("of nothing", used(0), 0, Ok((0, 500))),
        ("by one that is too low", used(30), 29, Err(NotTaken::Mismatch)),
        ("by one that the channel does not hold", used(30), 501, Err(NotTaken::ExceedsDeposit)),
    ] {
        let end = channel.close(sum).map(|closing| (closing.capture, closing.refund));
        assert_eq!(end, expected, "{what}");
    }
    // More was settled than used: that stays taken.
    let ahead = used(30).refreshed(Mirror { total_claimed: 60, ..mirror(500) });
    let closing = ahead.close(100).unwrap();
    assert_eq!((closing.capture, closing.refund), (60, 440));
    assert_eq!(ahead.close(59), Err(NotTaken::Mismatch));
    let over = ahead.finalized(&closing);
    assert_eq!((over.charged, over.carry, over.used(), over.claimable()), (60, 0, 60, None));
    assert_eq!(taken(&over, 200, &rules(0, Lower::Refused)), Err(NotTaken::Closing));
}

/// ENG-4: a payer who signs nothing more: of what he has signed the least that covers what was used, else the most.
#[test]
fn eng_4_the_promise_that_an_end_is_taken_by() {
    let ladder = |sums: &[u128], settled: u128, used: u128| {
        let (newest, earlier) = sums.split_last().unwrap();
        Plain {
            charged: *newest,
            carry: newest - used,
            newest: Some(signed(*newest)),
            earlier: earlier.iter().copied().map(signed).collect(),
            mirror: Mirror { total_claimed: settled, ..mirror(1_000) },
            ..Plain::opened(mirror(1_000))
        }
    };
    let sums = [100, 300, 500, 1_000];
    let all: &[u128] = &sums;
    for (what, settled, used, good, promise, capture) in [
        ("the lowest that covers it", 0, 250, all, Some(300), 250),
        ("one that is just used up", 0, 300, all, Some(300), 300),
        ("the newest", 0, 900, all, Some(1_000), 900),
        ("less than the first", 0, 1, all, Some(100), 1),
        ("one that covers it is over", 0, 250, &[100, 1_000], Some(1_000), 250),
        ("all that cover it are over", 0, 250, &[100], Some(100), 100),
        ("those that are left bring nothing", 100, 250, &[100], None, 100),
        ("all are over", 0, 250, &[], None, 0),
        ("everything was taken", 250, 250, all, None, 250),
        ("more than that was", 400, 250, all, None, 400),
        ("nothing was used", 0, 0, all, None, 0),
    ] {
        let channel = ladder(all, settled, used);
        let found = channel.promise_for(used, |promise| good.contains(&promise.max_claimable));
        assert_eq!(found.map(|promise| promise.max_claimable), promise, "{what}");
        let closing = channel.close_by_kept(found.as_ref());
        assert_eq!((closing.capture, closing.refund), (capture, 1_000 - capture), "{what}");
    }
    assert_eq!(Plain::opened(mirror(1_000)).promise_for(1, |_| true), None, "none was ever signed");
}

/// A payer who promises for each call ten times what it uses: what he owes can be taken all the same, in steps of a
/// sixteenth or so of what is promised and not used.
#[test]
fn eng_5_a_promise_that_is_used_up_is_found_among_the_earlier() {
    let rules = rules(1, Lower::Refused);
    let mut channel = Plain::opened(mirror(1_000_000));
    let mut settled = 0;
    for call in 1..=500u128 {
        let acceptance = channel.judge(signed(call * 100), &rules, NOW).unwrap();
        channel = channel.credited(&acceptance);
        channel.carry -= 10;
        assert_eq!(channel.used(), call * 10);
        if let Some(promise) = channel.settleable() {
            assert!(promise.max_claimable <= channel.used() && promise.max_claimable > settled);
            settled = promise.max_claimable;
            channel = channel.with_published(settled);
            channel = channel.refreshed(Mirror { total_claimed: settled, ..channel.mirror });
        }
        assert!(channel.earlier.is_sorted_by_key(|promise| promise.max_claimable));
    }
    let open = channel.newest.unwrap().max_claimable - channel.used();
    assert!(channel.used() - settled <= open / 8, "{settled} of {} is settled", channel.used());
}

/// What the engine is held against: five numbers and the rules of section 11, nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Oracle {
    deposit: u128,
    accepted: u128,
    spent: u128,
    settled: u128,
    is_over: bool,
}

impl Oracle {
    /// Whether it is taken, and what it adds.
    fn voucher(&mut self, sum: u128, least: u128, lower: Lower) -> Option<u128> {
        if self.is_over {
            return None;
        }
        let lower_is_fine = lower == Lower::Unchanged;
        if sum == self.accepted || sum < self.accepted && lower_is_fine {
            return Some(0);
        }
        let fits = sum > self.accepted && sum - self.accepted >= least && sum <= self.deposit;
        if !fits {
            return None;
        }
        let more = sum - self.accepted;
        self.accepted = sum;
        Some(more)
    }
}

#[derive(Clone, Copy, Debug)]
enum Sum {
    Any(u64),
    /// Relative to what is accepted.
    Raised(i64),
}

#[derive(Clone, Copy, Debug)]
enum Action {
    Voucher(Sum),
    Spend(u64),
    TopUp(u64),
    Settle,
    Close(u64),
    /// The payer asks for his money on the chain.
    ForcedClose,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        3 => (0..3_000u64).prop_map(|sum| Action::Voucher(Sum::Any(sum))),
        6 => (-20..200i64).prop_map(|by| Action::Voucher(Sum::Raised(by))),
        6 => (0..150u64).prop_map(Action::Spend),
        2 => (0..1_000u64).prop_map(Action::TopUp),
        2 => Just(Action::Settle),
        1 => (0..3_000u64).prop_map(Action::Close),
        1 => Just(Action::ForcedClose),
    ]
}

proptest! {
    /// ENG-1 to ENG-5: whatever comes in whatever order, engine and oracle have the same sums, and
    /// settled <= spent <= accepted <= deposit.
    #[test]
    fn eng_1_to_5_a_session_is_what_the_oracle_says(
        actions in proptest::collection::vec(action(), 1..80),
        least in 0..30u64,
        unchanged in any::<bool>(),
    ) {
        let lower = if unchanged { Lower::Unchanged } else { Lower::Refused };
        let rules = rules(u128::from(least), lower);
        let mut oracle = Oracle { deposit: 1_000, accepted: 0, spent: 0, settled: 0, is_over: false };
        let mut channel = Plain::opened(mirror(1_000));
        for action in actions {
            match action {
                Action::Voucher(sum) => {
                    let sum = match sum {
                        Sum::Any(sum) => u128::from(sum),
                        Sum::Raised(by) => oracle.accepted.saturating_add_signed(i128::from(by)),
                    };
                    let public = channel.is_published(sum);
                    let judged = channel.judge(signed(sum), &rules, NOW);
                    prop_assert_eq!(judged, channel.judge(signed(sum), &rules, NOW));
                    if public {
                        // What is public is used up, so nobody who reads it draws on anything.
                        prop_assert!(judged.is_err() && sum <= oracle.spent);
                        continue;
                    }
                    let expected = oracle.voucher(sum, u128::from(least), lower);
                    prop_assert_eq!(judged.ok().map(|taken| taken.amount()), expected);
                    if let Ok(acceptance) = judged {
                        channel = channel.credited(&acceptance);
                    }
                }
                Action::Spend(amount) => {
                    let amount = u128::from(amount).min(channel.carry);
                    channel.carry -= amount;
                    oracle.spent += amount;
                }
                Action::TopUp(amount) => {
                    channel = channel.with_deposit(u128::from(amount));
                    oracle.deposit += u128::from(amount);
                }
                Action::Settle => {
                    let Some((promise, sum)) = channel.claimable() else {
                        prop_assert_eq!(oracle.spent, oracle.settled);
                        continue;
                    };
                    prop_assert_eq!(sum, oracle.spent);
                    prop_assert!(promise.max_claimable >= sum && promise.max_claimable <= oracle.accepted);
                    // A contract that takes whole promises is shown one that is used up.
                    if let Some(covered) = channel.settleable() {
                        let sum = covered.max_claimable;
                        prop_assert!(channel.earlier.len() <= 16);
                        prop_assert!(sum <= oracle.spent && sum > oracle.settled);
                        oracle.settled = sum;
                        let seen = Mirror { total_claimed: sum, ..channel.mirror };
                        channel = channel.with_published(sum).refreshed(seen);
                    }
                }
                Action::Close(sum) => {
                    let sum = u128::from(sum);
                    let fits = sum >= oracle.spent.max(oracle.settled) && sum <= oracle.deposit;
                    let closing = channel.close(sum);
                    prop_assert_eq!(closing.is_ok(), fits);
                    let Ok(closing) = closing else { continue };
                    prop_assert_eq!(closing.capture, oracle.spent);
                    prop_assert_eq!(closing.capture + closing.refund, oracle.deposit);
                    channel = channel.finalized(&closing);
                    (oracle.accepted, oracle.settled, oracle.deposit) = (oracle.spent, oracle.spent, oracle.spent);
                    oracle.is_over = true;
                }
                Action::ForcedClose => {
                    let seen = Mirror { withdraw_requested_at: NOW, ..channel.mirror };
                    channel = channel.refreshed(seen);
                    oracle.is_over = true;
                }
            }
            let sums = Oracle {
                deposit: channel.mirror.balance,
                accepted: channel.charged,
                spent: channel.used(),
                settled: channel.mirror.total_claimed,
                is_over: oracle.is_over,
            };
            prop_assert_eq!(&sums, &oracle);
            prop_assert!(sums.settled <= sums.spent && sums.spent <= sums.accepted && sums.accepted <= sums.deposit);
            let promised = channel.newest.map_or(0, |newest| newest.max_claimable);
            prop_assert!(promised >= sums.spent);
        }
    }
}
