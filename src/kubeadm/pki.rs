//! The certificate authorities of a cluster and Kina's own credentials in it.
//!
//! Made before the first node starts, so that all control planes can start together, and kept in one file: written as a
//! whole or not at all, and found again after a crash at any point.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::world::FileSystem;

/// Clocks of virtual machines run behind their hosts' (docker/for-win#2913: "certificate is not yet valid").
const BACKDATED: SignedDuration = SignedDuration::from_mins(5);
/// As kubeadm's authorities live: <https://kubernetes.io/docs/tasks/administer-cluster/kubeadm/kubeadm-certs/>.
const CA_LIFETIME: SignedDuration = SignedDuration::from_hours(10 * 365 * 24);
/// As kubeadm's client certificates live.
const CLIENT_LIFETIME: SignedDuration = SignedDuration::from_hours(365 * 24);
/// A client certificate is issued anew this long before its end.
const RENEWED_BEFORE: SignedDuration = SignedDuration::from_hours(60 * 24);
/// Ten PEM blocks of less than 2 KiB each.
const FILE_BYTES_MAX: u64 = 64 * 1024;
const FILE_NAME: &str = "pki.json";

/// A certificate with its key, both PEM.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyedCertificate {
    /// The certificate.
    pub certificate: String,
    /// Its key, a secret.
    pub key: String,
}

/// All of a cluster's certificates that Kina makes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pki {
    /// The cluster's authority.
    pub ca: KeyedCertificate,
    /// The authority of aggregated API servers.
    pub front_proxy_ca: KeyedCertificate,
    /// etcd's authority.
    pub etcd_ca: KeyedCertificate,
    /// Public half of the key that signs service account tokens, PEM.
    pub service_account_public: String,
    /// Private half, a secret.
    pub service_account_key: String,
    /// Kina's own client certificate.
    pub admin: KeyedCertificate,
    /// When [`Self::admin`] ends, seconds since 1970.
    pub admin_ends: i64,
}

impl fmt::Debug for Pki {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pki").field("admin_ends", &self.admin_ends).finish_non_exhaustive()
    }
}

/// Certificates could not be made, kept or found.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The cryptography library refused.
    #[error("could not make the {what} of cluster {uid}")]
    Make {
        /// Which certificate or key.
        what: &'static str,
        /// UID of the cluster.
        uid: String,
        /// The cause.
        #[source]
        source: rcgen::Error,
    },
    /// A file could not be read or written.
    #[error("could not {operation} {path}")]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The file is there and cannot be understood. It is never replaced: without its keys the cluster is lost.
    #[error("the certificates in {path} are damaged: {message}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
}

impl Pki {
    /// New authorities, and a client certificate from them.
    ///
    /// # Errors
    /// [`PkiError::Make`].
    pub fn make(uid: &str, now: Timestamp) -> Result<Self, PkiError> {
        let authority =
            |what, name| authority(name, now).map_err(|source| PkiError::Make { what, uid: uid.into(), source });
        let ca = authority("cluster CA", "kubernetes")?;
        let front_proxy_ca = authority("front-proxy CA", "front-proxy-ca")?;
        let etcd_ca = authority("etcd CA", "etcd-ca")?;
        let signing = KeyPair::generate().map_err(|source| PkiError::Make {
            what: "service account key",
            uid: uid.into(),
            source,
        })?;
        let (admin, admin_ends) =
            admin(&ca, now).map_err(|source| PkiError::Make { what: "client certificate", uid: uid.into(), source })?;
        Ok(Self {
            ca,
            front_proxy_ca,
            etcd_ca,
            service_account_public: signing.public_key_pem(),
            service_account_key: signing.serialize_pem(),
            admin,
            admin_ends,
        })
    }

