//! What one configuration makes of `rails.mpp`.

use std::io;

use rails::dial::Dialer;
use rails::{EvmNode, Settlement, SolanaNode};
use serde::Serialize;
use wire::mpp::payload;
use wire::template::{MARKS, Template};

use super::methods::credit;
use super::processor::{Counter, Order};
use super::session::{Chain, Solana, Tempo, Terms};
use crate::config::{self, BaseUrl, Mode, Mpp, MppMethod};
use crate::keys;
use crate::snapshot::origin;

/// The scheme as it is spoken here.
#[derive(Debug)]
pub(crate) struct Desk {
    /// Never the client's `Host`: a challenge for another server's realm would be its to use.
    pub(crate) realm: String,
    pub(crate) rules: Mpp,
    /// What is asked of a key's account: ledger units.
    pub(super) credit: Template,
    tempo: Option<Terms>,
    solana: Option<Terms>,
    stripe: Option<Counter<config::Stripe>>,
    card: Option<Counter<config::Card>>,
}

impl Desk {
    pub(crate) fn new(rules: &Mpp, mode: Mode, public_url: &str, dialer: &Dialer) -> io::Result<Self> {
        let host = public_url.split_once("://").map_or(public_url, |(_, host)| host);
        let realm = rules.realm.as_deref().unwrap_or(host).to_owned();
        if realm.is_empty() || realm.contains('|') {
            return Err(io::Error::other(
                "rails.mpp needs a realm: write rails.mpp.realm or server.public_url",
            ));
        }
        let path = |rpc: &BaseUrl| if rpc.base_path.is_empty() { "/" } else { &rpc.base_path }.to_owned();
        let tempo = rules.tempo.as_ref().map(|rules| {
            let (origin, path) = (origin(&rules.rpc), path(&rules.rpc));
            let node = EvmNode { origin, path, dialer: dialer.clone() };
            Tempo::new(rules, node).map(|tempo| Terms { rules: rules.terms, chain: Chain::Tempo(tempo) })
        });
        let solana = rules.solana.as_ref().map(|rules| {
            let (origin, path) = (origin(&rules.rpc), path(&rules.rpc));
            let node = SolanaNode { origin, path, dialer: dialer.clone() };
            Solana::new(rules, node).map(|solana| Terms { rules: rules.terms, chain: Chain::Solana(solana) })
        });
        let stripe = rules.stripe.as_ref().map(|rules| Counter::<config::Stripe>::new(rules, mode, dialer));
        let card = rules.card.as_ref().map(|rules| Counter::<config::Card>::new(rules, dialer));
        let credit = written(&credit::request(keys::mode(mode), public_url, MARKS[0]), 1)?;
        let (stripe, card) = (stripe.transpose()?, card.transpose()?);
        let (tempo, solana) = (tempo.transpose()?, solana.transpose()?);
        Ok(Self { realm, rules: rules.clone(), credit, tempo, solana, stripe, card })
    }

    /// The sessions on payment channels that are taken here.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = &Terms> {
        self.tempo.iter().chain(&self.solana)
    }

    /// Those of one method.
    pub(crate) fn session(&self, method: MppMethod) -> Option<&Terms> {
        self.sessions().find(|terms| terms.method() == method)
    }

    pub(super) const fn stripe(&self) -> Option<&Counter<config::Stripe>> {
        self.stripe.as_ref()
    }

    pub(super) const fn card(&self) -> Option<&Counter<config::Card>> {
        self.card.as_ref()
    }

    /// Asks the processor of an order for its payment. One that has left the configuration, or has too much to do, was not
    /// asked.
    pub(super) async fn charge(&self, order: &Order) -> Settlement {
        match order {
            Order::Stripe(_) => charged(self.stripe.as_ref(), order).await,
            Order::Card(_) => charged(self.card.as_ref(), order).await,
        }
    }

    /// Whether this method is taken here.
    pub(crate) fn takes(&self, method: MppMethod) -> bool {
        self.rules.methods.contains(&method)
    }

    /// The method of this name, if it is taken here.
    pub(crate) fn method(&self, name: &str) -> Option<MppMethod> {
        self.rules.methods.iter().copied().find(|method| method.name() == name)
    }
}

/// What a method asks for, with a mark for the amount first, and for what else differs.
pub(crate) fn written<T: Serialize>(request: &T, holes: usize) -> io::Result<Template> {
    let odd = || io::Error::other("rails.mpp has characters that no text has");
    Template::new(&payload::canonical(request), holes).ok_or_else(odd)
}

async fn charged<R>(counter: Option<&Counter<R>>, order: &Order) -> Settlement {
    let Some(counter) = counter else { return Settlement::NotSent };
    let Some(_turn) = counter.turn() else { return Settlement::NotSent };
    counter.charge(order).await
}
