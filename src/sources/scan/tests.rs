use std::sync::Arc;

use super::*;
use crate::world::{MemoryFiles, SystemClock};

const ROOT: &str = "/home/clusters";

fn world(content: &[(&str, &str)]) -> MemoryFiles {
    let files = MemoryFiles::new(Arc::new(SystemClock));
    files.create_directories(Path::new(ROOT), 0o700).unwrap();
    for (path, content) in content {
        put(&files, path, content);
    }
    files
}

fn put(files: &MemoryFiles, path: &str, content: &str) {
    let path = Path::new(ROOT).join(path);
    files.create_directories(path.parent().unwrap(), 0o700).unwrap();
    files.write(&path, content.as_bytes(), 0o600).unwrap();
}

fn look(files: &MemoryFiles) -> Scan {
    scan(files, Path::new(ROOT), &BTreeMap::new())
}

fn paths(scan: &Scan) -> Vec<&str> {
    scan.files.keys().map(String::as_str).collect()
}

#[test]
fn manifests_are_found_in_every_directory_and_nothing_else() {
    let scan = look(&world(&[
        ("a.yaml", "1"),
        ("team/b.yml", "2"),
        ("team/deep/er/c.json", "3"),
        ("D.YAML", "4"),
        (".hidden.yaml", "x"),
        (".git-like/e.yaml", "x"),
        ("a.yaml~", "x"),
        (".a.yaml.swp", "x"),
        ("#a.yaml#", "x"),
        ("#a.yaml", "x"),
        ("a.yaml.tmp", "x"),
        ("4913", "x"),
        ("README.md", "x"),
        (".yaml", "x"),
    ]));
    assert_eq!(paths(&scan), ["D.YAML", "a.yaml", "team/b.yml", "team/deep/er/c.json"]);
    assert_eq!(scan.problems, []);
    assert!(matches!(scan.root, Root::Present(_)));
}

#[test]
fn contents_that_are_known_are_not_returned_again() {
    let files = world(&[("a.yaml", "1"), ("b.yaml", "2")]);
    let known = BTreeMap::from([("a.yaml".to_owned(), hash(b"1")), ("b.yaml".to_owned(), hash(b"1"))]);
    let scan = scan(&files, Path::new(ROOT), &known);
    assert_eq!(scan.files["a.yaml"].content, Content::Known);
    assert_eq!(scan.files["b.yaml"].content, Content::New(b"2".to_vec()));
}

#[test]
fn a_configmap_mount_is_followed_through_its_links() {
    let files = world(&[("..2026_01/a.yaml", "one"), ("..2026_02/a.yaml", "two")]);
    let link = |target: &str, name: &str| files.link(Path::new(target), &Path::new(ROOT).join(name)).unwrap();
    link("..2026_01", "..data");
    link("..data/a.yaml", "a.yaml");
    assert_eq!(look(&files).files["a.yaml"].content, Content::New(b"one".to_vec()));
    link("..2026_02", "..data");
    let after = look(&files);
    assert_eq!((paths(&after), &after.files["a.yaml"].content), (vec!["a.yaml"], &Content::New(b"two".to_vec())));
}

#[test]
fn links_do_not_loop_declare_twice_or_lead_out() {
    let files = world(&[("real/a.yaml", "1")]);
    let link = |target: &str, name: &str| files.link(Path::new(target), &Path::new(ROOT).join(name)).unwrap();
    link("real", "again");
    link("..", "real/up");
    link("real/a.yaml", "b.yaml");
    let inside = look(&files);
    assert_eq!(paths(&inside), ["real/a.yaml"]);
    assert!(inside.problems.iter().all(|problem| problem.path == "real/up"), "{:?}", inside.problems);

    files.write(Path::new("/home/secret.yaml"), b"x", 0o600).unwrap();
    link("../secret.yaml", "c.yaml");
    link("nowhere", "d.yaml");
    let outside = look(&files);
    let problems: Vec<&str> = outside.problems.iter().map(|problem| problem.path.as_str()).collect();
    assert!(problems.contains(&"c.yaml") && problems.contains(&"d.yaml"), "{problems:?}");
    assert!(!outside.files.contains_key("c.yaml"));
}

