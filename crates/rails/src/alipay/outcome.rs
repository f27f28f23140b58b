//! What came of a call.

use wire::alipay::{AnswerError, Method, Refusal, TurnedAway};

/// What is known after a call. There is no fourth one (RAIL-15).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome<T> {
    /// Alipay has said so, and signed it.
    Decided(T),
    /// Alipay has decided against it, and signed that: under this number it is not done.
    Refused(Refusal),
    /// It may be done or not. The same call is made again, with the same numbers, until it is known.
    Unknown(NoVerdict),
}

/// Why nothing is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoVerdict {
    /// Nothing left this process.
    NotSent,
    /// Sent, or partly sent, and no whole answer in time.
    NoAnswer,
    /// An answer that is no 200.
    Status(u16),
    /// Not the answer to this call, or unsigned.
    Malformed(AnswerError),
    /// Signed by nobody whom we believe.
    Forged,
    /// Alipay did not look into it: our app, its key or its rights, or too many calls.
    TurnedAway(TurnedAway),
    /// Alipay itself does not know, or what it says is not about what was asked.
    Undecided,
}

impl NoVerdict {
    /// One line for the operator, louder where only he can help.
    pub(super) fn log(&self, method: Method) {
        let method = method.name();
        match self {
            Self::NotSent => tracing::warn!(method, "Alipay was not reached"),
            Self::NoAnswer => tracing::warn!(method, "Alipay did not answer in time"),
            Self::Status(status) => tracing::warn!(method, status, "Alipay did not answer with 200"),
            Self::Undecided => tracing::warn!(method, "Alipay did not say what became of a call"),
            Self::Malformed(why) => tracing::error!(method, %why, "ALARM: no answer of Alipay's"),
            Self::Forged => tracing::error!(method, "ALARM: an answer is not signed by Alipay's key"),
            Self::TurnedAway(TurnedAway { code, sub_code }) => {
                tracing::error!(method, code, sub_code, "ALARM: Alipay does not take our calls");
            }
        }
    }
}
