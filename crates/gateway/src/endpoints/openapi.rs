//! `/openapi.json`: OpenAPI 3.1 with the offers of each paid operation (mpp.md section 13). Advice only: the 402 decides.

use http::Method;
use serde_json::{Map, Value, json};

use super::catalogue::{Operation, REST, protocols};
use super::{BALANCE, MODELS, PRICES, QUOTE, TOP_UP};
use crate::config::RoutePrice;
use crate::exchange::Exchange;
use crate::mpp::Listed;
use crate::snapshot::Snapshot;

const VERSION: &str = "3.1.0";

pub(super) fn render(snapshot: &Snapshot, operations: &[Operation<'_>], top_up: &[Listed]) -> Value {
    let mut paths: Map<String, Value> = own(snapshot, top_up);
    // A gRPC service has a description of its own.
    for operation in operations.iter().filter(|operation| operation.exchange != Exchange::Grpc) {
        let path = paths.entry(operation.path.clone()).or_insert_with(|| json!({}));
        // The first route that takes a request is the one that sells it.
        let method = operation.method.as_str().to_ascii_lowercase();
        if path.get(&method).is_none() {
            path[method] = described(snapshot, operation);
        }
    }
    let url = &snapshot.public_url;
    json!({
        "openapi": VERSION,
        "info": {"title": title(snapshot), "version": env!("CARGO_PKG_VERSION"),
                 "description": "Paid per call. An unpaid request is answered with 402 and every way to pay; no account is needed."},
        "servers": [{"url": url}],
        "x-service-info": service(snapshot, operations),
        "paths": paths,
        "components": {"securitySchemes": {"creditKey": {
            "type": "http", "scheme": "bearer",
            "description": "A prepaid credit key, fk_live_... or fk_test_...; it also works in x-api-key, api-key and x-goog-api-key.",
        }}},
    })
}

/// What the service is called.
pub(super) fn title(snapshot: &Snapshot) -> String {
    let service = snapshot.config.rails.x402.as_ref().and_then(|x402| x402.extensions.bazaar.as_ref());
    let named = service.and_then(|service| service.name.clone());
    let host = || snapshot.public_url.split_once("://").map_or("", |(_, host)| host).to_owned();
    named.unwrap_or_else(host)
}

fn service(snapshot: &Snapshot, operations: &[Operation<'_>]) -> Value {
    let discovery = &snapshot.config.discovery;
    let mut docs = Map::new();
    docs.insert("apiReference".into(), "/openapi.json".into());
    if discovery.llms_txt {
        docs.insert("llms".into(), "/llms.txt".into());
    }
    if discovery.price_page {
        docs.insert("homepage".into(), PRICES.into());
    }
    let sells_models = operations.iter().any(|operation| operation.route.price == RoutePrice::ByModel);
    let categories: &[&str] = if sells_models { &["ai"] } else { &[] };
    json!({"categories": categories, "docs": docs})
}

fn described(snapshot: &Snapshot, operation: &Operation<'_>) -> Value {
    let route = operation.route;
    let success = match operation.exchange {
        Exchange::WebSocket => ("101", "The WebSocket is open"),
        Exchange::Document | Exchange::Grpc => ("200", "The upstream's answer"),
    };
    let mut responses = json!({success.0: {"description": success.1}});
    let mut described = json!({
        "operationId": format!("{} {}", operation.method, route.name),
        "summary": format!("{} ({})", route.name, operation.price),
        "security": if operation.is_free() { json!([]) } else { json!([{}, {"creditKey": []}]) },
    });
    if !operation.is_free() {
        responses["402"] = payment_required(snapshot);
    }
    described["responses"] = responses;
    if operation.path.ends_with(&format!("{{{REST}}}")) {
        described["parameters"] = json!([{"name": REST, "in": "path", "required": true, "schema": {"type": "string"},
            "description": "Anything below, more segments too."}]);
    }
    if matches!(*operation.method, Method::POST | Method::PUT | Method::PATCH) {
        described["requestBody"] = body(operation);
    }
    if !operation.offers.is_empty() {
        described["x-payment-info"] = payment_info(&operation.offers);
    }
    described
}

fn body(operation: &Operation<'_>) -> Value {
    let metered = operation.route.price == RoutePrice::ByModel;
    let example = operation.route.discovery.as_ref().and_then(|discovery| discovery.body.as_ref());
    if !metered && example.is_none() {
        return json!({"required": false, "content": {"*/*": {"schema": {}}}});
    }
    let mut content = json!({"schema": {"type": "object"}});
    if let Some(example) = example {
        content["example"] = json!(example);
    }
    json!({"required": true, "content": {"application/json": content}})
}

fn payment_info(offers: &[Listed]) -> Value {
    let offer = |offer: &Listed| {
        let mut listed = json!({"intent": offer.intent, "method": offer.method, "amount": offer.amount});
        if let Some(currency) = &offer.currency {
            listed["currency"] = currency.as_str().into();
        }
        listed
    };
    json!({"offers": offers.iter().map(offer).collect::<Vec<_>>()})
}

fn payment_required(snapshot: &Snapshot) -> Value {
    let ways = protocols(snapshot).join(", ");
    json!({
        "description": format!("Payment required, with offers: {ways}."),
        "content": {"application/problem+json": {"schema": {"type": "object"}}},
    })
}

/// Endpoints of ours that help to pay.
fn own(snapshot: &Snapshot, top_up: &[Listed]) -> Map<String, Value> {
    let found = |summary: &str, open: bool| {
        json!({"summary": summary, "responses": {"200": {"description": "The document"}},
               "security": if open { json!([]) } else { json!([{"creditKey": []}]) }})
    };
    let mut paths = Map::new();
    paths.insert(MODELS.to_owned(), json!({"get": found("Models with their prices (free)", true)}));
    if snapshot.config.discovery.price_page {
        paths.insert(PRICES.to_owned(), json!({"get": found("Every price (free)", true)}));
    }
    paths.insert(BALANCE.to_owned(), json!({"get": found("Balance of a credit key (free)", false)}));
    let mut quote = found("What a call would cost: send its body (free)", true);
    quote["parameters"] =
        json!([{"name": "path", "in": "query", "required": true, "schema": {"type": "string"}}]);
    quote["requestBody"] = json!({"content": {"application/json": {"schema": {"type": "object"}}}});
    paths.insert(QUOTE.to_owned(), json!({"post": quote}));
    let mut buying = json!({
        "summary": "Balance for a payment, without a call", "security": [{}, {"creditKey": []}],
        "parameters": [{"name": "amount", "in": "query", "required": false, "schema": {"type": "string"}}],
        "requestBody": {"required": false, "content": {}},
        "responses": {"200": {"description": "The balance, and its key"}, "402": payment_required(snapshot)},
    });
    if !top_up.is_empty() {
        buying["x-payment-info"] = payment_info(top_up);
    }
    paths.insert(TOP_UP.to_owned(), json!({"post": buying}));
    paths
}
