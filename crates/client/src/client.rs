//! The client: its means, its limits, and what it lets a caller see.

use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};
use rails::dial::Dialer;
use wire::l402::PaymentHash;

use crate::attested::{Attested, AttestedError};
use crate::challenge::Challenge;
use crate::connection::Body;
use crate::error::CallError;
use crate::folder::{FileError, Folder};
use crate::kept::KeptReceipt;
use crate::keyring::{self, Key};
use crate::lightning::Lightning;
use crate::offer::Offer;
use crate::payment::Payment;
use crate::policy::Policy;
use crate::promise::{self, Promise};
use crate::receipt::{self, Receipt, ReceiptError, ReceiptRef};
use crate::reservation::End;
use crate::verdict::Paid;
use crate::{Request, Secret, Signer, Target, Wallet};

/// Sees the steps of a call as they happen.
pub type See<'s> = dyn FnMut(Step<'_>) + 's;

/// Calls sellers and pays them. Without a wallet or a key it only asks.
#[derive(Debug)]
pub struct Client {
    pub(crate) dialer: Dialer,
    pub(crate) policy: Policy,
    pub(crate) patience: Patience,
    pub(crate) wallet: Option<Wallet>,
    pub(crate) folder: Option<Folder>,
    pub(crate) key: Option<Key>,
    pub(crate) save_keys: bool,
    pub(crate) solana_node: Option<Target>,
    pub(crate) lightning: Option<Lightning>,
    pub(crate) signer: Option<Signer>,
}

/// How long we wait for what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// From sending a request to the head of its answer.
    pub head_max: Duration,
    /// Between two chunks of a body.
    pub idle_max: Duration,
    /// How often a payment of unknown outcome is sent again within one call.
    pub replays: u32,
    /// Before the first replay when the seller names no time; doubled for each further one.
    pub wait_min: Duration,
    /// A seller that asks for more than this is not waited for.
    pub wait_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head_max: Duration::from_secs(600),
            idle_max: Duration::from_secs(300),
            replays: 4,
            wait_min: Duration::from_secs(1),
            wait_max: Duration::from_secs(60),
        }
    }
}