    /// The files of a control plane: absolute path, permission bits, content.
    #[must_use]
    pub fn node_files(&self) -> Vec<(&'static str, u32, &str)> {
        vec![
            ("/etc/kubernetes/pki/ca.crt", 0o644, &self.ca.certificate),
            ("/etc/kubernetes/pki/ca.key", 0o600, &self.ca.key),
            ("/etc/kubernetes/pki/front-proxy-ca.crt", 0o644, &self.front_proxy_ca.certificate),
            ("/etc/kubernetes/pki/front-proxy-ca.key", 0o600, &self.front_proxy_ca.key),
            ("/etc/kubernetes/pki/sa.pub", 0o644, &self.service_account_public),
            ("/etc/kubernetes/pki/sa.key", 0o600, &self.service_account_key),
            ("/etc/kubernetes/pki/etcd/ca.crt", 0o644, &self.etcd_ca.certificate),
            ("/etc/kubernetes/pki/etcd/ca.key", 0o600, &self.etcd_ca.key),
        ]
    }

    /// Whether the client certificate should be issued anew.
    #[must_use]
    pub fn needs_renewal(&self, now: Timestamp) -> bool {
        now.as_second() > self.admin_ends - RENEWED_BEFORE.as_secs()
    }
}

/// Where a cluster's certificates lie.
#[must_use]
pub fn directory(root: &Path, uid: &str) -> PathBuf {
    root.join(uid)
}

/// The certificates of a cluster: those that are kept, or new ones, kept before they are returned.
///
/// # Errors
/// [`PkiError`]; a damaged file is an error, never replaced.
pub fn ensure(files: &dyn FileSystem, root: &Path, uid: &str, now: Timestamp) -> Result<Pki, PkiError> {
    match find(files, root, uid)? {
        Some(found) if !found.needs_renewal(now) => Ok(found),
        Some(mut found) => {
            let make = |source| PkiError::Make { what: "client certificate", uid: uid.to_owned(), source };
            (found.admin, found.admin_ends) = admin(&found.ca, now).map_err(make)?;
            keep(files, root, uid, &found)?;
            Ok(found)
        }
        None => {
            let made = Pki::make(uid, now)?;
            keep(files, root, uid, &made)?;
            Ok(made)
        }
    }
}

