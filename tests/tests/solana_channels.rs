//! The stand-in for Solana's channel program, by itself: it has to be as strict as the program, whose numbers stand in the
//! rows, and our own calls have to do on it what they are for.
#![expect(clippy::unwrap_used, reason = "a test fails loudly")]

use std::time::Duration;

use ed25519_dalek::{Signer as _, SigningKey};
use farthing_tests::solana_channels::{DECIMALS, Failure, Fault, Key, MINT, Node, OnChain, Payer, Status};
use proof::solana::transaction::{Account, Call, sign};
use proof::voucher::solana_channel::{Asked, Descriptor, Payout, Program};
use proof::voucher::{Signed, solana};
use proof::x402_svm::token_account::{self, TokenProgram};
use rails::dial::{Dialer, Origin};
use rails::{AtAddress, Mined, Sent, SolanaNode};
use serde_json::Value;
use wire::mpp::solana::{ChannelAccount, PROGRAM, TREASURY};
use wire::x402::base58;
use wire::x402::svm::{SvmPayload, Transaction};

const DEPOSIT: u64 = 500_000;

fn key(text: &str) -> Key {
    base58::decode_array(text).unwrap()
}

fn program() -> Program {
    Program { address: key(PROGRAM), treasury: key(TREASURY), token: TokenProgram::Token }
}

/// A chain with an open channel, and the payee's key.
struct Stage {
    node: Node,
    payer: Payer,
    payee: SigningKey,
}

impl Stage {
    fn new() -> Self {
        let mut stage = Self::before_the_channel();
        let terms = stage.payer.terms(stage.payee(), DEPOSIT);
        let opened = Transaction::parse(&stage.payer.open_transaction(&terms)).unwrap();
        assert_eq!(stage.node.ledger().send(&opened), Ok(()));
        stage
    }

    fn before_the_channel() -> Self {
        let node = Node::start();
        let payee = SigningKey::from_bytes(&[0x32; 32]);
        node.ledger().give(payee.verifying_key().to_bytes(), 1_000_000_000);
        let payer = node.payer(0x31, 1);
        Self { node, payer, payee }
    }

    fn payee(&self) -> Key {
        self.payee.verifying_key().to_bytes()
    }

    fn account(&self) -> ChannelAccount {
        let id = self.payer.id();
        ChannelAccount::parse(&self.node.ledger().account(&id).unwrap().data).unwrap()
    }

    fn on_chain(&self) -> OnChain {
        self.node.channel(&self.payer.id()).unwrap()
    }

    fn descriptor(&self) -> Descriptor {
        Descriptor::of(&self.account())
    }

    fn promise(&self, sum: u64, expires_at: i64) -> Signed<solana::SolanaSignature> {
        let text = base58::encode(&self.payer.signature(sum, expires_at));
        let (id, signer) = (self.payer.id(), self.payer.signer());
        solana::verify(&id, u128::from(sum), expires_at, &text, &signer, 0).unwrap()
    }

    fn settling(&self, sum: u64) -> Vec<Call> {
        program().settle(&self.descriptor(), &self.payer.id(), &self.promise(sum, 0)).unwrap()
    }

    fn closing(&self, sum: Option<u64>) -> Vec<Call> {
        self.giving_back(sum, 0)
    }

    /// An end of which so much goes back.
    fn giving_back(&self, sum: Option<u64>, back: u128) -> Vec<Call> {
        let (account, id) = (self.account(), self.payer.id());
        let promise = sum.map(|sum| self.promise(sum, 0));
        let payout = Payout { creates_account: true, back, decimals: DECIMALS };
        let channel = Descriptor::of(&account);
        program().close(&channel, &id, account.rent_payer, promise.as_ref(), &payout).unwrap()
    }

    /// The calls as a transaction of the payee's.
    fn signed(&self, calls: &[Call]) -> Transaction {
        self.signed_by(calls, &self.payee)
    }

    fn signed_by(&self, calls: &[Call], by: &SigningKey) -> Transaction {
        let blockhash = self.node.ledger().blockhash();
        let raw = sign(calls, &blockhash, by).unwrap().raw;
        SvmPayload { transaction: raw }.transaction().unwrap()
    }

    /// Where somebody keeps the mint.
    fn place(&self, owner: &Key) -> Key {
        token_account::derive(owner, TokenProgram::Token, &key(MINT)).unwrap()
    }

