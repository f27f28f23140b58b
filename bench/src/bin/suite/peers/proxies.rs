//! Proxies that nobody pays, and one that asks before it passes a call on: what our own proxy is held against.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Found, Peer};
use crate::places::Places;
use crate::process::{Server, free_address};

/// Worker processes or threads, as many as the gateway has threads.
const WORKERS: usize = 2;

/// Where their packages were unpacked: told by `cargo xtask bench --peers`, which does it.
const ROOT: &str = "FARTHING_BENCH_DEBIAN";
const LIBRARIES: &str = "FARTHING_BENCH_LIBRARIES";

/// A program of the unpacked packages, else of this system.
fn program(name: &str) -> Command {
    let unpacked = std::env::var_os(ROOT).map(|root| Path::new(&root).join("usr/sbin").join(name));
    match unpacked.filter(|path| path.is_file()) {
        None => Command::new(name),
        Some(path) => {
            let mut command = Command::new(path);
            if let Some(libraries) = std::env::var_os(LIBRARIES) {
                command.env("LD_LIBRARY_PATH", libraries);
            }
            command
        }
    }
}

fn is_there(name: &str, places: &Places) -> Result<(), String> {
    let mut version = program(name);
    let ran = version.arg("-v").current_dir(&places.run).output();
    if ran.is_ok_and(|output| output.status.success()) {
        Ok(())
    } else {
        Err(format!("{name} is not installed"))
    }
}

/// nginx as a proxy, with connections kept on both sides.
pub(crate) fn nginx(upstream: SocketAddr, places: &Places) -> Found {
    let location = "location / { proxy_pass http://upstream; proxy_buffering off; }";
    ("nginx proxy_pass", start_nginx("nginx proxy_pass", upstream, None, location, places))
}

/// nginx that asks the checker about each call.
pub(crate) fn nginx_auth_request(upstream: SocketAddr, checker: [SocketAddr; 2], places: &Places) -> Found {
    let location = "location / { auth_request /check; proxy_pass http://upstream; proxy_buffering off; }\n\
        location = /check { internal; proxy_pass http://checker; proxy_pass_request_body off; proxy_set_header Content-Length \"\"; }";
    let name = "nginx auth_request, Rust checker";
    (name, start_nginx(name, upstream, Some(checker), location, places))
}

fn start_nginx(
    name: &'static str,
    upstream: SocketAddr,
    checker: Option<[SocketAddr; 2]>,
    location: &str,
    places: &Places,
) -> Result<Peer, String> {
    is_there("nginx", places)?;
    let address = free_address()?;
    let folder = places.folder(name)?;
    let kept = "keepalive 512; keepalive_requests 100000000;";
    let checker = checker.map_or(String::new(), |[one, other]| {
        format!("upstream checker {{ server {one}; server {other}; {kept} }}")
    });
    let here = folder.display();
    let text = format!(
        "daemon off; worker_processes {WORKERS}; pid {here}/pid; error_log {here}/error.log crit;\n\
         events {{ worker_connections 8192; }}\nhttp {{\n access_log off; keepalive_requests 100000000; tcp_nodelay on;\n \
         client_body_temp_path {here}/body; proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/fastcgi;\n \
         uwsgi_temp_path {here}/uwsgi; scgi_temp_path {here}/scgi;\n \
         upstream upstream {{ server {upstream}; {kept} }}\n {checker}\n \
         server {{ listen {address} reuseport backlog=4096;\n proxy_http_version 1.1; proxy_set_header Connection \"\";\n {location} }}\n}}\n"
    );
    let config: PathBuf = places.write(&format!("{name}.conf"), &text)?;
    let mut nginx = program("nginx");
    nginx.arg("-p").arg(&folder).arg("-e").arg(folder.join("error.log")).arg("-c").arg(config);
    let server = Server::start(name, &nginx, &places.log(name), address)?;
    Ok(Peer { name, address, server })
}

/// haproxy. Its defaults gather small pieces of an answer; with `no_delay` it sends each as it comes.
pub(crate) fn haproxy(upstream: SocketAddr, no_delay: bool, places: &Places) -> Found {
    let name = if no_delay { "haproxy, http-no-delay" } else { "haproxy" };
    (name, start_haproxy(name, upstream, no_delay, places))
}

fn start_haproxy(
    name: &'static str,
    upstream: SocketAddr,
    no_delay: bool,
    places: &Places,
) -> Result<Peer, String> {
    is_there("haproxy", places)?;
    let address = free_address()?;
    let option = if no_delay { " option http-no-delay\n" } else { "" };
    let text = format!(
        "global\n nbthread {WORKERS}\n maxconn 8000\ndefaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n \
         http-reuse always\n{option}frontend in\n bind {address}\n default_backend out\nbackend out\n server upstream {upstream}\n"
    );
    let config = places.write(&format!("{name}.cfg"), &text)?;
    let mut haproxy = program("haproxy");
    haproxy.arg("-db").arg("-f").arg(config);
    let server = Server::start(name, &haproxy, &places.log(name), address)?;
    Ok(Peer { name, address, server })
}
