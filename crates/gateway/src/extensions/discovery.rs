//! `bazaar`: catalogues are told how to call a route (X402-37).
//!
//! The entry is large, so it goes out where a program that only looks around would look: in the answer to a `GET`, and
//! to whoever names it in [`ASKS`]. A payer who brings it back has it passed on to the facilitator, as we wrote it.

use http::{HeaderMap, HeaderName, Method};
use serde_json::{Map, Value, json};
use wire::x402::bazaar::{self, BodyType, Discovery, Info, Input, Output};
use wire::x402::facilitator::SettleRequest;
use wire::x402::v2;

use super::switched_on;
use crate::challenge::Ask;
use crate::config::RouteDiscovery;
use crate::snapshot::Snapshot;

/// The request field that asks for extensions by their ids, with commas between.
pub(crate) const ASKS: HeaderName = HeaderName::from_static("farthing-extensions");

/// Whether a request is one to tell how it could be made.
pub(crate) fn is_asked(method: &Method, headers: &HeaderMap) -> bool {
    let mut named = headers.get_all(ASKS).iter().filter_map(|value| value.to_str().ok());
    *method == Method::GET
        || named.any(|list| list.split(',').any(|id| id.trim().eq_ignore_ascii_case(bazaar::ID)))
}

/// The entry of the route that is asked for, if it describes itself.
pub(super) fn entry(snapshot: &Snapshot, ask: &Ask<'_>) -> Option<Discovery> {
    switched_on(snapshot)?.bazaar.as_ref()?;
    let described = ask.route(snapshot)?.discovery.as_ref()?;
    Some(describe(described, ask.method, ask.path()))
}

/// What a facilitator's catalogue is told with a payment: ours, never the payer's.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    resource: Value,
    extensions: Value,
}

impl Listed {
    /// The request with it. Version 1 has no place for it.
    pub(crate) fn told_with(&self, mut request: SettleRequest) -> SettleRequest {
        if request.x402_version == v2::VERSION
            && let Some(payment) = request.payment_payload.as_object_mut()
        {
            payment.insert("resource".to_owned(), self.resource.clone());
            payment.insert("extensions".to_owned(), self.extensions.clone());
        }
        request
    }
}

/// What the catalogue is told with a payment that brings the entry back.
pub(crate) fn forwarded(
    snapshot: &Snapshot,
    ask: &Ask<'_>,
    echoed: Option<&Map<String, Value>>,
) -> Option<Listed> {
    echoed?.get(bazaar::ID)?;
    let entry = serde_json::to_value(entry(snapshot, ask)?).ok()?;
    let mut resource = v2::ResourceInfo {
        url: ask.url(snapshot),
        description: Some(ask.description.to_owned()),
        mime_type: Some("application/json".to_owned()),
        ..v2::ResourceInfo::default()
    };
    name_service(snapshot, &mut resource);
    Some(Listed { resource: serde_json::to_value(resource).ok()?, extensions: json!({bazaar::ID: entry}) })
}

/// Says who sells.
pub(crate) fn name_service(snapshot: &Snapshot, resource: &mut v2::ResourceInfo) {
    let Some(service) = switched_on(snapshot).and_then(|on| on.bazaar.as_ref()) else { return };
    resource.service_name.clone_from(&service.name);
    resource.icon_url.clone_from(&service.icon_url);
    resource.tags = (!service.tags.is_empty()).then(|| service.tags.clone());
}

fn describe(route: &RouteDiscovery, method: &Method, path: &str) -> Discovery {
    let has_body = matches!(*method, Method::POST | Method::PUT | Method::PATCH);
    let body = has_body.then(|| route.body.clone().unwrap_or_default());
    let parameters = route.template.as_deref().map(|template| parameters(template, path));
    let input = Input::Http {
        method: Some(method.as_str().to_owned()),
        query_params: route.query.clone().filter(|_| !has_body),
        path_params: parameters.clone(),
        body_type: body.is_some().then_some(BodyType::Json),
        body,
        headers: None,
    };
    let output = route.output.as_ref().map(|example| Output {
        kind: Some("json".to_owned()),
        example: Some(example.clone()),
        ..Output::default()
    });
    let info = Info { input, output };
    let schema = Some(schema(method, &info));
    Discovery { info, route_template: route.template.clone(), schema }
}

/// What a catalogue checks `info` against: no more than it must be, because all of it goes into a header.
fn schema(method: &Method, info: &Info) -> Value {
    let Input::Http { body_type, .. } = &info.input else { return json!({"type": "object"}) };
    let mut properties = Map::new();
    properties.insert("type".into(), json!({"const": "http"}));
    properties.insert("method".into(), json!({"enum": [method.as_str()]}));
    let mut required = vec!["type", "method"];
    if body_type.is_some() {
        properties.insert("bodyType".into(), json!({"const": "json"}));
        required.extend(["bodyType", "body"]);
    }
    json!({
        "type": "object",
        "properties": {"input": {"type": "object", "properties": properties, "required": required}},
        "required": ["input"],
    })
}

/// The values of a template's parameters in a path: `/files/:id` and `/files/7` give `id` and 7.
fn parameters(template: &str, path: &str) -> Map<String, Value> {
    let pairs = template.split('/').zip(path.split('/'));
    pairs.filter_map(|(name, value)| Some((name.strip_prefix(':')?.to_owned(), value.into()))).collect()
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method};
    use serde_json::json;

    use super::{describe, is_asked};
    use crate::config::RouteDiscovery;

    /// X402-37.
    #[test]
    fn x402_37_a_route_says_how_it_is_called() {
        let object = |value: serde_json::Value| value.as_object().cloned();
        let chat = RouteDiscovery {
            body: object(json!({"model": "m"})),
            output: Some(json!({"choices": []})),
            ..RouteDiscovery::default()
        };
        assert_eq!(
            serde_json::to_value(describe(&chat, &Method::POST, "/v1/chat/completions")).unwrap(),
            json!({
                "info": {
                    "input": {"type": "http", "method": "POST", "bodyType": "json", "body": {"model": "m"}},
                    "output": {"type": "json", "example": {"choices": []}},
                },
                "schema": {
                    "type": "object",
                    "properties": {"input": {
                        "type": "object",
                        "properties": {"type": {"const": "http"}, "method": {"enum": ["POST"]}, "bodyType": {"const": "json"}},
                        "required": ["type", "method", "bodyType", "body"],
                    }},
                    "required": ["input"],
                },
            })
        );
        let files = RouteDiscovery {
            template: Some("/files/:id".into()),
            query: object(json!({"page": 1})),
            ..RouteDiscovery::default()
        };
        let entry = serde_json::to_value(describe(&files, &Method::GET, "/files/7")).unwrap();
        assert_eq!(entry["routeTemplate"], "/files/:id");
        assert_eq!(
            entry["info"]["input"],
            json!({"type": "http", "method": "GET", "queryParams": {"page": 1}, "pathParams": {"id": "7"}})
        );
    }

    #[test]
    fn it_is_told_on_a_get_and_when_asked() {
        let headers =
            |value: &'static str| HeaderMap::from_iter([(super::ASKS, HeaderValue::from_static(value))]);
        for (method, headers, expected) in [
            (Method::GET, HeaderMap::new(), true),
            (Method::POST, HeaderMap::new(), false),
            (Method::POST, headers("bazaar"), true),
            (Method::POST, headers("offer-receipt, Bazaar"), true),
            (Method::POST, headers("bazaars"), false),
        ] {
            assert_eq!(is_asked(&method, &headers), expected, "{method} {headers:?}");
        }
    }
}
