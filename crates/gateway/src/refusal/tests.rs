use super::{Code, Fault};

const ALL: [Code; 54] = [
    Code::PaymentRequired,
    Code::InsufficientBalance,
    Code::OverKeyBudget,
    Code::OverTokenBudget,
    Code::QuoteExpired,
    Code::ProofExpired,
    Code::ProofUnderpaid,
    Code::ProofInvalid,
    Code::WrongNetwork,
    Code::WrongPayee,
    Code::WrongAsset,
    Code::MalformedCredential,
    Code::AmbiguousCredentials,
    Code::KeyUnknown,
    Code::KeyExpired,
    Code::KeyRevoked,
    Code::HolderProofMissing,
    Code::HolderProofInvalid,
    Code::SignatureMissing,
    Code::SignatureInvalid,
    Code::SignatureUnverified,
    Code::AgentBlocked,
    Code::CrawlForbidden,
    Code::KeyForbidden,
    Code::VerificationFailed,
    Code::AccountFrozen,
    Code::RouteNotFound,
    Code::ModelNotPriced,
    Code::ReceiptNotFound,
    Code::BadRequest,
    Code::BadBody,
    Code::MisdirectedRequest,
    Code::MethodNotAllowed,
    Code::RequestTimeout,
    Code::InProgress,
    Code::AlreadyServed,
    Code::IdempotencyMismatch,
    Code::IdConflict,
    Code::ChannelGone,
    Code::TransactionReverted,
    Code::BodyTooLarge,
    Code::UriTooLong,
    Code::HeaderTooLarge,
    Code::RateLimited,
    Code::UpstreamFailed,
    Code::UpstreamTimeout,
    Code::FacilitatorFailed,
    Code::SettlementFailed,
    Code::Permit2AllowanceRequired,
    Code::SettlementUnknown,
    Code::StoreUnavailable,
    Code::Overloaded,
    Code::Draining,
    Code::Internal,
];

const fn fault(code: Code) -> &'static str {
    match code.fault() {
        Fault::Payer => "payer",
        Fault::Caller => "caller",
        Fault::Operator => "operator",
        Fault::Gateway => "gateway",
    }
}

/// The list above is whole: as many variants as the enum has lines.
#[test]
fn the_list_is_whole() {
    let source = include_str!("code.rs");
    let body = source.split_once("pub enum Code {").unwrap().1.split_once('}').unwrap().0;
    let variants = body.lines().filter(|line| line.trim().ends_with(',')).count();
    assert_eq!(variants, ALL.len());
    let names: std::collections::HashSet<_> = ALL.iter().map(|code| code.name()).collect();
    assert_eq!(names.len(), ALL.len());
}

#[test]
fn every_code_has_its_section() {
    let spec =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../specs/errors.md")).unwrap();
    for code in ALL {
        let (name, status, fault) = (code.name(), code.status().as_u16(), fault(code));
        let section = format!("\n### {name}\nStatus {status}. Fault: {fault}. Money: ");
        assert!(spec.contains(&section), "specs/errors.md lacks: {section}");
    }
    assert_eq!(spec.matches("\n### ").count(), ALL.len(), "a section of no code");
}
