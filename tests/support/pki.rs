//! A certificate authority for tests. Keys are ECDSA P-256; PEM files live in a temporary folder
//! that goes with the [`Ca`].

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;

/// The names of an ordinary server certificate.
pub const LOOPBACK: [&str; 3] = ["127.0.0.1", "localhost", "::1"];

/// An authority of its own.
pub struct Ca {
    folder: TempDir,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
    path: PathBuf,
    serial: AtomicU32,
}

/// A certificate with its key.
#[derive(Clone)]
pub struct Identity {
    /// The leaf and what stands between it and the authority.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key as PKCS #8 DER.
    pub key: Vec<u8>,
    pub certificate_pem: String,
    pub key_pem: String,
    /// The PEM file of the chain.
    pub certificate_path: PathBuf,
    /// The PEM file of the key.
    pub key_path: PathBuf,
}

impl Identity {
    /// The key as rustls takes it.
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }
}

impl Ca {
    /// Makes a new authority.
    pub fn new() -> Self {
        Self::named("Test CA")
    }

    /// Makes a new authority with this common name.
    pub fn named(name: &str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let key = KeyPair::generate().expect("a key");
        let params = authority_params(name);
        let certificate = params.self_signed(&key).expect("a CA certificate");
        let path = folder.path().join("ca.crt");
        std::fs::write(&path, certificate.pem()).expect("ca.crt");
        Self {
            pem: certificate.pem(),
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
            path,
            folder,
            serial: AtomicU32::new(0),
        }
    }

    /// The folder of the PEM files.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The PEM file of the authority's certificate.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The authority's certificate as PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The authority's certificate as DER.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// A server certificate for [`LOOPBACK`].
    pub fn server(&self) -> Identity {
        self.server_for(&LOOPBACK)
    }

    /// A server certificate for these names and addresses.
    pub fn server_for(&self, names: &[&str]) -> Identity {
        self.issue(leaf_params(names, ExtendedKeyUsagePurpose::ServerAuth))
    }

    /// A server certificate that ended in 2001.
    pub fn expired(&self) -> Identity {
        let mut params = leaf_params(&LOOPBACK, ExtendedKeyUsagePurpose::ServerAuth);
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(2001, 1, 1);
        self.issue(params)
    }

    /// A server certificate that begins in 2200.
    pub fn not_yet_valid(&self) -> Identity {
        let mut params = leaf_params(&LOOPBACK, ExtendedKeyUsagePurpose::ServerAuth);
        params.not_before = date_time_ymd(2200, 1, 1);
        params.not_after = date_time_ymd(2300, 1, 1);
        self.issue(params)
    }

    /// A server certificate for another host.
    pub fn wrong_host(&self) -> Identity {
        self.server_for(&["elsewhere.example"])
    }

    /// A server certificate for [`LOOPBACK`] that nobody else signed.
    pub fn self_signed(&self) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let certificate = leaf_params(&LOOPBACK, ExtendedKeyUsagePurpose::ServerAuth)
            .self_signed(&key)
            .expect("a certificate");
        self.store(vec![certificate.der().clone()], certificate.pem(), &key)
    }

    /// A server certificate signed by an intermediate authority, which is part of the chain.
    pub fn server_with_intermediate(&self) -> Identity {
        let middle_key = KeyPair::generate().expect("a key");
        let middle_params = authority_params("Test intermediate CA");
        let middle = middle_params
            .signed_by(&middle_key, &self.issuer)
            .expect("an intermediate certificate");
        let issuer = Issuer::new(middle_params, middle_key);
        let key = KeyPair::generate().expect("a key");
        let leaf = leaf_params(&LOOPBACK, ExtendedKeyUsagePurpose::ServerAuth)
            .signed_by(&key, &issuer)
            .expect("a certificate");
        self.store(
            vec![leaf.der().clone(), middle.der().clone()],
            leaf.pem() + &middle.pem(),
            &key,
        )
    }

    /// A client certificate with this common name.
    pub fn client(&self, name: &str) -> Identity {
        let mut params = leaf_params(&[], ExtendedKeyUsagePurpose::ClientAuth);
        params.distinguished_name.push(DnType::CommonName, name);
        self.issue(params)
    }

    /// A rustls configuration that presents this certificate.
    pub fn server_config(&self, identity: &Identity) -> Arc<ServerConfig> {
        let config = config_builder(rustls::DEFAULT_VERSIONS)
            .with_no_client_auth()
            .with_single_cert(identity.chain.clone(), identity.private_key());
        finish(config)
    }

    /// The same for TLS 1.2 alone.
    pub fn server_config_tls12(&self, identity: &Identity) -> Arc<ServerConfig> {
        let config = config_builder(&[&rustls::version::TLS12])
            .with_no_client_auth()
            .with_single_cert(identity.chain.clone(), identity.private_key());
        finish(config)
    }

    /// A rustls configuration that demands a client certificate of this authority.
    pub fn server_config_with_client_auth(&self, identity: &Identity) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("the CA as root");
        let verifier =
            WebPkiClientVerifier::builder_with_provider(roots.into(), default_provider().into())
                .build()
                .expect("a client verifier");
        let config = config_builder(rustls::DEFAULT_VERSIONS)
            .with_client_cert_verifier(verifier)
            .with_single_cert(identity.chain.clone(), identity.private_key());
        finish(config)
    }

    /// A rustls client that trusts this authority alone.
    pub fn client_config(&self) -> Arc<rustls::ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("the CA as root");
        let config = rustls::ClientConfig::builder_with_provider(default_provider().into())
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }

    fn issue(&self, params: CertificateParams) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        self.store(vec![certificate.der().clone()], certificate.pem(), &key)
    }

    fn store(
        &self,
        chain: Vec<CertificateDer<'static>>,
        certificate_pem: String,
        key: &KeyPair,
    ) -> Identity {
        let serial = self.serial.fetch_add(1, Ordering::SeqCst);
        let certificate_path = self.folder.path().join(format!("{serial}.crt"));
        let key_path = self.folder.path().join(format!("{serial}.key"));
        std::fs::write(&certificate_path, &certificate_pem).expect("a certificate file");
        std::fs::write(&key_path, key.serialize_pem()).expect("a key file");
        Identity {
            chain,
            key: key.serialize_der(),
            certificate_pem,
            key_pem: key.serialize_pem(),
            certificate_path,
            key_path,
        }
    }
}

fn authority_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn leaf_params(names: &[&str], usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let common = names.first().cloned().unwrap_or_default();
    let mut params = CertificateParams::new(names).expect("names");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.distinguished_name.push(DnType::CommonName, common);
    params
}

fn config_builder(
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(default_provider().into())
        .with_protocol_versions(versions)
        .expect("TLS versions")
}

fn finish(config: Result<ServerConfig, rustls::Error>) -> Arc<ServerConfig> {
    let mut config = config.expect("a certificate with its key");
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}
