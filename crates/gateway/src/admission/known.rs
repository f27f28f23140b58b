//! Who pays, as far as that is known without a payment: the holder of a key, of a token, or a wallet that signs in.

use std::rc::Rc;

use ledger::AccountId;

use super::account;
use crate::call::{Arrived, Worker};
use crate::config::{FixedPrice, Route, RoutePrice};
use crate::credential::Presented;
use crate::extensions::sign_in::{self, Opened};
use crate::gate::Gate;
use crate::identity::{Content, Crawl};
use crate::lightning::{self, OpenToken, TokenUse};
use crate::limits::Running;
use crate::mpp::Told;
use crate::payer::Payer;
use crate::payments::Spends;
use crate::quote::Quote;
use crate::refusal::{Code, Refusal};

/// The token of a request that makes no call, if there is one and it was paid.
pub(crate) fn paid_token(
    worker: &Worker,
    arrived: &Arrived,
    presented: &Presented,
    content: Content<'_>,
) -> Result<Option<TokenUse>, Refusal> {
    let (open, refused) = token(worker, arrived, presented)?;
    let rules = arrived.snapshot.config.rails.l402.as_ref();
    match (open.zip(rules), refused) {
        (_, Some(refusal)) => Err(refusal),
        (Some((open, rules)), None) => open.permits_no_call(&worker.gate, arrived, rules, content).map(Some),
        (None, None) => Ok(None),
    }
}

/// The payer behind the credit key, if there is one and it is good, and its holder has signed where it has one.
pub(crate) fn key_payer(
    worker: &Worker,
    arrived: &Arrived,
    presented: &Presented,
    content: Content<'_>,
) -> Result<Option<Payer>, Refusal> {
    let payer = unproven_payer(worker, arrived, presented)?;
    if let Some(payer) = &payer {
        payer.proves_holder(&worker.gate, arrived, content)?;
    }
    Ok(payer)
}

/// The same before its holder has proven himself: [`Known::permit`] asks for that.
fn unproven_payer(
    worker: &Worker,
    arrived: &Arrived,
    presented: &Presented,
) -> Result<Option<Payer>, Refusal> {
    let Some(text) = &presented.key else { return Ok(None) };
    let verified = worker.known.verify(&worker.gate, text, arrived.now.seconds());
    match &verified {
        Ok(_) => worker.gate.metrics.good_key(),
        Err(_) => worker.gate.metrics.proof("key", "bad"),
    }
    let key = verified.inspect_err(|_| arrived.snapshot.limiters.count_invalid(arrived.source))?;
    let payer = Payer::of_key(&worker.gate, key);
    arrived.noted.payer(&payer);
    Ok(Some(payer))
}

/// Who pays, as far as that is known without a payment.
#[derive(Default)]
pub(crate) struct Known {
    pub(crate) payer: Option<Payer>,
    /// The call that is counted for the payer's account.
    pub(crate) running: Option<Running>,
    /// The account that the call is to be counted for when its credential's holder has proven himself: a thief who has the
    /// credential alone fills none of its limits.
    counts: Option<AccountId>,
    /// A credential of L402 that was paid.
    pub(super) token: Option<Rc<OpenToken>>,
    /// What it is to bring in, and how often it does.
    pub(super) brings: Option<(TokenUse, Spends)>,
    /// Which challenge of the `Payment` scheme was answered.
    pub(crate) told: Option<Told>,
    /// Why a wallet could not sign in, or a token is not taken. A payment would help.
    pub(crate) refused: Option<Refusal>,
}

impl Known {
    /// Whether nothing that pays was shown, good or bad.
    pub(super) const fn is_nobody(&self) -> bool {
        self.payer.is_none() && self.token.is_none() && self.brings.is_none() && self.refused.is_none()
    }

    /// Whether key or token cover this call. A token of a payment that is not a deposit yet is to bring that in; where each
    /// call costs the same, it does so for one call.
    ///
    /// # Errors
    /// They do not, and paying would not help.
    pub(crate) fn permit(
        &mut self,
        gate: &Gate,
        arrived: &Arrived,
        route: &Route,
        quote: &Quote,
        content: Content<'_>,
    ) -> Result<(), Refusal> {
        self.covers(gate, arrived, route, quote, content)?;
        if let Some(id) = self.counts.take() {
            self.running = Some(account(gate, arrived, id)?);
        }
        Ok(())
    }

    fn covers(
        &mut self,
        gate: &Gate,
        arrived: &Arrived,
        route: &Route,
        quote: &Quote,
        content: Content<'_>,
    ) -> Result<(), Refusal> {
        if let Some(payer) = &self.payer {
            payer.proves_holder(gate, arrived, content)?;
            payer.permits(arrived, route, quote)?;
            if let Some(crawl) = &arrived.identity.crawl
                && let Err(refusal) = crawl.check(gate, arrived, route, quote, payer)
            {
                return self.refuse(refusal);
            }
        }
        let rules = arrived.snapshot.config.rails.l402.as_ref();
        let Some((open, rules)) = self.token.as_ref().zip(rules).filter(|_| !quote.is_free()) else {
            return Ok(());
        };
        let using = match open.permits(gate, arrived, rules, (route, quote.model()), content) {
            Ok(using) => using,
            Err(refusal) => return self.refuse(refusal),
        };
        let has_key = self.payer.as_ref().is_some_and(|payer| payer.token.is_none() && payer.key.is_some());
        let is_single =
            matches!(route.price, RoutePrice::PerCall(_)) && rules.fixed_price == FixedPrice::Single;
        match &mut self.payer {
            Some(payer) if !has_key && !is_single => payer.token = Some(using),
            Some(_) | None => {
                if !has_key {
                    self.payer = None;
                }
                let spends = if is_single { Spends::OnceCharged } else { Spends::Again };
                self.brings = Some((using, spends));
            }
        }
        Ok(())
    }

