//! Certificates for the links of a cluster's nodes, made on the spot.

use std::{fs, path::Path};

use actor_tests::{Program, Result};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};

/// Where every node of a test answers.
const HOST: &str = "127.0.0.1";

/// Whom all nodes of a cluster trust.
pub(super) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    /// Makes one, and writes its certificate where the nodes find it.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        fs::write(folder.join("ca.pem"), authority.pem())?;
        Ok(Self(authority))
    }

    /// Gives the program of a node a certificate of its own.
    pub(super) fn secure(&self, program: Program, folder: &Path, node: usize) -> Result<Program> {
        let mut params = CertificateParams::new(vec![HOST.to_owned()])?;
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.0)?;
        let (certificate_file, key_file) = (format!("{node}.pem"), format!("{node}.key"));
        fs::write(folder.join(&certificate_file), certificate.pem())?;
        fs::write(folder.join(&key_file), key.serialize_pem())?;
        // Programs are started in this folder.
        Ok(program
            .setting("ACTOR_CLUSTER_TLS_CA", "ca.pem")
            .setting("ACTOR_CLUSTER_TLS_CERT", certificate_file)
            .setting("ACTOR_CLUSTER_TLS_KEY", key_file))
    }
}
