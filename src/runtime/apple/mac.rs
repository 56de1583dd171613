//! The Mac below Apple Container: its system, its processor, and how much it has.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::process::{self, Call, Commands, Input, Program};
use super::size::HostSize;
use crate::runtime::Networks;
use crate::world::FileSystem;

/// Both programs only print what they know.
const ANSWER: Duration = Duration::from_secs(5);
const BYTES_MAX: usize = 64 << 10;
/// Where Linux tells how much memory it has.
const MEMINFO: &str = "/proc/meminfo";
const MEMINFO_BYTES_MAX: u64 = 64 << 10;

/// A Mac.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mac {
    /// Version of macOS, as `sw_vers` tells it.
    pub version: String,
    /// Whether it has Apple's own processor; `None` where it does not say.
    pub has_apple_silicon: Option<bool>,
}

/// The first macOS on which containers reach each other, and on which networks can be made.
pub const NETWORKS_SINCE: u16 = 26;

impl Mac {
    /// Whether networks can be made here. One whose version is not understood is taken for a new one.
    #[must_use]
    pub fn has_networks(&self) -> bool {
        self.major().is_none_or(|major| major >= NETWORKS_SINCE)
    }

    /// The first part of the version.
    #[must_use]
    pub fn major(&self) -> Option<u16> {
        self.version.split('.').next()?.parse().ok()
    }
}

/// Which networks machines can be in; on what is no Mac, those of a new one.
#[must_use]
pub fn networks(mac: Option<&Mac>) -> Networks {
    match mac.is_none_or(Mac::has_networks) {
        true => Networks::PerClusterOrDefault,
        false => Networks::OnlyDefault,
    }
}

/// What the host is: the Mac, where it is one, and its size. Programs are looked for in these directories.
pub async fn look(directories: &[PathBuf], files: &dyn FileSystem) -> (Option<Mac>, HostSize) {
    let version = ask(directories, files, "sw_vers", &["-productVersion"]).await;
    let Some(version) = version.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty()) else {
        return (None, of_linux(files));
    };
    // A name that it does not know makes it fail after all others were printed.
    let names = ["hw.memsize", "hw.logicalcpu", "hw.optional.arm64"];
    let told = ask(directories, files, "sysctl", &names).await.unwrap_or_default();
    let number = |name: &str| numbers(&told).find(|(key, _)| *key == name).map(|(_, value)| value);
    let size = HostSize {
        cpus: number("hw.logicalcpu").unwrap_or_default(),
        memory_bytes: number("hw.memsize").unwrap_or_default(),
    };
    // Macs of Intel's do not know that name.
    let has_apple_silicon = (!told.is_empty()).then(|| number("hw.optional.arm64") == Some(1));
    (Some(Mac { version, has_apple_silicon }), size)
}

/// `hw.memsize: 17179869184`, a line each.
fn numbers(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines()
        .filter_map(|line| line.split_once(": "))
        .filter_map(|(key, value)| Some((key, value.trim().parse().ok()?)))
}

async fn ask(directories: &[PathBuf], files: &dyn FileSystem, name: &str, arguments: &[&str]) -> Option<String> {
    let program = Program(process::find(name, directories, files)?);
    let arguments = arguments.iter().map(|&word| word.to_owned()).collect();
    let call = Call { arguments, input: Input::Nothing, within: ANSWER, bytes_max: BYTES_MAX };
    let output = program.run(call).await.ok()?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn of_linux(files: &dyn FileSystem) -> HostSize {
    let cpus = std::thread::available_parallelism().ok().and_then(|count| u64::try_from(count.get()).ok());
    let text = files.read(Path::new(MEMINFO), MEMINFO_BYTES_MAX).unwrap_or_default();
    let memory = memory_total(&String::from_utf8_lossy(&text));
    HostSize { cpus: cpus.unwrap_or_default(), memory_bytes: memory.unwrap_or_default() }
}

/// `MemTotal:       16384000 kB`.
fn memory_total(text: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    value.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_tells_its_size_in_its_own_words() {
        let sysctl = "hw.memsize: 17179869184\nhw.logicalcpu: 10\nhw.optional.arm64: 1\n";
        let expected = [("hw.memsize", 16 << 30), ("hw.logicalcpu", 10), ("hw.optional.arm64", 1)];
        assert_eq!(numbers(sysctl).collect::<Vec<_>>(), expected);
        assert_eq!(memory_total("MemTotal:       24681300 kB\nMemFree: 1 kB\n"), Some(24_681_300 * 1024));
        assert_eq!(memory_total(""), None);
    }

    #[test]
    fn a_version_begins_with_the_number_that_people_say() {
        let major = |text: &str| Mac { version: text.into(), ..Mac::default() }.major();
        assert_eq!((major("26.1"), major("15.7.1"), major("27"), major("?")), (Some(26), Some(15), Some(27), None));
    }
}
