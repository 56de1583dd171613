//! A cluster in the user's editor.

use std::os::unix::fs::PermissionsExt;

use crate::environment::{Ran, TestEnvironment};

const MANIFEST: &str = "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: dev\nspec:\n  runtime: sim\n";

/// Edits with a script of a shell, which finds the file in `$1`, and what it was given earlier in `$1.*`.
fn edit(environment: &TestEnvironment, script: &str) -> Ran {
    environment.write("editor", &format!("#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n"));
    let editor = environment.path("work/editor");
    std::fs::set_permissions(&editor, std::fs::Permissions::from_mode(0o700)).unwrap();
    let temporary = environment.path("tmp");
    std::fs::create_dir_all(&temporary).unwrap();
    let mut command = environment.command(&["edit", "dev"]);
    command.env("EDITOR", "false").env("KUBE_EDITOR", format!("{} --wait", editor.display())).env("TMPDIR", temporary);
    environment.ran(command.output().unwrap())
}

/// What is left in the directory of temporary files.
fn left(environment: &TestEnvironment) -> Vec<String> {
    let entries = std::fs::read_dir(environment.path("tmp")).unwrap();
    entries.map(|entry| std::fs::read_to_string(entry.unwrap().path()).unwrap()).collect()
}

#[test]
fn a_cluster_is_edited_until_it_is_valid_or_given_up() {
    let environment = TestEnvironment::new();
    environment.write("dev.yaml", MANIFEST);
    assert_eq!(environment.kina(&["apply", "-f", "dev.yaml", "--no-wait"]).success(), "cluster/dev created\n");

    let done = edit(&environment, "test \"$1\" = --wait && sed -i 's/^spec:/spec:\\n  protect: true/' \"$2\"");
    assert_eq!(done.success(), "cluster/dev edited\n");
    let spec = environment.kina(&["get", "cluster", "dev", "-o", "jsonpath={.spec.protect}"]).success();
    assert_eq!(spec, "true");

    let same = edit(&environment, "true");
    assert!(same.err.contains("Edit cancelled: nothing was changed."), "{}", same.err);
    assert_eq!(same.success(), "");
    let emptied = edit(&environment, ": > \"$2\"");
    assert!(emptied.err.contains("the saved file is empty"), "{}", emptied.err);
    assert_eq!(emptied.success(), "");
    assert!(left(&environment).is_empty());

    // Wrong at first; mended when it is opened again, with the error above it.
    let script = "if grep -q 'What was saved' \"$2\"; then grep '^#' \"$2\" > shown; sed -i 's/^  protcet: .*/  protect: false/' \"$2\"; else sed -i 's/^  protect:/  protcet:/' \"$2\"; fi";
    assert_eq!(edit(&environment, script).success(), "cluster/dev edited\n");
    let shown = std::fs::read_to_string(environment.path("work/shown")).unwrap();
    assert!(shown.contains("= help: did you mean `protect`?"), "{shown}");
    assert_eq!(environment.kina(&["get", "cluster", "dev", "-o", "jsonpath={.spec.protect}"]).success(), "false");

    // Wrong, and left so: the file is kept.
    let script = "sed -i '/^  nope/d; s/^spec:/spec:\\n  nope: 1/' \"$2\"";
    let told = edit(&environment, script).fails(3);
    assert!(told.contains("no valid changes were saved") && told.contains("is kept in"), "{told}");
    assert!(left(&environment)[0].contains("nope: 1"));

    let told = edit(&environment, "exit 3").fails(1);
    assert!(told.contains("failed: exit status: 3"), "{told}");
    let missing = environment.command(&["edit", "dev"]).env("VISUAL", "/none/editor").output().unwrap();
    let told = environment.ran(missing).fails(1);
    assert!(told.contains("cannot run the editor `/none/editor`"), "{told}");
}
