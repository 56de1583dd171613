//! What is asked of machines, and what they answer: documents of the subresources `exec` and `log` of a Machine, and
//! `images` of a Cluster, which the store knows nothing of.

use serde::{Deserialize, Serialize};

/// Below it are the machines, each with its subresources.
pub const MACHINES_PATH: &str = "/apis/kina.dev/v1alpha1/machines/";
/// Below it are the clusters, each with its subresources.
pub const CLUSTERS_PATH: &str = "/apis/kina.dev/v1alpha1/clusters/";
/// Most images that are loaded at once.
pub const IMAGES_MAX: usize = 64;
/// Most lines of a log that are given.
pub const LOG_LINES_MAX: usize = 10_000;
/// Lines of a log where nobody says how many.
pub const LOG_LINES: usize = 100;
/// The longest that a command may take, in seconds.
pub const EXEC_SECONDS_MAX: u64 = 3_600;
/// How long a command may take where nobody says, in seconds.
pub const EXEC_SECONDS: u64 = 600;
/// Most bytes of standard input: in base64 they fit into the body of a request.
pub const STDIN_BYTES_MAX: usize = 2 << 20;

/// A command to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Command {
    /// Program and arguments. No shell sees them.
    pub command: Vec<String>,
    /// Standard input, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// When it is given up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_seconds: Option<u64>,
}

/// How a command ended, or why it could not be run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// Its exit code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Standard output, in base64, cut after its first 1 MiB.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stdout: String,
    /// Standard error, likewise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub stderr: String,
    /// Why it was not run, or not seen to end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Images of the host that nodes of a cluster are to have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Load {
    /// Names of the images, 64 at most.
    pub images: Vec<String>,
    /// Names of the machines; all of the cluster where there is none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<String>,
}

/// What came of a [`Load`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Loaded {
    /// By machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub machines: Vec<LoadedMachine>,
    /// Why nothing came of it at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// What came of a [`Load`] in one machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoadedMachine {
    /// The machine.
    pub machine: String,
    /// Images that it had, the very same ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub present: Vec<String>,
    /// Images that were loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub loaded: Vec<String>,
    /// Why those that are in neither list were not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Reads base64.
///
/// # Errors
/// What is wrong with it.
pub fn decode(text: &str) -> Result<Vec<u8>, base64::DecodeError> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text)
}

/// Writes base64.
#[must_use]
pub fn encode(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
