//! The server's own certificate authority, and what it issues.

use std::fmt;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
};
use time::OffsetDateTime;

use crate::apiserver::user::User;

/// Certificates are valid from a little before now: clocks of virtual machines run behind.
const BACKDATED: Duration = Duration::from_secs(5 * 60);
/// The life of a CA: ten years, as kubeadm has it.
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A certificate cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// No randomness, a key that cannot be read, a name or a time that certificates cannot express.
    #[error("cannot make the certificate of {subject}")]
    Failed {
        /// Its common name.
        subject: String,
        /// Why.
        source: rcgen::Error,
    },
    /// `rcgen` writes one organisation at most.
    #[error("cannot make the certificate of {subject}: a user with {groups} groups does not fit into one")]
    Groups {
        /// Its common name.
        subject: String,
        /// How many there are.
        groups: usize,
    },
}

/// A certificate with its private key, both PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its private key (PKCS #8). A secret.
    pub key: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// A certificate authority: its certificate and key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The pair, to be stored.
    pub pair: Issued,
}

impl Authority {
    /// A new authority, valid for ten years.
    ///
    /// # Errors
    /// No randomness, or a time that certificates cannot express.
    pub fn new(common_name: &str, now: Timestamp) -> Result<Self, PkiError> {
        let failed = |source| PkiError::Failed { subject: common_name.to_owned(), source };
        let mut params = params(common_name, None, &[], now, CA_LIFE).map_err(failed)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        Ok(Self { pair: Issued { certificate: certificate.pem(), key: key.serialize_pem() } })
    }

    /// A certificate for a server under these DNS names and IP addresses.
    ///
    /// # Errors
    /// The authority's key or a name cannot be read.
    pub fn server(&self, names: &[&str], now: Timestamp, life: Duration) -> Result<Issued, PkiError> {
        let subject = names.first().copied().unwrap_or("server");
        self.issue(subject, None, names, ExtendedKeyUsagePurpose::ServerAuth, now, life)
    }

    /// A certificate by which a client is known as this user, who is in one group at most.
    ///
    /// # Errors
    /// The authority's key cannot be read, or the user is in more than one group.
    pub fn client(&self, user: &User, now: Timestamp, life: Duration) -> Result<Issued, PkiError> {
        if user.groups.len() > 1 {
            return Err(PkiError::Groups { subject: user.name.clone(), groups: user.groups.len() });
        }
        let group = user.groups.first().map(String::as_str);
        self.issue(&user.name, group, &[], ExtendedKeyUsagePurpose::ClientAuth, now, life)
    }

    fn issue(
        &self,
        common_name: &str,
        organisation: Option<&str>,
        names: &[&str],
        usage: ExtendedKeyUsagePurpose,
        now: Timestamp,
        life: Duration,
    ) -> Result<Issued, PkiError> {
        let failed = |source| PkiError::Failed { subject: common_name.to_owned(), source };
        let issuer_key = KeyPair::from_pem(&self.pair.key).map_err(failed)?;
        let issuer = Issuer::from_ca_cert_pem(&self.pair.certificate, issuer_key).map_err(failed)?;
        let mut params = params(common_name, organisation, names, now, life).map_err(failed)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let certificate = params.signed_by(&key, &issuer).map_err(failed)?;
        Ok(Issued { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

fn params(
    common_name: &str,
    organisation: Option<&str>,
    names: &[&str],
    now: Timestamp,
    life: Duration,
) -> Result<CertificateParams, rcgen::Error> {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names)?;
    let mut subject = DistinguishedName::new();
    if let Some(organisation) = organisation {
        subject.push(DnType::OrganizationName, organisation);
    }
    subject.push(DnType::CommonName, common_name);
    params.distinguished_name = subject;
    let now = OffsetDateTime::from_unix_timestamp(now.as_second()).map_err(|_| rcgen::Error::Time)?;
    params.not_before = now - BACKDATED;
    params.not_after = now + life;
    Ok(params)
}

/// Everything a server on loopback and its first client need.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The authority that both sides trust.
    pub authority: Authority,
    /// The server's certificate, for 127.0.0.1, ::1 and localhost.
    pub server: Issued,
    /// The client's.
    pub client: Issued,
}

/// A fresh set: an authority, and certificates of it for a server on loopback and for one client, with this life.
/// The authority's key is needed no more unless further certificates are to be issued.
///
/// # Errors
/// See [`Authority::new`].
pub fn credentials(user: &User, now: Timestamp, life: Duration) -> Result<Credentials, PkiError> {
    let authority = Authority::new("kina-ca", now)?;
    let server = authority.server(&["localhost", "127.0.0.1", "::1"], now, life)?;
    let client = authority.client(user, now, life)?;
    Ok(Credentials { authority, server, client })
}
