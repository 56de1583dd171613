//! The members of a cluster's etcd, asked and changed through one of them (decision 0032).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::ETCD_PEER_PORT;

/// What runs etcdctl in a control plane.
pub const SCRIPT: &str = include_str!("etcd.sh");
/// What etcd answers where there is no such member, or no more (`rpctypes.ErrMemberNotFound`).
pub const NOT_FOUND: &str = "member not found";

/// How etcd tells members apart. A member that comes again under its old name is another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemberId(u64);

impl MemberId {
    /// From etcd's number.
    #[must_use]
    pub fn new(id: u64) -> Self {
        Self(id)
    }
}

/// As etcdctl takes it.
impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Why what etcdctl printed tells nothing.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// It is no list of members.
    #[error("what etcdctl prints is no list of members: {0}")]
    Json(#[from] serde_json::Error),
    /// Who was asked is none of the members: this is another etcd's list.
    #[error("{0} is none of the members that it lists")]
    Other(String),
}

/// Has the control plane `at` list the members, as the majority knows them.
#[must_use]
pub fn list_members(at: &str) -> Vec<String> {
    etcdctl(at, &["member", "list", "--write-out=json"])
}

/// Has the control plane `at` take a member out. etcd itself refuses where the others would be no majority without it.
#[must_use]
pub fn remove_member(at: &str, id: MemberId) -> Vec<String> {
    etcdctl(at, &["member", "remove", &id.to_string()])
}

fn etcdctl(at: &str, arguments: &[&str]) -> Vec<String> {
    let words = ["sh", "-c", SCRIPT, "etcdctl", at].into_iter().chain(arguments.iter().copied());
    words.map(str::to_owned).collect()
}

/// Finds the member that a node is in what [`list_members`] printed in the control plane `asked`: by its name, or by where it
/// is to be reached, since one that was only announced has no name yet.
///
/// # Errors
/// Where that is no list, or another etcd's.
///
/// ```
/// use kina::kubeadm::etcd::{MemberId, find_member};
///
/// let printed = r#"{"header": {}, "members": [
///     {"ID": 10, "name": "dev-control-plane-0", "peerURLs": ["https://10.0.0.10:2380"]},
///     {"ID": 11, "peerURLs": ["https://10.0.0.11:2380"], "isLearner": true}
/// ]}"#;
/// let asked = "dev-control-plane-0";
/// let find = |name: &str, address: &str| find_member(printed, asked, name, &[address.parse().unwrap()]).unwrap();
/// assert_eq!(find("dev-control-plane-0", "10.0.0.10"), Some(MemberId::new(10)));
/// assert_eq!(find("dev-control-plane-1", "10.0.0.11"), Some(MemberId::new(11)));
/// assert_eq!(find("dev-control-plane-2", "10.0.0.12"), None);
/// ```
pub fn find_member(
    printed: &str,
    asked: &str,
    name: &str,
    addresses: &[IpAddr],
) -> Result<Option<MemberId>, ListError> {
    let list: List = serde_json::from_str(printed)?;
    if list.members.iter().all(|member| member.name != asked) {
        return Err(ListError::Other(asked.to_owned()));
    }
    let is_it = |member: &Member| {
        let mut peers = member.peer_urls.iter().filter_map(|url| peer_address(url));
        member.name == name || peers.any(|peer| addresses.contains(&peer))
    };
    Ok(list.members.into_iter().find(is_it).map(|member| MemberId(member.id)))
}

#[derive(Deserialize)]
struct List {
    members: Vec<Member>,
}

#[derive(Deserialize)]
struct Member {
    #[serde(rename = "ID")]
    id: u64,
    #[serde(default)]
    name: String,
    #[serde(default, rename = "peerURLs")]
    peer_urls: Vec<String>,
}

/// The address in `https://ADDRESS:2380`.
#[must_use]
pub fn peer_address(url: &str) -> Option<IpAddr> {
    let peer: SocketAddr = url.strip_prefix("https://")?.parse().ok()?;
    (peer.port() == ETCD_PEER_PORT).then(|| peer.ip())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn etcdctl_gets_its_words_apart_from_the_script() {
        assert_eq!(list_members("a-0")[3..], ["etcdctl", "a-0", "member", "list", "--write-out=json"]);
        let id = MemberId::new(0xce56_5f0e_32a1_70d0);
        assert_eq!(remove_member("a-0", id)[3..], ["etcdctl", "a-0", "member", "remove", "ce565f0e32a170d0"]);
    }

    /// As etcd 3.6.5 printed it.
    #[test]
    fn members_are_found_in_what_etcd_prints() {
        let printed = r#"{"header":{"cluster_id":5078453186541098031,"member_id":14868124577413230800,"raft_term":2},"members":[{"ID":14868124577413230800,"name":"ha-control-plane-0","peerURLs":["https://10.160.0.10:2380"],"clientURLs":["https://10.160.0.10:2379"]},{"ID":17294512347123,"name":"","peerURLs":["https://[fd6b:696e:610a:a003::a]:2380"],"isLearner":true}]}"#;
        let asked = "ha-control-plane-0";
        let find = |name: &str, address: &str| find_member(printed, asked, name, &[address.parse().unwrap()]).unwrap();
        assert_eq!(find("ha-control-plane-0", "10.9.9.9"), Some(MemberId::new(14_868_124_577_413_230_800)));
        assert_eq!(find("new", "fd6b:696e:610a:a003::a"), Some(MemberId::new(17_294_512_347_123)));
        assert_eq!(find("other", "10.160.0.11"), None);
        let none = |printed: &str, asked: &str| find_member(printed, asked, "a", &[]).unwrap_err().to_string();
        assert!(none("Error: no etcd runs here", asked).starts_with("what etcdctl prints is no list of members"));
        assert!(none("{}", asked).starts_with("what etcdctl prints is no list of members"));
        // Somebody else's etcd knows none of ours.
        assert_eq!(none(printed, "dev-control-plane-0"), "dev-control-plane-0 is none of the members that it lists");
        assert_eq!(
            none(r#"{"members":[]}"#, "dev-control-plane-0"),
            "dev-control-plane-0 is none of the members that it lists"
        );
    }

    proptest! {
        #[test]
        fn nothing_that_is_printed_panics(printed in ".{0,200}", name in "[a-z]{0,8}") {
            let _ = find_member(&printed, &name, &name, &[]);
        }
    }
}
