//! Mutual TLS on node links: TLS 1.3, certificates of both sides from three PEM files.
//!
//! Not here: the proof that a peer belongs to the cluster and is who it says (`handshake`); TLS
//! only keeps out and blinds whoever has no certificate.

use std::{fmt, net::IpAddr, path::Path, sync::Arc};

use tokio_rustls::{
    TlsAcceptor, TlsConnector,
    rustls::{
        self, ClientConfig, RootCertStore, ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
        server::WebPkiClientVerifier,
        version::TLS13,
    },
};

use super::socket::{Io, Stream};

/// What the proof of identity is bound to, so that it is worth nothing inside another TLS session.
const EXPORTER_LABEL: &[u8] = b"EXPORTER-actor-link-1";

/// A connection, and what binds the proof of identity to it.
pub(super) struct Channel {
    pub(super) stream: Stream,
    pub(super) binding: Vec<u8>,
}

/// This node's certificate and whom it trusts.
#[derive(Clone)]
pub struct TlsIdentity {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

/// Certificates that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError(Box<str>);

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

impl TlsIdentity {
    /// Reads the three files of the settings: the authority that signs the nodes' certificates,
    /// this node's certificate (with what lies between it and the authority), and its key.
    ///
    /// A node's certificate is used both ways, and names what the node advertises.
    ///
    /// # Errors
    /// When a file cannot be read or does not fit the others; the error names it.
    pub fn from_files(ca: &Path, certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let read =
            |path: &Path| std::fs::read(path).map_err(|error| TlsError::new(path.display(), error));
        let made = Self::from_pem(&read(ca)?, &read(certificate)?, &read(key)?);
        made.map_err(|error| {
            let [ca, certificate, key] = [ca, certificate, key].map(Path::display);
            TlsError::new(format_args!("{ca}, {certificate}, {key}"), error)
        })
    }

    /// Reads the texts of the three files.
    ///
    /// # Errors
    /// When one is not what it should be or does not fit the others.
    pub fn from_pem(ca: &[u8], certificate: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let mut roots = RootCertStore::empty();
        for root in certificates(ca, "the CA")? {
            roots
                .add(root)
                .map_err(|error| TlsError::new("the CA", error))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(certificate, "the certificate")?;
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::new("the key", error))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let wrong = |error: rustls::Error| TlsError::new("certificate and key", error);
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(wrong)?
            .with_root_certificates(roots.clone())
            .with_client_auth_cert(chain.clone(), key.clone_key())
            .map_err(wrong)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| TlsError::new("the CA", error))?;
        let server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(wrong)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(wrong)?;
        Ok(Self {
            client: Arc::new(client),
            server: Arc::new(server),
        })
    }

    /// Encrypts a connection this node opened to `address`.
    pub(super) async fn connect(&self, stream: Stream, address: &str) -> Result<Channel, TlsError> {
        let name = server_name(address)?;
        let connector = TlsConnector::from(self.client.clone());
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(|error| TlsError::new("handshake", error))?;
        let binding = stream
            .get_ref()
            .1
            .export_keying_material(vec![0; 32], EXPORTER_LABEL, None);
        channel(stream, binding)
    }

    /// Encrypts a connection that arrived.
    pub(super) async fn accept(&self, stream: Stream) -> Result<Channel, TlsError> {
        let acceptor = TlsAcceptor::from(self.server.clone());
        let stream = acceptor
            .accept(stream)
            .await
            .map_err(|error| TlsError::new("handshake", error))?;
        let binding = stream
            .get_ref()
            .1
            .export_keying_material(vec![0; 32], EXPORTER_LABEL, None);
        channel(stream, binding)
    }
}

impl fmt::Debug for TlsIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TlsIdentity")
    }
}

impl TlsError {
    fn new(what: impl fmt::Display, why: impl fmt::Display) -> Self {
        Self(format!("{what}: {why}").into())
    }
}

impl Channel {
    /// Returns a connection that is not encrypted.
    pub(super) fn plain(stream: Stream) -> Self {
        Self {
            stream,
            binding: Vec::new(),
        }
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Channel")
    }
}

fn channel(
    stream: impl Io + 'static,
    binding: Result<Vec<u8>, rustls::Error>,
) -> Result<Channel, TlsError> {
    Ok(Channel {
        stream: Box::new(stream),
        binding: binding.map_err(|error| TlsError::new("handshake", error))?,
    })
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| TlsError::new(what, error))?;
    if found.is_empty() {
        return Err(TlsError::new(what, "no certificate in it"));
    }
    Ok(found)
}

/// Returns the name a certificate must have for `address`, a host and a port.
fn server_name(address: &str) -> Result<ServerName<'static>, TlsError> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(ServerName::IpAddress(ip.into()));
    }
    ServerName::try_from(host.to_owned()).map_err(|error| TlsError::new(address, error))
}
