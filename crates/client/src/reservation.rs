//! What one call has reserved in the budget, from before it may cost anything until it is known what it came to.

use std::path::PathBuf;

use http::{HeaderMap, Method, StatusCode};
use money::{Amount, Asset, Decimal};
use wire::hex;

use crate::budget::{Budget, BudgetError, Claim, Host, Over, Shape, Spent};
use crate::challenge::{Challenge, Said};
use crate::channel::{self, Standing};
use crate::client::Client;
use crate::error::CallError;
use crate::folder::{FileError, Folder};
use crate::offer::{Entry, Offer, Scheme, Way};
use crate::policy::{Choice, PolicyError};
use crate::receipt::Receipt;
use crate::{Policy, Request, now_unix_s};

/// A header that only a gateway sets that names a receipt whenever it charges.
const CALL_HEADER: &str = "farthing-request-id";

/// A reservation. Dropped without a word it counts as spent.
#[derive(Clone, Debug)]
pub(crate) struct Reservation {
    file: PathBuf,
    id: String,
    host: Host,
    pub(crate) amount: Amount,
    /// The cap that made it less than the caller allows.
    narrowed_by: Option<Box<Over>>,
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Nothing was taken: the payment never left, or the seller says that it charged the key nothing.
    Nothing,
    /// The key is not known to its seller. Nothing was taken.
    KeyRefused,
    /// The payment was refused, or nobody says what became of it. Either way somebody else holds it.
    Open,
    /// So much left the wallet; whether the call is served is told later.
    Paid(Amount),
    /// Served, and a receipt will say what it cost.
    Served,
    /// Served, and it cost what was reserved.
    ServedInFull,
    /// So much, by its receipt.
    Charged(Amount),
    /// So much, by a channel's own sums.
    Drawn(Amount),
    /// So much of what was signed was taken, and so much was used.
    Took(Spent),
    /// A receipt was shown that does not stand.
    BadReceipt,
}

impl Reservation {
    /// The reservation that an earlier process made for a payment it left.
    pub(crate) fn of_earlier(folder: &Folder, request: &Request, id: &str) -> Option<Self> {
        let host = Host::of(&request.target).ok()?;
        let (file, id) = (folder.budget_file(), id.to_owned());
        Some(Self { file, id, host, amount: Amount::ZERO, narrowed_by: None })
    }

    /// What a payment is filed with.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Writes down what became of the call.
    pub(crate) fn end(&self, end: End) -> Result<(), FileError> {
        let (id, host, now) = (&self.id, &self.host, now_unix_s());
        Budget::change(&self.file, |budget| match end {
            End::Nothing => budget.release(id),
            End::KeyRefused => {
                budget.release(id);
                budget.fail(host, now);
            }
            End::Open | End::BadReceipt => budget.fail(host, now),
            End::Paid(paid) => budget.pay(id, paid),
            End::Served => budget.serve(host),
            End::ServedInFull => {
                budget.serve(host);
                budget.close(id);
            }
            End::Charged(charged) => budget.charge(id, charged),
            End::Drawn(charged) => {
                budget.serve(host);
                budget.charge(id, charged);
            }
            End::Took(came_to) => {
                budget.serve(host);
                budget.settle(id, came_to);
            }
        })
    }

    /// The reservation, if it is whole.
    pub(crate) fn whole(self) -> Result<Self, CallError> {
        match self.narrowed_by {
            None => Ok(self),
            Some(by) => Err(BudgetError::Over(by).into()),
        }
    }

    /// That a key was refused because the budget made it too narrow.
    pub(crate) fn too_narrow(&self, said: &Said) -> Option<CallError> {
        let by = self.narrowed_by.clone().filter(|_| said.limit_source == "per_call")?;
        Some(BudgetError::Over(by).into())
    }
}

impl End {
    /// Of a call that a key paid, by the head of its answer. What the seller does not name stays spent.
    pub(crate) fn of_key(status: StatusCode, headers: &HeaderMap, has_receipt: bool) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::KeyRefused,
            StatusCode::PAYMENT_REQUIRED | StatusCode::FORBIDDEN => Self::Nothing,
            _ if has_receipt => Self::Served,
            _ if headers.contains_key(CALL_HEADER) => Self::Nothing,
            _ => Self::ServedInFull,
        }
    }
}

