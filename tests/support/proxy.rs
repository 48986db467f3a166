//! A forward proxy: CONNECT tunnels and absolute-form requests, with optional Basic credentials
//! and a map from names that do not exist to local servers.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::server::{Request, find, lock, parse_head, wake_accept};

/// How a proxy behaves.
#[derive(Default)]
pub struct ProxySettings {
    /// The user and password clients must send.
    pub credentials: Option<(String, String)>,
    /// `host:port` as the client says it, and where it leads.
    pub map: Vec<(String, SocketAddr)>,
    /// The status of every CONNECT instead of a tunnel, such as 403.
    pub refuse: Option<u16>,
}

/// A running proxy; dropping it closes its connections.
pub struct Proxy {
    inner: Arc<Inner>,
    accept: Option<JoinHandle<()>>,
}

struct Inner {
    address: SocketAddr,
    settings: ProxySettings,
    log: Mutex<Vec<Request>>,
    streams: Mutex<HashMap<u64, [Option<Arc<TcpStream>>; 2]>>,
    serial: AtomicU64,
    stopped: AtomicBool,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1.
    pub fn start(settings: ProxySettings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let inner = Arc::new(Inner {
            address: listener.local_addr().expect("a bound address"),
            settings,
            log: Mutex::default(),
            streams: Mutex::default(),
            serial: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        });
        let accept = {
            let inner = inner.clone();
            std::thread::spawn(move || inner.accept(&listener))
        };
        Self {
            inner,
            accept: Some(accept),
        }
    }

    /// A proxy that leads `name` (`host:port`) to `address`.
    pub fn mapping(name: &str, address: SocketAddr) -> Self {
        Self::start(ProxySettings {
            map: vec![(name.to_owned(), address)],
            ..ProxySettings::default()
        })
    }

    /// `host:port`.
    pub fn authority(&self) -> String {
        self.inner.address.to_string()
    }

    /// `http://host:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.inner.address)
    }

    /// The heads of the requests to the proxy so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.inner.log).clone()
    }

    /// The requests so far as `CONNECT r.example:443` or `GET http://r.example/v2/`.
    pub fn lines(&self) -> Vec<String> {
        lock(&self.inner.log)
            .iter()
            .map(|request| format!("{} {}", request.method, request.target))
            .collect()
    }

    /// The targets of CONNECT so far.
    pub fn tunnels(&self) -> Vec<String> {
        lock(&self.inner.log)
            .iter()
            .filter(|request| request.method == "CONNECT")
            .map(|request| request.target.clone())
            .collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.inner.stopped.store(true, Ordering::SeqCst);
        wake_accept(self.inner.address);
        if let Some(accept) = self.accept.take() {
            let _ = accept.join();
        }
        for stream in lock(&self.inner.streams).values().flatten().flatten() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Inner {
    fn accept(self: Arc<Self>, listener: &TcpListener) {
        loop {
            let accepted = listener.accept();
            if self.stopped.load(Ordering::SeqCst) {
                return;
            }
            let Ok((stream, _)) = accepted else { continue };
            let serial = self.serial.fetch_add(1, Ordering::SeqCst) + 1;
            let stream = Arc::new(stream);
            lock(&self.streams).insert(serial, [Some(stream.clone()), None]);
            let inner = self.clone();
            std::thread::spawn(move || {
                // An error here is a client or a server that went away.
                let _ = inner.serve(&stream, serial);
                let _ = stream.shutdown(Shutdown::Both);
                lock(&inner.streams).remove(&serial);
            });
        }
    }

    fn serve(&self, client: &Arc<TcpStream>, serial: u64) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut input = Vec::new();
        while let Some(end) = read_head(client, &mut input)? {
            let head: Vec<u8> = input.drain(..end).collect();
            let request = parse_head(&head[..end - 4], Request::default())?;
            lock(&self.log).push(request.clone());
            if !self.admits(&request) {
                reply(
                    client,
                    "407 Proxy Authentication Required",
                    "Proxy-Authenticate: Basic realm=\"proxy\"\r\n",
                )?;
                if request.method == "CONNECT" || request.header("content-length").is_none() {
                    continue;
                }
                return Ok(());
            }
            if request.method == "CONNECT" {
                if let Some(status) = self.settings.refuse {
                    reply(client, &format!("{status} Refused"), "")?;
                    continue;
                }
                let Some(server) = self.dial(&request.target, serial) else {
                    reply(client, "502 Bad Gateway", "")?;
                    continue;
                };
                (&**client).write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
                (&*server).write_all(&input)?;
                return relay(client, &server);
            }
            let Some((authority, path)) = split_absolute(&request.target) else {
                return reply(client, "400 Bad Request", "Connection: close\r\n");
            };
            let Some(server) = self.dial(&authority, serial) else {
                return reply(client, "502 Bad Gateway", "Connection: close\r\n");
            };
            (&*server).write_all(&origin_form(&request, &path))?;
            (&*server).write_all(&input)?;
            return relay(client, &server);
        }
        Ok(())
    }

    fn admits(&self, request: &Request) -> bool {
        let Some(wanted) = &self.settings.credentials else {
            return true;
        };
        let as_authorization = Request {
            headers: request
                .headers
                .iter()
                .filter(|(name, _)| name.eq_ignore_ascii_case("proxy-authorization"))
                .map(|(_, value)| ("Authorization".to_owned(), value.clone()))
                .collect(),
            ..Request::default()
        };
        as_authorization.basic().as_ref() == Some(wanted)
    }

    /// Connects to a mapped name or a loopback address; nothing else is reachable.
    fn dial(&self, authority: &str, serial: u64) -> Option<Arc<TcpStream>> {
        let mapped = self
            .settings
            .map
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(authority))
            .map(|(_, address)| *address);
        let address = mapped.or_else(|| {
            let literal = authority.replacen("localhost:", "127.0.0.1:", 1);
            let address: SocketAddr = literal.parse().ok()?;
            address.ip().is_loopback().then_some(address)
        })?;
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
        let stream = Arc::new(stream);
        stream.set_nodelay(true).ok()?;
        if let Some(pair) = lock(&self.streams).get_mut(&serial) {
            pair[1] = Some(stream.clone());
        }
        Some(stream)
    }
}

