//! What a reload swaps: routes, upstreams, prices, offers and limits, all of one configuration.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use http::{HeaderName, HeaderValue, Method, header};
use meter::{Dialect, Provider};
use rails::EvmNode;
use rails::alipay::Alipay;
use rails::dial::{Dialer, Origin};
use rails::facilitator::{Facilitator, Facilitators};

use crate::cashu;
use crate::challenge::Renderings;
use crate::config::{
    self, Auth, BaseUrl, Config, EvmNetwork, Network, PathPattern, RoutePrice, RouteUpstream, Scheme,
};
use crate::endpoints::{ALIPAY_NOTICES, Catalogue, Pages};
use crate::exchange::Exchange;
use crate::extensions::Terms;
use crate::identity::Keyring;
use crate::lenient::reading;
use crate::lightning::Desk;
use crate::limits::Limiters;
use crate::mpp;
use crate::price_list::PriceList;
use crate::refusal::{Code, Refusal};
use crate::submitting::Sender;
use crate::till::{self, Till};
use crate::upstream::{KeySearch, Way};
use crate::wall::Bounds;

/// Where a route's calls go.
#[derive(Debug)]
pub(crate) struct Upstream {
    pub(crate) name: String,
    pub(crate) provider: Provider,
    /// The one model it has, if it has only one.
    pub(crate) model: Option<String>,
    pub(crate) way: Way,
    /// Custom metadata that may pass.
    pub(crate) metadata: Vec<HeaderName>,
    base_path: String,
    pub(crate) auth: Option<(HeaderName, HeaderValue)>,
    /// Looks for that key in its answers (SEC-31).
    pub(crate) key_search: Option<KeySearch>,
    pub(crate) first_byte: Duration,
    pub(crate) stream_idle: Duration,
}

impl Upstream {
    /// Path and query there. A URL that ends with a version of its own stands for the `/v1` of the request.
    pub(crate) fn target(&self, target: &str) -> String {
        let is_version = |segment: &str| {
            segment.strip_prefix('v').is_some_and(|v| !v.is_empty() && v.bytes().all(|b| b.is_ascii_digit()))
        };
        let versioned =
            self.provider != Provider::Raw && self.base_path.rsplit('/').next().is_some_and(is_version);
        let rest = target.strip_prefix("/v1").filter(|rest| versioned && rest.starts_with('/'));
        [&self.base_path, rest.unwrap_or(target)].concat()
    }
}

/// One configuration, checked and indexed. Calls in flight keep the one they began with.
pub(crate) struct Snapshot {
    pub(crate) config: Config,
    pub(crate) public_url: String,
    pub(crate) prices: Arc<PriceList>,
    pub(crate) tills: Vec<Till>,
    pub(crate) facilitators: Option<Facilitators>,
    /// Who makes invoices.
    pub(crate) lightning: Option<Desk>,
    /// How the `Payment` scheme is spoken.
    pub(crate) mpp: Option<mpp::Desk>,
    /// Who sends permits to which chain.
    senders: Vec<Sender>,
    /// Whose ecash is taken.
    pub(crate) cashu: Option<cashu::Desk>,
    /// Who makes QR codes for orders.
    pub(crate) alipay: Option<Alipay>,
    pub(crate) limiters: Limiters,
    /// Whose signatures are known.
    pub(crate) keyring: Keyring,
    /// What its challenges say.
    pub(crate) renderings: Renderings,
    /// What x402 extensions say about us.
    pub(crate) terms: Terms,
    /// What is told about prices, as long as it is true.
    pub(crate) pages: ArcSwapOption<Pages>,
    /// How what is sold is called and paid, likewise.
    pub(crate) catalogue: ArcSwapOption<Catalogue>,
    upstreams: BTreeMap<String, Arc<Upstream>>,
}