    fn send(&self, calls: &[Call]) -> Result<(), Failure> {
        let transaction = self.signed(calls);
        self.node.ledger().send(&transaction)
    }
}

fn custom(place: usize, number: u32) -> Result<(), Failure> {
    Err(Failure::At(place, Fault::Custom(number)))
}

fn named(place: usize, name: &'static str) -> Result<(), Failure> {
    Err(Failure::At(place, Fault::Named(name)))
}

/// What is written is what we read, and a channel that pays us passes.
#[test]
fn an_opened_channel_is_what_its_account_says() {
    let stage = Stage::new();
    let (account, id) = (stage.account(), stage.payer.id());
    let asked = Asked { payee: stage.payee(), mint: key(MINT), grace_s: 900 };
    let channel = program().check(&id, &account, &asked).unwrap();
    assert_eq!((channel.payer, account.rent_payer), (stage.payer.address(), stage.payer.address()));
    assert_eq!((account.deposit, account.settled, account.paid_out), (DEPOSIT, 0, 0));
    assert_eq!(account.status, wire::mpp::solana::Status::Open);
    assert_eq!(account.open_slot, stage.node.ledger().slot() - 1);
    assert_eq!(stage.node.ledger().tokens(&id), Some(DEPOSIT));
    assert_eq!(stage.payer.tokens(), 1_000_000_000 - DEPOSIT);
}

/// ENG-4, ENG-5: vouchers are settled, paid out, and the channel ends by one of just what was used.
#[test]
fn eng_4_5_our_calls_take_what_was_promised_and_give_the_rest_back() {
    let stage = Stage::new();
    assert_eq!(stage.send(&stage.settling(100_000)), Ok(()));
    assert_eq!(stage.send(&stage.settling(150_000)), Ok(()));
    assert_eq!((stage.on_chain().settled, stage.on_chain().paid_out), (150_000, 0));
    assert_eq!(stage.node.ledger().tokens(&stage.payee()), None, "a mark pays nobody");
    assert_eq!(stage.send(&stage.closing(Some(180_000))), Ok(()));
    let (id, treasury) = (stage.payer.id(), key(TREASURY));
    {
        let ledger = stage.node.ledger();
        assert_eq!(ledger.tokens(&stage.payee()), Some(180_000));
        assert_eq!(ledger.tokens(&stage.payer.address()), Some(1_000_000_000 - 180_000));
        assert_eq!((ledger.tokens(&treasury), ledger.tokens(&id)), (Some(0), None));
        assert_eq!(ledger.published, [100_000, 150_000, 180_000]);
        assert_eq!(ledger.done, ["open", "settle", "settle", "settleAndSeal", "distribute"]);
    }
    assert_eq!(stage.on_chain().status, Status::Distributed);
}

/// After its 1,500 slots a channel is cleared away by what pays it out.
#[test]
fn an_old_channel_leaves_nothing_behind() {
    let stage = Stage::new();
    stage.node.ledger().advance(1_500);
    assert_eq!(stage.send(&stage.closing(None)), Ok(()));
    assert_eq!(stage.node.channel(&stage.payer.id()), None);
    assert_eq!(stage.payer.tokens(), 1_000_000_000);
}

