//! `rails.mpp`: what may stand there, and what is said of the rest.

use std::time::Duration;

use money::Asset;
use proof::SigningKey;
use proof::voucher::evm::{Escrow, Protocol};
use wire::mpp::solana::{PROGRAM, TREASURY};
use wire::x402::{Address, base58};

use super::check;
use crate::config::{MppMethod as M, SolanaNetwork};

const X402: &str = "x402: { facilitators: http://127.0.0.1:1, networks: { \"eip155:84532\": { pay_to: \"0x2222222222222222222222222222222222222222\" } } }";
const L402: &str = "l402: { test: {}, price: { usd_per_btc: 95000 } }";

fn file(rails: &str) -> String {
    format!(
        "upstreams: {{ a: {{ url: http://127.0.0.1:1, dialect: openai }} }}\n\
         prices: {{ \"*\": {{ per_call: 1 USD }} }}\nrails: {{ {rails} }}\n"
    )
}

#[test]
fn nothing_has_to_be_said() {
    for (rails, methods) in [
        ("mpp: {}".to_owned(), vec![M::Credit]),
        ("mpp:".to_owned(), vec![M::Credit]),
        (format!("mpp: {{}}, {X402}"), vec![M::Evm, M::Credit]),
        (format!("mpp: {{}}, {L402}, {X402}"), vec![M::Lightning, M::Evm, M::Credit]),
    ] {
        let mpp = check(&file(&rails)).unwrap().rails.mpp.unwrap();
        assert_eq!(mpp.methods, methods, "{rails}");
        assert_eq!((mpp.realm, mpp.expiry, mpp.digest), (None, Duration::from_secs(300), true));
        assert_eq!(mpp.sessions.grace, Duration::from_secs(60));
    }
    assert!(check(&file(X402)).unwrap().rails.mpp.is_none());
}

#[test]
fn every_key_of_mpp_arrives() {
    let own = "mpp: { realm: \"api.example:8443\", methods: [credit, evm], expiry: 90s, digest: false, sessions: { grace: 5s } }";
    let mpp = check(&file(&format!("{own}, {X402}"))).unwrap().rails.mpp.unwrap();
    assert_eq!(mpp.realm.as_deref(), Some("api.example:8443"));
    assert_eq!(mpp.methods, [M::Evm, M::Credit], "credit comes last");
    assert_eq!((mpp.expiry.as_secs(), mpp.digest, mpp.sessions.grace.as_secs()), (90, false, 5));
}

/// MPP-2 and the rest.
#[test]
fn mpp_2_what_cannot_be_meant_is_said() {
    for (mpp, expected) in [
        ("realm: \"a|b\"", "is no realm"),
        ("realm: \"a\\\"b\"", "is no realm"),
        ("methods: []", "needs at least one"),
        ("methods: [evm]", "evm needs rails.x402 with scheme exact"),
        ("methods: [lightning]", "lightning needs rails.l402"),
        ("methods: [credit, credit]", "credit stands twice"),
        ("methods: [barter]", "is no method that we know"),
        ("expiry: 5s", "between 60 s and 10 minutes"),
        ("realms: a", "unknown key"),
    ] {
        let errors = check(&file(&format!("mpp: {{ {mpp} }}"))).map(|_| ()).unwrap_err().to_string();
        assert!(errors.contains(expected), "{mpp}: {errors}");
    }
}

const SUBMITTER: &str = "key: \"${file:/etc/farthing/public.key}\", rpc: \"http://127.0.0.1:1/v2\"";

fn submitter(x402: &str, network: &str, own: &str) -> String {
    file(&format!("mpp: {{ evm: {{ \"{network}\": {{ {own} }} }} }}, {x402}"))
}

