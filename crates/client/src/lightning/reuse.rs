//! Calls with a token that was paid for earlier: nothing is paid, and what the seller makes of it is remembered.

use http::StatusCode;

use super::{Token, tokens};
use crate::Request;
use crate::call::{Credential, Opened, UsedKey};
use crate::client::{Client, See, Step};
use crate::connection::{Answer, SendError};
use crate::error::CallError;
use crate::pending::Pending;
use crate::reservation::{End, Reservation};

/// Who answered a call that a token was at hand for.
enum Tried {
    /// Whoever took it.
    Token(Answer, UsedKey),
    /// The seller, without it: 402, or an answer that is free.
    Without(Answer),
}

impl Client {
    /// The first request of a call without a key: with a token that was paid for, if there is one. One that is used up
    /// leaves the seller's new 402, one that is not for this path the answer of a request without it.
    pub(crate) async fn open_with_token(
        &self,
        request: &Request,
        see: &mut See<'_>,
    ) -> Result<Opened, CallError> {
        let network = |error: SendError| CallError::Network(error.to_string());
        let Some((token, credential)) = self.token_for(request)? else {
            let answer = self.ask(request, &[], see).await.map_err(network)?;
            return Ok(Opened::without(answer));
        };
        self.permit(request)?;
        Ok(match self.try_token(request, &token, credential, see).await? {
            Tried::Token(answer, used) => Opened { answer, key: Some(used), refused: false },
            Tried::Without(answer) => Opened::without(answer),
        })
    }

    async fn try_token(
        &self,
        request: &Request,
        token: &Token,
        credential: Credential,
        see: &mut See<'_>,
    ) -> Result<Tried, CallError> {
        let network = |error: SendError| CallError::Network(error.to_string());
        let reserved = match self.reserve_token(request, token, see).await? {
            Ok(reserved) => reserved,
            Err(free) => return Ok(Tried::Without(free)),
        };
        see(Step::Token { payment_hash: token.name() });
        let answer = match self.ask(request, std::slice::from_ref(&credential), see).await {
            Ok(answer) => answer,
            Err(error) => {
                if let SendError::NotSent(_) = error {
                    self.end(reserved.as_ref(), End::Nothing, see);
                }
                return Err(network(error));
            }
        };
        let status = answer.status;
        self.note_token(request, token, status, see);
        if !matches!(status.as_u16(), 401..=403) {
            return Ok(Tried::Token(answer, UsedKey { credential, asset: None, reserved }));
        }
        self.end(reserved.as_ref(), End::Nothing, see);
        see(Step::TokenRefused { status });
        if status == StatusCode::PAYMENT_REQUIRED {
            return Ok(Tried::Without(answer));
        }
        Ok(Tried::Without(self.ask(request, &[], see).await.map_err(network)?))
    }

    /// Sets aside what a call may take of a token, where that has not counted yet. `Err(answer)` if the call is free.
    async fn reserve_token(
        &self,
        request: &Request,
        token: &Token,
        see: &mut See<'_>,
    ) -> Result<Result<Option<Reservation>, Answer>, CallError> {
        let most = token.uncounted();
        if most == money::Amount::ZERO {
            return Ok(Ok(None));
        }
        if most > self.policy_for(request)?.unasked() {
            // The token cannot carry the cap, so the price is asked first.
            return self.admitted(request, see).await;
        }
        let Some(reserved) = self.reserve_narrowed(request, most)? else { return Ok(Ok(None)) };
        match reserved.clone().whole() {
            Ok(_) => Ok(Ok(Some(reserved))),
            Err(over) => {
                self.end(Some(&reserved), End::Nothing, see);
                Err(over)
            }
        }
    }

    /// The token that was bought, kept for later calls.
    pub(crate) fn keep_token(&self, request: &Request, pending: &Pending, metered: bool, see: &mut See<'_>) {
        let Some(token) = pending.intent().and_then(|intent| intent.bought(metered)) else { return };
        let Some(folder) = &self.folder else { return };
        let origin = request.target.origin_text();
        match tokens::save(&folder.tokens_file(), &origin, request.target.path(), token) {
            Ok(()) => see(Step::TokenSaved),
            Err(error) => see(Step::Warning(&error)),
        }
    }

    /// The token to try for a request, with what is sent.
    pub(crate) fn token_for(&self, request: &Request) -> Result<Option<(Token, Credential)>, CallError> {
        let Some(folder) = &self.folder else { return Ok(None) };
        if request.brings_key() || request.brings_payment() || !request.target.may_carry_credentials() {
            return Ok(None);
        }
        let origin = request.target.origin_text();
        let token = tokens::find(&folder.tokens_file(), &origin, request.target.path())?;
        Ok(token.and_then(|token| token.credential().map(|credential| (token, credential))))
    }

    /// Remembers what a token was good for.
    fn note_token(&self, request: &Request, token: &Token, status: StatusCode, see: &mut See<'_>) {
        let Some(folder) = &self.folder else { return };
        let (file, origin) = (folder.tokens_file(), request.target.origin_text());
        let path = request.target.path();
        let noted = match status.as_u16() {
            401..=403 => tokens::refused(&file, &origin, path, token, status),
            200..=299 => tokens::served(&file, &origin, path, token),
            _ => Ok(()),
        };
        self.note(noted, see);
    }
}