#[test]
fn settling_wants_all_that_the_program_wants() {
    let stage = Stage::new();
    assert_eq!(stage.send(&stage.settling(100_000)), Ok(()));
    let changed = |change: &dyn Fn(&mut Vec<Call>)| {
        let mut calls = stage.settling(200_000);
        change(&mut calls);
        calls
    };
    let other = SigningKey::from_bytes(&[0x33; 32]);
    let signed_by = |key: &SigningKey, calls: &mut Vec<Call>| {
        let data = &mut calls[0].data;
        data[16..48].copy_from_slice(key.verifying_key().as_bytes());
        let signature = key.sign(&data[112..]).to_bytes();
        data[48..112].copy_from_slice(&signature);
    };
    let own = SigningKey::from_bytes(&[0x31; 32]);
    let with_voucher = |change: &dyn Fn(&mut [u8])| {
        changed(&|calls| {
            change(&mut calls[0].data[112..]);
            signed_by(&own, calls);
        })
    };
    let now = i64::try_from(stage.node.ledger().now_s()).unwrap();
    for (what, calls, expected) in [
        (
            "no signature was checked",
            changed(&|calls| {
                calls.remove(0);
            }),
            custom(0, 230),
        ),
        ("not right before", changed(&|calls| calls.insert(1, calls[0].clone())), Ok(())),
        ("something between", changed(&|calls| calls.insert(1, budget())), custom(2, 230)),
        ("two signatures", changed(&|calls| calls[0].data[0] = 2), custom(0, 3)),
        ("an odd header", changed(&|calls| calls[0].data[1] = 1), custom(1, 231)),
        ("a byte more", changed(&|calls| calls[0].data.push(0)), custom(1, 231)),
        ("named by its place", changed(&|calls| calls[0].data[4..6].fill(0)), custom(1, 231)),
        ("a wrong signature", changed(&|calls| calls[0].data[60] ^= 1), custom(0, 2)),
        ("a wrong place", changed(&|calls| calls[0].data[2] = 200), custom(0, 3)),
        ("another kind of voucher", with_voucher(&|voucher| voucher[1] = 2), custom(1, 238)),
        ("another channel", with_voucher(&|voucher| voucher[2] ^= 1), custom(1, 232)),
        (
            "ends now",
            with_voucher(&|voucher| voucher[42..].copy_from_slice(&now.to_le_bytes())),
            custom(1, 233),
        ),
        ("more than there is", stage.settling(DEPOSIT + 1), custom(1, 235)),
        ("the same again", stage.settling(200_000), custom(1, 234)),
        (
            "somebody else's",
            changed(&|calls| {
                calls[0].data[146..154].copy_from_slice(&300_000_u64.to_le_bytes());
                signed_by(&other, calls);
            }),
            custom(1, 237),
        ),
        (
            "no sysvar",
            changed(&|calls| calls[1].accounts[1] = Account::read([9; 32])),
            named(1, "UnsupportedSysvar"),
        ),
        (
            "an account more",
            changed(&|calls| calls[1].accounts.push(Account::read([9; 32]))),
            named(1, "NotEnoughAccountKeys"),
        ),
        (
            "no channel",
            changed(&|calls| calls[1].accounts[0] = Account::written([9; 32])),
            named(1, "InvalidAccountOwner"),
        ),
        (
            "only read",
            changed(&|calls| {
                calls[0].data[146..154].copy_from_slice(&300_000_u64.to_le_bytes());
                signed_by(&own, calls);
                calls[1].accounts[0] = Account::read(stage.payer.id());
            }),
            named(1, "ReadonlyDataModified"),
        ),
        ("no such call", changed(&|calls| calls[1].data[0] = 10), named(1, "InvalidInstructionData")),
        ("all of it", stage.settling(DEPOSIT), Ok(())),
    ] {
        assert_eq!(stage.send(&calls), expected, "{what}");
    }
    assert_eq!(stage.on_chain().settled, DEPOSIT);
}

/// A call that does nothing.
fn budget() -> Call {
    let program = key("ComputeBudget111111111111111111111111111111");
    Call { program, accounts: Vec::new(), data: vec![2, 0, 0, 1, 0] }
}