#[test]
fn every_key_of_who_sends_permits_arrives() {
    let mpp = check(&submitter(X402, "eip155:84532", SUBMITTER)).unwrap().rails.mpp.unwrap();
    let [plain] = mpp.evm.as_slice() else { panic!("{mpp:?}") };
    assert_eq!((plain.network.as_str(), plain.chain_id), ("eip155:84532", 84532));
    assert_eq!(plain.sender.to_string(), "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
    assert_eq!((plain.rpc.port, plain.rpc.base_path.as_str()), (1, "/v2"));
    assert_eq!((plain.fee_per_gas_max, plain.settle_max.as_secs()), (100_000_000_000, 30));
    assert!(!format!("{mpp:?}").contains("0xac09"), "no key is printed");

    // Through the node of x402, with its time, whichever schemes that has.
    let x402 = X402.replace("pay_to:", "rpc: http://127.0.0.1:2, pay_to:");
    let x402 = x402.replace("x402: {", "x402: { schemes: [permit2], settle_timeout: 7s,");
    let key = "key: \"${file:/etc/farthing/public.key}\", gwei_max: 3";
    let mpp = check(&submitter(&x402, "eip155:84532", key)).unwrap().rails.mpp.unwrap();
    assert_eq!(mpp.methods, [M::Evm, M::Credit], "permits need no scheme of x402");
    let own = &mpp.evm[0];
    assert_eq!((own.rpc.port, own.fee_per_gas_max, own.settle_max.as_secs()), (2, 3_000_000_000, 7));
}

#[test]
fn who_cannot_send_permits_is_said() {
    for (network, own, expected) in [
        ("eip155:84532", "rpc: http://127.0.0.1:1", "needs \"key\": who sends permits, and pays for it?"),
        ("eip155:84532", "key: \"${file:/etc/farthing/public.key}\"", "needs \"rpc\""),
        ("eip155:84532", "key: 1", "rails.mpp.evm.eip155:84532.key"),
        ("eip155:1", SUBMITTER, "no EVM chain of rails.x402.networks"),
        ("eip155:84532", "gas: 1", "unknown key"),
    ] {
        let errors = check(&submitter(X402, network, own)).map(|_| ()).unwrap_err().to_string();
        assert!(errors.contains(expected), "{network} {own}: {errors}");
    }
    for (own, expected) in [("gwei_max: 0", "gwei_max"), ("rpc: http://node.example", "reached by https")] {
        let text = format!("key: \"${{file:/etc/farthing/public.key}}\", {own}");
        let errors = check(&submitter(X402, "eip155:84532", &text)).map(|_| ()).unwrap_err().to_string();
        assert!(errors.contains(expected), "{own}: {errors}");
    }
    let errors = check(&file(&format!("mpp: {{ evm: {{ \"eip155:84532\": {{ {SUBMITTER} }} }} }}")));
    assert!(errors.map(|_| ()).unwrap_err().to_string().contains("no EVM chain of rails.x402.networks"));
}

const TEMPO: &str = "token: \"0x20c0000000000000000000000000000000000001\", \
                     pay_to: \"0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266\", rpc: \"http://127.0.0.1:1\", key: \"${file:/etc/farthing/public.key}\"";

fn tempo(own: &str) -> String {
    file(&format!("mpp: {{ tempo: {{ {TEMPO}{own} }} }}"))
}

#[test]
fn every_key_of_tempo_arrives() {
    let plain = check(&tempo("")).unwrap().rails.mpp.unwrap();
    assert_eq!(plain.methods, [M::Tempo, M::Credit]);
    let plain = plain.tempo.unwrap();
    assert_eq!((plain.escrow.protocol(), plain.escrow.chain_id()), (Protocol::TempoV2, 42431));
    assert_eq!(plain.escrow.contract(), &Escrow::TEMPO_V2);
    let usual = plain.terms;
    assert_eq!((usual.decimals, usual.asset, usual.channels_per_payer), (6, Asset::Usdc, 16));
    // The key of the payee himself: nobody else acts in his name.
    assert_eq!((plain.sender, plain.operator()), (plain.pay_to, Address::ZERO));
    let own = ", protocol: v1, chain_id: 31337, escrow: \"0x3333333333333333333333333333333333333333\", decimals: 18, \
               asset: USDT, min_deposit: 2 USD, suggested_deposit: 3 USD, min_delta: 0.5 USD, channels_per_payer: 2, \
               claim_above: 4 USD, claim_idle: 5s, look_every: 6s";
    let all = check(&tempo(own)).unwrap().rails.mpp.unwrap().tempo.unwrap();
    assert_eq!((all.escrow.protocol(), all.escrow.chain_id()), (Protocol::TempoV1, 31337));
    assert_eq!((all.escrow.contract(), all.network().as_str()), (&Address([0x33; 20]), "eip155:31337"));
    let all = all.terms;
    assert_eq!((all.decimals, all.asset, all.channels_per_payer), (18, Asset::Usdt, 2));
    let amounts = [all.min_deposit, all.suggested_deposit, all.min_delta, all.claim_above];
    assert_eq!(amounts.map(|amount| amount.units() / 100_000_000), [20, 30, 5, 40]);
    assert_eq!((all.claim_idle.as_secs(), all.look_every.as_secs()), (5, 6));
}

#[test]
fn what_tempo_cannot_do_is_said() {
    for (own, expected) in [
        (", protocol: v3", "neither v1 nor v2"),
        (", protocol: v1", "needs \"escrow\""),
        (", chain_id: 4217", "moves real money"),
        (", decimals: 19", "at most 18"),
        (", asset: EUR", "neither USDC nor USDT"),
        (", tokens: 1", "unknown key"),
    ] {
        let errors = check(&tempo(own)).map(|_| ()).unwrap_err().to_string();
        assert!(errors.contains(expected), "{own}: {errors}");
    }
    for (missing, expected) in
        [("key", "who takes what channels owe"), ("rpc", "needs \"rpc\""), ("token", "needs \"token\"")]
    {
        let text = tempo("").replace(&format!("{missing}: "), &format!("{missing}_: "));
        let errors = check(&text).map(|_| ()).unwrap_err().to_string();
        assert!(errors.contains("unknown key") || errors.contains(expected), "{missing}: {errors}");
    }
}

const SOLANA: &str = "network: localnet, program: \"CHNLxYvVA28MJP9PrFuDXccuoGXAx7jBacfLEkahyGsX\", \
                      treasury: \"Cs2zdfUNonRdRGsiZUQQLdTxzxVvJZmgiX2mpLYKuEqP\", \
                      mint: \"4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU\", rpc: \"http://127.0.0.1:1\", \
                      key: \"${file:/etc/farthing/public.key}\"";

fn solana(own: &str) -> String {
    file(&format!("mpp: {{ solana: {{ {own} }} }}"))
}

#[test]
fn every_key_of_solana_arrives() {
    let own = ", grace: 10m, idle: 1d, decimals: 9, asset: USDT, min_deposit: 2 USD, suggested_deposit: 3 USD, min_delta: 0.5 USD, \
               channels_per_payer: 2, claim_above: 4 USD, claim_idle: 5s, look_every: 6s";
    let mpp = check(&solana(&format!("{SOLANA}{own}"))).unwrap().rails.mpp.unwrap();
    assert_eq!(mpp.methods, [M::Solana, M::Credit]);
    let all = mpp.solana.unwrap();
    assert_eq!(
        (all.network, all.network.caip2(), all.grace_s, all.idle_s),
        (SolanaNetwork::Localnet, "solana:localnet", 600, 86_400)
    );
    assert_eq!(base58::encode(&all.program.address), PROGRAM);
    assert_eq!(base58::encode(&all.program.treasury), TREASURY);
    assert_eq!(base58::encode(&all.mint), "4zMMC9srt5Ri5X14GAgXhaHii3GnPAEERYPJgZJDncDU");
    // Whoever signs is who is paid.
    assert_eq!(all.payee, SigningKey::from_bytes(all.key.expose()).verifying_key().to_bytes());
    let terms = all.terms;
    assert_eq!((terms.decimals, terms.asset, terms.channels_per_payer), (9, Asset::Usdt, 2));
    let amounts = [terms.min_deposit, terms.suggested_deposit, terms.min_delta, terms.claim_above];
    assert_eq!(amounts.map(|amount| amount.units() / 100_000_000), [20, 30, 5, 40]);
    assert_eq!((terms.claim_idle.as_secs(), terms.look_every.as_secs()), (5, 6));
}

/// On the main network all but key and node is known.
#[test]
fn what_is_known_of_solana_need_not_be_said() {
    const OWN: &str = "rpc: \"http://127.0.0.1:1\", key: \"${file:/etc/farthing/master-1.key}\"";
    let live = check(&format!("mode: live\n{}", solana(OWN))).unwrap().rails.mpp.unwrap().solana.unwrap();
    assert_eq!((live.network, live.grace_s, live.idle_s), (SolanaNetwork::Mainnet, 900, 30 * 86_400));
    assert_eq!(base58::encode(&live.program.address), PROGRAM);
    assert_eq!(base58::encode(&live.mint), "EPjFWdd5AufqSSqeM2qN1xzybapC8G4wEGGkZwyTDt1v");
}

#[test]
fn what_solana_cannot_do_is_said() {
    let with = |own: &str| format!("{SOLANA}{own}");
    let but = |key: &str, value: &str| {
        let (before, after) = SOLANA.split_once(key).unwrap();
        let rest = after.split_once(", ").map_or("", |(_, rest)| rest);
        format!("{before}{value}{rest}")
    };
    for (own, expected) in [
        (with(", grace: 59s"), "between 1 minute and 30 days"),
        (with(", grace: 31d"), "between 1 minute and 30 days"),
        (with(", idle: 999ms"), "between 1 second and 30 days"),
        (with(", idle: 31d"), "between 1 second and 30 days"),
        (with(", decimals: 10"), "at most 9"),
        (with(", token_program: x"), "unknown key"),
        (but("network: ", "network: mainnet, "), "moves real money"),
        (but("network: ", "network: testnet, "), "none of mainnet, devnet, localnet"),
        (but("treasury: ", ""), "\"program\" and \"treasury\" together"),
        (but("mint: ", ""), "needs \"mint\""),
        (but("mint: ", "mint: \"0x12\", "), "32 bytes in base58"),
        (but("rpc: ", ""), "needs \"rpc\""),
        (but("rpc: ", "rpc: \"http://node.example\", "), "reached by https"),
        (but("key: ", ""), "who is paid"),
    ] {
        let errors = check(&solana(&own)).map(|_| ()).unwrap_err().to_string();
        assert!(errors.contains(expected), "{own}: {errors}");
    }
}