fn read_head(mut stream: &TcpStream, input: &mut Vec<u8>) -> io::Result<Option<usize>> {
    let mut chunk = [0; 4096];
    loop {
        if let Some(at) = find(input, b"\r\n\r\n") {
            return Ok(Some(at + 4));
        }
        let n = stream.read(&mut chunk)?;
        if n == 0 || input.len() > 1 << 16 {
            return Ok(None);
        }
        input.extend_from_slice(&chunk[..n]);
    }
}

fn reply(mut client: &TcpStream, status: &str, fields: &str) -> io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: 0\r\n\r\n");
    client.write_all(head.as_bytes())
}

/// `http://host[:port]/path?query` as (`host:port`, `/path?query`).
fn split_absolute(target: &str) -> Option<(String, String)> {
    let rest = target.strip_prefix("http://")?;
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, path) = rest.split_at(at);
    let has_port = host
        .rsplit_once(':')
        .is_some_and(|(_, port)| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    let authority = if has_port {
        host.to_owned()
    } else {
        format!("{host}:80")
    };
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    Some((authority, path))
}

/// The head the server behind the proxy gets; one request a connection.
fn origin_form(request: &Request, path: &str) -> Vec<u8> {
    let mut head = format!("{} {path} HTTP/1.1\r\n", request.method).into_bytes();
    for (name, value) in &request.headers {
        let hop = ["proxy-authorization", "proxy-connection", "connection"];
        if !hop.contains(&name.to_ascii_lowercase().as_str()) {
            head.extend_from_slice(&[name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
    }
    head.extend_from_slice(b"Connection: close\r\n\r\n");
    head
}

/// Copies both ways until both sides are done.
fn relay(client: &Arc<TcpStream>, server: &Arc<TcpStream>) -> io::Result<()> {
    let up = {
        let (client, server) = (client.clone(), server.clone());
        std::thread::spawn(move || {
            let _ = io::copy(&mut &*client, &mut &*server);
            let _ = server.shutdown(Shutdown::Write);
        })
    };
    let copied = io::copy(&mut &**server, &mut &**client);
    let _ = client.shutdown(Shutdown::Both);
    let _ = up.join();
    copied.map(drop)
}
