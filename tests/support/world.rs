//! Servers under the names they have in the world, over TLS, and one log of what they were asked in turn.

use std::sync::{Arc, Mutex};

use registry_transport::options::Options;

use super::client;
use super::pki::Ca;
use super::proxy::{Proxy, ProxySettings};
use super::server::{Answer, Request, Server, lock, percent_decode};

/// What a host answers.
pub type Host = Box<dyn Fn(&Request) -> Answer + Send + Sync>;

/// Hosts with certificates for their names, behind a proxy that leads to them.
pub struct World {
    ca: Ca,
    proxy: Proxy,
    log: Arc<Mutex<Log>>,
    _servers: Vec<Server>,
}

#[derive(Default)]
struct Log {
    lines: Vec<String>,
    names: Vec<(String, String)>,
}

impl World {
    /// Starts these hosts. Each listens on 443 as far as a client can tell.
    pub fn new(hosts: Vec<(&str, Host)>) -> Self {
        let ca = Ca::new();
        let log = Arc::new(Mutex::new(Log::default()));
        let mut map = Vec::new();
        let mut servers = Vec::new();
        for (name, host) in hosts {
            let identity = ca.server_for(&[name]);
            let (own, log) = (name.to_owned(), Arc::clone(&log));
            let server = Server::builder()
                .tls_config(ca.server_config(&identity))
                .start(move |request| {
                    let answer = host(request);
                    lock(&log).keep(&own, request, &answer);
                    answer
                });
            map.push((format!("{name}:443"), server.address()));
            servers.push(server);
        }
        let proxy = Proxy::start(ProxySettings {
            map,
            ..ProxySettings::default()
        });
        Self {
            ca,
            proxy,
            log,
            _servers: servers,
        }
    }

    /// Writes `name` for `text` in the log.
    pub fn call(&self, text: &str, name: &str) {
        lock(&self.log)
            .names
            .push((text.to_owned(), name.to_owned()));
    }

    /// Options with which these hosts are there and no others.
    pub fn options(&self) -> Options {
        let mut options = client::options();
        options.set_text("proxy", &self.proxy.url()).expect("proxy");
        options.set_text("ca-pem", self.ca.pem()).expect("ca-pem");
        options
    }

    /// What was asked since the last look: `401 GET gcr.io/v2/p/app/tags/list`, with `Bearer` and the token or
    /// `Basic` and `user:password` at the end, and the fields of a form before them. Targets and forms are
    /// decoded.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut lock(&self.log).lines)
    }
}

impl Log {
    fn keep(&mut self, host: &str, request: &Request, answer: &Answer) {
        let mut line = format!(
            "{} {} {host}{}",
            answer.status(),
            request.method,
            percent_decode(&request.target, true)
        );
        let form = request.header("content-type") == Some("application/x-www-form-urlencoded");
        if form {
            let text = String::from_utf8_lossy(&request.body).into_owned();
            line.push_str(&format!(" {}", percent_decode(&text, true)));
        }
        match (request.basic(), request.header("authorization")) {
            (Some((user, password)), _) => line.push_str(&format!(" Basic {user}:{password}")),
            (None, Some(value)) => line.push_str(&format!(" {value}")),
            (None, None) => {}
        }
        for (text, name) in &self.names {
            line = line.replace(text, name);
        }
        self.lines.push(line);
    }
}