#[test]
fn a_file_that_cannot_be_read_is_there_with_the_reason() {
    let files = world(&[("a.yaml", "1"), ("b.yaml", "2")]);
    files.set_failure(&Path::new(ROOT).join("a.yaml"), Some(io::ErrorKind::PermissionDenied));
    put(&files, "big.yaml", &"x".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1));
    let scan = look(&files);
    assert_eq!(paths(&scan), ["a.yaml", "b.yaml", "big.yaml"]);
    assert!(matches!(&scan.files["a.yaml"].content, Content::Unreadable(why) if why.contains("permission denied")));
    assert!(matches!(&scan.files["big.yaml"].content, Content::Unreadable(why) if why.contains("larger than")));
}

#[test]
fn a_directory_that_cannot_be_listed_makes_the_scan_incomplete() {
    let files = world(&[("team/a.yaml", "1"), ("b.yaml", "2")]);
    files.set_failure(&Path::new(ROOT).join("team"), Some(io::ErrorKind::PermissionDenied));
    let scan = look(&files);
    assert_eq!(paths(&scan), ["b.yaml"]);
    assert_eq!(scan.problems[0].path, "team");
}

#[test]
fn a_root_that_is_gone_or_unreadable_or_no_directory_is_unavailable() {
    let files = world(&[]);
    files.set_failure(Path::new(ROOT), Some(io::ErrorKind::Other));
    assert!(matches!(look(&files).root, Root::Unavailable(why) if why.contains("cannot list")));
    files.remove_directory(Path::new(ROOT)).unwrap();
    assert!(matches!(look(&files).root, Root::Unavailable(why) if why.contains("does not exist")));
    files.write(Path::new(ROOT), b"", 0o600).unwrap();
    assert!(matches!(look(&files).root, Root::Unavailable(why) if why.contains("is not a directory")));
}

#[test]
fn a_git_operation_hides_everything_until_it_is_over() {
    let files = world(&[
        ("a.yaml", "1"),
        (".git/HEAD", "ref: refs/heads/main\n"),
        (".git/refs/heads/main", "3f2c9d1e3f2c9d1e3f2c9d1e3f2c9d1e3f2c9d1e\n"),
        (".git/index.lock", ""),
    ]);
    let during = look(&files);
    assert_eq!((during.root, during.files.len()), (Root::GitOperation("a git command"), 0));
    files.remove_file(&Path::new(ROOT).join(".git/index.lock")).unwrap();
    let after = look(&files);
    assert_eq!(paths(&after), ["a.yaml"]);
    assert_eq!(after.commit.as_deref(), Some("3f2c9d1e3f2c9d1e3f2c9d1e3f2c9d1e3f2c9d1e"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_not_utf8_is_a_problem_and_not_a_missing_file() {
    use std::os::unix::ffi::OsStrExt;
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join(std::ffi::OsStr::from_bytes(b"d\xffv.yaml")), "x").unwrap();
    let scan = scan(&crate::world::Disk, home.path(), &BTreeMap::new());
    assert_eq!((scan.files.len(), scan.problems[0].message.as_str()), (0, "the name is not UTF-8: rename it"));
}

#[test]
fn a_fifo_does_not_stop_the_walk() {
    let home = tempfile::tempdir().unwrap();
    let made = std::process::Command::new("mkfifo").arg(home.path().join("pipe.yaml")).status().unwrap();
    assert!(made.success());
    std::fs::write(home.path().join("a.yaml"), "x").unwrap();
    assert_eq!(paths(&scan(&crate::world::Disk, home.path(), &BTreeMap::new())), ["a.yaml"]);
}