#[test]
fn opening_wants_all_that_the_program_wants() {
    let stage = Stage::before_the_channel();
    let payee = stage.payee();
    let open = |change: &dyn Fn(&mut Payer, &mut farthing_tests::solana_channels::Terms)| {
        let mut payer = stage.node.payer(0x31, 1);
        let mut terms = payer.terms(payee, DEPOSIT);
        change(&mut payer, &mut terms);
        let transaction = Transaction::parse(&payer.open_transaction(&terms)).unwrap();
        stage.node.ledger().send(&transaction)
    };
    let whole = |name| Err(Failure::Whole(name));
    let own = stage.payer.address();
    for (what, result, expected) in [
        ("nothing in it", open(&|_, terms| terms.deposit = 0), custom(0, 200)),
        ("no time for the payee", open(&|_, terms| terms.grace_s = 0), custom(0, 201)),
        ("to himself", open(&|_, terms| terms.payee = own), custom(0, 2001)),
        ("tomorrow's", open(&|_, terms| terms.slot += 1), custom(0, 2003)),
        ("too old", open(&|_, terms| terms.slot -= 1_501), custom(0, 2003)),
        ("more than he has", open(&|_, terms| terms.deposit = u64::MAX), custom(0, 1)),
        ("a share of nothing", open(&|payer, _| payer.shares = vec![([7; 32], 0)]), custom(0, 261)),
        (
            "shares of more than all",
            open(&|payer, _| payer.shares = vec![([7; 32], 9_999), ([8; 32], 2)]),
            custom(0, 261),
        ),
        ("a share twice", open(&|payer, _| payer.shares = vec![([7; 32], 1), ([7; 32], 2)]), custom(0, 263)),
        ("a blockhash of nobody", open(&|_, terms| terms.blockhash = [9; 32]), whole("BlockhashNotFound")),
        ("good", open(&|_, _| {}), Ok(())),
        (
            "one that is there",
            open(&|_, terms| {
                terms.slot -= 1;
            }),
            custom(0, 0),
        ),
        ("another slot", open(&|_, terms| terms.slot -= 1_500), Ok(())),
        (
            "with a share",
            open(&|payer, terms| {
                terms.slot -= 7;
                payer.shares = vec![([7; 32], 100)];
            }),
            Ok(()),
        ),
    ] {
        assert_eq!(result, expected, "{what}");
    }
}

/// Who asks for his money waits, and until then the payee takes what was promised.
#[test]
fn a_payer_who_closes_alone_waits() {
    let stage = Stage::new();
    let wrong_status = custom(0, 2);
    assert_eq!(stage.payer.withdraw(), wrong_status);
    assert_eq!(stage.payer.seal(), wrong_status);
    assert_eq!(stage.payer.request_close(), Ok(()));
    assert_eq!(stage.payer.request_close(), wrong_status);
    assert_eq!(stage.send(&stage.settling(10)), custom(1, 2), "nothing is taken beside the end");
    assert_eq!(stage.payer.seal(), custom(0, 2201));
    stage.node.ledger().pass(800);
    assert_eq!(stage.payer.seal(), custom(0, 2201));
    let in_time = stage.signed(&stage.closing(Some(10)));
    assert_eq!(stage.node.ledger().simulate(&in_time), Ok(()));
    stage.node.ledger().pass(100);
    assert_eq!(stage.send(&stage.closing(Some(10))), custom(1, 2), "it is too late");
    assert_eq!(stage.payer.seal(), Ok(()));
    assert_eq!(stage.payer.withdraw(), Ok(()));
    assert_eq!(stage.payer.withdraw(), custom(0, 2300));
    assert_eq!(stage.payer.tokens(), 1_000_000_000);
}

/// A call of the program, of whoever signs it.
fn call(which: &[u8], accounts: &[Account]) -> Call {
    Call { program: key(PROGRAM), accounts: accounts.to_vec(), data: which.to_vec() }
}

#[test]
fn filling_wants_all_that_the_program_wants() {
    let stage = Stage::new();
    let (own, id) = (stage.payer.address(), stage.payer.id());
    let tokens = |owner: &Key| token_account::derive(owner, TokenProgram::Token, &key(MINT)).unwrap();
    let more = |sum: u64, change: &dyn Fn(&mut Vec<Account>)| {
        let mut accounts = vec![
            Account::written(own).signing(),
            Account::written(id),
            Account::written(tokens(&own)),
            Account::written(tokens(&id)),
            Account::read(key(MINT)),
            Account::read(key(TokenProgram::Token.address())),
        ];
        change(&mut accounts);
        call(&[&[3][..], &sum.to_le_bytes()].concat(), &accounts)
    };
    let payer = SigningKey::from_bytes(&[0x31; 32]);
    let send = |calls: &[Call], by: &SigningKey| {
        let transaction = stage.signed_by(calls, by);
        stage.node.ledger().send(&transaction)
    };
    let other = stage.payee();
    for (what, made, expected) in [
        ("nothing", more(0, &|_| {}), custom(0, 200)),
        ("more than can be counted", more(u64::MAX, &|_| {}), custom(0, 2100)),
        ("more than he has", more(2_000_000_000, &|_| {}), custom(0, 1)),
        ("half a number", call(&[3, 1], &more(1, &|_| {}).accounts), named(0, "InvalidInstructionData")),
        (
            "too few accounts",
            more(1, &|all| {
                all.pop();
            }),
            custom(0, 9),
        ),
        ("unsigned", more(1, &|all| all[0] = Account::read(other)), custom(0, 1)),
        ("another mint", more(1, &|all| all[4].key = other), custom(0, 7)),
        ("another program of tokens", more(1, &|all| all[5].key = other), custom(0, 54)),
        ("another's escrow", more(1, &|all| all[3].key = tokens(&own)), custom(0, 50)),
        ("another's tokens", more(1, &|all| all[2].key = tokens(&id)), custom(0, 57)),
        (
            "escrow that is only read",
            more(1, &|all| all[3] = Account::read(tokens(&id))),
            named(0, "PrivilegeEscalation"),
        ),
        ("good", more(1_000, &|_| {}), Ok(())),
    ] {
        assert_eq!(send(&[made], &payer), expected, "{what}");
    }
    let by_payee = more(1, &|all| all[0] = Account::written(other).signing());
    assert_eq!(send(&[by_payee], &stage.payee), custom(0, 5), "only its payer fills a channel");
    assert_eq!(stage.on_chain().deposit, DEPOSIT + 1_000);
    assert_eq!(stage.payer.request_close(), Ok(()));
    assert_eq!(send(&[more(2, &|_| {})], &payer), custom(0, 2));
}

