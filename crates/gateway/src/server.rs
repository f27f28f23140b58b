//! Starts a gateway: keys, store, book, threads, sockets; and ends it without losing a hold.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread;
use std::time::Duration;

use dashmap::DashMap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use store::{Op, Options, Store, StoreError};
use tokio::net::TcpListener;
use tokio::runtime::LocalOptions;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_rustls::TlsAcceptor;

use crate::accept::{Door, bind, serve};
use crate::admin::{serve_commands, serve_probes, socket_bind};
use crate::aftercare::Aftercare;
use crate::call::{self, Worker};
use crate::call_log::CallLog;
use crate::clock::Now;
use crate::config::{self, Apply, Config, Tls};
use crate::gate::Gate;
use crate::heads;
use crate::journalled;
use crate::keys::{Keys, KeysError, Masters};
use crate::lightning::{self, KnownTokens};
use crate::limits::Slots;
use crate::payer::KnownKeys;
use crate::price_list::{PriceChange, PriceList, PriceListError};
use crate::random;
use crate::resolver;
use crate::retention;
use crate::snapshot::Snapshot;
use crate::upstream::Pool;

/// How often facilitators are asked what they settle.
const SUPPORTED_EVERY: Duration = Duration::from_secs(300);
/// The same while one of them has never told.
const SUPPORTED_AGAIN: Duration = Duration::from_secs(15);

/// How often connections to upstreams are looked for that have been idle for too long, or were closed by them.
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// How often spend windows that are over are let go, and how long they are kept before that.
const WINDOWS_EVERY: Duration = Duration::from_secs(3600);

/// Why a gateway did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Its keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// Its store.
    #[error("store: {0}")]
    Store(#[from] StoreError),
    /// Its prices.
    #[error(transparent)]
    Prices(#[from] PriceListError),
    /// A socket, a certificate or a thread.
    #[error("{0}: {1}")]
    Io(String, #[source] io::Error),
    /// The store failed while serving: nothing more could be recorded (LED-27).
    #[error("the store failed: no further call was taken, because none could be recorded")]
    StoreFailed,
}

fn failed(what: impl Into<String>) -> impl FnOnce(io::Error) -> ServeError {
    let what = what.into();
    move |error| ServeError::Io(what, error)
}

/// Who waits for an order to be carried out: what is different, or why nothing is.
pub(crate) type Answer = oneshot::Sender<Result<Value, String>>;

/// What the admin socket may ask of the server.
pub(crate) enum Order {
    /// Read the configuration again; the answer is the differences, or why nothing changed.
    Reload(Option<Answer>),
    /// Sell at the prices that a reload has left to be looked at.
    ApplyPrices {
        /// How the version begins that somebody has looked at, if he says so.
        version: Option<String>,
        answer: Answer,
    },
    /// Stop as on SIGTERM.
    Drain,
}

/// Where a started gateway listens.
#[derive(Clone, Debug)]
pub struct Listening {
    /// For clients. A configured port 0 is the real one here.
    pub public: Vec<SocketAddr>,
    /// Probes and metrics.
    pub admin: SocketAddr,
}

/// Runs a gateway until SIGTERM or SIGINT, then drains. `started` is told where it listens.
///
/// `path` is read again on SIGHUP.
///
/// # Errors
/// [`ServeError`]
pub fn run(
    config: Config,
    path: Option<PathBuf>,
    started: impl FnOnce(&Listening),
) -> Result<(), ServeError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed("runtime"))?;
    runtime.block_on(supervise(config, path, started))
}

