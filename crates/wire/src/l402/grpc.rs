//! How a refusal looks to a gRPC client: HTTP 200 and trailers.
//!
//! An L402 client of gRPC recognises `payment required` by status 13 and that very message, then reads
//! `www-authenticate`. Other statuses follow the mapping that gRPC's own documentation has for HTTP.

/// Name of the status trailer.
pub const GRPC_STATUS: &str = "grpc-status";
/// Name of the message trailer.
pub const GRPC_MESSAGE: &str = "grpc-message";
/// What stands in the message when payment is asked for.
pub const PAYMENT_REQUIRED: &str = "payment required";

/// A gRPC status, as far as a refusal of ours can have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Nothing better fits.
    Unknown,
    /// Excluded, and paying would not help.
    PermissionDenied,
    /// No such method.
    Unimplemented,
    /// Also says that payment is required.
    Internal,
    /// The same call later.
    Unavailable,
    /// The credential is wrong.
    Unauthenticated,
}

/// The trailers of a refusal, or its only headers when nothing was sent before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trailers {
    /// Value of `grpc-status`.
    pub status: Status,
    /// Value of `grpc-message`, percent-encoded.
    pub message: String,
}

impl Status {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Unknown => 2,
            Self::PermissionDenied => 7,
            Self::Unimplemented => 12,
            Self::Internal => 13,
            Self::Unavailable => 14,
            Self::Unauthenticated => 16,
        }
    }

    /// What stands for an HTTP status.
    #[must_use]
    pub const fn of_http(http: u16) -> Self {
        match http {
            400 | 402 | 431 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502..=504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }
}

impl Trailers {
    /// The trailers for a refusal with this HTTP status. `text` is for people; a 402 always says
    /// [`PAYMENT_REQUIRED`], since clients look for it.
    #[must_use]
    pub fn of_http(http: u16, text: &str) -> Self {
        let text = if http == 402 { PAYMENT_REQUIRED } else { text };
        Self { status: Status::of_http(http), message: percent_encoded(text) }
    }

    /// Names and values, in the order they are sent in.
    #[must_use]
    pub fn lines(&self) -> [(&'static str, String); 2] {
        [(GRPC_STATUS, self.status.code().to_string()), (GRPC_MESSAGE, self.message.clone())]
    }
}

/// Whether a request of this `content-type` is gRPC's, and so wants its refusal as trailers. gRPC-Web is
/// another protocol.
#[must_use]
pub fn is_grpc(content_type: &str) -> bool {
    const TYPE: &str = "application/grpc";
    let media = content_type.trim_ascii().as_bytes();
    let Some((head, rest)) = media.split_at_checked(TYPE.len()) else { return false };
    head.eq_ignore_ascii_case(TYPE.as_bytes()) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// Visible ASCII and spaces stand as they are, every other byte and `%` as `%XX`.
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' | 0..b' ' | 0x7f.. => {
                encoded.push('%');
                encoded.push_str(&crate::hex::encode(&[byte]).to_ascii_uppercase());
            }
            b' '..=b'~' => encoded.push(char::from(byte)),
        }
    }
    encoded
}