#[test]
fn paying_out_wants_all_that_the_program_wants() {
    let stage = Stage::new();
    let rent_payer = stage.account().rent_payer;
    let pay = |change: &dyn Fn(&mut Call)| {
        let mut calls = stage.closing(None);
        let mut distribute = calls.pop().unwrap();
        change(&mut distribute);
        distribute
    };
    let good = || pay(&|_| {});
    assert_eq!(stage.send(&[good()]), custom(0, 2402), "the treasury has no account yet");
    for owner in [key(TREASURY), stage.payee()] {
        stage.node.ledger().give_tokens(owner, 0);
    }
    assert_eq!(stage.send(&[good()]), custom(0, 2408), "nothing was taken");
    assert_eq!(stage.send(&stage.settling(1_000)), Ok(()));
    let with = |place: usize, key: Key| pay(&|call| call.accounts[place].key = key);
    let other = stage.payee();
    for (what, made, expected) in [
        ("another channel", with(0, other), named(0, "InvalidAccountOwner")),
        ("another payer", with(1, other), custom(0, 5)),
        ("another payer of the rent", with(2, other), custom(0, 10)),
        ("another escrow", with(3, stage.place(&rent_payer)), custom(0, 50)),
        ("another payee", with(5, stage.place(&rent_payer)), custom(0, 60)),
        ("another treasury", with(6, stage.place(&rent_payer)), custom(0, 2401)),
        ("another mint", with(7, other), custom(0, 7)),
        ("another program of tokens", with(8, other), custom(0, 54)),
        (
            "shares that were not agreed",
            pay(&|call| {
                call.data[1] = 1;
                call.data.extend([0xff; 34]);
            }),
            custom(0, 261),
        ),
        (
            "a share of its own",
            pay(&|call| {
                call.data[1] = 1;
                call.data.extend([&[7; 32][..], &[1, 0]].concat());
            }),
            custom(0, 2407),
        ),
        ("half of the shares", pay(&|call| call.data[1] = 1), named(0, "InvalidInstructionData")),
        ("an account more", pay(&|call| call.accounts.push(Account::read(other))), custom(0, 2409)),
        (
            "an account less",
            pay(&|call| {
                call.accounts.pop();
            }),
            named(0, "NotEnoughAccountKeys"),
        ),
        ("good", good(), Ok(())),
        ("the same again", pay(&|call| call.accounts[4].key = other), custom(0, 2408)),
    ] {
        assert_eq!(stage.send(&[made]), expected, "{what}");
    }
    assert_eq!(stage.node.ledger().tokens(&stage.payee()), Some(1_000));
    assert_eq!((stage.on_chain().status, stage.on_chain().paid_out), (Status::Open, 1_000));
}

