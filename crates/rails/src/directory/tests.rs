//! Directories over TLS on loopback. The guard refuses loopback, so names lead to public addresses here, and a network of
//! the test carries connections to those addresses to its servers: what is guarded is the address that was resolved.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::slice::from_ref;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proof::SigningKey;
use proof::identity::directory::{Published, Unsigned, publish};
use proof::identity::{AgentKey, Origin};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use super::{
    Allow, Directories, Fetcher, Found, Hosts, MEDIA_TYPE, Network, PATH, Pace, Settings, Soon, WAITING_MAX,
};
use crate::dial::Dialer;

const NOW: u64 = 1_800_000_000;
const HOST: &str = "agent.example";
const PUBLIC: &str = "93.184.216.34";
const OTHER: &str = "1.1.1.1";
const PATIENCE: Duration = Duration::from_secs(20);

/// What names mean, and where connections to public addresses really go.
#[derive(Debug, Default)]
struct Stage {
    /// What a name means the first time, the second time, and so on; the last one stays.
    names: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    places: Mutex<HashMap<IpAddr, SocketAddr>>,
    resolved: AtomicUsize,
    connected: Mutex<Vec<SocketAddr>>,
}

impl Stage {
    fn name(&self, host: &str, meanings: &[&[&str]]) {
        let parse = |meaning: &&[&str]| meaning.iter().map(|text| text.parse().unwrap()).collect();
        self.names.lock().unwrap().insert(host.to_owned(), meanings.iter().map(parse).collect());
    }

    fn place(&self, public: &str, at: SocketAddr) {
        self.places.lock().unwrap().insert(public.parse().unwrap(), at);
    }

    fn connected(&self) -> Vec<SocketAddr> {
        self.connected.lock().unwrap().clone()
    }
}

impl Network for Stage {
    fn resolve<'a>(&'a self, host: &'a str) -> Soon<'a, Vec<IpAddr>> {
        self.resolved.fetch_add(1, Ordering::SeqCst);
        let mut names = self.names.lock().unwrap();
        let meaning = names.get_mut(host).map(|meanings| match meanings.len() {
            1 => meanings[0].clone(),
            _ => meanings.remove(0),
        });
        Box::pin(async move { meaning.ok_or_else(|| io::Error::other("no such name")) })
    }

    fn connect(&self, address: SocketAddr) -> Soon<'_, TcpStream> {
        self.connected.lock().unwrap().push(address);
        let place = self.places.lock().unwrap().get(&address.ip()).copied();
        Box::pin(async move {
            let place = place.ok_or_else(|| io::Error::other("nobody there"))?;
            TcpStream::connect(place).await
        })
    }
}

/// What a server does with a request that it has read.
#[derive(Clone)]
enum Act {
    Say(Vec<u8>),
    /// This, and then the same piece for as long as somebody reads.
    Endless(Vec<u8>),
    /// This, and then nothing.
    Silent(Vec<u8>),
    /// This, and then a byte now and then.
    Drip(Vec<u8>),
}

/// A TLS server under one name.
struct Server {
    address: SocketAddr,
    root: CertificateDer<'static>,
    act: Arc<Mutex<Act>>,
    requests: Arc<Mutex<Vec<String>>>,
    task: AbortHandle,
}

