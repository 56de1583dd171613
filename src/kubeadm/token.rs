//! Bootstrap tokens: how a node that joins proves that it may.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// How long a token lives: longer than the slowest join, far shorter than kubeadm's default of a day.
pub const LIFETIME: SignedDuration = SignedDuration::from_mins(30);

/// `ID.SECRET`: six and sixteen characters of `[a-z0-9]`.
/// Source: <https://kubernetes.io/docs/reference/access-authn-authz/bootstrap-tokens/#token-format>.
#[derive(Clone, PartialEq, Eq)]
pub struct BootstrapToken {
    id: String,
    secret: String,
}

impl fmt::Debug for BootstrapToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BootstrapToken").field("id", &self.id).finish_non_exhaustive()
    }
}

impl BootstrapToken {
    /// A new token from the operating system's entropy; `None` where the host has none to give.
    #[must_use]
    pub fn generate() -> Option<Self> {
        const ALPHABET: &[u8; 36] = b"abcdefghijklmnopqrstuvwxyz0123456789";
        // 7 * 36 = 252: bytes above are drawn again, so that every character is equally likely.
        const FAIR: u8 = 252;
        let mut characters = String::with_capacity(22);
        // 64 bytes give 22 fair characters but with a probability far below 1e-30; eight rounds are a bound, not a wait.
        for _ in 0..8 {
            let mut bytes = [0_u8; 64];
            getrandom::fill(&mut bytes).ok()?;
            for byte in bytes.into_iter().filter(|&byte| byte < FAIR) {
                if characters.len() < 22 {
                    characters.push(char::from(ALPHABET[usize::from(byte % 36)]));
                }
            }
        }
        let (id, secret) = characters.split_at_checked(6)?;
        Self::parse(&format!("{id}.{secret}"))
    }

    /// Reads `ID.SECRET`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.split_once('.')?;
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let fits = id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret);
        fits.then(|| Self { id: id.to_owned(), secret: secret.to_owned() })
    }

    /// The public half.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The whole token. A secret.
    #[must_use]
    pub fn to_secret_string(&self) -> String {
        format!("{}.{}", self.id, self.secret)
    }

    /// Name of the Secret that makes it valid.
    #[must_use]
    pub fn secret_name(&self) -> String {
        format!("bootstrap-token-{}", self.id)
    }

    /// The Secret that makes it valid until [`LIFETIME`] from `now`.
    #[must_use]
    pub fn secret(&self, now: Timestamp) -> Value {
        let encode = |text: &str| BASE64.encode(text);
        let expiration = now.checked_add(LIFETIME).unwrap_or(Timestamp::MAX);
        json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": { "name": self.secret_name(), "namespace": "kube-system" },
            "type": "bootstrap.kubernetes.io/token",
            "data": {
                "token-id": encode(&self.id),
                "token-secret": encode(&self.secret),
                "expiration": encode(&format!("{expiration:.0}")),
                "usage-bootstrap-authentication": encode("true"),
                "usage-bootstrap-signing": encode("true"),
                "auth-extra-groups": encode("system:bootstrappers:kubeadm:default-node-token"),
                "description": encode("made by Kina for one join"),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_kubeadms_form_and_differ() {
        let (one, other) = (BootstrapToken::generate().unwrap(), BootstrapToken::generate().unwrap());
        assert_ne!(one, other);
        assert_eq!(BootstrapToken::parse(&one.to_secret_string()).unwrap(), one);
        for bad in ["", "abcdef", "abcdef.0123456789abcde", "ABCDEF.0123456789abcdef", "abcdef.0123456789abcdef.x"] {
            assert_eq!(BootstrapToken::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_secret_expires_and_debug_output_does_not_tell_it() {
        let token = BootstrapToken::parse("abcdef.0123456789abcdef").unwrap();
        let secret = token.secret("2026-11-21T09:00:00Z".parse().unwrap());
        assert_eq!(secret["metadata"]["name"], "bootstrap-token-abcdef");
        assert_eq!(secret["data"]["expiration"], BASE64.encode("2026-11-21T09:30:00Z"));
        assert!(!format!("{token:?}").contains("0123"));
    }
}