#[test]
fn ending_wants_all_that_the_program_wants() {
    let stage = Stage::new();
    let other = stage.payer.address();
    let sealing = |change: &dyn Fn(&mut Call)| {
        let mut calls = stage.closing(None);
        calls.truncate(1);
        change(&mut calls[0]);
        calls
    };
    for (what, calls, expected) in [
        (
            "nothing said of a voucher",
            sealing(&|call| call.data.truncate(1)),
            named(0, "InvalidInstructionData"),
        ),
        ("no voucher", sealing(&|call| call.data[1] = 1), custom(0, 230)),
        ("unsigned", sealing(&|call| call.accounts[0] = Account::read(other)), custom(0, 1)),
        (
            "an account less",
            sealing(&|call| {
                call.accounts.pop();
            }),
            custom(0, 9),
        ),
    ] {
        assert_eq!(stage.send(&calls), expected, "{what}");
    }
    let by_payer = sealing(&|call| call.accounts[0] = Account::written(other).signing());
    let by_payer = stage.signed_by(&by_payer, &SigningKey::from_bytes(&[0x31; 32]));
    assert_eq!(stage.node.ledger().send(&by_payer), custom(0, 6), "only the payee ends a channel");
    let reclaim =
        |rent_payer: Key| [call(&[9], &[Account::written(stage.payer.id()), Account::written(rent_payer)])];
    assert_eq!(stage.send(&reclaim(other)), custom(0, 2));
    assert_eq!(stage.send(&stage.closing(Some(5))), Ok(()));
    assert_eq!(stage.send(&reclaim(other)), custom(0, 2414));
    stage.node.ledger().advance(1_500);
    assert_eq!(stage.send(&reclaim(stage.payee())), custom(0, 10));
    assert_eq!(stage.send(&reclaim(other)), Ok(()));
    assert_eq!(stage.node.channel(&stage.payer.id()), None);
}

/// ENG-4: a promise of more than was used is taken with what goes back of it, all or none.
#[test]
fn eng_4_what_an_end_takes_too_much_goes_back_with_it() {
    let stage = Stage::new();
    assert_eq!(stage.send(&stage.giving_back(Some(400_000), 150_000)), Ok(()));
    let (payee, payer) = (stage.payee(), stage.payer.address());
    let ledger = stage.node.ledger();
    assert_eq!(
        (ledger.tokens(&payee), ledger.tokens(&payer)),
        (Some(250_000), Some(1_000_000_000 - 250_000))
    );
    assert_eq!(ledger.tokens(&key(TREASURY)), Some(0));
}

/// What SPL Token asks of tokens that are sent: where one thing is not as it should be, the channel has not ended either.
#[test]
fn sending_back_wants_all_that_the_token_program_wants() {
    let stage = Stage::new();
    let other = stage.payer.address();
    // Its own calls are: the check of the signature, the end, three accounts, the payout, and what goes back.
    let sending = |change: &dyn Fn(&mut Call)| {
        let mut calls = stage.giving_back(Some(400_000), 150_000);
        change(calls.last_mut().unwrap());
        calls
    };
    for (what, calls, expected) in [
        ("more than was paid", stage.giving_back(Some(400_000), 400_001), custom(6, 1)),
        ("other decimals", sending(&|call| call.data[9] = 9), custom(6, 18)),
        ("no decimals", sending(&|call| call.data.truncate(9)), custom(6, 12)),
        ("another call", sending(&|call| call.data[0] = 3), custom(6, 12)),
        (
            "an account less",
            sending(&|call| {
                call.accounts.pop();
            }),
            named(6, "NotEnoughAccountKeys"),
        ),
        ("another mint", sending(&|call| call.accounts[1] = Account::read(other)), custom(6, 3)),
        (
            "to no token account",
            sending(&|call| call.accounts[2] = Account::written(other)),
            named(6, "InvalidAccountData"),
        ),
        ("by somebody else", sending(&|call| call.accounts[3] = Account::read(other)), custom(6, 4)),
    ] {
        assert_eq!(stage.send(&calls), expected, "{what}");
        assert_eq!((stage.on_chain().status, stage.on_chain().settled), (Status::Open, 0), "{what}");
    }
    stage.node.ledger().freeze_tokens(&other);
    assert_eq!(stage.send(&stage.giving_back(Some(400_000), 150_000)), custom(6, 17));
    assert_eq!(stage.on_chain().status, Status::Open);
}

