//! TLS: what is trusted, what is shown, and the connection itself. The only module that knows which TLS
//! library is inside.

use std::fmt;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore,
};
use ureq::unversioned::transport::{Buffers, LazyBuffers, NextTimeout, Transport};

use super::call::Call;
use super::tcp::into_io;
use crate::error::{Error, Result};
use crate::options::{Options, Switch, Text};

/// What a transport asks of TLS. Turned into a [`ClientConfig`] when the first TLS connection is made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trust {
    ca_files: Vec<String>,
    ca_pem: Option<String>,
    client: Option<(String, String)>,
    only_1_3: bool,
    insecure: bool,
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR`, which replace the system's store.
    env_file: Option<std::ffi::OsString>,
    env_dir: Option<std::ffi::OsString>,
}

impl Trust {
    pub(crate) fn of(options: &Options) -> Result<Self> {
        let read_env = options.is_on(Switch::Environment);
        let env = |name| {
            if read_env {
                std::env::var_os(name).filter(|v| !v.is_empty())
            } else {
                None
            }
        };
        let text = |key| {
            options
                .text(key)
                .filter(|t| !t.is_empty())
                .map(str::to_owned)
        };
        let client = match (text(Text::ClientCert), text(Text::ClientKey)) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some((cert, key)),
            _ => {
                return Err(Error::argument(
                    "options client-cert-file and client-key-file go together",
                ));
            }
        };
        Ok(Self {
            ca_files: text(Text::CaFile).into_iter().collect(),
            ca_pem: text(Text::CaPem),
            client,
            only_1_3: options.text(Text::TlsMin) == Some("1.3"),
            insecure: options.is_on(Switch::Insecure),
            env_file: env("SSL_CERT_FILE"),
            env_dir: env("SSL_CERT_DIR"),
        })
    }

    /// Reads the certificates and makes the configuration.
    pub(crate) fn config(&self) -> Result<Arc<ClientConfig>> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let versions: &[&rustls::SupportedProtocolVersion] = if self.only_1_3 {
            &[&rustls::version::TLS13]
        } else {
            rustls::DEFAULT_VERSIONS
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|e| Error::tls(format!("cannot set up TLS: {e}")))?;
        let builder = if self.insecure {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
        } else {
            builder.with_root_certificates(self.roots()?)
        };
        let mut config = match &self.client {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let chain = read_pem_certs(cert)?;
                let key_der = PrivateKeyDer::from_pem_file(key).map_err(|e| {
                    Error::tls(format!(
                        "cannot read the private key in {key}: {}",
                        pem_error(&e)
                    ))
                })?;
                builder.with_client_auth_cert(chain, key_der).map_err(|e| {
                    Error::tls(format!(
                        "the client certificate in {cert} cannot be used: {e}"
                    ))
                })?
            }
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<Arc<RootCertStore>> {
        let system = if self.env_file.is_some() || self.env_dir.is_some() {
            let found = rustls_native_certs::load_certs_from_paths(
                self.env_file.as_deref().map(Path::new),
                self.env_dir.as_deref().map(Path::new),
            );
            Arc::new(store(found.certs))
        } else {
            system_roots()
        };
        let mut extra = Vec::new();
        for file in &self.ca_files {
            extra.extend(read_pem_certs(file)?);
        }
        if let Some(pem) = &self.ca_pem {
            let certs: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes())
                .collect::<Result<_, _>>()
                .map_err(|e| Error::tls(format!("option ca-pem: {}", pem_error(&e))))?;
            if certs.is_empty() {
                return Err(Error::tls("option ca-pem holds no certificate"));
            }
            extra.extend(certs);
        }
        if extra.is_empty() {
            if system.is_empty() {
                return Err(Error::tls(
                    "no trusted certificates were found: install the system's CA certificates (package \
                     ca-certificates), or set option ca-file or the variable SSL_CERT_FILE",
                ));
            }
            return Ok(system);
        }
        let mut roots = RootCertStore::clone(&system);
        let (_, ignored) = roots.add_parsable_certificates(extra);
        if ignored > 0 {
            return Err(Error::tls(
                "option ca-file or ca-pem holds a certificate that cannot be parsed",
            ));
        }
        Ok(Arc::new(roots))
    }
}

/// The system's trust store, parsed once in a process.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    Arc::clone(
        ROOTS.get_or_init(|| Arc::new(store(rustls_native_certs::load_native_certs().certs))),
    )
}

fn store(certs: Vec<CertificateDer<'static>>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // Stores hold odd certificates; one that cannot be parsed must not void the rest.
    roots.add_parsable_certificates(certs);
    roots
}

fn read_pem_certs(file: &str) -> Result<Vec<CertificateDer<'static>>> {
    let certs: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect)
        .map_err(|e| {
            Error::tls(format!(
                "cannot read certificates from {file}: {}",
                pem_error(&e)
            ))
        })?;
    if certs.is_empty() {
        return Err(Error::tls(format!(
            "{file} holds no certificate in PEM form"
        )));
    }
    Ok(certs)
}

/// Says what is wrong with a PEM file without quoting it: it may be a key.
fn pem_error(e: &rustls::pki_types::pem::Error) -> String {
    use rustls::pki_types::pem::Error as Pem;
    match e {
        Pem::Io(e) => e.to_string(),
        Pem::NoItemsFound => "nothing of that kind in it".to_owned(),
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
        read_plain(&mut self.tls, &mut self.wire, buf)
    }

    fn write_all(&mut self, data: &[u8]) -> io::Result<()> {
        write_plain(&mut self.tls, &mut self.wire, data)
    }

    fn is_open(&mut self) -> bool {
        Transport::is_open(self)
    }

    fn into_transport(self: Box<Self>) -> Box<dyn Transport> {
        self
    }
}

/// A TLS connection.
pub(crate) struct Tls {
    wire: Buffered,
    tls: ClientConnection,
    buffers: LazyBuffers,
}

/// Reads ahead in large pieces: the TLS library asks for small ones.
struct Buffered {
    wire: Box<dyn Wire>,
    input: Vec<u8>,
    start: usize,
    end: usize,
}

impl Read for Buffered {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end {
            self.start = 0;
            self.end = self.wire.read(&mut self.input)?;
        }
        let ready = self.input.get(self.start..self.end).unwrap_or_default();
        let n = ready.len().min(buf.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), ready.get(..n)) {
            to.copy_from_slice(from);
        }
        self.start += n;
        Ok(n)
    }
}

impl Write for Buffered {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.wire.write_all(data)?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Tls {
    /// Shakes hands over `wire`, within the call's connect limit.
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
        let mut tls = ClientConnection::new(config, name)
            .map_err(|e| Error::tls(format!("cannot begin TLS with {host}: {e}")))?;
        let mut wire = Buffered {
            wire,
            input: vec![0; buffer],
            start: 0,
            end: 0,
        };
        let began = std::time::Instant::now();
        while tls.is_handshaking() {
            if began.elapsed() >= call.limits().connect {
                return Err(Error::timeout(format!(
                    "the TLS handshake with {host} took longer than connect-timeout-ms"
                )));
            }
            tls.complete_io(&mut wire)
                .map_err(|e| handshake_error(host, e))?;
        }
        Ok(Self {
            wire,
            tls,
            buffers: LazyBuffers::new(buffer, buffer),
        })
    }
}

fn write_plain(tls: &mut ClientConnection, wire: &mut Buffered, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        let taken = tls.writer().write(data)?;
        data = data.get(taken..).unwrap_or_default();
        while tls.wants_write() {
            tls.write_tls(wire)?;
        }
    }
    Ok(())
}

fn read_plain(
    tls: &mut ClientConnection,
    wire: &mut Buffered,
    buf: &mut [u8],
) -> io::Result<usize> {
    loop {
        match tls.reader().read(buf) {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            // The stream ended without close_notify (RFC 8446 section 6.1). Somebody may have cut it, so
            // it must not pass for the end of a body that only the end of the stream delimits.
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(into_io(Error::network("the TLS connection was cut")));
            }
            other => return other,
        }
        tls.read_tls(wire)?;
        tls.process_new_packets()
            .map_err(|e| into_io(Error::tls(format!("the TLS connection broke: {e}"))))?;
        while tls.wants_write() {
            tls.write_tls(wire)?;
        }
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
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "its certificate is for another name",
        rustls::Error::InvalidCertificate(_) => "its certificate is not accepted",
        rustls::Error::InvalidMessage(_) => {
            "it does not speak TLS; set option scheme to http if it speaks plain HTTP"
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
        let output = self.buffers.output().get(..amount).unwrap_or_default();
        Ok(write_plain(&mut self.tls, &mut self.wire, output)?)
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, ureq::Error> {
        let amount = read_plain(
            &mut self.tls,
            &mut self.wire,
            self.buffers.input_append_buf(),
        )?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        self.wire.start == self.wire.end && self.wire.wire.is_open()
    }

    fn is_tls(&self) -> bool {
        true
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("version", &self.tls.protocol_version())
            .finish_non_exhaustive()
    }
}
