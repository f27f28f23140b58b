//! What a route, its upstreams and its price must have in common where more travels than a request and then an answer.

use http::Method;

use super::route::{RoutePrice, RouteUpstream, Upstreams};
use super::section::Section;
use super::unit_price::UnitPrice;
use super::upstream::Protocol;

/// Whether the upstreams of a route are all reached alike, and so that its calls can be carried; then how.
pub(super) fn check(
    route: &Section<'_>,
    upstream: &RouteUpstream,
    upstreams: &Upstreams,
    websocket: bool,
) -> Option<Protocol> {
    let mut protocols =
        upstream.names().filter_map(|name| upstreams.get(name)).map(|upstream| upstream.protocol);
    let first = protocols.next()?;
    if protocols.any(|other| (other == Protocol::Grpc) != (first == Protocol::Grpc)) {
        route
            .complain("upstream", format!("{}: some of these upstreams speak gRPC, some do not", route.path));
    }
    if websocket && first != Protocol::Http1 {
        let path = route.path_of("websocket");
        route.complain("websocket", format!("{path}: a WebSocket needs an upstream with protocol: http1"));
    }
    Some(first)
}

/// The one method of requests there, where there is only one.
pub(super) fn methods(websocket: bool, protocol: Option<Protocol>) -> Option<Method> {
    match protocol {
        _ if websocket => Some(Method::GET),
        Some(Protocol::Grpc) => Some(Method::POST),
        Some(Protocol::Http1 | Protocol::H2) | None => None,
    }
}

/// A hold of a WebSocket grows in the steps that its price names.
pub(super) fn check_price(route: &Section<'_>, price: &RoutePrice) {
    let place = route.path_of("price");
    let complain = |message: &str| route.complain("price", format!("{place}: {message}"));
    match price {
        RoutePrice::ByModel => complain("a WebSocket is sold per_call, per_second or by its bytes"),
        RoutePrice::Units(UnitPrice { byte_in: Some(_), bytes_max: None, .. }) => {
            complain("per_byte_in of a WebSocket needs a step to hold for: hold: 1MiB");
        }
        RoutePrice::Units(_) | RoutePrice::PerCall(_) | RoutePrice::Free => {}
    }
}