impl Receipt {
    /// What the call was charged, in dollars; `None` where it says no such amount.
    pub(crate) fn charged_nano(&self) -> Option<Amount> {
        let charged = self.charged()?;
        let asset = Asset::from_name(&charged.currency).filter(|asset| asset.is_dollar_parity())?;
        let units = Decimal::parse(&charged.amount).ok()?.exact(asset.exponent())?;
        Amount::from_wide(units).ok()
    }
}

impl Client {
    fn budget(&self) -> Result<Budget, CallError> {
        let file = self.folder.as_ref().map(Folder::budget_file);
        Ok(file.map(|file| Budget::load(&file)).transpose()?.unwrap_or_default())
    }

    /// Refuses a credential of the caller's own where there is a budget: it can be neither narrowed nor counted.
    pub(crate) fn check_own(&self, request: &Request) -> Result<(), CallError> {
        if !request.brings_key() && !request.brings_payment() {
            return Ok(());
        }
        let budget = self.budget()?;
        if Host::of(&request.target).map_or(true, |host| budget.limits(&host)) {
            return Err(BudgetError::OwnCredential.into());
        }
        Ok(())
    }

    /// That the host is one that may be paid.
    pub(crate) fn permit(&self, request: &Request) -> Result<(), CallError> {
        Ok(self.budget()?.permit(&host_of(request)?)?)
    }

    /// The caller's policy within the budget's caps of a call.
    pub(crate) fn policy_for(&self, request: &Request) -> Result<Policy, CallError> {
        Ok(self.budget()?.narrow(&host_of(request)?, self.policy.clone()))
    }

