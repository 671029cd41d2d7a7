//! Connections that are cut in the middle of a batch, and connections that are slow: by way of a proxy.

use crate::services::variable;
use crate::stores::Stores;
use crate::table::{Random, effort, passed};
use crate::world::{World, events, mysql_database, stderr, unused_name};
use socket2::SockRef;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use url::Url;

/// What the proxy does to what the client sends.
#[derive(Clone, Copy)]
enum Trouble {
    /// Each connection is reset after so many bytes, more or less, as long as resets are left.
    Cuts { after: u64, left: u64 },
    /// So many bytes a second.
    Slow(u64),
}

/// A proxy in front of a server.
struct Proxy {
    address: SocketAddr,
    cuts: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
    closed: Arc<AtomicBool>,
}

impl Proxy {
    fn start(server: SocketAddr, trouble: Trouble) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy {
            address: listener.local_addr().unwrap(),
            cuts: Arc::default(),
            bytes: Arc::default(),
            closed: Arc::default(),
        };
        let (cuts, bytes, closed) = (proxy.cuts.clone(), proxy.bytes.clone(), proxy.closed.clone());
        std::thread::spawn(move || {
            let mut random = Random(3);
            for client in listener.incoming() {
                if closed.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(server) = TcpStream::connect(server) else { continue };
                let client = client.unwrap();
                let (from_server, to_client) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || copy(from_server, to_client, u64::MAX, None, &AtomicU64::new(0)));
                let (limit, rate) = match trouble {
                    Trouble::Cuts { after, left } if cuts.load(Ordering::Relaxed) < left => {
                        (after / 2 + random.below(after), None)
                    }
                    Trouble::Cuts { .. } => (u64::MAX, None),
                    Trouble::Slow(rate) => (u64::MAX, Some(rate)),
                };
                let (cuts, bytes) = (cuts.clone(), bytes.clone());
                std::thread::spawn(move || {
                    if copy(client, server, limit, rate, &bytes) {
                        cuts.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        proxy
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// Copies until either side is closed, or until `limit` bytes have passed, and then resets both. Whether that happened.
fn copy(mut from: TcpStream, mut to: TcpStream, limit: u64, rate: Option<u64>, count: &AtomicU64) -> bool {
    let mut buffer = vec![0; if rate.is_some() { 4096 } else { 16384 }];
    let mut passed = 0;
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        passed += length as u64;
        if passed > limit {
            // Half of what came goes on, then the connection is gone without a word.
            let _ = to.write_all(&buffer[..length / 2]);
            for stream in [&from, &to] {
                let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
                let _ = stream.shutdown(std::net::Shutdown::Both);
            }
            return true;
        }
        if let Some(rate) = rate {
            std::thread::sleep(Duration::from_secs_f64(length as f64 / rate as f64));
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
        count.fetch_add(length as u64, Ordering::Relaxed);
    }
    let _ = to.shutdown(std::net::Shutdown::Both);
    false
}

/// Stores with a proxy in front of one of them.
struct Behind {
    proxy: Proxy,
    stores: Stores,
}

fn server_of(url: &Url) -> SocketAddr {
    url.socket_addrs(|| None).unwrap()[0]
}

fn redirected(url: &Url, proxy: &Proxy) -> Url {
    let mut url = url.clone();
    url.set_port(Some(proxy.address.port())).unwrap();
    url
}

/// The servers that all tests share, `sink` behind a proxy. The stores are read without it.
fn behind(world: &World, sink: &str, trouble: Trouble) -> Option<(Behind, Stores)> {
    let embedded = world.embedded();
    let name = unused_name();
    let (direct, proxied, proxy);
    match sink {
        "mongodb" => {
            let url = Url::parse(&variable("EDDYLINE_TEST_MONGODB")?).unwrap();
            proxy = Proxy::start(server_of(&url), trouble);
            // The server tells its own address, which must not be followed.
            let mut other = redirected(&url, &proxy);
            other.set_path("/");
            other.set_query(Some("directConnection=true"));
            direct = Stores { mongodb: Some((url.into(), name.clone())), ..embedded.clone() };
            proxied = Stores { mongodb: Some((other.into(), name)), ..embedded };
        }
        "mysql" => {
            let url = mysql_database(&variable("EDDYLINE_TEST_MYSQL")?);
            proxy = Proxy::start(server_of(&url), trouble);
            proxied = Stores { mysql: Some(redirected(&url, &proxy)), ..embedded.clone() };
            direct = Stores { mysql: Some(url), ..embedded };
        }
        _ => {
            let url = Url::parse(&variable("EDDYLINE_TEST_REDIS")?).unwrap();
            proxy = Proxy::start(server_of(&url), trouble);
            proxied = Stores { redis: Some((redirected(&url, &proxy), format!("{name}:"))), ..embedded.clone() };
            direct = Stores { redis: Some((url, format!("{name}:"))), ..embedded };
        }
    }
    Some((Behind { proxy, stores: proxied }, direct))
}

/// Runs into `sink` behind a proxy, and checks the stores. Returns what the run said, and the proxy.
fn run_behind(world: &World, sink: &str, trouble: Trouble) -> Option<(String, Proxy)> {
    let (behind, direct) = behind(world, sink, trouble)?;
    let mut target = world.target(behind.stores);
    let output = target.run().args(["-w", "2"]).output().unwrap();
    assert!(output.status.success(), "{sink}: {}", stderr(&output));
    target.stores = direct;
    target.check(sink);
    Some((stderr(&output), behind.proxy))
}

#[test]
fn connections_that_are_cut_lose_and_double_nothing() {
    let Some(world) = World::new(events(), 2) else { return };
    for sink in ["mongodb", "mysql", "redis"] {
        let left = 5 * effort() as u64;
        let Some((told, proxy)) = run_behind(&world, sink, Trouble::Cuts { after: 30_000, left }) else { return };
        let cuts = proxy.cuts.load(Ordering::Relaxed);
        assert!(cuts >= 3, "{sink}: {cuts} cuts");
        assert!(told.contains("trying again until it works"), "{sink}: {told}");
        let cuts = usize::try_from(cuts).unwrap();
        passed(&format!("connection to {sink} reset"), cuts, "in the middle of what was sent");
    }
}

#[test]
fn a_slow_store_slows_the_input_and_changes_nothing() {
    let Some(world) = World::new(events(), 2) else { return };
    for (sink, rate) in [("mongodb", 200_000), ("mysql", 100_000), ("redis", 10_000)] {
        let Some((_, proxy)) = run_behind(&world, sink, Trouble::Slow(rate)) else { return };
        let kilobytes = proxy.bytes.load(Ordering::Relaxed) / 1000;
        assert!(kilobytes > 20, "{sink}: only {kilobytes} kB went by way of the proxy");
        passed(&format!("{sink} takes {} kB/s", rate / 1000), 1, &format!("{kilobytes} kB were written through it"));
    }
}