    /// The token is not taken: told with our offers, where paying anew helps.
    fn refuse(&mut self, refusal: Refusal) -> Result<(), Refusal> {
        if !refusal.is_payable() {
            return Err(refusal);
        }
        (self.payer, self.refused) = (None, Some(refusal));
        Ok(())
    }
}

/// The credential of L402, if there is one and it was paid. A line that cannot be read counts only where nothing else
/// pays (reference item 20).
fn token(
    worker: &Worker,
    arrived: &Arrived,
    presented: &Presented,
) -> Result<(Option<Rc<OpenToken>>, Option<Refusal>), Refusal> {
    if !presented.token || arrived.snapshot.config.rails.l402.is_none() {
        return Ok((None, None));
    }
    let verified = worker.tokens.verify(&worker.gate, &arrived.head.headers);
    worker.gate.metrics.proof(lightning::PROTOCOL, if verified.is_ok() { "good" } else { "bad" });
    match verified {
        Ok(Some(_)) if presented.has_payment() => {
            Err(Refusal::new(Code::AmbiguousCredentials, "The request carries two payments."))
        }
        Ok(open) => Ok((open, None)),
        Err(refusal) => {
            arrived.snapshot.limiters.count_invalid(arrived.source);
            let is_unread = refusal.code() == Code::MalformedCredential;
            if is_unread && (presented.has_payment() || presented.key.is_some()) {
                return Ok((None, None));
            }
            if refusal.is_payable() { Ok((None, Some(refusal))) } else { Err(refusal) }
        }
    }
}

/// The holder of the credit key, or the wallet that signs in. A key or a payment beside a sign-in decides alone, and
/// the sign-in is not used up.
pub(crate) fn known(worker: &Worker, arrived: &Arrived, presented: &Presented) -> Result<Known, Refusal> {
    if let Some(crawl) = &arrived.identity.crawl {
        return crawler(&worker.gate, arrived, presented, crawl);
    }
    let (token, refused) = token(worker, arrived, presented)?;
    let of_key = unproven_payer(worker, arrived, presented)?;
    let is_told = of_key.is_some() || token.is_some() || refused.is_some();
    let of_token = || Payer::of_token(&worker.gate, token.as_ref()?);
    // A token that is not taken beside a key: whoever sent it meant to pay with it.
    let payer = of_key.or_else(of_token).filter(|_| refused.is_none());
    if is_told {
        let payer_id = payer.as_ref().map(|payer| payer.account.id());
        let id = payer_id.or_else(|| token.as_ref().map(|token| token.account()));
        let of_key = payer.as_ref().and_then(|payer| payer.key.as_ref()).and_then(|key| key.holder);
        let is_bound =
            of_key.is_some() || token.as_ref().is_some_and(|token| token.verified.holder().is_some());
        let limiters = &arrived.snapshot.limiters;
        let (counts, running) = match (&payer, id) {
            (_, id) if is_bound => (id, None),
            (Some(payer), _) => (None, Some(limiters.call(&payer.account)?)),
            (None, Some(id)) => (None, Some(account(&worker.gate, arrived, id)?)),
            (None, None) => (None, None),
        };
        if token.is_some() {
            arrived.noted.protocol(lightning::PROTOCOL);
        }
        return Ok(Known { payer, running, counts, token, refused, ..Known::default() });
    }
    let answer = sign_in::answered(&arrived.snapshot, &arrived.head.headers);
    let Some(answer) = answer.filter(|_| presented.is_empty()) else { return Ok(Known::default()) };
    match sign_in::open(&worker.gate, &arrived.snapshot, arrived.source, answer, arrived.now) {
        Ok(Opened { payer, running }) => {
            arrived.noted.payer(&payer);
            Ok(Known { payer: Some(payer), running: Some(running), ..Known::default() })
        }
        Err(refusal) if refusal.is_payable() => Ok(Known { refused: Some(refusal), ..Known::default() }),
        Err(refusal) => Err(refusal),
    }
}

/// The account that a signature debits. A credential beside it would leave open what pays.
fn crawler(gate: &Gate, arrived: &Arrived, presented: &Presented, crawl: &Crawl) -> Result<Known, Refusal> {
    if !presented.is_empty() {
        let detail = "The request accepts a price for crawlers and carries a credential.";
        return Err(Refusal::new(Code::AmbiguousCredentials, detail));
    }
    let payer = crawl.payer(gate)?;
    let running = arrived.snapshot.limiters.call(&payer.account)?;
    arrived.noted.payer(&payer);
    Ok(Known { payer: Some(payer), running: Some(running), ..Known::default() })
}