impl Snapshot {
    /// Indexes a configuration. `payee` is paid on the test rail; `prices` are those of the configuration, or of before
    /// while somebody has to look at them.
    pub(crate) fn new(config: Config, payee: [u8; 32], prices: Arc<PriceList>) -> io::Result<Self> {
        let dialer = Dialer::new(&[], config.server.timeouts.connect)?;
        let upstreams = config
            .upstreams
            .values()
            .map(|upstream| Ok((upstream.name.clone(), Arc::new(indexed(upstream, &dialer)?))))
            .collect::<io::Result<_>>()?;
        let listen = config.server.listen.first();
        let public_url = config.server.public_url.clone().unwrap_or_else(|| {
            let scheme = if config.server.tls.is_some() { "https" } else { "http" };
            listen.map_or(String::new(), |address| format!("{scheme}://{address}"))
        });
        let lightning = config.rails.l402.as_ref().map(|rules| Desk::new(rules, &dialer)).transpose()?;
        let cashu = config.rails.cashu.as_ref().map(|rules| cashu::Desk::new(rules, &dialer)).transpose()?;
        let alipay = config.rails.alipay.as_ref().map(|app| {
            let own = app.notify_base.as_ref().map(ToString::to_string);
            let base = own.or_else(|| config.server.public_url.clone());
            let notify_url = base.map(|base| format!("{}{ALIPAY_NOTICES}", base.trim_end_matches('/')));
            app.rail(notify_url, &dialer)
        });
        let mpp = config
            .rails
            .mpp
            .as_ref()
            .map(|rules| mpp::Desk::new(rules, config.mode, &public_url, &dialer))
            .transpose()?;
        let submitters = config.rails.mpp.iter().flat_map(|mpp| &mpp.evm);
        let senders = submitters.filter_map(|submitter| Sender::new(submitter, &dialer)).collect();
        let facilitators = config.rails.x402.as_ref().map(|x402| Facilitators {
            list: x402.facilitators.iter().map(facilitator).collect(),
            nodes: x402.networks.iter().filter_map(|network| node(network, &dialer)).collect(),
            dialer,
            settle_max: x402.settle_timeout,
            at_once_max: x402.settle_at_once,
        });
        Ok(Self {
            tills: till::of_config(&config, payee)?,
            prices,
            limiters: Limiters::new(&config.limits),
            keyring: config.identity.as_ref().map(Keyring::new).unwrap_or_default(),
            renderings: Renderings::default(),
            terms: Terms::new(&config, &public_url)?,
            pages: ArcSwapOption::empty(),
            catalogue: ArcSwapOption::empty(),
            public_url,
            facilitators,
            lightning,
            mpp,
            senders,
            cashu,
            alipay,
            upstreams,
            config,
        })
    }

    pub(crate) fn bounds(&self) -> Bounds {
        let limits = &self.config.server.limits;
        Bounds { uri_bytes: limits.uri_bytes, credential_bytes: limits.credential_bytes }
    }

    /// Who sends the permits that a rail is paid by.
    pub(crate) fn sender(&self, rail: &str) -> Option<&Sender> {
        self.senders.iter().find(|sender| sender.serves(rail))
    }

    /// What is remembered of calls that may be asked for again.
    pub(crate) const fn dedupe(&self) -> &config::Dedupe {
        &self.config.metering.dedupe
    }

    /// The first route that matches. A path that only other methods may use is told apart.
    pub(crate) fn route(&self, method: &Method, path: &str) -> Result<&Arc<config::Route>, Refusal> {
        let routes = &self.config.routes;
        if let Some(route) = routes.iter().find(|route| route.matches(method, path)) {
            if self.is_sold_as_another(route, method, path) {
                return Err(Refusal::new(Code::RouteNotFound, "This path may be read as another one."));
            }
            return Ok(route);
        }
        if routes.iter().any(|route| route.path.matches(path)) {
            return Err(Refusal::new(Code::MethodNotAllowed, "This path does not take this method."));
        }
        Err(Refusal::new(Code::RouteNotFound, "Nothing is sold at this path."))
    }

    /// Whether a server that is more lenient than we are may find another route in this path than we do (attack A14). A
    /// path that the operator has written out is what it is.
    fn is_sold_as_another(&self, found: &config::Route, method: &Method, path: &str) -> bool {
        if let PathPattern::Exact(_) = &found.path {
            return false;
        }
        let Some(read) = reading(path) else { return true };
        let mut routes = self.config.routes.iter();
        let loosely =
            routes.find(|route| route.methods.contains(method) && route.path.matches_any_case(&read));
        loosely.is_some_and(|route| !std::ptr::eq(&**route, found))
    }

