//! Which fields of a gRPC call's metadata may be the application's own.

/// Whether a field of metadata may be the application's own: nothing that frames a message, names a party, or pays.
pub(crate) fn is_custom(name: &str) -> bool {
    const NOT: [&str; 33] = [
        "accept",
        "accept-encoding",
        "alt-svc",
        "api-key",
        "connection",
        "cookie",
        "date",
        "expect",
        "expires",
        "forwarded",
        "host",
        "idempotency-key",
        "keep-alive",
        "link",
        "location",
        "macaroon",
        "max-forwards",
        "origin",
        "referer",
        "retry-after",
        "server",
        "set-cookie",
        "settlement-overrides",
        "te",
        "token",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "via",
        "www-authenticate",
        "x-api-key",
        "x-goog-api-key",
    ];
    const FAMILIES: [&str; 15] = [
        ":",
        "access-control-",
        "authorization",
        "authentication-",
        "content-",
        "crawler-",
        "farthing-",
        "grpc-",
        "openai-",
        "payment",
        "proxy-",
        "sec-",
        "sign",
        "x-forwarded",
        "x-ratelimit",
    ];
    const PAYMENTS: [&str; 3] = ["x-payment", "x-cashu", "x-real-ip"];
    !(NOT.contains(&name)
        || FAMILIES.iter().chain(&PAYMENTS).any(|family| name.starts_with(family))
        || name.ends_with("-bin"))
}

#[cfg(test)]
mod tests {
    use super::is_custom;

    #[test]
    fn what_frames_names_or_pays_is_not_the_applications() {
        for (name, expected) in [
            ("x-request-cost", true),
            ("model-version", true),
            ("tokenizer", true),
            ("token", false),
            ("authorization", false),
            ("www-authenticate", false),
            ("payment-required", false),
            ("x-payment-response", false),
            ("set-cookie", false),
            ("farthing-charge", false),
            ("grpc-status", false),
            ("content-length", false),
            ("signature-input", false),
            ("trace-bin", false),
            (":status", false),
        ] {
            assert_eq!(is_custom(name), expected, "{name}");
        }
    }
}
