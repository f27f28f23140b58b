//! What a request asks for and who is to answer it, as far as its price depends on that.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, header};
use meter::{Dialect, RequestFacts, RequestHead, Sdk};

use crate::config::{Route, RoutePrice};
use crate::refusal::{Code, Refusal};
use crate::snapshot::{Snapshot, Upstream};

/// How a client of DashScope asks for a stream.
const ASKS_EVENTS: HeaderName = HeaderName::from_static("x-dashscope-sse");

/// What a request asks for, and of which upstream.
pub(crate) struct Asked {
    /// None where nothing in the request makes a difference to its price.
    pub(crate) facts: Option<RequestFacts>,
    pub(crate) upstream: Arc<Upstream>,
}

impl Asked {
    /// Reads a request as its route is priced. `target` is path and query.
    pub(crate) fn read(
        snapshot: &Snapshot,
        route: &Route,
        target: &str,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Self, Refusal> {
        let request = Request { target, headers, body };
        match route.price {
            RoutePrice::ByModel => by_model(snapshot, route, &request),
            RoutePrice::Units(_) => {
                let facts = request.scan(snapshot.wording(route, target), None)?;
                let model = if facts.model.is_empty() { &route.name } else { &facts.model };
                let upstream = snapshot.upstream(route, model)?;
                Ok(Self { facts: Some(facts), upstream })
            }
            RoutePrice::PerCall(_) | RoutePrice::Free => {
                Ok(Self { facts: None, upstream: snapshot.upstream(route, &route.name)? })
            }
        }
    }
}

struct Request<'a> {
    target: &'a str,
    headers: &'a HeaderMap,
    body: &'a [u8],
}

impl Request<'_> {
    fn scan(&self, dialect: Dialect, model: Option<&str>) -> Result<RequestFacts, Refusal> {
        let text = |name: HeaderName| self.headers.get(name).and_then(|value| value.to_str().ok());
        let is_events = |value: &str| value.trim().eq_ignore_ascii_case("text/event-stream");
        let asks_events = text(ASKS_EVENTS).is_some_and(|value| value.eq_ignore_ascii_case("enable"))
            || text(header::ACCEPT).is_some_and(|accept| accept.split(',').any(is_events));
        let head =
            RequestHead { path: self.target, content_type: text(header::CONTENT_TYPE), asks_events, model };
        meter::scan_request_at(dialect, &head, self.body)
            .map_err(|error| Refusal::new(Code::BadBody, format!("The body cannot be priced: {error}.")))
    }
}

/// Read as the path is worded first, for the model; then as whoever has that model words it.
fn by_model(snapshot: &Snapshot, route: &Route, request: &Request<'_>) -> Result<Asked, Refusal> {
    let target = request.target;
    // What cannot be metered is not sold by the token, however the path is spelled.
    let unsold = || Refusal::new(Code::RouteNotFound, "Nothing is sold by the token at this path.");
    let wording = snapshot.wording(route, target);
    if wording == Dialect::Raw {
        return Err(unsold());
    }
    if wording.sdk() == Sdk::Gemini && asks_for_part(target) {
        return Err(Refusal::new(Code::BadRequest, "No query but alt=sse or alt=json is taken here."));
    }
    let only = snapshot.only_upstream(route);
    let model = only.as_ref().and_then(|upstream| upstream.model.clone());
    let mut facts = request.scan(wording, model.as_deref())?;
    let upstream = match only {
        Some(upstream) => upstream,
        None => snapshot.upstream(route, &facts.model)?,
    };
    let dialect = Dialect::for_provider(upstream.provider, target).ok_or_else(unsold)?;
    if dialect != wording {
        facts = request.scan(dialect, None)?;
    }
    // Who has one model answers with it, whatever was named: its price holds.
    if let Some(model) = &upstream.model {
        facts.model.clone_from(model);
    }
    Ok(Asked { facts: Some(facts), upstream })
}

/// Whether a query of Google's asks for a part of the answer, which might be the one without the usage.
fn asks_for_part(target: &str) -> bool {
    let query = target.split_once('?').map_or("", |(_, query)| query);
    !query.split('&').all(|pair| matches!(pair, "" | "alt=sse" | "alt=json"))
}
