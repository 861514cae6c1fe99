//! Links over mutual TLS with certificates made on the spot.

use actor_cluster::transport::{DialFailure, LinkConfig, LinkEvent, TlsIdentity, Transport};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};

use crate::kit::{TestNode, node, node_with};

/// An authority that signs nodes' certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("rcgen makes what rustls takes");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("rcgen makes what rustls takes");
        Self(CertifiedIssuer::self_signed(params, key).expect("rcgen makes what rustls takes"))
    }

    /// Returns certificate and key of a node that answers at `host`.
    fn sign(&self, host: &str) -> (String, String) {
        let mut params =
            CertificateParams::new(vec![host.to_owned()]).expect("rcgen makes what rustls takes");
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("rcgen makes what rustls takes");
        let certificate = params
            .signed_by(&key, &self.0)
            .expect("rcgen makes what rustls takes");
        (certificate.pem(), key.serialize_pem())
    }

    /// Returns what a node is given that trusts `trusted` and is signed by this authority.
    fn identity(&self, trusted: &Self, host: &str) -> TlsIdentity {
        let (certificate, key) = self.sign(host);
        let ca = trusted.0.pem();
        TlsIdentity::from_pem(ca.as_bytes(), certificate.as_bytes(), key.as_bytes())
            .expect("rcgen makes what rustls takes")
    }
}

async fn secured(name: &str, identity: TlsIdentity) -> TestNode {
    node_with(name, |config: &mut LinkConfig| config.tls = Some(identity)).await
}

fn unreached(event: &LinkEvent) -> Option<DialFailure> {
    match event {
        LinkEvent::Unreached { why, .. } => Some(why.clone()),
        _ => None,
    }
}

#[tokio::test]
async fn nodes_with_certificates_of_one_authority_link_up() {
    let authority = Authority::new();
    let mut a = secured("a", authority.identity(&authority, "127.0.0.1")).await;
    let b = secured("b", authority.identity(&authority, "127.0.0.1")).await;

    a.link(b.peer()).await;

    a.echoes(&b.id).await;
    let large = a.ask(&b.id, "echo", &vec![3; 1 << 20]).await;
    assert_eq!(large, Ok(crate::kit::outcome(&vec![3; 1 << 20])));
    assert!(a.links.snapshot()[0].encrypted);
}

#[tokio::test]
async fn certificates_that_do_not_fit_are_refused_on_either_side() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let b = secured("b", ours.identity(&ours, "127.0.0.1")).await;
    let cases = [
        (
            "the dialler trusts another authority",
            ours.identity(&theirs, "127.0.0.1"),
            b.peer(),
        ),
        (
            "the dialler is signed by another",
            theirs.identity(&ours, "127.0.0.1"),
            b.peer(),
        ),
    ];

    for (what, identity, peer) in cases {
        let mut a = secured("a", identity).await;
        a.links.connect(peer);
        let why = a.event(what, unreached).await;
        assert!(!matches!(why, DialFailure::Other(_)), "{what}: {why:?}");
    }
    let other_name = secured("c", ours.identity(&ours, "10.1.2.3")).await;
    let mut a = secured("a", ours.identity(&ours, "127.0.0.1")).await;
    a.links.connect(other_name.peer());
    let why = a.event("a certificate for another host", unreached).await;
    assert!(matches!(why, DialFailure::Tls(_)), "{why:?}");
    assert!(b.links.snapshot().is_empty());
    a.link(b.peer()).await;
    a.echoes(&b.id).await;
}

#[tokio::test]
async fn a_node_without_tls_and_one_with_it_do_not_link_up() {
    let authority = Authority::new();
    let mut plain = node("a").await;
    let mut secured = secured("b", authority.identity(&authority, "127.0.0.1")).await;

    plain.links.connect(secured.peer());
    secured.links.connect(plain.peer());

    plain.event("no link to a node with TLS", unreached).await;
    let why = secured.event("no link to one without", unreached).await;
    assert!(matches!(why, DialFailure::Tls(_)), "{why:?}");
    assert!(
        plain
            .links
            .snapshot()
            .iter()
            .all(|link| link.frames_in == 0)
    );
}

#[test]
fn files_that_are_no_certificates_are_named() {
    let authority = Authority::new();
    let (certificate, key) = authority.sign("127.0.0.1");
    let (other, _) = authority.sign("127.0.0.1");
    let ca = authority.0.pem();
    let cases = [
        ("the CA", "nothing", &*certificate, &*key),
        ("the certificate", &*ca, "nothing", &*key),
        ("the key", &*ca, &*certificate, "nothing"),
        ("certificate and key", &*ca, &*other, &*key),
    ];

    for (what, ca, certificate, key) in cases {
        let made = TlsIdentity::from_pem(ca.as_bytes(), certificate.as_bytes(), key.as_bytes());

        let error = made.expect_err(what).to_string();
        assert!(error.starts_with(what), "{error}");
    }
    let nowhere = std::path::Path::new("nowhere.pem");
    let error = TlsIdentity::from_files(nowhere, nowhere, nowhere).unwrap_err();
    assert!(error.to_string().contains("nowhere.pem"), "{error}");
}
