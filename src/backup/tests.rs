//! Backups in memory, and restores on a disk.

use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::apiserver::store::{Batch, RedbStore, Store};
use crate::world::Disk;

const NOW: &str = "2026-01-01T00:00:00Z";
const SOURCE: &str = r#"{"metadata":{"name":"home"},"status":{"root":"1:2"}}"#;

fn contents(revision: u64, rows: &[(&str, &str)]) -> Contents {
    let rows = rows.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    Contents { id: "a-store".to_owned(), epoch: 0, revision, rows }
}

/// A home with an installation id, keys of one cluster and a store at revision 7.
struct House {
    directory: tempfile::TempDir,
    home: Home,
}

impl House {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = Home::at(directory.path().join("home"));
        Disk.create_directories(&home.pki().join("u1"), 0o700).unwrap();
        Disk.write(&home.root().join(INSTALLATION), b"an-id\n", 0o600).unwrap();
        Disk.write(&home.pki().join("u1/pki.json"), b"{}", 0o600).unwrap();
        let rows = [("kina/clusters.kina.dev//dev", "{}"), ("kina/sources.kina.dev//home", SOURCE)];
        contents(7, &rows).create(&home.store(), 1 << 20).unwrap();
        Self { directory, home }
    }

    fn backup(&self) -> Backup {
        let store = RedbStore::open(&self.home.store(), 1 << 20, "-").unwrap();
        Backup::gather(&self.home, &Disk, Contents::of(&store).unwrap(), NOW.parse().unwrap()).unwrap()
    }

    fn restore(&self, backup: &Backup, force: bool) -> Result<Restored, BackupError> {
        restore(&self.home, &Disk, backup, force, NOW.parse().unwrap())
    }

    fn found(&self) -> Contents {
        Contents::of(&RedbStore::open(&self.home.store(), 1 << 20, "-").unwrap()).unwrap()
    }
}

#[test]
fn a_backup_is_read_as_it_was_written_for_its_owner_alone_and_tar_reads_it() {
    let house = House::new();
    let backup = house.backup();
    let path = house.directory.path().join("kina.tar");
    backup.write(&Disk, &path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let read = Backup::read(&Disk, &path).unwrap();
    assert_eq!((&read.contents, &read.files), (&backup.contents, &backup.files));
    assert_eq!((read.about.store.revision, read.keys()), (7, 1));
    if let Ok(listed) = std::process::Command::new("tar").arg("-tf").arg(&path).output() {
        let names = String::from_utf8(listed.stdout).unwrap();
        assert_eq!(names, "backup.json\nstore.jsonl\ninstallation-id\npki/u1/pki.json\n");
    }
}

#[test]
fn a_backup_that_rotted_anywhere_or_was_cut_off_is_refused() {
    let bytes = House::new().backup().encode().unwrap();
    let path = Path::new("b");
    let whole = Backup::decode(path, &bytes).unwrap();
    for at in 0..bytes.len() {
        let mut rotten = bytes.clone();
        rotten[at] ^= 0x10;
        match Backup::decode(path, &rotten) {
            Err(BackupError::Damaged { .. } | BackupError::Newer { .. }) => {}
            Err(error) => panic!("byte {at}: {error:?}"),
            // Between members, and in what backup.json says for people.
            Ok(read) => {
                assert_eq!((read.contents, read.files), (whole.contents.clone(), whole.files.clone()), "byte {at}")
            }
        }
    }
    for length in (0..bytes.len() - 1024).step_by(61) {
        assert!(Backup::decode(path, &bytes[..length]).is_err(), "cut at {length}");
    }
    let newer = String::from_utf8(bytes).unwrap().replace("\"format\": 1,", "\"format\": 9,");
    // The sum of the header covers the header alone: what a newer Kina writes is told as that.
    assert!(matches!(Backup::decode(path, newer.as_bytes()), Err(BackupError::Newer { found: 9, .. })));
}

#[test]
fn a_lost_home_comes_back_with_objects_keys_and_identity() {
    let backup = House::new().backup();
    let lost = House::new();
    std::fs::remove_dir_all(lost.home.root()).unwrap();
    Disk.create_directories(lost.home.root(), 0o700).unwrap();
    let restored = lost.restore(&backup, false).unwrap();
    assert_eq!((restored.kept, restored.epoch, restored.keys), (None, 1, 1));
    let found = lost.found();
    assert_eq!((found.id.as_str(), found.epoch, found.rows[0].1.as_str()), ("a-store", 1, "{}"));
    assert_eq!(std::fs::read(lost.home.root().join(INSTALLATION)).unwrap(), b"an-id\n");
    assert_eq!(std::fs::read(lost.home.pki().join("u1/pki.json")).unwrap(), b"{}");
    let mode = |path: &str| std::fs::metadata(lost.home.root().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("pki"), mode("pki/u1"), mode("pki/u1/pki.json")), (0o700, 0o700, 0o600));
}

#[test]
fn revisions_go_on_beyond_all_that_were_handed_out_and_the_store_that_was_there_is_kept() {
    let house = House::new();
    let backup = house.backup();
    {
        let store = RedbStore::open(&house.home.store(), 1 << 20, "-").unwrap();
        store.commit(Batch { revision: 9, ..Batch::default() }).unwrap();
    }
    assert!(matches!(house.restore(&backup, false), Err(BackupError::Occupied { .. })));
    assert_eq!(house.found().revision, 9, "untouched");
    let first = house.restore(&backup, true).unwrap();
    assert_eq!(house.found().revision, first.revision);
    assert!(first.revision > 1_767_225_600 << 21 && first.revision < 1 << 53);
    let kept = Contents::of(&RedbStore::inspect(&first.kept.unwrap(), 1 << 20).unwrap()).unwrap();
    assert_eq!((kept.revision, kept.epoch), (9, 0));
    // In the same second, from the same backup: still later than anything before.
    let second = house.restore(&backup, true).unwrap();
    assert!(second.revision > first.revision && second.epoch == first.epoch + 1);
}

#[test]
fn after_a_restore_sources_do_not_know_their_directories_any_more() {
    let house = House::new();
    let backup = house.backup();
    house.restore(&backup, true).unwrap();
    let source: serde_json::Value = serde_json::from_str(&house.found().rows[1].1).unwrap();
    assert_eq!(source["status"]["root"], "restored");
}

#[test]
fn a_damaged_store_is_replaced_and_kept_and_another_installation_is_not_taken_over() {
    let house = House::new();
    let backup = house.backup();
    std::fs::write(house.home.store(), b"rot").unwrap();
    let restored = house.restore(&backup, true).unwrap();
    assert!(restored.unreadable.unwrap().contains("damaged"));
    assert_eq!(std::fs::read(restored.kept.unwrap()).unwrap(), b"rot");
    assert_eq!(house.found().rows.len(), 2);

    let other = House::new();
    Disk.write(&other.home.root().join(INSTALLATION), b"another\n", 0o600).unwrap();
    std::fs::remove_file(other.home.store()).unwrap();
    assert!(matches!(other.restore(&backup, false), Err(BackupError::OtherInstallation { .. })));
    assert!(!other.home.store().exists());
}