impl Server {
    async fn start(name: &str, act: Act) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap().der().clone();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &issuer).unwrap().der().clone();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key.into())
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (act, requests) = (Arc::new(Mutex::new(act)), Arc::new(Mutex::new(Vec::new())));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (acts, seen) = (Arc::clone(&act), Arc::clone(&requests));
        let task = tokio::spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                let (acceptor, act, seen) =
                    (acceptor.clone(), acts.lock().unwrap().clone(), Arc::clone(&seen));
                tokio::spawn(async move {
                    let Ok(mut tls) = acceptor.accept(tcp).await else { return };
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        let mut byte = [0];
                        if tls.read_exact(&mut byte).await.is_err() {
                            return;
                        }
                        request.extend(byte);
                    }
                    seen.lock().unwrap().push(String::from_utf8(request).unwrap());
                    match act {
                        Act::Say(bytes) => {
                            let _ = tls.write_all(&bytes).await;
                            let _ = tls.shutdown().await;
                        }
                        Act::Endless(bytes) => {
                            let _ = tls.write_all(&bytes).await;
                            while tls.write_all(&[b' '; 4096]).await.is_ok() {}
                        }
                        Act::Drip(bytes) => {
                            let _ = tls.write_all(&bytes).await;
                            while tls.write_all(b"x").await.is_ok() && tls.flush().await.is_ok() {
                                tokio::time::sleep(Duration::from_secs(1)).await;
                            }
                        }
                        Act::Silent(bytes) => {
                            let _ = tls.write_all(&bytes).await;
                            let _ = tls.flush().await;
                            let _ = tls.read(&mut [0]).await;
                        }
                    }
                });
            }
        });
        Self { address, root, act, requests, task: task.abort_handle() }
    }

    fn now_says(&self, act: Act) {
        *self.act.lock().unwrap() = act;
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Directories with a fetcher at work, and a clock that the test moves.
struct Scene {
    directories: Arc<Directories>,
    stage: Arc<Stage>,
    clock: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Scene {
    fn start(server: &Server, settings: Settings) -> Self {
        let stage = Arc::new(Stage::default());
        stage.name(HOST, &[&[PUBLIC]]);
        stage.place(PUBLIC, server.address);
        let directories = Arc::new(Directories::new(settings));
        let clock = Arc::new(AtomicU64::new(NOW));
        let told = Arc::clone(&clock);
        let fetcher = Fetcher {
            directories: Arc::clone(&directories),
            network: Arc::clone(&stage) as Arc<dyn Network>,
            dialer: Dialer::new(from_ref(&server.root), PATIENCE).unwrap(),
            clock: Arc::new(move || told.load(Ordering::SeqCst)),
            pace: Pace { burst: 1000, every: Duration::from_micros(1), jitter: Duration::ZERO },
        };
        let task = tokio::spawn(fetcher.run()).abort_handle();
        Self { directories, stage, clock, task }
    }

    fn find(&self, seed: u8) -> Found {
        self.directories.find(&origin(HOST), &name(seed), self.clock.load(Ordering::SeqCst))
    }

    fn at(&self, after_s: u64) {
        self.clock.store(NOW + after_s, Ordering::SeqCst);
    }

    /// What is found once nobody is being asked any more.
    async fn settled(&self, seed: u8) -> Found {
        let settling = async {
            loop {
                let found = self.find(seed);
                let is_idle = self.directories.waiting().origins.is_empty();
                if found != Found::Coming && is_idle {
                    return self.find(seed);
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, settling).await.unwrap()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn settings() -> Settings {
    let hosts = Hosts {
        allow: Allow::Suffixes(vec!["example".into()]),
        named: Vec::new(),
        ports: vec![443],
        own: vec!["gw.example".into()],
    };
    Settings { hosts, unsigned: Unsigned::Refuse }
}

fn origin(host: &str) -> Origin {
    Origin::parse(&format!("https://{host}")).unwrap()
}

fn signer(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn key(seed: u8) -> Arc<AgentKey> {
    Arc::new(AgentKey::new(&signer(seed).verifying_key().to_bytes()).unwrap())
}

fn name(seed: u8) -> String {
    key(seed).thumbprint().to_owned()
}

fn directory(seeds: &[u8], life_s: u64) -> Published {
    let signers: Vec<SigningKey> = seeds.iter().map(|seed| signer(*seed)).collect();
    publish(&signers.iter().collect::<Vec<_>>(), HOST, NOW, NOW + life_s).unwrap()
}

/// The answer with a directory, its head changed.
fn answer(published: &Published, change: impl FnOnce(&mut Vec<(String, String)>)) -> Vec<u8> {
    let mut head = vec![
        ("content-type".to_owned(), MEDIA_TYPE.to_owned()),
        ("cache-control".to_owned(), "public, max-age=3600".to_owned()),
        ("signature-input".to_owned(), published.input.clone()),
        ("signature".to_owned(), published.signature.clone()),
        ("content-length".to_owned(), published.body.len().to_string()),
    ];
    change(&mut head);
    let head: String = head.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 200 OK\r\n{head}\r\n{}", published.body).into_bytes()
}

fn good(seeds: &[u8]) -> Act {
    Act::Say(answer(&directory(seeds, 86_400), |_| {}))
}

fn absent(until_s: u64) -> Found {
    Found::Absent { until_s: NOW + until_s }
}

#[tokio::test]
async fn idn_15_a_directory_is_fetched_once_behind_the_requests() {
    let server = Server::start(HOST, good(&[1])).await;
    let scene = Scene::start(&server, settings());
    for _ in 0..100 {
        assert!(matches!(scene.find(1), Found::Coming | Found::Key(_)));
    }
    assert_eq!(scene.settled(1).await, Found::Key(key(1)));
    let requests = server.requests();
    assert_eq!(requests.len(), 1, "however many wanted it");
    let expected = format!(
        "GET {PATH} HTTP/1.1\r\nhost: {HOST}\r\naccept: {MEDIA_TYPE}\r\naccept-encoding: identity\r\n\
         user-agent: farthing (key directories)\r\nconnection: close\r\n\r\n"
    );
    assert_eq!(requests[0], expected, "nothing of ours goes there");
    assert_eq!(scene.stage.connected(), [SocketAddr::new(PUBLIC.parse().unwrap(), 443)]);
    assert_eq!(
        scene.directories.find(&origin("other.example"), &name(1), NOW),
        Found::Coming,
        "another agent there"
    );
}

/// Every address of a name is looked at, and nothing is connected to where one is not public.
#[tokio::test]
async fn idn_18_names_that_lead_inside_are_not_connected_to() {
    let server = Server::start(HOST, good(&[1])).await;
    for bad in [
        "127.0.0.1",
        "10.1.2.3",
        "169.254.169.254",
        "100.100.100.200",
        "192.168.1.1",
        "0.0.0.0",
        "::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
        "fd00:ec2::254",
        "fe80::1",
    ] {
        for meaning in [vec![bad], vec![PUBLIC, bad], vec![bad, PUBLIC]] {
            let scene = Scene::start(&server, settings());
            scene.stage.name(HOST, &[&meaning]);
            scene.stage.place(bad, server.address);
            assert_eq!(scene.settled(1).await, absent(60), "{meaning:?}");
            assert_eq!(scene.stage.connected(), [], "{meaning:?}");
        }
    }
    let scene = Scene::start(&server, settings());
    scene.stage.name(HOST, &[&[]]);
    assert_eq!(scene.settled(1).await, absent(60), "a name without an address");
    assert_eq!(server.requests(), [""; 0]);
}

/// The name means a public address when it is looked at and loopback a moment later: it is looked at once.
#[tokio::test]
async fn idn_18_a_name_that_changes_its_meaning_changes_nothing() {
    let server = Server::start(HOST, good(&[1])).await;
    let scene = Scene::start(&server, settings());
    scene.stage.name(HOST, &[&[PUBLIC], &["127.0.0.1"]]);
    scene.stage.place("127.0.0.1", server.address);
    assert_eq!(scene.settled(1).await, Found::Key(key(1)));
    assert_eq!(scene.stage.resolved.load(Ordering::SeqCst), 1);
    assert_eq!(scene.stage.connected(), [SocketAddr::new(PUBLIC.parse().unwrap(), 443)]);
}

/// A second address is tried, and it is one that was looked at too.
#[tokio::test]
async fn a_dead_address_is_passed_over() {
    let server = Server::start(HOST, good(&[1])).await;
    let scene = Scene::start(&server, settings());
    scene.stage.name(HOST, &[&[OTHER, PUBLIC]]);
    assert_eq!(scene.settled(1).await, Found::Key(key(1)));
}

#[tokio::test]
async fn idn_18_whoever_may_not_be_asked_is_not_looked_up() {
    let server = Server::start(HOST, good(&[1])).await;
    let scene = Scene::start(&server, settings());
    for host in ["gw.example", "agent.test", "localhost", "127.0.0.1", "agent.example:8443"] {
        assert_eq!(scene.directories.find(&origin(host), &name(1), NOW), Found::Barred, "{host}");
    }
    assert_eq!(scene.settled(1).await, Found::Key(key(1)));
    assert_eq!(scene.stage.resolved.load(Ordering::SeqCst), 1);
    // What is known is not used any more where it is not allowed any more.
    let mut fewer = settings();
    fewer.hosts.allow = Allow::Suffixes(Vec::new());
    scene.directories.configure(fewer);
    assert_eq!(scene.find(1), Found::Barred);
}

/// Whoever has the address and not the name's certificate is nobody.
#[tokio::test]
async fn a_server_under_another_name_is_not_believed() {
    let server = Server::start("other.example", good(&[1])).await;
    let scene = Scene::start(&server, settings());
    assert_eq!(scene.settled(1).await, absent(60));
    assert_eq!(server.requests(), [""; 0]);
}

#[tokio::test]
async fn idn_16_18_answers_that_are_no_directory() {
    let server = Server::start(HOST, good(&[1])).await;
    let changed = |name: &'static str, value: &'static str| {
        let answer = answer(&directory(&[1], 86_400), |head| {
            head.retain(|(known, _)| known != name);
            head.push((name.to_owned(), value.to_owned()));
        });
        Act::Say(answer)
    };
    let without = |name: &'static str| {
        Act::Say(answer(&directory(&[1], 86_400), |head| head.retain(|(known, _)| !known.starts_with(name))))
    };
    let redirect = |to: &str| {
        Act::Say(format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n").into_bytes())
    };
    let foreign = directory(&[2], 86_400);
    let of_another = Published { body: directory(&[1], 86_400).body, ..foreign };
    let chunked = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {MEDIA_TYPE}\r\ntransfer-encoding: chunked\r\n\r\nffffffff\r\n"
    );
    let long_head = format!("HTTP/1.1 200 OK\r\nx-long: {}\r\n\r\n", "a".repeat(60_000));
    for (what, act) in [
        ("redirect to http", redirect("http://agent.example/")),
        ("redirect to itself", redirect(&format!("https://{HOST}{PATH}"))),
        ("not there", Act::Say(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec())),
        ("a page", changed("content-type", "text/html")),
        ("plain JSON", changed("content-type", "application/json")),
        ("no media type", without("content-type")),
        ("gzip", changed("content-encoding", "gzip")),
        ("unsigned", without("signature")),
        ("signed by another key", Act::Say(answer(&of_another, |_| {}))),
        (
            "expired signature",
            Act::Say(answer(&publish(&[&signer(1)], HOST, NOW - 600, NOW - 1).unwrap(), |_| {})),
        ),
        (
            "signed for another host",
            Act::Say(answer(&publish(&[&signer(1)], "evil.example", NOW, NOW + 60).unwrap(), |_| {})),
        ),
        (
            "another body than its digest",
            changed("content-digest", "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:"),
        ),
        ("endless body", Act::Endless(chunked.into_bytes())),
        ("long body", changed("content-length", "70000")),
        ("endless head", Act::Endless(b"HTTP/1.1 200 OK\r\nx-long: ".to_vec())),
        ("long head", Act::Say(long_head.into_bytes())),
        ("cut off", Act::Say(answer(&directory(&[1], 86_400), |_| {})[..200].to_vec())),
        ("no HTTP", Act::Say(b"SSH-2.0-OpenSSH_9.9\r\n".to_vec())),
    ] {
        server.now_says(act);
        let scene = Scene::start(&server, settings());
        assert_eq!(scene.settled(1).await, absent(60), "{what}");
        assert_eq!(scene.stage.connected().len(), 1, "{what}: nobody else is asked");
    }
    server.now_says(changed(
        "content-type",
        "Application/HTTP-Message-Signatures-Directory+JSON; charset=utf-8",
    ));
    assert_eq!(Scene::start(&server, settings()).settled(1).await, Found::Key(key(1)));
    server.now_says(without("signature"));
    let lenient = Settings { unsigned: Unsigned::Accept, ..settings() };
    assert_eq!(
        Scene::start(&server, lenient).settled(1).await,
        Found::Key(key(1)),
        "where that is configured"
    );
}

/// Two seconds for the connection, five for everything: the clock is the test's, the connections are real.
#[tokio::test]
async fn idn_18_who_answers_slowly_is_given_up() {
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: 1000\r\n\r\n");
    for act in
        [Act::Silent(head[..40].into()), Act::Silent(head.clone().into()), Act::Drip(head.clone().into())]
    {
        let server = Server::start(HOST, act).await;
        let scene = Scene::start(&server, settings());
        assert_eq!(scene.find(1), Found::Coming);
        let asked = async {
            while server.requests().is_empty() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.unwrap();
        assert_eq!(scene.find(1), Found::Coming, "who asks meanwhile does not wait");
        tokio::time::pause();
        assert_eq!(scene.settled(1).await, absent(60));
        tokio::time::resume();
    }
}

#[tokio::test]
async fn idn_17_keys_that_are_rotated_come_in_and_go_out() {
    let server = Server::start(HOST, good(&[1])).await;
    let scene = Scene::start(&server, settings());
    assert_eq!(scene.settled(1).await, Found::Key(key(1)));
    server.now_says(good(&[2]));
    assert_eq!(scene.settled(2).await, absent(60), "the directory was asked just now");
    scene.at(60);
    assert_eq!(scene.find(2), Found::Coming, "one question a minute");
    assert_eq!(scene.settled(2).await, Found::Key(key(2)));
    assert_eq!(scene.settled(1).await, absent(120), "rotated out");
    assert_eq!(server.requests().len(), 2);
    // Refreshed after four fifths of an hour; what cannot be had leaves the last copy in use for a day.
    server.now_says(Act::Say(b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n".to_vec()));
    scene.at(60 + 2880);
    assert_eq!(scene.find(2), Found::Key(key(2)), "nobody waits for the refresh");
    assert_eq!(scene.settled(2).await, Found::Key(key(2)));
    assert_eq!(server.requests().len(), 3);
    scene.at(60 + 86_399);
    assert_eq!(scene.settled(2).await, Found::Key(key(2)));
    scene.at(60 + 86_400);
    assert_eq!(scene.settled(2).await, absent(60 + 86_399 + 120), "dropped");
}

/// Ten thousand names of strangers: what is asked, kept and counted stays bounded, and who is known is found as before.
#[tokio::test]
async fn idn_15_a_flood_of_origins_is_bounded() {
    let server = Server::start(HOST, good(&[1])).await;
    let scene = Scene::start(&server, settings());
    assert_eq!(scene.settled(1).await, Found::Key(key(1)));
    let before = scene.stage.resolved.load(Ordering::SeqCst);
    // No await: the fetcher has no turn, so all of them meet the queue.
    let (mut coming, mut refused) = (0, 0);
    for at in 0..10_000 {
        match scene.directories.find(&origin(&format!("a{at}.example")), &name(1), NOW) {
            Found::Coming => coming += 1,
            Found::Absent { .. } => refused += 1,
            found @ (Found::Key(_) | Found::Barred) => panic!("{found:?}"),
        }
        assert_eq!(scene.find(1), Found::Key(key(1)));
    }
    assert_eq!((coming, refused), (WAITING_MAX, 10_000 - WAITING_MAX));
    assert_eq!(scene.settled(1).await, Found::Key(key(1)));
    assert_eq!(scene.stage.resolved.load(Ordering::SeqCst) - before, WAITING_MAX);
    for round in 0..4 {
        for at in 0..WAITING_MAX {
            let _ = scene.directories.find(&origin(&format!("b{round}-{at}.example")), &name(1), NOW);
        }
        assert_eq!(scene.settled(1).await, Found::Key(key(1)), "failures are forgotten before a directory");
    }
    assert_eq!(scene.directories.known.load().len(), super::KNOWN_MAX);
}

/// With everybody allowed, strangers' names are counted by the hour.
#[tokio::test]
async fn idn_15_new_origins_of_anybody_are_counted_by_the_hour() {
    let server = Server::start(HOST, good(&[1])).await;
    let mut any = settings();
    any.hosts.allow = Allow::Any { per_hour: 3 };
    let scene = Scene::start(&server, any);
    let find = |host: &str, now_s: u64| scene.directories.find(&origin(host), &name(1), now_s);
    for (host, after_s, is_asked) in [
        (HOST, 0, true),
        ("a.test-agents.com", 0, true),
        ("b.test-agents.com", 0, true),
        ("c.test-agents.com", 0, false),
        ("c.test-agents.com", 3600, true),
    ] {
        let found = find(host, NOW + after_s);
        assert_eq!(found == Found::Coming, is_asked, "{host} after {after_s} s: {found:?}");
    }
    assert_eq!(scene.settled(1).await, Found::Key(key(1)));
    // A refresh is none of a new origin.
    scene.at(3600);
    assert_eq!(scene.settled(1).await, Found::Key(key(1)));
    assert_eq!(server.requests().len(), 2);
}