async fn supervise(
    mut config: Config,
    path: Option<PathBuf>,
    started: impl FnOnce(&Listening),
) -> Result<(), ServeError> {
    let sockets = Sockets::bind(&mut config)?;
    let tls = config.server.tls.as_ref().map(acceptor).transpose()?;
    let keys = Keys::load(&config)?;
    let options = Options { durability: config.store.durability, ..Options::new(random::bytes()) };
    let store = Store::open(&config.store.path, options)?;
    journalled::recover(&store, config.store.crash_charge, Now::read()).await?;
    let payee = keys.public();
    let prices = Arc::new(PriceList::load(&config.prices, &config.store.path).await?);
    let snapshot = Snapshot::new(config.clone(), payee, prices).map_err(failed("configuration"))?;
    let gate = Arc::new(Gate::open(snapshot, keys, store, tokio::runtime::Handle::current())?);
    let (closing, closed) = watch::channel(false);
    let door = Door {
        tls,
        limits: config.server.limits.clone(),
        trusted_proxies: config.server.trusted_proxies.clone(),
        timeouts: config.server.timeouts.clone(),
        connections: Slots::new(),
        per_source: Arc::new(DashMap::new()),
        metrics: Arc::clone(&gate.metrics),
        closing: closed,
    };
    let (orders, inbox) = mpsc::channel(8);
    tokio::spawn(serve_probes(sockets.admin, Arc::clone(&gate)));
    tokio::spawn(serve_commands(sockets.commands, Arc::clone(&gate), orders));
    tokio::spawn(watch_facilitators(Arc::clone(&gate)));
    tokio::spawn(resolver::run(Arc::clone(&gate)));
    tokio::spawn(crate::payouts::run(Arc::clone(&gate)));
    tokio::spawn(crate::top_ups::run(Arc::clone(&gate)));
    tokio::spawn(crate::channels::run(Arc::clone(&gate)));
    tokio::spawn(crate::mpp::session::run(Arc::clone(&gate)));
    tokio::spawn(crate::mpp::session::keep_recent(Arc::clone(&gate)));
    tokio::spawn(lightning::watch(Arc::clone(&gate)));
    tokio::spawn(lightning::keep_sessions(Arc::clone(&gate)));
    tokio::spawn(crate::cashu::watch(Arc::clone(&gate)));
    tokio::spawn(retention::run(Arc::clone(&gate)));
    tokio::spawn(heads::keep(Arc::clone(&gate)));
    tokio::spawn(crate::identity::fetch(Arc::clone(&gate)));
    tokio::spawn(forget_windows(Arc::clone(&gate)));
    let threads = start_threads(sockets.public, &door, &gate)?;
    started(&sockets.listening);
    tracing::info!(listen = ?sockets.listening.public, admin = %sockets.listening.admin, "serving");
    let ended = attend(&gate, &config, path.as_deref(), payee, inbox).await;
    drain(&gate, &closing, config.server.timeouts.drain).await;
    // The threads end when both are gone.
    drop((door, closing));
    let joined = tokio::task::spawn_blocking(move || threads.into_iter().all(|thread| thread.join().is_ok()));
    let time_max = Duration::from_secs(2);
    if !matches!(tokio::time::timeout(time_max, joined).await, Ok(Ok(true))) {
        tracing::warn!("a worker thread did not end in time");
    }
    // Everything that was handed to the writer is on disk after this.
    let flushed = gate.store.commit(Op::Flush).await;
    let _ = std::fs::remove_file(&config.admin.socket);
    ended?;
    flushed?;
    tracing::info!("stopped");
    Ok(())
}

struct Sockets {
    public: Vec<Vec<std::net::TcpListener>>,
    admin: TcpListener,
    commands: tokio::net::UnixListener,
    listening: Listening,
}

