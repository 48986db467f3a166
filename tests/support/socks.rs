//! A SOCKS5 proxy (RFC 1928) with optional user and password (RFC 1929), and a map from names that do not
//! exist to local servers.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::server::{lock, wake_accept};

/// How a proxy behaves.
#[derive(Default)]
pub struct SocksSettings {
    /// The user and password clients must send.
    pub credentials: Option<(String, String)>,
    /// `host:port` as the client says it, and where it leads.
    pub map: Vec<(String, SocketAddr)>,
    /// The reply to every request instead of a connection, such as 5.
    pub refuse: Option<u8>,
}

/// A running proxy; dropping it ends it.
pub struct Socks {
    inner: Arc<Inner>,
    accept: Option<JoinHandle<()>>,
}

struct Inner {
    address: SocketAddr,
    settings: SocksSettings,
    targets: Mutex<Vec<String>>,
    users: Mutex<Vec<(String, String)>>,
    streams: Mutex<Vec<Arc<TcpStream>>>,
    stopped: AtomicBool,
}

impl Socks {
    /// Listens on a free port of 127.0.0.1.
    pub fn start(settings: SocksSettings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let inner = Arc::new(Inner {
            address: listener.local_addr().expect("a bound address"),
            settings,
            targets: Mutex::default(),
            users: Mutex::default(),
            streams: Mutex::default(),
            stopped: AtomicBool::new(false),
        });
        let own = Arc::clone(&inner);
        let accept = std::thread::spawn(move || {
            loop {
                let accepted = listener.accept();
                if own.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let Ok((stream, _)) = accepted else { continue };
                let stream = own.keep(stream);
                let own = Arc::clone(&own);
                std::thread::spawn(move || {
                    // An error here is a client or a server that went away.
                    let _ = own.serve(&stream);
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        Self {
            inner,
            accept: Some(accept),
        }
    }

    /// `host:port`.
    pub fn authority(&self) -> String {
        self.inner.address.to_string()
    }

    /// What clients asked for: `name:port`, or an address where they resolved the name themselves.
    pub fn targets(&self) -> Vec<String> {
        lock(&self.inner.targets).clone()
    }

    /// The users and passwords that were sent.
    pub fn users(&self) -> Vec<(String, String)> {
        lock(&self.inner.users).clone()
    }
}

impl Drop for Socks {
    fn drop(&mut self) {
        self.inner.stopped.store(true, Ordering::SeqCst);
        wake_accept(self.inner.address);
        if let Some(accept) = self.accept.take() {
            let _ = accept.join();
        }
        for stream in lock(&self.inner.streams).iter() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

impl Inner {
    fn keep(&self, stream: TcpStream) -> Arc<TcpStream> {
        let stream = Arc::new(stream);
        lock(&self.streams).push(Arc::clone(&stream));
        stream
    }

    fn serve(&self, client: &Arc<TcpStream>) -> io::Result<()> {
        client.set_nodelay(true)?;
        let mut io = &**client;
        let [version, count] = take(io)?;
        let mut methods = vec![0; usize::from(count)];
        io.read_exact(&mut methods)?;
        let wanted = if self.settings.credentials.is_some() {
            2
        } else {
            0
        };
        if version != 5 || !methods.contains(&wanted) {
            return io.write_all(&[5, 0xff]);
        }
        io.write_all(&[5, wanted])?;
        if let Some(credentials) = &self.settings.credentials {
            let [_, length] = take(io)?;
            let user = text(io, length)?;
            let [length] = take(io)?;
            let got = (user, text(io, length)?);
            let good = got == *credentials;
            lock(&self.users).push(got);
            io.write_all(&[1, u8::from(!good)])?;
            if !good {
                return Ok(());
            }
        }
        let [_, command, _, kind] = take(io)?;
        let host = match kind {
            1 => IpAddr::from(Ipv4Addr::from(take::<4>(io)?)).to_string(),
            4 => format!("[{}]", Ipv6Addr::from(take::<16>(io)?)),
            _ => {
                let [length] = take(io)?;
                text(io, length)?
            }
        };
        let target = format!("{host}:{}", u16::from_be_bytes(take(io)?));
        lock(&self.targets).push(target.clone());
        let server = match self.settings.refuse {
            None if command == 1 => self.dial(&target),
            _ => None,
        };
        let Some(server) = server else {
            let reply = self.settings.refuse.unwrap_or(4);
            return io.write_all(&[5, reply, 0, 1, 0, 0, 0, 0, 0, 0]);
        };
        // The bound address as a name, which clients must be able to pass over.
        io.write_all(b"\x05\x00\x00\x03\x05bound\x00\x50")?;
        let up = {
            let (client, server) = (Arc::clone(client), Arc::clone(&server));
            std::thread::spawn(move || {
                let _ = io::copy(&mut &*client, &mut &*server);
                let _ = server.shutdown(Shutdown::Write);
            })
        };
        let copied = io::copy(&mut &*server, &mut &**client);
        let _ = client.shutdown(Shutdown::Both);
        let _ = up.join();
        copied.map(drop)
    }

    /// Connects to a mapped name or a loopback address; nothing else is reachable.
    fn dial(&self, target: &str) -> Option<Arc<TcpStream>> {
        let mapped = self.settings.map.iter().find(|(name, _)| name == target);
        let address = match mapped {
            Some((_, address)) => *address,
            None => target
                .parse()
                .ok()
                .filter(|a: &SocketAddr| a.ip().is_loopback())?,
        };
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).ok()?;
        stream.set_nodelay(true).ok()?;
        Some(self.keep(stream))
    }
}

fn take<const N: usize>(mut io: &TcpStream) -> io::Result<[u8; N]> {
    let mut out = [0; N];
    io.read_exact(&mut out)?;
    Ok(out)
}

fn text(mut io: &TcpStream, length: u8) -> io::Result<String> {
    let mut out = vec![0; usize::from(length)];
    io.read_exact(&mut out)?;
    String::from_utf8(out).map_err(io::Error::other)
}
