//! Files on their way into a container and out of one: runtimes take and give archives.

use std::io::Read;

use tar::{Archive, Builder, EntryType, Header};

use super::NodeFile;

/// An archive of files, and of the directories that have to be made for them.
///
/// # Errors
/// For a path that no archive can hold.
pub fn pack(files: &[NodeFile], directories: &[String]) -> std::io::Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    for directory in directories {
        let mut header = header(EntryType::Directory, 0o755, 0);
        archive.append_data(&mut header, relative(directory), std::io::empty())?;
    }
    for file in files {
        let mut header = header(EntryType::Regular, file.mode, file.content.len() as u64);
        archive.append_data(&mut header, relative(&file.path), file.content.as_slice())?;
    }
    archive.into_inner()
}

fn header(kind: EntryType, mode: u32, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header
}

fn relative(path: &str) -> &str {
    path.trim_start_matches('/')
}

/// Where a path lies: on the innermost of the mounts above it, or else on the root. Not every engine unpacks an archive into
/// what is mounted below where it is unpacked: Podman does not.
pub fn mount_of<'a>(path: &str, mounts: &'a [String]) -> &'a str {
    let above = |mount: &&String| path.strip_prefix(mount.as_str()).is_some_and(|rest| rest.starts_with('/'));
    mounts.iter().filter(above).max_by_key(|mount| mount.len()).map_or("/", String::as_str)
}

/// A path as seen from a mount above it.
pub fn below<'a>(path: &'a str, mount: &str) -> &'a str {
    path.strip_prefix(mount).filter(|rest| rest.starts_with('/')).unwrap_or(path)
}

/// The one regular file of an archive; `None` where it holds anything else.
///
/// # Errors
/// For what is no archive, or ends in the middle.
pub fn unpack(archive: &[u8], limit: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut archive = Archive::new(archive);
    let Some(entry) = archive.entries()?.next() else { return Ok(None) };
    let entry = entry?;
    if entry.header().entry_type() != EntryType::Regular {
        return Ok(None);
    }
    let mut content = Vec::new();
    entry.take(limit).read_to_end(&mut content)?;
    Ok(Some(content))
}

/// Every directory above the files, the outer ones first.
pub fn parents(files: &[NodeFile]) -> Vec<String> {
    let mut all: Vec<String> = files
        .iter()
        .flat_map(|file| {
            file.path.match_indices('/').filter(|(at, _)| *at > 0).map(|(at, _)| file.path[..at].to_owned())
        })
        .collect();
    all.sort_unstable();
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file(path: &str, content: &[u8]) -> NodeFile {
        NodeFile { path: path.into(), mode: 0o600, content: content.to_vec() }
    }

    #[test]
    fn directories_are_named_once_and_from_the_outside_in() {
        let files =
            [file("/etc/kubernetes/pki/ca.crt", b""), file("/etc/kubernetes/pki/etcd/ca.crt", b""), file("/a", b"")];
        assert_eq!(parents(&files), ["/etc", "/etc/kubernetes", "/etc/kubernetes/pki", "/etc/kubernetes/pki/etcd"]);
    }

    #[test]
    fn a_path_lies_on_the_innermost_mount_above_it() {
        let mounts = ["/var", "/var/lib/etcd", "/etc/kubernetes"].map(str::to_owned);
        let lies = |path: &str| {
            let mount = mount_of(path, &mounts);
            format!("{mount} {}", below(path, mount))
        };
        assert_eq!(lies("/var/lib/etcd/member/snap"), "/var/lib/etcd /member/snap");
        assert_eq!(lies("/var/lib/kubelet/x"), "/var /lib/kubelet/x");
        assert_eq!(lies("/etc/kubernetes-other/x"), "/ /etc/kubernetes-other/x");
        assert_eq!(lies("/var"), "/ /var");
    }

    #[test]
    fn what_is_no_regular_file_is_none() {
        let directory = pack(&[], &["/etc".to_owned()]).unwrap();
        assert_eq!(unpack(&directory, 10).unwrap(), None);
        assert_eq!(unpack(&[], 10).unwrap(), None);
        unpack(b"not an archive at all", 10).unwrap_err();
    }

    proptest! {
        #[test]
        fn a_file_is_the_same_after_a_round_through_an_archive(
            name in "[a-z]{1,120}(/[a-z]{1,120}){0,3}", content in proptest::collection::vec(any::<u8>(), 0..2000),
        ) {
            let packed = pack(&[file(&format!("/{name}"), &content)], &[]).unwrap();
            prop_assert_eq!(unpack(&packed, 1 << 20).unwrap(), Some(content));
        }

        #[test]
        fn no_archive_breaks_the_reader(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            let _ = unpack(&bytes, 1000);
        }
    }
}