impl Sockets {
    /// Binds everything before anything is served: one listener per thread and address.
    fn bind(config: &mut Config) -> Result<Self, ServeError> {
        let threads = config.server.threads.map_or_else(
            || thread::available_parallelism().map_or(1, std::num::NonZero::get),
            std::num::NonZero::get,
        );
        let mut public: Vec<Vec<std::net::TcpListener>> = (0..threads).map(|_| Vec::new()).collect();
        let mut addresses = Vec::new();
        for wanted in &mut config.server.listen {
            // A first listener that does not share tells when somebody else already has the address.
            drop(
                std::net::TcpListener::bind(*wanted)
                    .and_then(|probe| {
                        if wanted.port() == 0 {
                            *wanted = probe.local_addr()?;
                        }
                        Ok(probe)
                    })
                    .map_err(failed(format!("listen on {wanted}")))?,
            );
            for thread in &mut public {
                thread.push(bind(*wanted).map_err(failed(format!("listen on {wanted}")))?);
            }
            addresses.push(*wanted);
        }
        let admin = std::net::TcpListener::bind(config.admin.listen)
            .and_then(|listener| listener.set_nonblocking(true).map(|()| listener))
            .and_then(TcpListener::from_std)
            .map_err(failed(format!("listen on {}", config.admin.listen)))?;
        let address = admin.local_addr().map_err(failed("admin listener"))?;
        let commands = socket_bind(&config.admin.socket)
            .map_err(failed(format!("admin socket {}", config.admin.socket.display())))?;
        let listening = Listening { public: addresses, admin: address };
        Ok(Self { public, admin, commands, listening })
    }
}

fn acceptor(tls: &Tls) -> Result<TlsAcceptor, ServeError> {
    let certs = CertificateDer::pem_file_iter(&tls.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| ServeError::Io(tls.cert.display().to_string(), io::Error::other(error)))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key)
        .map_err(|error| ServeError::Io(tls.key.display().to_string(), io::Error::other(error)))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certs, key))
        .map_err(|error| ServeError::Io("TLS".to_owned(), io::Error::other(error)))?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(server)))
}