/// A payer who has made his token account another's is in nobody's way: where it is there it is not created, and he has chosen
/// who gets what goes back.
#[test]
fn an_account_that_was_given_away_stops_no_end() {
    let stage = Stage::new();
    stage.node.ledger().give_away_tokens(&stage.payer.address(), &[9; 32]);
    assert_eq!(stage.send(&stage.giving_back(Some(400_000), 150_000)), custom(3, 0));
    let (account, id) = (stage.account(), stage.payer.id());
    let payout = Payout { creates_account: false, back: 150_000, decimals: DECIMALS };
    let (channel, promise) = (Descriptor::of(&account), stage.promise(400_000, 0));
    let calls = program().close(&channel, &id, account.rent_payer, Some(&promise), &payout).unwrap();
    assert_eq!(stage.send(&calls), Ok(()));
    let ledger = stage.node.ledger();
    assert_eq!(ledger.tokens(&stage.payee()), Some(250_000));
    assert_eq!(ledger.tokens(&key(TREASURY)), Some(100_000), "the program pays only an owner");
    assert_eq!(ledger.tokens(&stage.payer.address()), Some(1_000_000_000 - DEPOSIT + 150_000));
}

/// Who has no token account when a channel is paid out has lost his money to the treasury.
#[test]
fn what_cannot_be_paid_is_the_treasurys() {
    let stage = Stage::new();
    stage.node.ledger().give_tokens(key(TREASURY), 0);
    stage.node.ledger().give_tokens(stage.payee(), 0);
    let mut calls = stage.closing(Some(200_000));
    calls.retain(|call| call.program != key(token_account::ASSOCIATED_TOKEN));
    stage.node.ledger().drop_tokens(&stage.payer.address());
    assert_eq!(stage.send(&calls), Ok(()));
    let ledger = stage.node.ledger();
    assert_eq!(ledger.tokens(&key(TREASURY)), Some(DEPOSIT - 200_000));
    assert_eq!(ledger.tokens(&stage.payee()), Some(200_000));
}

/// A channel as npm `@x402/svm` opens and ends it, whose calls are made from the program's own description: the stand-in takes
/// its transaction, our payer builds the same call, and our end is its end.
#[test]
fn another_clients_channel_is_ours() {
    let text = include_str!("../../specs/vectors/mpp/solana-session-x402-svm.json");
    let file: Value = serde_json::from_str(text).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let stage = Stage::before_the_channel();
    let mut payer = stage.node.payer(0x31, 7);
    payer.voucher_key = SigningKey::from_bytes(&[0x77; 32]);
    let terms = payer.terms(stage.payee(), DEPOSIT);
    assert_eq!(
        (base58::encode(&terms.blockhash), terms.slot.to_string()),
        (text(&file["blockhash"]), text(&file["openSlot"]))
    );
    let ours = Transaction::parse(&payer.open_transaction(&terms)).unwrap();
    assert_eq!(payer.channel(), text(&file["channelId"]));
    let theirs = SvmPayload { transaction: text(&file["transaction_base64"]) }.transaction().unwrap();
    let opening = |transaction: &Transaction| {
        let message = &transaction.message;
        let is_it = |call: &&wire::x402::svm::Instruction| message.program(call) == Some(&key(PROGRAM));
        let call = message.instructions.iter().find(is_it).unwrap();
        let accounts: Vec<Key> = call.accounts.iter().map(|place| message.keys[*place]).collect();
        (accounts, call.data.clone())
    };
    assert_eq!(opening(&ours), opening(&theirs));
    assert_eq!(stage.node.ledger().send(&theirs), Ok(()));
    assert_eq!(stage.node.ledger().tokens(&payer.id()), Some(DEPOSIT));

    let voucher = &file["voucher"];
    let (sum, until) =
        (text(&voucher["cumulativeAmount"]).parse().unwrap(), voucher["expiresAt"].as_i64().unwrap());
    assert_eq!(base58::encode(&payer.signature(sum, until)), text(&voucher["signature"]));
    let stage = Stage { payer, ..stage };
    let calls = program().close(
        &stage.descriptor(),
        &stage.payer.id(),
        stage.payer.address(),
        Some(&stage.promise(sum, until)),
        &Payout { creates_account: true, back: 0, decimals: DECIMALS },
    );
    let calls = calls.unwrap();
    let expected = [&file["settleAndSeal"][0], &file["settleAndSeal"][1], &file["distribute"]];
    for (call, expected) in calls[..2].iter().chain(calls.last()).zip(expected) {
        let accounts = expected["accounts"].as_array().unwrap().iter().map(|account| Account {
            key: key(account["key"].as_str().unwrap()),
            signs: account["signs"] == true,
            is_written: account["written"] == true,
        });
        let data = wire::hex::decode(expected["data_hex"].as_str().unwrap()).unwrap();
        let expected =
            Call { program: key(expected["program"].as_str().unwrap()), accounts: accounts.collect(), data };
        assert_eq!(*call, expected);
    }
    assert_eq!(stage.send(&calls), Ok(()));
    assert_eq!(stage.node.ledger().tokens(&stage.payee()), Some(sum));
    stage.node.ledger().advance(1_500);
    let reclaim: Vec<Account> = [stage.payer.id(), stage.payer.address()].map(Account::written).to_vec();
    assert_eq!(stage.send(&[call(&[9], &reclaim)]), Ok(()));
}