    /// What a call would pay, if it may. Nothing is signed, and nothing is reserved.
    ///
    /// # Errors
    /// [`CallError::Policy`] or [`CallError::Budget`], as [`Client::call`] would say.
    pub fn choose<'c>(&self, request: &Request, challenge: &'c Challenge) -> Result<Choice<'c>, CallError> {
        let chosen = self.choose_within_caps(request, challenge)?;
        self.try_reserving(request, &chosen)?;
        Ok(chosen)
    }

    /// The offer within the caller's policy and the budget's caps of a call.
    pub(crate) fn choose_within_caps<'c>(
        &self,
        request: &Request,
        challenge: &'c Challenge,
    ) -> Result<Choice<'c>, CallError> {
        let policy = self.policy_for(request)?;
        let standings = self.standings(request, challenge, &policy)?;
        let chosen = policy.choose(challenge, &standings);
        if let Err(PolicyError::OverCap { price, .. }) = &chosen
            && *price <= self.policy.max
        {
            // Not the caller's cap, so one of the budget: let it say which.
            let (host, shape) = (host_of(request)?, Shape::of(&host_of(request)?, request));
            let claim = payment(asks_the_gateway(request), *price, &shape);
            self.budget()?.reserve("", &host, &claim, now_unix_s())?;
        }
        Ok(chosen?)
    }

    /// What paying each offer from a channel takes; `None` for those that are paid otherwise, and where there is
    /// no folder to keep a channel in.
    pub(crate) fn standings(
        &self,
        request: &Request,
        challenge: &Challenge,
        policy: &Policy,
    ) -> Result<Vec<Option<Standing>>, CallError> {
        let (Some(wallet), Some(folder)) = (&self.wallet, &self.folder) else {
            // Who has a Lightning wallet and no other pays invoices and nothing else.
            let is_invoice = |offer: &Offer| matches!(offer.entry, Entry::L402(_));
            let standing = |offer: &Offer| (!is_invoice(offer)).then_some(Standing::NoKey);
            let only_lightning = self.lightning.is_some() && self.wallet.is_none();
            return Ok(if only_lightning { challenge.offers.iter().map(standing).collect() } else { vec![] });
        };
        let mut standings = Vec::new();
        for offer in &challenge.offers {
            let standing = match &offer.terms {
                Ok(terms) => match &terms.way {
                    Way::Channel(channel) => {
                        let most = terms.atomic_within(policy.deposit_most());
                        Some(channel::standing(folder, request, (terms, channel), wallet, most)?)
                    }
                    Way::Solana(_) if wallet.solana.is_none() => Some(Standing::NoKey),
                    Way::Solana(solana) if solana.blockhash.is_none() => Some(Standing::NoBlockhash),
                    Way::Transfer(_) | Way::Permit { .. } | Way::Solana(_) | Way::Invoice(_) => None,
                },
                Err(_) => None,
            };
            standings.push(standing);
        }
        Ok(standings)
    }

    /// Whether the budget has room for a payment, as things are now.
    fn try_reserving(&self, request: &Request, choice: &Choice<'_>) -> Result<(), CallError> {
        let host = host_of(request)?;
        let shape = shape_of(&host, request, choice);
        self.budget()?.reserve("", &host, &claim(request, choice, &shape), now_unix_s())?;
        Ok(())
    }

    /// Reserves the price of a payment that is about to be signed.
    pub(crate) fn reserve_payment(
        &self,
        request: &Request,
        choice: &Choice<'_>,
    ) -> Result<Option<Reservation>, CallError> {
        let shape = shape_of(&host_of(request)?, request, choice);
        self.reserve(request, &claim(request, choice, &shape))
    }

    /// Reserves the price of a call that a key is about to pay which cannot be narrowed.
    pub(crate) fn reserve_priced(
        &self,
        request: &Request,
        price: Amount,
    ) -> Result<Option<Reservation>, CallError> {
        let shape = Shape::of(&host_of(request)?, request);
        self.reserve(request, &Claim::Priced { price, shape: &shape })
    }

    /// Reserves what a key may spend on one call: `most`, or what is left; nothing where nothing is for sale.
    pub(crate) fn reserve_narrowed(
        &self,
        request: &Request,
        most: Amount,
    ) -> Result<Option<Reservation>, CallError> {
        let most = if asks_the_gateway(request) { Amount::ZERO } else { most };
        self.reserve(request, &Claim::Narrowed { most })
    }

    /// Without a folder there is no budget.
    fn reserve(&self, request: &Request, claim: &Claim<'_>) -> Result<Option<Reservation>, CallError> {
        let Some(folder) = &self.folder else { return Ok(None) };
        let (file, host) = (folder.budget_file(), host_of(request)?);
        let mut id = [0; 8];
        getrandom::fill(&mut id).map_err(|_| CallError::Randomness)?;
        let id = hex::encode(&id);
        let granted = Budget::change(&file, |budget| budget.reserve(&id, &host, claim, now_unix_s()))??;
        let (amount, narrowed_by) = (granted.amount, granted.narrowed_by);
        Ok(Some(Reservation { file, id, host, amount, narrowed_by }))
    }
}

fn shape_of(host: &Host, request: &Request, choice: &Choice<'_>) -> Shape {
    let shape = Shape::of(host, request);
    if choice.terms.scheme() == Scheme::L402 { shape.of_invoice() } else { shape }
}

/// A call that a channel pays was paid for when the deposit was.
fn claim<'c>(request: &Request, choice: &Choice<'_>, shape: &'c Shape) -> Claim<'c> {
    let (price, deposit) = (choice.terms.price, choice.deposit);
    match choice.terms.scheme() {
        Scheme::Batch if deposit > Amount::ZERO => Claim::Deposit { deposit, price, shape },
        Scheme::Batch => Claim::Priced { price, shape },
        Scheme::Exact | Scheme::Permit2 | Scheme::Upto | Scheme::L402 => {
            payment(asks_the_gateway(request), price, shape)
        }
    }
}

/// A payment to an endpoint of the gateway itself buys no call: it is balance afterwards.
const fn payment<'c>(tops_up: bool, price: Amount, shape: &'c Shape) -> Claim<'c> {
    if tops_up { Claim::TopUp { price, shape } } else { Claim::Payment { price, shape } }
}

/// Whether a request is for an endpoint of the gateway itself, where no call is sold (reference item 10).
fn asks_the_gateway(request: &Request) -> bool {
    let path = request.target.path();
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    path.starts_with("/farthing/")
        || path.starts_with("/.well-known/")
        || (path == "/v1/models" && request.method == Method::GET)
}

fn host_of(request: &Request) -> Result<Host, CallError> {
    Host::of(&request.target).map_err(|_| BudgetError::Host.into())
}
