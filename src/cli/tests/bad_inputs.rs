//! Every bad input gets a message with its place and a code of its own, and costs nothing.

use super::*;

/// A Cluster with this spec.
fn spec(text: &str) -> Vec<u8> {
    format!("apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: dev\nspec:\n{text}").into_bytes()
}

fn named(name: &str) -> Vec<u8> {
    format!("apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: {name}\n").into_bytes()
}

/// Lists of lists of lists: 9^9 texts if nobody counts.
fn bomb() -> Vec<u8> {
    let mut text = String::from("apiVersion: kina.dev/v1alpha1\nkind: Cluster\na0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for level in 1..10 {
        let before = format!("*a{}", level - 1);
        text.push_str(&format!("a{level}: &a{level} [{}]\n", [before.as_str(); 9].join(",")));
    }
    text.into_bytes()
}

fn inputs() -> Vec<(&'static str, Vec<u8>)> {
    let two = [named("dev"), b"---\n".to_vec(), named("dev")].concat();
    vec![
        ("empty", Vec::new()),
        ("only a comment", b"# nothing yet\n".to_vec()),
        ("binary", (0..=255).cycle().take(4096).collect()),
        ("not UTF-8", [&named("dev")[..], b"# caf\xe9\n"].concat()),
        ("a tab", b"apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n\tname: dev\n".to_vec()),
        ("a list", b"- apiVersion: kina.dev/v1alpha1\n".to_vec()),
        ("a wrong type", spec("  workers: three\n")),
        ("an unknown field", spec("  controlPlain: {replicas: 3}\n")),
        ("an unknown version", b"apiVersion: kina.dev/v2\nkind: Cluster\nmetadata: {name: dev}\n".to_vec()),
        ("an unknown API", b"apiVersion: kina.dve/v1alpha1\nkind: Cluster\nmetadata: {name: dev}\n".to_vec()),
        ("a key twice", spec("  paused: true\n  paused: false\n")),
        ("a bomb of anchors", bomb()),
        ("10 MB", b"#".repeat(10 << 20)),
        ("no name", b"apiVersion: kina.dev/v1alpha1\nkind: Cluster\n".to_vec()),
        ("a name with a slash", named("a/b")),
        ("a name with dots", named("a.b")),
        ("a name of 300 characters", named(&"a".repeat(300))),
        ("one name twice", two),
        ("pools whose machines would share names", spec("  workers:\n  - name: a\n  - name: a\n")),
        ("a reserved pool", spec("  workers:\n  - name: control-plane\n")),
        ("two control planes", spec("  controlPlane: {replicas: 2}\n")),
        ("subnets that overlap", spec("  networking: {podSubnet: 10.96.0.0/12, serviceSubnet: 10.96.0.0/16}\n")),
        ("no subnet", spec("  networking: {podSubnet: 10.96.0.0/40}\n")),
        ("an unknown Kubernetes version", spec("  kubernetesVersion: v1.99.0\n")),
        ("no version at all", spec("  kubernetesVersion: latest\n")),
        ("an image of another version", spec("  kubernetesVersion: v1.35.5\n  image: kindest/node:v1.34.0\n")),
        (
            "a port for many",
            spec("  workers:\n  - name: a\n    replicas: 2\n    extraPortMappings: [{containerPort: 80}]\n"),
        ),
        (
            "a port that is taken within the cluster",
            spec(
                "  networking: {apiServer: {port: 6443}}\n  controlPlane:\n    extraPortMappings: [{containerPort: 80, hostPort: 6443}]\n",
            ),
        ),
        ("no port", spec("  controlPlane: {extraPortMappings: [{containerPort: 70000}]}\n")),
        (
            "a mount over the node's own",
            spec("  controlPlane: {extraMounts: [{hostPath: /srv, containerPath: /etc}]}\n"),
        ),
        ("a mount from nowhere", spec("  controlPlane: {extraMounts: [{hostPath: '', containerPath: /x}]}\n")),
        ("a mount of the whole host", spec("  controlPlane: {extraMounts: [{hostPath: /, containerPath: /host}]}\n")),
        (
            "a mount of Kina's home",
            spec(
                "  workers:\n  - name: a\n    extraMounts:\n    - {hostPath: ../home/me/.kina/pki, containerPath: /x}\n",
            ),
        ),
        (
            "a mount of a runtime's socket",
            spec(
                "  workers:\n  - name: a\n    extraMounts:\n    - {hostPath: /srv/../run/docker.sock, containerPath: /x}\n",
            ),
        ),
        ("a registry with a scheme", spec("  registries:\n  - {host: 'https://docker.io', mirrors: [cache]}\n")),
        ("an addon that is no object", spec("  addons:\n  - name: a\n    manifest: 'just a text'\n")),
        ("an addon that says nothing", spec("  addons:\n  - name: a\n")),
        ("a family without a subnet of its own", spec("  networking: {ipFamily: dual, podSubnet: 10.1.0.0/16}\n")),
        ("an image that is none", spec("  images: ['my app', 'a:b', 'a:b']\n")),
        ("a patch of nothing", spec("  kubeadmConfigPatches: ['kind: ClusterConfig']\n")),
        ("a patch that is no TOML", spec("  containerdConfigPatches: ['[plugins']\n")),
        ("a kind of another tool", b"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n".to_vec()),
    ]
}

#[tokio::test(start_paused = true)]
async fn every_bad_manifest_is_told_with_its_place_and_changes_nothing() {
    let house = House::new(Serving::Daemon);
    let mut told = String::new();
    for (what, content) in inputs() {
        house.world.files.write(Path::new("/proj/in.yaml"), &content, 0o600).unwrap();
        let done = house.kina("apply -f /proj/in.yaml").await;
        assert_ne!(done.exit, Exit::Ok, "{what}");
        assert_eq!(done.out, "", "{what}");
        told.push_str(&format!("## {what}: exit {}\n{}\n", done.exit.code(), done.err));
    }
    assert_eq!(house.clusters().list(&Default::default()).await.unwrap().items.len(), 0);
    assert_eq!(house.engine(), [""; 0], "nothing was started for any of them");
    insta::assert_snapshot!(told);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_is_told_by_name() {
    let house = House::new(Serving::Daemon);
    house.world.files.create_directories(Path::new("/proj/none"), 0o755).unwrap();
    let mut told = String::new();
    for words in [
        "apply",
        "apply -f /nowhere.yaml",
        "apply -f /proj/none",
        "apply -f ftp://host/a.yaml",
        "delete dev",
        "get nothings",
    ] {
        let done = house.kina(words).await;
        assert_ne!(done.exit, Exit::Ok, "{words}");
        told.push_str(&format!("$ kina {words}\n{}\n", done.shown()));
    }
    insta::assert_snapshot!(told);
}

#[tokio::test]
async fn an_image_is_made_only_where_an_engine_is_and_under_a_name_that_it_takes() {
    let house = House::new(Serving::Nobody);
    insta::assert_snapshot!(house.kina("build node-image v1.35.5").await.shown(), @r"
    exit 1
    --- stdout
    --- stderr
    error: cannot build a node image: no Docker Engine is installed here

    hint: images are made in a container of Docker's; Apple Container can make none yet
    ");
    insta::assert_snapshot!(house.kina("build node-image v1.35.5 --image Node").await.shown(), @r"
    exit 2
    --- stdout
    --- stderr
    error: `Node` is no name that an image can be given

    hint: lower case, a tag at most: `kina-node:v1.35.5`, `localhost:5000/node:dev`
    ");
}