fn start_threads(
    listeners: Vec<Vec<std::net::TcpListener>>,
    door: &Door,
    gate: &Arc<Gate>,
) -> Result<Vec<thread::JoinHandle<()>>, ServeError> {
    let mut threads = Vec::new();
    for (number, listeners) in listeners.into_iter().enumerate() {
        let (door, gate) = (door.clone(), Arc::clone(gate));
        let (ready, is_ready) = std_mpsc::channel();
        let work = move || {
            // Its tasks are the runtime's own: a set of local ones within it would be a second scheduler.
            let mut builder = tokio::runtime::Builder::new_current_thread();
            let runtime = match builder.enable_all().build_local(LocalOptions::default()) {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            runtime.block_on(work(listeners, door, gate, ready));
            // Streams that outlived the drain are cut here; their holds settle as they drop.
            drop(runtime);
        };
        let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(work);
        threads.push(thread.map_err(failed("worker thread"))?);
        is_ready.recv().unwrap_or_else(|_| Err(io::Error::other("ended early"))).map_err(failed("worker"))?;
    }
    Ok(threads)
}

/// One thread: its listeners, its upstream connections, its verified keys.
async fn work(
    listeners: Vec<std::net::TcpListener>,
    door: Door,
    gate: Arc<Gate>,
    ready: std_mpsc::Sender<io::Result<()>>,
) {
    let for_stall = Arc::clone(&gate);
    let log = CallLog::start(gate.snapshot.load().config.observe.log.is_pretty());
    let aftercare = Aftercare::start(move || for_stall.snapshot.load().config.server.timeouts.write_stall);
    let worker = Rc::new(Worker {
        gate,
        pool: Pool::default(),
        known: KnownKeys::default(),
        tokens: KnownTokens::default(),
        aftercare,
        log,
    });
    let answers = Rc::clone(&worker);
    let answer =
        Rc::new(move |peer, request, underway| call::answer(Rc::clone(&answers), peer, request, underway));
    let listeners: io::Result<Vec<TcpListener>> = listeners.into_iter().map(TcpListener::from_std).collect();
    let listeners = match listeners {
        Ok(listeners) => listeners,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    let mut closing = door.closing.clone();
    for listener in listeners {
        tokio::task::spawn_local(serve(door.clone(), listener, Rc::clone(&answer)));
    }
    let mut tidying = tokio::time::interval(TIDY_EVERY);
    loop {
        tokio::select! {
            // The sender goes when draining is over.
            changed = closing.changed() => if changed.is_err() { return },
            _ = tidying.tick() => worker.pool.tidy(),
        }
    }
}

/// Start-up does not wait for it, and neither does any request (X402-41).
async fn watch_facilitators(gate: Arc<Gate>) {
    loop {
        let all_told = gate.refresh_supported().await;
        tokio::time::sleep(if all_told { SUPPORTED_EVERY } else { SUPPORTED_AGAIN }).await;
    }
}

/// Spend windows that were over an hour ago leave memory.
async fn forget_windows(gate: Arc<Gate>) {
    let mut tick = tokio::time::interval(WINDOWS_EVERY);
    loop {
        tick.tick().await;
        gate.book.forget_windows(Now::read().seconds().saturating_sub(WINDOWS_EVERY.as_secs()));
    }
}

/// Serves until told to stop: reloads, and watches the store.
async fn attend(
    gate: &Arc<Gate>,
    first: &Config,
    path: Option<&Path>,
    payee: [u8; 32],
    mut inbox: mpsc::Receiver<Order>,
) -> Result<(), ServeError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(failed("signals"))?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed("signals"))?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed("signals"))?;
    let mut tick = tokio::time::interval(Duration::from_millis(200));
    loop {
        let order = tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            _ = hangup.recv() => Order::Reload(None),
            Some(order) = inbox.recv() => order,
            _ = tick.tick() => {
                if !gate.store.is_healthy() {
                    return Err(ServeError::StoreFailed);
                }
                continue;
            }
        };
        match order {
            Order::Drain => return Ok(()),
            Order::ApplyPrices { version, answer } => {
                let done = apply_prices(gate, payee, version.as_deref());
                if let Ok(told) = &done {
                    tracing::info!(version = %told["new_version"], "prices applied");
                }
                let _ = answer.send(done);
            }
            Order::Reload(answer) => {
                // Nothing is swapped before its end, so it can be left at any moment.
                let done = tokio::select! {
                    done = reload(gate, first, path, payee) => done,
                    _ = terminate.recv() => return Ok(()),
                    _ = interrupt.recv() => return Ok(()),
                };
                match &done {
                    Ok(told) => tracing::info!(
                        notes = %told["notes"],
                        prices = %told["prices"],
                        version = %told["new_version"],
                        changes = told["changes"].as_array().map_or(0, Vec::len),
                        "configuration reloaded"
                    ),
                    Err(error) => tracing::error!(%error, "configuration not reloaded, the old one stands"),
                }
                if done.is_ok() {
                    // There may be other facilitators now.
                    let gate = Arc::clone(gate);
                    tokio::spawn(async move { gate.refresh_supported().await });
                }
                if let Some(answer) = answer {
                    let _ = answer.send(done);
                }
            }
        }
    }
}