/// What the chain asks of every transaction, before any program runs.
#[test]
fn the_chain_itself_refuses() {
    let stage = Stage::new();
    let good = stage.signed(&stage.settling(1_000));
    let mut forged = good.clone();
    forged.signatures[0][5] ^= 1;
    let whole = |name| Err(Failure::Whole(name));
    assert_eq!(stage.node.ledger().send(&forged), whole("SignatureFailure"));
    let before = stage.node.ledger().account(&stage.payee()).unwrap().lamports;
    assert_eq!(stage.node.ledger().send(&good), Ok(()));
    let after = stage.node.ledger().account(&stage.payee()).unwrap().lamports;
    assert_eq!(before - after, 10_000, "the transaction's signature and the voucher's");
    assert_eq!(stage.node.ledger().send(&good), whole("AlreadyProcessed"));
    let late = stage.signed(&stage.settling(2_000));
    stage.node.ledger().advance(150);
    assert_eq!(stage.node.ledger().simulate(&late), Ok(()));
    stage.node.ledger().advance(1);
    assert_eq!(stage.node.ledger().send(&late), whole("BlockhashNotFound"));
    let poor = SigningKey::from_bytes(&[0x34; 32]);
    let calls = [budget()];
    let raw = sign(&calls, &stage.node.ledger().blockhash(), &poor).unwrap().raw;
    let unpaid = SvmPayload { transaction: raw }.transaction().unwrap();
    assert_eq!(stage.node.ledger().send(&unpaid), whole("AccountNotFound"));
}

/// The gateway's own node reads all of it over the wire.
#[tokio::test]
async fn a_node_tells_of_channels_and_transactions() {
    let stage = Stage::new();
    let origin = Origin { tls: false, host: "127.0.0.1".to_owned(), port: stage.node.address.port() };
    let dialer = Dialer::new(&[], Duration::from_secs(5)).unwrap();
    let node = SolanaNode { origin, path: "/".to_owned(), dialer };
    let id = stage.payer.id();
    let Some(AtAddress::Channel(account)) = node.channel(&key(PROGRAM), &id).await else {
        panic!("no channel")
    };
    assert_eq!(*account, stage.account());
    assert_eq!(node.channel(&key(PROGRAM), &[9; 32]).await, Some(AtAddress::Nothing));
    assert_eq!(node.channel(&key(PROGRAM), &key(MINT)).await, Some(AtAddress::Other));
    let recent = node.recent().await.unwrap();
    assert_eq!(recent.blockhash, stage.node.ledger().blockhash());
    assert_eq!(node.height().await, Some(recent.last_height - 150));
    let signed = sign(&stage.settling(1_000), &recent.blockhash, &stage.payee).unwrap();
    assert_eq!(node.mined(&signed.id).await, Mined::NotYet);
    assert_eq!(node.send(&signed.raw).await, Sent::Taken(signed.id.clone()));
    assert_eq!(node.mined(&signed.id).await, Mined::Done);
    let Sent::Refused(message) = node.send(&signed.raw).await else { panic!("taken twice") };
    assert!(message.contains("already been processed"), "{message}");
    let again = sign(&stage.settling(1_000), &stage.node.ledger().blockhash(), &stage.payee).unwrap();
    let Sent::Refused(message) = node.send(&again.raw).await else { panic!("taken") };
    assert!(message.contains("custom program error: 0xea"), "{message}");
}
