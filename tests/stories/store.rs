//! What a user does with `kina store`: check, back up, lose everything, restore.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::environment::TestEnvironment;

fn manifest(name: &str) -> String {
    format!(
        "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: {name}\nspec:\n  runtime: sim\n  paused: true\n"
    )
}

fn names(environment: &TestEnvironment) -> Vec<String> {
    let listed = environment.kina(&["get", "clusters", "-o", "json"]).success();
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let items = listed["items"].as_array().unwrap();
    items.iter().map(|item| item["metadata"]["name"].as_str().unwrap().to_owned()).collect()
}

fn revision(environment: &TestEnvironment) -> u64 {
    let checked = environment.kina(&["store", "check"]).success();
    let text = checked.split("revision ").nth(1).unwrap();
    text.split(|letter: char| !letter.is_ascii_digit()).next().unwrap().parse().unwrap()
}

#[test]
fn a_lost_home_is_restored_from_a_backup_that_was_made_while_kina_served() {
    let environment = TestEnvironment::new();
    environment.write("one.yaml", &manifest("one"));
    let server = environment.start(&["serve"], "Ctrl-C ends it");
    environment.kina(&["apply", "-f", "one.yaml", "--no-wait"]).success();
    let clusters = environment.path("home/.kina/clusters");
    fs::write(clusters.join("two.yaml"), manifest("two")).unwrap();
    while names(&environment) != ["one", "two"] {}
    let backup = environment.kina(&["store", "backup", "kina.tar"]).success();
    assert!(backup.starts_with("kina.tar: store "), "{backup}");
    assert_eq!(fs::metadata(environment.path("work/kina.tar")).unwrap().permissions().mode() & 0o777, 0o600);
    // What needs the home for itself says so, and by whom it is held.
    for command in [&["store", "check"][..], &["store", "restore", "kina.tar", "--force"]] {
        let refused = environment.kina(command).fails(7);
        assert!(refused.contains("end `kina serve` first"), "{refused}");
    }
    assert_eq!(server.end(), 0);
    let before = revision(&environment);

    fs::remove_dir_all(environment.path("home/.kina")).unwrap();
    let restored = environment.kina(&["store", "restore", "kina.tar"]);
    assert!(restored.err.contains("bring your manifests back"), "{}", restored.err);
    restored.success();
    assert!(revision(&environment) > before);
    // The files were lost with the home: what they declared is held, not deleted.
    let server = environment.start(&["serve"], "Ctrl-C ends it");
    while !environment.kina(&["status"]).success().contains("held") {}
    assert_eq!(names(&environment), ["one", "two"]);
    fs::write(clusters.join("two.yaml"), manifest("two")).unwrap();
    while environment.kina(&["status"]).success().contains("held") {}
    assert_eq!(names(&environment), ["one", "two"]);
    assert_eq!(server.end(), 0);
}

#[test]
fn a_restore_replaces_nothing_unless_told_to_and_keeps_what_it_replaces() {
    let environment = TestEnvironment::new();
    for name in ["one", "two"] {
        environment.write(&format!("{name}.yaml"), &manifest(name));
    }
    environment.kina(&["apply", "-f", "one.yaml", "--no-wait"]).success();
    environment.kina(&["store", "backup", "kina.tar"]).success();
    let checked = environment.kina(&["store", "check", "kina.tar"]).success();
    assert!(checked.contains("1  clusters.kina.dev") && checked.ends_with("sound\n"), "{checked}");
    environment.kina(&["apply", "-f", "two.yaml", "--no-wait"]).success();
    let refused = environment.kina(&["store", "restore", "kina.tar"]).fails(4);
    assert!(refused.contains("has a store already") && refused.contains("--force"), "{refused}");
    assert_eq!(names(&environment), ["one", "two"]);
    let restored = environment.kina(&["store", "restore", "kina.tar", "--force"]).success();
    assert!(restored.contains("kept what was there as $TMP/home/.kina/store.redb.before-"), "{restored}");
    assert_eq!(names(&environment), ["one"]);
    assert!(environment.kina(&["store", "check"]).success().contains("restored once"));

    // A backup that is not whole touches nothing.
    let path = environment.path("work/kina.tar");
    let half = fs::read(&path).unwrap();
    fs::write(&path, &half[..half.len() / 2]).unwrap();
    let refused = environment.kina(&["store", "restore", "kina.tar", "--force"]).fails(3);
    assert!(refused.contains("is not a whole backup of Kina"), "{refused}");
    assert_eq!(names(&environment), ["one"]);
}

#[test]
fn a_damaged_store_is_refused_with_what_to_do_and_stays_as_it_is() {
    let environment = TestEnvironment::new();
    environment.write("one.yaml", &manifest("one"));
    environment.kina(&["apply", "-f", "one.yaml", "--no-wait"]).success();
    let path = environment.path("home/.kina/store.redb");
    let mut bytes = fs::read(&path).unwrap();
    let at = bytes.windows(12).position(|window| window == b"kina.dev/v1a").unwrap();
    bytes[at] ^= 1;
    fs::write(&path, &bytes).unwrap();
    for command in [&["serve"][..], &["get", "clusters"], &["store", "check"], &["store", "backup", "b.tar"]] {
        let refused = environment.kina(command).fails(1);
        assert!(refused.contains("is damaged") && refused.contains("kina store restore FILE --force"), "{refused}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
    assert!(environment.kina(&["store", "check", "nothing.tar"]).fails(5).contains("could not read nothing.tar"));
}