/// Reads, checks and swaps the configuration; what needs a restart is named and stays as it is.
async fn reload(gate: &Gate, first: &Config, path: Option<&Path>, payee: [u8; 32]) -> Result<Value, String> {
    let path = path.ok_or("this gateway was started without a configuration file")?;
    let mut next = config::load(path).map_err(|errors| errors.to_string())?;
    let mut notes = Vec::new();
    let mut fixed = |what: &str, same: bool| {
        if !same {
            notes.push(format!("{what} changed: needs a restart"));
        }
    };
    let (old, new) = (&first.server, &next.server);
    fixed("store", next.store.path == first.store.path);
    fixed("admin", next.admin.listen == first.admin.listen && next.admin.socket == first.admin.socket);
    fixed("server.listen", new.listen == old.listen || old.listen.iter().any(|address| address.port() == 0));
    fixed("server.tls", new.tls == old.tls);
    fixed("server.threads", new.threads == old.threads);
    fixed("server.trusted_proxies, for connections,", new.trusted_proxies == old.trusted_proxies);
    fixed(
        "server.limits of connections and heads",
        (new.limits.connections, new.limits.per_ip, new.limits.header_bytes, new.limits.fields)
            == (old.limits.connections, old.limits.per_ip, old.limits.header_bytes, old.limits.fields),
    );
    fixed(
        "server.timeouts of connections",
        (new.timeouts.header, new.timeouts.idle, new.timeouts.write_stall, new.timeouts.drain)
            == (old.timeouts.header, old.timeouts.idle, old.timeouts.write_stall, old.timeouts.drain),
    );
    if next.mode != first.mode {
        return Err("the mode of a gateway cannot change while it runs".to_owned());
    }
    let masters = Masters::load(&next).map_err(|error| error.to_string())?;
    let old = gate.snapshot.load_full();
    next.server.listen.clone_from(&first.server.listen);
    let loaded = PriceList::load(&next.prices, &next.store.path).await.map_err(|error| error.to_string())?;
    let changes = old.prices.changes(&loaded);
    let loaded = Arc::new(loaded);
    let waits = next.prices.apply == Apply::Review && !changes.is_empty();
    let (prices, pending) = if waits { (Arc::clone(&old.prices), Some(loaded)) } else { (loaded, None) };
    let mut told = told(&old.prices, pending.as_ref().unwrap_or(&prices), &changes, waits);
    told["notes"] = notes.into();
    let next = Snapshot::new(next, payee, prices).map_err(|error| error.to_string())?;
    gate.keys.masters.store(Arc::new(masters));
    gate.agent_keys.configure(crate::identity::settings(&next.config));
    gate.snapshot.store(Arc::new(next));
    gate.pending.store(pending);
    // Whoever is blocked from now on waits for nothing any more.
    gate.arrivals.wake_all();
    Ok(told)
}

/// Sells at what a reload has left to be looked at.
fn apply_prices(gate: &Gate, payee: [u8; 32], version: Option<&str>) -> Result<Value, String> {
    let pending = gate.pending.load_full().ok_or("no prices wait to be applied")?;
    if version.is_some_and(|looked_at| !pending.version().starts_with(looked_at)) {
        return Err(format!(
            "nothing is applied: version {} waits by now, see farthing prices show",
            pending.version()
        ));
    }
    let old = gate.snapshot.load_full();
    let changes = old.prices.changes(&pending);
    let told = told(&old.prices, &pending, &changes, false);
    let next = Snapshot::new(old.config.clone(), payee, pending).map_err(|error| error.to_string())?;
    gate.snapshot.store(Arc::new(next));
    gate.pending.store(None);
    Ok(told)
}

/// What is different between two sets of prices, and whether it counts.
pub(crate) fn told(old: &PriceList, new: &PriceList, changes: &[PriceChange], waits: bool) -> Value {
    let state = match (changes.is_empty(), waits) {
        (true, _) => "unchanged",
        (false, true) => "waiting for `farthing prices apply`",
        (false, false) => "applied",
    };
    json!({"prices": state, "old_version": old.version(), "new_version": new.version(), "changes": changes})
}

/// Refuses new calls, waits for those in flight, then cuts what is left (UX-22).
async fn drain(gate: &Gate, closing: &watch::Sender<bool>, time_max: Duration) {
    gate.start_draining();
    tracing::info!(in_flight = gate.in_flight.taken(), "draining");
    // Connections end after the request they are in; new ones are refused.
    let _ = closing.send(true);
    let quiet = async {
        while gate.in_flight.taken() > 0 || gate.metrics.holds_open() > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let mut again = signal(SignalKind::terminate()).ok();
    let second = async {
        match &mut again {
            Some(signal) => signal.recv().await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::time::timeout(time_max, quiet) => {}
        _ = second => tracing::warn!("told twice to stop: leaving now"),
    }
}
