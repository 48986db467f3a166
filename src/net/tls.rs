//! TLS: what is trusted, what is shown, and the connection itself. The only module that knows which TLS
//! library is inside.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::client::UnbufferedClientConnection;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::unbuffered::{ConnectionState, UnbufferedStatus};
use rustls::{CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct, RootCertStore};
use rustls_native_certs::load_certs_from_paths;
use ureq::unversioned::transport::{Buffers, NextTimeout, Transport};
use zeroize::Zeroize;

use super::buffers::WipedBuffers;
use super::call::{self, Call};
use super::fold::{self, Came};
use super::tcp::into_io;
use crate::error::{Error, Result};
use crate::hosts::HostTrust;
use crate::hosts::certs::{self, Folders};
use crate::options::{Options, Switch, Text};
use crate::process::PerProcess;
use crate::sorted::in_order;
use crate::url::Origin;

const HTTPS_PORT: u16 = 443;

/// What a transport asks of TLS. Turned into a [`ClientConfig`] when the first TLS connection to a host is made.
#[derive(Debug)]
pub(crate) struct Trust {
    ca_files: Vec<PathBuf>,
    ca_pem: Option<String>,
    clients: Vec<(PathBuf, PathBuf)>,
    only_1_3: bool,
    insecure: bool,
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR`, which replace the system's store.
    env_file: Option<OsString>,
    env_dir: Option<OsString>,
    folders: Folders,
    /// The registry's own host, and what its configuration says of it alone.
    home: (String, u16),
    host: HostTrust,
    made: Mutex<HashMap<Kind, Arc<ClientConfig>>>,
}

/// What the configurations of hosts differ in: the folder, if there is one, and whether it is the registry's.
type Kind = (Option<PathBuf>, bool);

impl Trust {
    pub(crate) fn of(options: &Options, home: &Origin, host: &HostTrust) -> Result<Self> {
        let read_env = options.is_on(Switch::Environment);
        let env = |name| {
            if read_env {
                std::env::var_os(name).filter(|v| !v.is_empty())
            } else {
                None
            }
        };
        let file = |key| {
            options
                .text(key)
                .filter(|t| !t.is_empty())
                .map(PathBuf::from)
        };
        let clients = match (file(Text::ClientCert), file(Text::ClientKey)) {
            (None, None) => Vec::new(),
            (Some(cert), Some(key)) => vec![(cert, key)],
            _ => {
                return Err(Error::argument(
                    "options client-cert-file and client-key-file go together",
                ));
            }
        };
        Ok(Self {
            ca_files: file(Text::CaFile).into_iter().collect(),
            ca_pem: options
                .text(Text::CaPem)
                .filter(|t| !t.is_empty())
                .map(str::to_owned),
            clients,
            only_1_3: options.text(Text::TlsMin) == Some("1.3"),
            insecure: options.is_on(Switch::Insecure),
            env_file: env("SSL_CERT_FILE"),
            env_dir: env("SSL_CERT_DIR"),
            folders: Folders::of(options),
            home: (home.host().to_owned(), home.port()),
            host: host.clone(),
            made: Mutex::default(),
        })
    }

    /// The configuration for connections to a host.
    pub(crate) fn config(&self, host: &str, port: u16) -> Result<Arc<ClientConfig>> {
        let key = (self.folder(host, port), self.is_home(host, port));
        let made = || self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(config) = made().get(&key) {
            return Ok(Arc::clone(config));
        }
        // Not under the lock: reading files may take its time.
        let config = self.make(&self.of_host(host, port)?)?;
        Ok(Arc::clone(made().entry(key).or_insert(config)))
    }

    fn is_home(&self, host: &str, port: u16) -> bool {
        self.home.0 == host && self.home.1 == port
    }

    fn folder(&self, host: &str, port: u16) -> Option<PathBuf> {
        self.folders.find(host, port, HTTPS_PORT)
    }

    /// All that holds for connections to a host. What the registry's folder says is to be trusted is trusted of
    /// the hosts it leads to as well, as its token service often has a certificate of the same authority; what is
    /// shown to the registry is shown to nobody else.
    pub(crate) fn of_host(&self, host: &str, port: u16) -> Result<HostTrust> {
        let mut all = HostTrust {
            ca_files: self.ca_files.clone(),
            clients: self.clients.clone(),
            insecure: self.insecure,
        };
        let own = self.folder(host, port);
        let home = self.folder(&self.home.0, self.home.1);
        if let Some(folder) = &own {
            let found = certs::read(folder)?;
            all.ca_files.extend(found.ca_files);
            all.clients.splice(0..0, found.clients);
        }
        if let Some(folder) = home.filter(|_| !self.is_home(host, port)) {
            all.ca_files.extend(certs::read(&folder)?.ca_files);
        }
        all.ca_files.extend(self.host.ca_files.iter().cloned());
        if self.is_home(host, port) {
            all.clients.splice(0..0, self.host.clients.iter().cloned());
            all.insecure |= self.host.insecure;
        }
        Ok(all)
    }

    /// Where trust begins, for people.
    pub(crate) fn store(&self) -> String {
        let shown = |p: &OsString| Path::new(p).display().to_string();
        match (&self.env_file, &self.env_dir) {
            (None, None) => "the system's trust store".to_owned(),
            (Some(file), None) => format!("SSL_CERT_FILE={}", shown(file)),
            (None, Some(folder)) => format!("SSL_CERT_DIR={}", shown(folder)),
            (Some(file), Some(folder)) => format!(
                "SSL_CERT_FILE={}, SSL_CERT_DIR={}",
                shown(file),
                shown(folder)
            ),
        }
    }

    /// The lowest version of TLS that is spoken.
    pub(crate) fn min_version(&self) -> &'static str {
        if self.only_1_3 { "1.3" } else { "1.2" }
    }

    /// Whether option `ca-pem` adds to what is trusted.
    pub(crate) fn has_pem(&self) -> bool {
        self.ca_pem.is_some()
    }

    /// Reads the certificates and makes the configuration.
    fn make(&self, host: &HostTrust) -> Result<Arc<ClientConfig>> {
        let mut provider = rustls::crypto::ring::default_provider();
        // Servers commonly take the client's first choice: the cheapest that is strong, as browsers do.
        provider.cipher_suites = in_order(provider.cipher_suites, |a, b| {
            is_aes_128(b.suite()).cmp(&is_aes_128(a.suite()))
        });
        let provider = Arc::new(provider);
        let versions: &[&rustls::SupportedProtocolVersion] = if self.only_1_3 {
            &[&rustls::version::TLS13]
        } else {
            rustls::DEFAULT_VERSIONS
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|e| Error::tls(format!("cannot set up TLS: {e}")))?;
        let builder = if host.insecure {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
        } else {
            builder.with_root_certificates(self.roots(&host.ca_files)?)
        };
        let mut config = match host.clients.first() {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = read_pem_certs(cert)?;
                let key_der = PrivateKeyDer::from_pem_file(key)
                    .map_err(|e| unreadable("the private key in", key, &e))?;
                builder.with_client_auth_cert(chain, key_der).map_err(|e| {
                    Error::tls(format!(
                        "the client certificate in {} cannot be used: {e}",
                        cert.display()
                    ))
                })?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn roots(&self, ca_files: &[PathBuf]) -> Result<Arc<RootCertStore>> {
        let system = if self.env_file.is_some() || self.env_dir.is_some() {
            let folders = self.env_dir.iter().flat_map(std::env::split_paths);
            Arc::new(store(load(
                self.env_file.as_deref().map(Path::new),
                folders,
            )))
        } else {
            system_roots()
        };
        let mut roots = RootCertStore::clone(&system);
        let mut add = |certs: Vec<CertificateDer<'static>>, from: &dyn fmt::Display| {
            let (_, ignored) = roots.add_parsable_certificates(certs);
            if ignored > 0 {
                return Err(Error::tls(format!(
                    "{from} holds a certificate that cannot be parsed"
                )));
            }
            Ok(())
        };
        for file in ca_files {
            add(read_pem_certs(file)?, &file.display())?;
        }
        if let Some(pem) = &self.ca_pem {
            let certs: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|e| Error::tls(format!("option ca-pem: {}", pem_error(&e))))?;
            if certs.is_empty() {
                return Err(Error::tls("option ca-pem holds no certificate"));
            }
            add(certs, &"option ca-pem")?;
        }
        if roots.is_empty() {
            return Err(Error::tls(
                "no trusted certificates were found: install the system's CA certificates (package \
                 ca-certificates), or set option ca-file or the variable SSL_CERT_FILE",
            ));
        }
        Ok(Arc::new(roots))
    }
}

fn is_aes_128(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
    )
}

/// The system's trust store, parsed once in a process.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: PerProcess<Arc<RootCertStore>> = PerProcess::new();
    Arc::clone(ROOTS.get(|| Arc::new(store(system_certs()))))
}

/// Of the keychain. Its library puts `SSL_CERT_FILE` and `SSL_CERT_DIR` before it whatever the options say.
#[cfg(target_vendor = "apple")]
fn system_certs() -> Vec<CertificateDer<'static>> {
    rustls_native_certs::load_native_certs().certs
}

/// From where distributions keep them: the first bundle there is, and the folders.
#[cfg(not(target_vendor = "apple"))]
fn system_certs() -> Vec<CertificateDer<'static>> {
    const BUNDLES: [&str; 9] = [
        "/etc/ssl/certs/ca-certificates.crt",
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        "/etc/pki/tls/certs/ca-bundle.crt",
        "/etc/pki/tls/cacert.pem",
        "/etc/ssl/ca-bundle.pem",
        "/etc/ssl/cert.pem",
        "/opt/etc/ssl/certs/ca-certificates.crt",
        "/usr/local/etc/ssl/cert.pem",
        "/usr/local/share/certs/ca-root-nss.crt",
    ];
    const FOLDERS: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];
    let bundle = BUNDLES.iter().map(Path::new).find(|p| p.exists());
    load(bundle, FOLDERS.iter().map(PathBuf::from))
}

/// The certificates of a bundle and of folders, each once. What cannot be read is passed over.
fn load(
    bundle: Option<&Path>,
    mut folders: impl Iterator<Item = PathBuf>,
) -> Vec<CertificateDer<'static>> {
    // A bundle is often in the first folder, and read once with it.
    let mut certs = load_certs_from_paths(bundle, folders.next().as_deref()).certs;
    for folder in folders {
        certs.extend(load_certs_from_paths(None, Some(&folder)).certs);
    }
    certs.sort_unstable_by(|a, b| a.cmp(b));
    certs.dedup();
    certs
}

fn store(certs: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // Stores hold odd certificates; one that cannot be parsed must not void the rest.
    roots.add_parsable_certificates(certs);
    roots
}

fn read_pem_certs(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let certs: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|e| unreadable("certificates from", file, &e))?;
    if certs.is_empty() {
        return Err(Error::tls(format!(
            "{} holds no certificate in PEM form",
            file.display()
        )));
    }
    Ok(certs)
}

fn unreadable(what: &str, file: &Path, e: &pem::Error) -> Error {
    let message = format!("cannot read {what} {}: {}", file.display(), pem_error(e));
    match e {
        pem::Error::Io(e) => Error::io(message).with_os_code(e.raw_os_error()),
        _ => Error::tls(message),
    }
}

/// Says what is wrong with a PEM file without quoting it: it may be a key.
fn pem_error(e: &pem::Error) -> String {
    match e {
        pem::Error::Io(e) => e.to_string(),
        pem::Error::NoItemsFound => "nothing of that kind in it".to_owned(),
        _ => "it is not in PEM form".to_owned(),
    }
}

/// Accepts every certificate. Only for the option `insecure`.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            cert,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            cert,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What TLS runs over: a connection of ours, or a tunnel through a proxy.
pub(crate) trait Wire: Send + Sync {
    /// Reads at least a byte; 0 is the end.
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize>;
    fn write_all(&mut self, data: &[u8]) -> io::Result<()>;
    /// How many bytes are worth waking up for.
    fn set_low_water(&mut self, bytes: i32);
    fn is_open(&mut self) -> bool;
    /// The same connection for the HTTP engine.
    fn into_transport(self: Box<Self>) -> Box<dyn Transport>;
}

impl Wire for super::tcp::Tcp {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        super::tcp::Tcp::read(self, buf)
    }

    fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        super::tcp::Tcp::write_all(self, data)
    }

    fn set_low_water(&mut self, bytes: i32) {
        super::tcp::Tcp::set_low_water(self, bytes);
    }

    fn is_open(&mut self) -> bool {
        super::tcp::Tcp::is_open(self)
    }

    fn into_transport(self: Box<Self>) -> Box<dyn Transport> {
        self
    }
}

/// TLS to a proxy, in which TLS to the host behind it may run.
impl Wire for Tls {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.read_plain(buf)
    }

    fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        self.write_plain(data)
    }

    fn set_low_water(&mut self, bytes: i32) {
        self.wire.set_low_water(bytes);
    }

    fn is_open(&mut self) -> bool {
        Transport::is_open(self)
    }

    fn into_transport(self: Box<Self>) -> Box<dyn Transport> {
        self
    }
}

/// A TLS connection. Records are decrypted where they were read and copied once, to the reader.
pub(crate) struct Tls {
    wire: Box<dyn Wire>,
    tls: UnbufferedClientConnection,
    /// What came in and was not yet taken apart: `incoming[start..end]`.
    incoming: Vec<u8>,
    start: usize,
    end: usize,
    /// Encrypted, to be sent.
    outgoing: Vec<u8>,
    /// Decrypted, for which the reader had no room.
    plain: Vec<u8>,
    passed: usize,
    ended: bool,
    /// What broke the connection right behind data that was still handed over.
    failed: Option<io::Error>,
    buffers: WipedBuffers,
}

/// Longest record with its header (RFC 8446 section 5.2).
const MAX_RECORD: usize = 16 * 1024 + 256 + 5;

/// Bytes to wake up for while more than [`LONG`] of a body are to come: the latter is more by what may have been read
/// ahead, so that they are sure to come.
const MANY: i32 = 512 * 1024;
const LONG: usize = 1024 * 1024;

impl Tls {
    /// Shakes hands over `wire`, within the call's limit for it.
    pub(crate) fn handshake(
        wire: Box<dyn Wire>,
        config: Arc<ClientConfig>,
        host: &str,
        buffer: usize,
        call: &Call,
    ) -> Result<Self> {
        let bare = host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .trim_end_matches('.');
        let name = ServerName::try_from(bare.to_owned()).map_err(|_| {
            Error::tls(format!("{host} is no name that a certificate could be for"))
        })?;
        let tls = UnbufferedClientConnection::new(config, name)
            .map_err(|e| Error::tls(format!("cannot begin TLS with {host}: {e}")))?;
        let mut tls = Self {
            wire,
            tls,
            incoming: vec![0; buffer],
            start: 0,
            end: 0,
            outgoing: Vec::new(),
            plain: Vec::new(),
            passed: 0,
            ended: false,
            failed: None,
            buffers: WipedBuffers::new(buffer),
        };
        let began = std::time::Instant::now();
        loop {
            let step = tls
                .advance(&mut [], &[])
                .map_err(|e| handshake_error(host, e))?;
            if step.may_write {
                return Ok(tls);
            }
            if step.wants_input {
                tls.read_wire().map_err(|e| handshake_error(host, e))?;
            }
            call.check_handshake(began.elapsed())?;
        }
    }

    /// Takes the state machine one step on: decrypts into `out`, or encrypts `data`, or sends what is to be sent.
    fn advance(&mut self, out: &mut [u8], data: &[u8]) -> io::Result<Step> {
        let mut step = Step::default();
        let incoming = self
            .incoming
            .get_mut(self.start..self.end)
            .unwrap_or_default();
        let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(incoming);
        match state.map_err(io::Error::other)? {
            ConnectionState::ReadTraffic(mut records) => {
                while let Some(record) = records.next_record() {
                    let record = record.map_err(io::Error::other)?;
                    discard += record.discard;
                    let room = out.get_mut(step.read..).unwrap_or_default();
                    let n = room.len().min(record.payload.len());
                    let (now, later) = record.payload.split_at(n);
                    if let Some(room) = room.get_mut(..n) {
                        room.copy_from_slice(now);
                    }
                    step.read += n;
                    self.plain.extend_from_slice(later);
                }
            }
            ConnectionState::EncodeTlsData(mut chunk) => {
                let used = self.outgoing.len();
                self.outgoing.resize(used + MAX_RECORD, 0);
                let room = self.outgoing.get_mut(used..).unwrap_or_default();
                let written = chunk.encode(room).map_err(io::Error::other)?;
                self.outgoing.truncate(used + written);
            }
            ConnectionState::TransmitTlsData(sent) => {
                self.wire.write_all(&self.outgoing)?;
                self.outgoing.clear();
                sent.done();
            }
            ConnectionState::WriteTraffic(mut writer) => {
                step.may_write = true;
                if data.is_empty() {
                    step.wants_input = !out.is_empty();
                } else {
                    // Each record of up to 16 KiB grows by its header, type and tag.
                    self.outgoing
                        .resize(data.len() + (data.len() / 16384 + 1) * 64, 0);
                    let written = writer
                        .encrypt(data, &mut self.outgoing)
                        .map_err(io::Error::other)?;
                    self.wire
                        .write_all(self.outgoing.get(..written).unwrap_or_default())?;
                    self.outgoing.clear();
                    step.wrote = true;
                }
            }
            ConnectionState::BlockedHandshake => step.wants_input = true,
            ConnectionState::PeerClosed | ConnectionState::Closed => self.ended = true,
            _ => {
                return Err(into_io(Error::internal(
                    "the TLS library is in an unknown state",
                )));
            }
        }
        self.start += discard;
        Ok(step)
    }

    fn read_wire(&mut self) -> io::Result<()> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.incoming.len() - self.end < MAX_RECORD {
            self.incoming.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        // A reader that is faster than its peer would otherwise be woken for every few records, which took a sixth of a
        // download's processor time.
        let is_long = call::current().is_ok_and(|call| call.due() > LONG);
        self.wire.set_low_water(if is_long { MANY } else { 1 });
        let n = self
            .wire
            .read(self.incoming.get_mut(self.end..).unwrap_or_default())?;
        if n == 0 {
            // The stream ended without close_notify (RFC 8446 section 6.1). Somebody may have cut it, so it
            // must not pass for the end of a body that only the end of the stream delimits.
            return Err(into_io(Error::network("the TLS connection was cut")));
        }
        self.end += n;
        Ok(())
    }

    fn read_plain(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        loop {
            let rest = self.plain.get(self.passed..).unwrap_or_default();
            if !rest.is_empty() {
                let room = buf.get_mut(filled..).unwrap_or_default();
                let n = rest.len().min(room.len());
                if let (Some(room), Some(rest)) = (room.get_mut(..n), rest.get(..n)) {
                    room.copy_from_slice(rest);
                }
                filled += n;
                self.passed += n;
            }
            if self.passed == self.plain.len() {
                self.plain.clear();
                self.passed = 0;
            }
            let room = buf.len() - filled;
            let more_at_hand = self.failed.is_none()
                && self.start < self.end
                && room >= MAX_RECORD
                && self.has_whole_record();
            if room == 0 || self.ended || (filled > 0 && !more_at_hand) {
                return Ok(filled);
            }
            if let Some(e) = self.failed.take() {
                return Err(e);
            }
            match self.advance(buf.get_mut(filled..).unwrap_or_default(), &[]) {
                Ok(step) => {
                    filled += step.read;
                    if step.wants_input {
                        // What came was a key update, or part of a ticket; what there is does not wait for more.
                        if filled > 0 {
                            return Ok(filled);
                        }
                        self.read_wire()?;
                    }
                }
                Err(e) if filled > 0 => self.failed = Some(broken(e)),
                Err(e) => return Err(broken(e)),
            }
        }
    }

    /// Whether the bytes read ahead hold a whole record, so that taking it needs no waiting.
    fn has_whole_record(&self) -> bool {
        match self.incoming.get(self.start..self.end) {
            Some([_, _, _, high, low, rest @ ..]) => {
                rest.len() >= usize::from(u16::from_be_bytes([*high, *low]))
            }
            _ => false,
        }
    }

    fn write_plain(&mut self, data: &[u8]) -> io::Result<()> {
        if let Some(e) = self.failed.take() {
            return Err(e);
        }
        for piece in data.chunks(64 * 1024) {
            while !self.advance(&mut [], piece).map_err(broken)?.wrote {
                if self.ended {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
            }
        }
        Ok(())
    }
}

/// What one step of the state machine did.
#[derive(Default)]
struct Step {
    read: usize,
    wrote: bool,
    may_write: bool,
    /// Nothing more can be done before more was read.
    wants_input: bool,
}

/// An error after the handshake.
fn broken(e: io::Error) -> io::Error {
    match e
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
    {
        Some(tls) => into_io(Error::tls(format!("the TLS connection broke: {tls}"))),
        None => e,
    }
}

fn handshake_error(host: &str, e: io::Error) -> Error {
    if let Some(ours) = e.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
        return ours.clone();
    }
    let Some(tls) = e.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) else {
        let os_code = e.raw_os_error();
        return Error::network(format!(
            "the connection to {host} broke during the TLS handshake: {e}"
        ))
        .with_os_code(os_code);
    };
    let advice = match tls {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "its certificate is from an issuer that is not trusted; set option ca-file to the issuer's certificate"
        }
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "its certificate has expired, or this machine's clock is wrong",
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => "its certificate is not yet valid, or this machine's clock is wrong",
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name",
        rustls::Error::InvalidCertificate(_) => "its certificate is not accepted",
        rustls::Error::InvalidMessage(_) => {
            "it does not speak TLS; set option scheme to http if it speaks plain HTTP"
        }
        rustls::Error::AlertReceived(rustls::AlertDescription::ProtocolVersion) => {
            "it speaks no version of TLS that is accepted here; see option tls-min-version"
        }
        rustls::Error::AlertReceived(_) => {
            "it refused the handshake; it may want a client certificate"
        }
        _ => "the handshake failed",
    };
    Error::tls(format!("TLS with {host}: {advice} ({tls})"))
}

impl Transport for Tls {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), ureq::Error> {
        let mut buffers = std::mem::replace(&mut self.buffers, WipedBuffers::new(1));
        let is_head = call::is_head_next();
        let result = self.write_plain(buffers.output().get(..amount).unwrap_or_default());
        if is_head {
            buffers.wipe_output(amount);
        }
        self.buffers = buffers;
        Ok(result?)
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let mut buffers = std::mem::replace(&mut self.buffers, WipedBuffers::new(1));
        let came = Came::of(buffers.input());
        let room = buffers.input_append_buf();
        let result = fold::read_lines(room, came, |room| self.read_plain(room));
        if let Ok(amount) = &result {
            buffers.input_appended(*amount);
        }
        self.buffers = buffers;
        Ok(result? > 0)
    }

    fn is_open(&mut self) -> bool {
        !self.ended
            && self.failed.is_none()
            && self.plain.is_empty()
            && self.start == self.end
            && self.wire.is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

/// What was received is decrypted where it was read.
impl Drop for Tls {
    fn drop(&mut self) {
        self.incoming.zeroize();
        self.plain.zeroize();
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("version", &self.tls.protocol_version())
            .finish_non_exhaustive()
    }
}