/// The certificates that are kept for a cluster, if any.
///
/// # Errors
/// [`PkiError`] when they cannot be read, or are damaged.
pub fn find(files: &dyn FileSystem, root: &Path, uid: &str) -> Result<Option<Pki>, PkiError> {
    let path = directory(root, uid).join(FILE_NAME);
    match files.read(&path, FILE_BYTES_MAX) {
        Ok(content) => serde_json::from_slice(&content)
            .map(Some)
            .map_err(|error| PkiError::Damaged { path, message: error.to_string() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(PkiError::Io { operation: "read", path, source }),
    }
}

/// Removes a cluster's certificates. What is not there is removed already.
///
/// # Errors
/// [`PkiError::Io`].
pub fn remove(files: &dyn FileSystem, root: &Path, uid: &str) -> Result<(), PkiError> {
    let path = directory(root, uid);
    match files.remove_directory(&path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(PkiError::Io { operation: "remove", path, source }),
    }
}

/// Keeps certificates for a cluster, in place of any that are kept.
///
/// # Errors
/// [`PkiError::Io`].
pub fn keep(files: &dyn FileSystem, root: &Path, uid: &str, pki: &Pki) -> Result<(), PkiError> {
    let directory = directory(root, uid);
    files.create_directories(&directory, 0o700).map_err(|source| PkiError::Io {
        operation: "create",
        path: directory.clone(),
        source,
    })?;
    let path = directory.join(FILE_NAME);
    let content = serde_json::to_vec_pretty(pki)
        .map_err(|error| PkiError::Damaged { path: path.clone(), message: error.to_string() })?;
    files.write(&path, &content, 0o600).map_err(|source| PkiError::Io { operation: "write", path, source })
}

fn authority(name: &str, now: Timestamp) -> Result<KeyedCertificate, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = parameters(name, now, CA_LIFETIME);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
    params.subject_alt_names = vec![rcgen::SanType::DnsName(name.try_into()?)];
    let certificate = params.self_signed(&key)?;
    Ok(KeyedCertificate { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Of the group of `super-admin.conf`: the binding of `kubeadm:cluster-admins` is made by kubeadm only late in `init`,
/// and Kina works with the cluster before.
fn admin(ca: &KeyedCertificate, now: Timestamp) -> Result<(KeyedCertificate, i64), rcgen::Error> {
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, KeyPair::from_pem(&ca.key)?)?;
    let key = KeyPair::generate()?;
    let mut params = parameters("kubernetes-admin", now, CLIENT_LIFETIME);
    params.distinguished_name.push(DnType::OrganizationName, "system:masters");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let ends = params.not_after.unix_timestamp();
    let certificate = params.signed_by(&key, &issuer)?;
    Ok((KeyedCertificate { certificate: certificate.pem(), key: key.serialize_pem() }, ends))
}

fn parameters(name: &str, now: Timestamp, lifetime: SignedDuration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = at(now.as_second() - BACKDATED.as_secs());
    params.not_after = at(now.as_second() + lifetime.as_secs());
    params.use_authority_key_identifier_extension = true;
    params
}

fn at(second: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(second).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;
    use crate::world::{MemoryFiles, SystemClock};

    fn now() -> Timestamp {
        "2026-11-21T09:00:00Z".parse().unwrap()
    }

    fn files() -> MemoryFiles {
        let files = MemoryFiles::new(Arc::new(SystemClock));
        files.create_directories(Path::new("/home"), 0o700).unwrap();
        files
    }

    #[test]
    fn certificates_are_made_once_kept_private_and_found_again() {
        let (files, root) = (files(), Path::new("/home/pki"));
        let made = ensure(&files, root, "u1", now()).unwrap();
        assert_eq!(ensure(&files, root, "u1", now()).unwrap(), made);
        assert_eq!(files.metadata(&root.join("u1")).unwrap().mode, 0o700);
        assert_eq!(files.metadata(&root.join("u1/pki.json")).unwrap().mode, 0o600);
        assert!(!format!("{made:?}").contains("PRIVATE"));
        remove(&files, root, "u1").unwrap();
        remove(&files, root, "u1").unwrap();
        assert_eq!(find(&files, root, "u1").unwrap(), None);
    }

    #[test]
    fn damaged_certificates_are_an_error_and_stay() {
        let (files, root) = (files(), Path::new("/home/pki"));
        files.create_directories(&root.join("u1"), 0o700).unwrap();
        files.write(&root.join("u1/pki.json"), b"{", 0o600).unwrap();
        assert!(matches!(ensure(&files, root, "u1", now()), Err(PkiError::Damaged { .. })));
        assert_eq!(files.read(&root.join("u1/pki.json"), 10).unwrap(), b"{");
    }

    #[test]
    fn the_client_certificate_is_backdated_and_renewed_in_time() {
        let (files, root) = (files(), Path::new("/home/pki"));
        let made = ensure(&files, root, "u1", now()).unwrap();
        let (_, pem) = x509_parser::pem::parse_x509_pem(made.admin.certificate.as_bytes()).unwrap();
        let (_, certificate) = X509Certificate::from_der(&pem.contents).unwrap();
        assert_eq!(certificate.validity().not_before.timestamp(), now().as_second() - 300);
        assert!(certificate.subject().to_string().contains("system:masters"));
        let later = now().checked_add(SignedDuration::from_hours(330 * 24)).unwrap();
        let renewed = ensure(&files, root, "u1", later).unwrap();
        assert!(renewed.admin != made.admin);
        assert!(renewed.ca == made.ca);
        assert_eq!(find(&files, root, "u1").unwrap(), Some(renewed));
    }
}
