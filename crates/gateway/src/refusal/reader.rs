//! Who reads a refusal: an SDK that knows errors of its provider's shape, or a client of gRPC, which reads trailers.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Uri, header};
use meter::{Dialect, Sdk};
use wire::l402::grpc::Trailers;

use super::Refusal;
use crate::call_id::CallId;
use crate::exchange::is_grpc;

/// Clients of gRPC refuse metadata beyond 8 KiB: an offer that leaves no room for the rest is left out.
const OFFER_BYTES_MAX: usize = 4096;

/// Whom an answer is for. Of an SDK the path of its request tells which one it is, when there is something to tell it.
#[derive(Clone, Debug)]
pub(crate) enum Reader {
    Sdk(Uri),
    Grpc,
}

impl Reader {
    pub(crate) fn of<B>(request: &Request<B>) -> Self {
        if is_grpc(request.version(), request.headers()) {
            return Self::Grpc;
        }
        Self::Sdk(request.uri().clone())
    }
}

impl Refusal {
    pub(crate) fn told_to(self, reader: Reader, call: CallId) -> Response<Bytes> {
        match reader {
            Reader::Sdk(uri) => {
                self.response(Dialect::from_path(uri.path()).map_or(Sdk::OpenAi, Dialect::sdk), call)
            }
            Reader::Grpc => self.into_trailers(call),
        }
    }

    /// Nothing but trailers, which are headers then: the status that stands for the one of HTTP, and in a 402 the lines that
    /// an L402 client looks for.
    fn into_trailers(self, call: CallId) -> Response<Bytes> {
        let status = self.code().status();
        let (money, money_text) = self.0.money.facts();
        let code = self.code().name();
        let trailers = Trailers::of_http(status.as_u16(), &format!("{} {money_text}", self.0.detail));

        let mut response = self.response(Sdk::OpenAi, call).map(|_| Bytes::new());
        *response.status_mut() = StatusCode::OK;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.remove(header::ACCESS_CONTROL_EXPOSE_HEADERS);
        if headers.get("payment-required").is_some_and(|offer| offer.len() > OFFER_BYTES_MAX) {
            headers.remove("payment-required");
        }
        headers.insert("farthing-code", HeaderValue::from_static(code));
        headers.insert("farthing-money", HeaderValue::from_static(money));
        for (name, value) in trailers.lines() {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }

        response
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Request, Version, header};

    use super::Reader;
    use crate::call_id::CallId;
    use crate::refusal::{Code, Refusal};

    #[test]
    fn who_reads() {
        for (version, kind, is_grpc) in [
            (Version::HTTP_2, "application/grpc+proto", true),
            (Version::HTTP_2, "application/json", false),
            (Version::HTTP_2, "application/grpc-web", false),
            (Version::HTTP_11, "application/grpc", false),
        ] {
            let request =
                Request::post("/a.B/C").version(version).header("content-type", kind).body(()).unwrap();
            assert_eq!(matches!(Reader::of(&request), Reader::Grpc), is_grpc, "{kind}");
        }
    }

    /// L402-2: a call that has to be paid for is told so in the words that clients look for.
    #[test]
    fn l402_2_a_refused_grpc_call_gets_trailers() {
        let challenge = HeaderValue::from_static("L402 macaroon=\"a\"");
        for (code, status, message) in [
            (Code::PaymentRequired, "13", "payment required"),
            (Code::InsufficientBalance, "13", "payment required"),
            (Code::KeyUnknown, "16", "why. Nothing was taken."),
            (Code::KeyForbidden, "7", "why. Nothing was taken."),
            (Code::RouteNotFound, "12", "why. Nothing was taken."),
            (Code::UpstreamFailed, "14", "why. Nothing was taken."),
            (Code::BodyTooLarge, "2", "why. Nothing was taken."),
        ] {
            let refusal = Refusal::new(code, "why.").header(header::WWW_AUTHENTICATE, challenge.clone());
            let told = refusal.told_to(Reader::Grpc, CallId::fresh());
            assert_eq!((told.status().as_u16(), told.body().len()), (200, 0));
            let text = |name: &str| told.headers()[name].to_str().unwrap();
            assert_eq!((text("grpc-status"), text("grpc-message")), (status, message));
            assert_eq!((text("farthing-code"), text("farthing-money")), (code.name(), "nothing_taken"));
            assert_eq!(told.headers()["www-authenticate"], challenge);
        }
    }
}