    /// Where a call for `model` on `route` goes.
    pub(crate) fn upstream(&self, route: &config::Route, model: &str) -> Result<Arc<Upstream>, Refusal> {
        let chosen = route.upstream.choose(model).and_then(|name| self.upstreams.get(name));
        chosen
            .map(Arc::clone)
            .ok_or_else(|| Refusal::new(Code::ModelNotPriced, "No upstream of this route serves this model."))
    }

    /// Where every call on `route` goes, if its model does not matter for that.
    pub(crate) fn only_upstream(&self, route: &config::Route) -> Option<Arc<Upstream>> {
        match &route.upstream {
            RouteUpstream::One(name) => self.upstreams.get(name).map(Arc::clone),
            RouteUpstream::ByModel(_) => None,
        }
    }

    /// How requests at a path are worded, whichever upstream of the route they go to; those of one route differ
    /// in how they answer only. A route priced without usage is not read at all.
    pub(crate) fn wording(&self, route: &config::Route, path: &str) -> Dialect {
        if let RoutePrice::PerCall(_) | RoutePrice::Free = route.price {
            return Dialect::Raw;
        }
        if Exchange::of(route).streams() {
            return Dialect::Raw;
        }
        let provider = || {
            let first = route.upstream.names().next().and_then(|name| self.upstreams.get(name));
            first.map(|upstream| upstream.provider)
        };
        match &route.price {
            RoutePrice::ByModel => {
                let spoken = || Dialect::for_provider(provider()?, path);
                Dialect::from_path(path).or_else(spoken).unwrap_or(Dialect::Raw)
            }
            RoutePrice::Units(price) => config::unit_dialect(price, provider(), path),
            RoutePrice::PerCall(_) | RoutePrice::Free => Dialect::Raw,
        }
    }
}

fn indexed(upstream: &config::Upstream, public: &Dialer) -> io::Result<Upstream> {
    let dialer = match upstream.ca.as_slice() {
        [] => public.within(upstream.connect),
        roots => Dialer::new(roots, upstream.connect)?,
    };
    let key_search = match &upstream.auth {
        None => None,
        Some(Auth::Bearer(secret) | Auth::Header(_, secret)) => KeySearch::new(secret.expose().as_bytes()),
    };
    let auth = match &upstream.auth {
        None => None,
        Some(Auth::Bearer(secret)) => Some((header::AUTHORIZATION, format!("Bearer {}", secret.expose()))),
        Some(Auth::Header(name, secret)) => Some((name.clone(), secret.expose().to_owned())),
    };
    let auth = match auth {
        None => None,
        Some((name, value)) => {
            let mut value = HeaderValue::from_str(&value)
                .map_err(|_| io::Error::other("an upstream key has characters no header may have"))?;
            value.set_sensitive(true);
            Some((name, value))
        }
    };
    Ok(Upstream {
        name: upstream.name.clone(),
        provider: upstream.provider,
        model: upstream.model.clone(),
        way: Way::new(origin(&upstream.url), &upstream.ca, dialer, upstream.protocol)?,
        metadata: upstream.metadata.clone(),
        base_path: upstream.url.base_path.trim_end_matches('/').to_owned(),
        auth,
        key_search,
        first_byte: upstream.first_byte,
        stream_idle: upstream.stream_idle,
    })
}

/// The origin of a configured URL.
#[must_use]
pub(crate) fn origin(url: &BaseUrl) -> Origin {
    Origin { tls: url.scheme == Scheme::Https, host: url.host.clone(), port: url.port }
}

fn node(network: &Network, dialer: &Dialer) -> Option<(String, EvmNode)> {
    match network {
        Network::Evm(EvmNetwork { network, rpc: Some(url), .. }) => {
            let path = if url.base_path.is_empty() { "/" } else { &url.base_path }.to_owned();
            Some((network.clone(), EvmNode { origin: origin(url), path, dialer: dialer.clone() }))
        }
        Network::Evm(_) | Network::Svm(_) => None,
    }
}

fn facilitator(url: &BaseUrl) -> Facilitator {
    Facilitator::new(origin(url), url.base_path.trim_end_matches('/').to_owned())
}
