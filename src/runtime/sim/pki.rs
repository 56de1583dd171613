//! Certificates as nodes and API servers use them.

use std::net::IpAddr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::images::hex;
use super::time::At;
use crate::apiserver::user::User;

/// Life of what kubeadm issues: a year (kubeadm's default for leaf certificates).
const LEAF_SECONDS: i64 = 365 * 24 * 3600;
/// Life of a CA that kubeadm makes: ten years.
const CA_SECONDS: i64 = 10 * LEAF_SECONDS;

/// A certificate with its key, both PEM.
#[derive(Clone, Debug)]
pub(super) struct Pair {
    pub certificate: String,
    pub key: String,
}

/// SHA-256 of the certificate.
pub(super) fn fingerprint(pem: &str) -> Option<String> {
    Some(hex(&Sha256::digest(der(pem)?)))
}

/// Whether the key is that of the certificate.
pub(super) fn key_fits(certificate: &str, key: &str) -> bool {
    let Some(der) = der(certificate) else { return false };
    let Ok((_, parsed)) = X509Certificate::from_der(&der) else { return false };
    KeyPair::from_pem(key).is_ok_and(|key| key.subject_public_key_info() == parsed.public_key().raw)
}

/// Whether a certificate for servers or clients was signed by this CA and is valid now; who it says it is.
pub(super) fn client(ca: &str, certificate: &str, now: At) -> Option<User> {
    let mut roots = RootCertStore::empty();
    roots.add(der(ca)?).ok()?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().ok()?;
    let seconds = u64::try_from(now.0 / 1_000_000).ok()?;
    let der = der(certificate)?;
    let time = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
    verifier.verify_client_cert(&der, &[], time).ok()?;
    let (_, parsed) = X509Certificate::from_der(&der).ok()?;
    let subject = parsed.subject();
    let name = subject.iter_common_name().next()?.as_str().ok()?.to_owned();
    let groups = subject.iter_organization().filter_map(|group| Some(group.as_str().ok()?.to_owned())).collect();
    Some(User { name, groups })
}

/// Checks a server's certificate as a client with this CA does, for this address.
///
/// # Errors
/// What is wrong with it, in rustls' words.
pub(super) fn server(ca: &str, certificate: &str, address: IpAddr, now: At) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    roots.add(der(ca).ok_or("BadEncoding")?).map_err(|error| error.to_string())?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|error| error.to_string())?;
    let time =
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(u64::try_from(now.0 / 1_000_000).unwrap_or(0)));
    let der = der(certificate).ok_or("BadEncoding")?;
    let verified = verifier.verify_server_cert(&der, &[], &ServerName::IpAddress(address.into()), &[], time);
    verified.map(drop).map_err(|error| error.to_string())
}

/// What a certificate is issued for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    pub name: &'a str,
    pub organisations: &'a [&'a str],
    /// DNS names and IP addresses of a server; empty for a client.
    pub alternative_names: &'a [String],
}

/// Issues a certificate from a CA.
///
/// # Errors
/// In the library's words, where CA or key are unusable.
pub(super) fn issue(ca: &Pair, request: Request<'_>, now: At) -> Result<Pair, String> {
    let key = KeyPair::from_pem(&ca.key).map_err(|error| error.to_string())?;
    let issuer = Issuer::from_ca_cert_pem(&ca.certificate, key).map_err(|error| error.to_string())?;
    let mut params = params(request.name, request.organisations, now, LEAF_SECONDS)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    let server = !request.alternative_names.is_empty();
    let usage = if server { ExtendedKeyUsagePurpose::ServerAuth } else { ExtendedKeyUsagePurpose::ClientAuth };
    params.extended_key_usages = vec![usage];
    for name in request.alternative_names {
        params.subject_alt_names.push(match name.parse::<IpAddr>() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(name.as_str().try_into().map_err(|_| format!("{name:?} is no DNS name"))?),
        });
    }
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let certificate = params.signed_by(&key, &issuer).map_err(|error| error.to_string())?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

/// Makes a CA, as kubeadm does where it finds none.
///
/// # Errors
/// In the library's words.
pub(super) fn new_ca(name: &str, now: At) -> Result<Pair, String> {
    let mut params = params(name, &[], now, CA_SECONDS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
    Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
}

fn params(name: &str, organisations: &[&str], now: At, seconds: i64) -> Result<CertificateParams, String> {
    let mut params = CertificateParams::new(Vec::new()).map_err(|error| error.to_string())?;
    let mut subject = DistinguishedName::new();
    for organisation in organisations {
        subject.push(DnType::OrganizationName, *organisation);
    }
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    let at = |seconds: i64| time::OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| error.to_string());
    let now = now.0 / 1_000_000;
    params.not_before = at(now - 3600)?;
    params.not_after = at(now + seconds)?;
    Ok(params)
}

pub(super) fn der(pem: &str) -> Option<CertificateDer<'static>> {
    CertificateDer::from_pem_slice(pem.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: At = At(1_767_225_600_000_000);

    #[test]
    fn a_client_is_known_by_a_certificate_of_the_right_ca_while_it_is_valid() {
        let (ca, other) = (new_ca("kubernetes", NOW).unwrap(), new_ca("kubernetes", NOW).unwrap());
        let request = Request { name: "admin", organisations: &["system:masters"], alternative_names: &[] };
        let admin = issue(&ca, request, NOW).unwrap();
        let user = client(&ca.certificate, &admin.certificate, NOW).unwrap();
        assert_eq!((user.name.as_str(), user.groups), ("admin", vec!["system:masters".to_owned()]));
        assert!(client(&other.certificate, &admin.certificate, NOW).is_none());
        let two_years = At(NOW.0 + 2 * LEAF_SECONDS * 1_000_000);
        assert!(client(&ca.certificate, &admin.certificate, two_years).is_none());
        let server = Request { alternative_names: &["a".into(), "10.0.0.1".into()], ..request };
        let server = issue(&ca, server, NOW).unwrap();
        assert!(client(&ca.certificate, &server.certificate, NOW).is_none(), "a server's certificate is no client's");
    }

    #[test]
    fn a_key_fits_its_own_certificate_only() {
        let (ca, other) = (new_ca("a", NOW).unwrap(), new_ca("a", NOW).unwrap());
        assert!(key_fits(&ca.certificate, &ca.key));
        assert!(!key_fits(&ca.certificate, &other.key) && !key_fits("junk", &ca.key) && !key_fits(&ca.certificate, ""));
        assert_ne!(fingerprint(&ca.certificate), fingerprint(&other.certificate));
    }
}
