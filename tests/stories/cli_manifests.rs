//! Manifests are checked before anything happens, and schemas are for editors.

use crate::environment::TestEnvironment;

const GOOD: &str = "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: dev\n";

#[test]
fn every_example_is_valid() {
    let environment = TestEnvironment::new();
    let examples = format!("{}/examples", env!("CARGO_MANIFEST_DIR"));
    insta::assert_snapshot!(environment.kina(&["validate", &examples]).success(), @r"
    $KINA/examples/addons.yaml: valid, 1 cluster
    $KINA/examples/dev.yaml: valid, 1 cluster
    $KINA/examples/ha.yaml: valid, 1 cluster
    $KINA/examples/kind.yaml: valid, 1 cluster
    $KINA/examples/minimal.yaml: valid, 1 cluster
    $KINA/examples/registries.yaml: valid, 1 cluster
    ");
}

#[test]
fn a_bad_manifest_is_shown_with_its_place_and_nothing_is_changed() {
    let environment = TestEnvironment::new();
    environment.write("dev.yaml", &format!("{GOOD}spec:\n  controlPlane:\n    replicas: 2\n  workers: 3\n"));
    insta::assert_snapshot!(environment.kina(&["validate", "dev.yaml"]).shown(), @r"
    exit 3
    --- stdout
    --- stderr
    error: `spec.workers` must be a list
     --> dev.yaml:8:12
      |
    6 |   controlPlane:
    7 |     replicas: 2
    8 |   workers: 3
      |            ^ this is a number

    error: a manifest is not valid: nothing was changed
    ");
    let told = environment.kina(&["up", "-f", "dev.yaml"]).fails(3);
    assert!(told.contains("dev.yaml:8:12"), "{told}");
    assert!(!environment.path("home/.kina").exists());
}

#[test]
fn manifests_come_from_stdin_too() {
    let environment = TestEnvironment::new();
    assert_eq!(environment.kina_with(&["validate", "-"], GOOD).success(), "stdin: valid, 1 cluster\n");
    let told = environment.kina_with(&["validate", "-f", "-"], "kind: Cluster\n").fails(3);
    assert!(told.contains("stdin"), "{told}");
}

#[test]
fn what_is_not_there_is_named() {
    let environment = TestEnvironment::new();
    insta::assert_snapshot!(environment.kina(&["apply", "-f", "missing.yaml"]).shown(), @r"
    exit 5
    --- stdout
    --- stderr
    error: cannot read `missing.yaml`
      Caused by: No such file or directory (os error 2)
    ");
    insta::assert_snapshot!(environment.kina(&["apply", "-f", "."]).shown(), @r"
    exit 5
    --- stdout
    --- stderr
    error: there is no manifest in `.`

    hint: manifests end in `.yaml`, `.yml` or `.json`; `-R` also reads the directories below
    ");
}

#[test]
fn the_schemas_in_the_repository_are_current_and_can_be_written_anywhere() {
    let environment = TestEnvironment::new();
    let schemas = format!("{}/schemas", env!("CARGO_MANIFEST_DIR"));
    assert_eq!(environment.kina(&["schema", "--check", &schemas]).success(), "");
    assert_eq!(
        environment.kina(&["schema", "--write", "schemas"]).success(),
        "schemas/cluster.json\nschemas/machine.json\nschemas/source.json\n"
    );
    assert_eq!(environment.kina(&["schema", "--check", "schemas"]).success(), "");
    environment.write("schemas/machine.json", "{}");
    insta::assert_snapshot!(environment.kina(&["schema", "--check", "schemas"]).shown(), @r"
    exit 1
    --- stdout
    --- stderr
    error: the schemas in `schemas` are not current: machine.json

    hint: write them anew with `kina schema --write schemas`
    ");
}

#[test]
fn what_the_api_refuses_is_told_with_line_and_column() {
    let environment = TestEnvironment::new();
    let manifest = |subnet: &str| {
        format!(
            "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: toy\nspec:\n  runtime: sim\n  networking:\n    podSubnet: {subnet}\n"
        )
    };
    environment.write("toy.yaml", &manifest("10.8.0.0/16"));
    assert_eq!(environment.kina(&["apply", "-f", "toy.yaml", "--no-wait"]).success(), "cluster/toy created\n");
    environment.write("toy.yaml", &manifest("10.9.0.0/16"));
    let refused = environment.kina(&["apply", "-f", "toy.yaml", "--no-wait"]).fails(4);
    assert!(refused.contains("in toy.yaml:8:5"), "{refused}");
}