/// What a call does, while it does it.
#[derive(Debug)]
pub enum Step<'a> {
    /// A request goes out.
    Request {
        /// GET, POST ...
        method: &'a Method,
        /// Absolute.
        url: String,
        /// Names of the credential headers it carries.
        credentials: Vec<&'a str>,
    },
    /// A 402 came.
    Challenge(&'a Challenge),
    /// A payment was signed and written down, and goes out next.
    Paying {
        /// The chosen offer.
        offer: &'a Offer,
        /// The header.
        payment: &'a Payment,
    },
    /// An invoice was written down, and is paid next.
    PayingInvoice {
        /// The chosen offer.
        offer: &'a Offer,
        /// Names the payment.
        payment_hash: &'a PaymentHash,
        /// What the way may cost, millisatoshi.
        fee_max_msat: u64,
    },
    /// The invoice is paid; the proof goes to the seller next.
    InvoicePaid {
        /// Names the payment.
        payment_hash: &'a str,
        /// What the way cost, millisatoshi.
        fee_msat: u64,
    },
    /// A token that was paid for earlier goes out.
    Token {
        /// Names its payment.
        payment_hash: &'a str,
    },
    /// The seller did not take that token.
    TokenRefused {
        /// 402: used up, or not good here. 401, 403: not good here.
        status: StatusCode,
    },
    /// The token that was paid for was kept for this origin.
    TokenSaved,
    /// An earlier run left a payment for this request: the same one goes out again.
    Resuming {
        /// `0.02 TEST to ...`
        paid: &'a str,
    },
    /// The outcome is unknown; the same payment goes out again after a pause.
    Waiting {
        /// The pause.
        pause: Duration,
        /// What happened.
        why: &'a str,
    },
    /// The head of the final answer.
    Response {
        /// Status.
        status: StatusCode,
        /// Without the credit key.
        headers: &'a HeaderMap,
    },
    /// A credit key came with the answer and was kept for this origin.
    KeySaved,
    /// Something about our own files went wrong that does not concern this call.
    Warning(&'a FileError),
    /// What the seller says does not fit what was agreed. Nothing more than that was signed.
    Doubt(&'a str),
    /// The receipt, checked.
    Receipt(&'a Receipt),
}

/// The final answer of a call. Its body is still arriving.
#[derive(Debug)]
pub struct Response {
    /// Status. A status of 400 or above is an answer too, unless it is about the payment.
    pub status: StatusCode,
    /// Without the credit key.
    pub headers: HeaderMap,
    /// As it arrives.
    pub body: Body,
    /// What happened to the money.
    pub paid: Paid,
    /// The credit key that came with the answer. It opens the balance: a secret.
    pub key: Option<Secret>,
    /// Where the receipt is; there once the body has ended.
    pub receipt: Option<ReceiptRef>,
    /// What the seller signed about the payment, by itself and not as a receipt of ours. Not checked.
    pub attested: Option<Attested>,
    /// What the seller may still take, and has not told yet.
    pub(crate) promise: Option<Promise>,
}

/// What a call would cost.
#[derive(Debug)]
pub struct Quote {
    /// Of the unpaid request.
    pub status: StatusCode,
    /// The offers; `None` if nothing is asked for.
    pub challenge: Option<Challenge>,
    /// A credit key is at hand and would be used first.
    pub has_key: bool,
    /// A token that was paid for is at hand and would be tried first.
    pub has_token: bool,
    /// An earlier run left a payment for this request, which would be sent again.
    pub pending: Option<String>,
}

impl Client {
    /// A client that can ask, and pays nothing.
    #[must_use]
    pub fn new(dialer: Dialer, policy: Policy) -> Self {
        let patience = Patience::default();
        Self {
            dialer,
            policy,
            patience,
            wallet: None,
            folder: None,
            key: None,
            save_keys: true,
            solana_node: None,
            lightning: None,
            signer: None,
        }
    }

    /// Pays from this wallet.
    #[must_use]
    pub fn with_wallet(mut self, wallet: Wallet) -> Self {
        self.wallet = Some(wallet);
        self
    }

    /// Keeps credit keys, pins and pending payments there, and pays within the budget that is there. Without a
    /// folder no payment is signed, and a given key is held to the policy only.
    #[must_use]
    pub fn with_folder(mut self, folder: Folder) -> Self {
        self.folder = Some(folder);
        self
    }

    /// Pays with this credit key first.
    #[must_use]
    pub fn with_key(mut self, key: Key) -> Self {
        self.key = Some(key);
        self
    }

    /// Does not keep credit keys that come with answers.
    #[must_use]
    pub const fn without_saving_keys(mut self) -> Self {
        self.save_keys = false;
        self
    }

    /// Asks this node for a blockhash where an offer on Solana names none.
    #[must_use]
    pub fn with_solana_node(mut self, node: Target) -> Self {
        self.solana_node = Some(node);
        self
    }

    /// Pays invoices with this wallet.
    #[must_use]
    pub fn with_lightning(mut self, wallet: Lightning) -> Self {
        self.lightning = Some(wallet);
        self
    }

    /// Signs requests: for keys that are bound to its key pair, and as an agent where it is one.
    #[must_use]
    pub fn with_signer(mut self, signer: Signer) -> Self {
        self.signer = Some(signer);
        self
    }

    /// Waits differently.
    #[must_use]
    pub const fn with_patience(mut self, patience: Patience) -> Self {
        self.patience = patience;
        self
    }

    /// The limits.
    #[must_use]
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Asks what a call costs: one request without any credential. A seller that asks for nothing serves it.
    ///
    /// # Errors
    /// [`CallError`]; nothing was paid.
    pub async fn quote(&self, request: &Request, see: &mut See<'_>) -> Result<Quote, CallError> {
        self.check_own(request)?;
        let pending = self.left_over(request)?.map(|pending| pending.paid().to_owned());
        let has_key = self.key_for(request)?.is_some();
        let has_token = self.token_for(request)?.is_some();
        let answer =
            self.ask(request, &[], see).await.map_err(|error| CallError::Network(error.to_string()))?;
        let status = answer.status;
        let challenge = match status {
            StatusCode::PAYMENT_REQUIRED => Some(self.read_challenge(answer, see).await?),
            _ => None,
        };
        Ok(Quote { status, challenge, has_key, has_token, pending })
    }

    /// Fetches and checks the receipt of a call whose body has ended. What it says was charged takes the place
    /// of what the call reserved in the budget.
    ///
    /// # Errors
    /// [`ReceiptError`]; the call itself is not affected.
    pub async fn receipt(&self, reference: &ReceiptRef, see: &mut See<'_>) -> Result<Receipt, ReceiptError> {
        let pins = self.folder.as_ref().map(Folder::trust_file);
        let fetched = reference.fetch(&self.dialer, pins.as_deref(), self.signer.as_ref()).await;
        let end = match &fetched {
            Ok((receipt, _)) => receipt.charged_nano().map(|charged| match &reference.metered {
                Some(sum) => promise::took(sum, charged),
                None => End::Charged(charged),
            }),
            Err(error) => error.is_refused().then_some(End::BadReceipt),
        };
        if let Some(end) = end {
            self.end(reference.reserved.as_ref(), end, see);
        }
        let (receipt, kept) = fetched?;
        if let Some(folder) = &self.folder
            && let Err(error) = kept.save(&folder.receipts_folder())
        {
            see(Step::Warning(&error));
        }
        see(Step::Receipt(&receipt));
        Ok(receipt)
    }

    /// Checks what the seller signed about a payment, by the keys that he publishes himself.
    ///
    /// # Errors
    /// [`AttestedError`]; the call itself is not affected.
    pub async fn check_attested(&self, request: &Request, attested: &Attested) -> Result<(), AttestedError> {
        attested.check(&request.target, &self.dialer).await
    }

    /// Fetches the proof that the seller's journal has a kept receipt's charge, for [`KeptReceipt::verify`].
    ///
    /// # Errors
    /// [`ReceiptError`]; the receipt is as it was.
    pub async fn fetch_proof(&self, kept: &KeptReceipt) -> Result<KeptReceipt, ReceiptError> {
        let network = |error: String| ReceiptError::Network(error);
        let origin = Target::parse(&kept.origin).map_err(|error| network(error.to_string()))?;
        if !origin.may_carry_credentials() {
            return Err(network(CallError::ClearText(kept.origin.clone()).to_string()));
        }
        let file = self.folder.as_ref().map(Folder::keys_file);
        let key = match (&self.key, file) {
            (Some(key), Some(file)) => {
                let known = keyring::pin(&file, &kept.origin, key)?;
                known.map(|()| Some(key.clone())).unwrap_or_default()
            }
            (None, Some(file)) => keyring::saved_for(&file, &kept.origin)?,
            (_, None) => None,
        };
        let key = key.ok_or(ReceiptError::NoKey)?;
        let proof =
            receipt::fetch_proof(&self.dialer, &origin, &kept.id, key.text(), self.signer.as_ref()).await?;
        Ok(kept.clone().with_proof(proof))
    }

    /// The credit key for a request: the given one, else the one its origin gave us.
    pub(crate) fn key_for(&self, request: &Request) -> Result<Option<Key>, CallError> {
        let origin = request.target.origin_text();
        let file = self.folder.as_ref().map(Folder::keys_file);
        // With a credential of the caller's own in it we add none.
        if request.brings_key() || request.brings_payment() {
            return Ok(None);
        }
        let Some(key) = &self.key else {
            let file = file.filter(|_| request.target.may_carry_credentials());
            return Ok(file.map(|file| keyring::saved_for(&file, &origin)).transpose()?.flatten());
        };
        if !request.target.may_carry_credentials() {
            return Err(CallError::ClearText(origin));
        }
        if let Some(holder) = key.holder_is_not(self.signer.as_ref()) {
            return Err(CallError::NotHolder(holder));
        }
        if let Some(file) = file {
            keyring::pin(&file, &origin, key)?
                .map_err(|known| CallError::KeyOfAnotherOrigin { known, asked: origin })?;
        }
        Ok(Some(key.clone()))
    }
}
