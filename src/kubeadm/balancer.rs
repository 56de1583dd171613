//! The load balancer in front of the API servers: a script in a container of the node image, which is on the host anyway.
//! The kernel forwards; the script tells it to whom (decision 0017).

use std::net::Ipv4Addr;

/// The script.
pub const SCRIPT_PATH: &str = "/kina/balancer/run";
/// The file that names the backends.
pub const BACKENDS_PATH: &str = "/kina/balancer/backends";

const SCRIPT: &str = include_str!("balancer.sh");

/// What the container runs in place of the image's own command.
#[must_use]
pub fn command() -> Vec<String> {
    vec!["/bin/bash".to_owned(), SCRIPT_PATH.to_owned()]
}

/// Path and content of every file.
#[must_use]
pub fn files(backends: &[Ipv4Addr]) -> [(&'static str, String); 2] {
    [(BACKENDS_PATH, backends_file(backends)), (SCRIPT_PATH, SCRIPT.to_owned())]
}

/// The content of [`BACKENDS_PATH`]: an address a line, and a last line that says that it is whole.
fn backends_file(backends: &[Ipv4Addr]) -> String {
    let lines: String = backends.iter().map(|address| format!("{address}\n")).collect();
    format!("{lines}end\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_backend_is_named_and_the_end_marked() {
        let backends = [Ipv4Addr::new(10, 160, 0, 10), Ipv4Addr::new(10, 160, 0, 11)];
        assert_eq!(backends_file(&backends), "10.160.0.10\n10.160.0.11\nend\n");
        assert_eq!(backends_file(&[]), "end\n");
    }

    #[test]
    fn an_address_that_stays_is_there_before_anything_is_forwarded() {
        let up = SCRIPT.find(&format!("bash {} up", crate::kubeadm::overlay::SCRIPT_PATH)).unwrap();
        assert!(SCRIPT.contains(crate::kubeadm::overlay::CONFIG_PATH));
        assert!(up < SCRIPT.find("$iptables").unwrap());
    }

    #[test]
    fn the_script_is_one_that_bash_understands() {
        let checked = std::process::Command::new("bash").args(["-n", "-c", SCRIPT]).status();
        assert!(checked.is_ok_and(|status| status.success()));
    }
}
