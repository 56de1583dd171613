use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Manifest {
    Manifest::parse("clusters/dev.yaml", text.as_bytes())
}

fn messages(text: &str) -> Vec<String> {
    let brief = |fault: &Fault| {
        let help = fault.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{}:{}: {}{help}", fault.line, fault.column, fault.message)
    };
    parse(text).faults.iter().map(brief).collect()
}

fn cluster(spec: &str) -> String {
    format!("apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: dev\nspec:\n{spec}")
}

const DEV: &str = "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: dev\n";

#[test]
fn a_cluster_is_read_with_exactly_the_fields_that_are_set() {
    let text = cluster(
        "  ttl: null\n  controlPlane:\n    resources: {cpus: 0.5, memory: 4Gi}\n  workers:\n  - name: a\n    labels: {tier: \"1\"}\n",
    );
    let manifest = parse(&text);
    assert_eq!(manifest.faults, []);
    let document = &manifest.documents[0];
    assert_eq!((document.name.as_str(), document.line), ("dev", 1));
    assert_eq!(
        document.spec,
        serde_json::json!({
            "controlPlane": {"resources": {"cpus": "0.5", "memory": "4Gi"}},
            "workers": [{"name": "a", "labels": {"tier": "1"}}],
        })
    );
    assert_eq!(document.typed.workers[0].replicas, 1);
}

#[test]
fn documents_have_their_own_lines_and_hashes() {
    let text = format!("# my clusters\n---\n{DEV}---\n# nothing\n---\n\n{}", DEV.replace("dev\n", "two\n"));
    let manifest = parse(&text);
    assert_eq!(manifest.faults, []);
    let places: Vec<_> = manifest.documents.iter().map(|document| (document.name.as_str(), document.line)).collect();
    assert_eq!(places, [("dev", 3), ("two", 11)]);
    assert_ne!(manifest.documents[0].hash, manifest.documents[1].hash);
    let moved = parse(&format!("---\n{}---\n{DEV}", DEV.replace("dev\n", "one\n")));
    assert_eq!(moved.documents[1].hash, parse(&format!("---\n{DEV}")).documents[0].hash);
}

#[test]
fn json_is_read_too_with_tabs_and_escapes() {
    let text = "{\n\t\"apiVersion\": \"kina.dev\\/v1alpha1\",\n\t\"kind\": \"Cluster\",\n\t\"metadata\": {\"name\": \"dev\", \"annotations\": {\"note\": \"\\ud83d\\ude00\"}},\n\t\"spec\": {\"workers\": [{\"name\": \"a\", \"replicas\": 2}]}\n}\n";
    let manifest = parse(text);
    assert_eq!(manifest.faults, []);
    assert_eq!(manifest.documents[0].annotations["note"], "😀");
    assert_eq!(manifest.documents[0].typed.workers[0].replicas, 2);
}

#[test]
fn a_byte_order_mark_and_windows_line_ends_are_accepted() {
    let text = format!("\u{feff}{DEV}").replace('\n', "\r\n");
    assert_eq!(parse(&text).documents.len(), 1);
    let text = cluster("  workers: three\n").replace('\n', "\r\n");
    assert_eq!(messages(&text), ["6:12: `spec.workers` must be a list"]);
    assert!(!parse(&text).render(Colour::Off).contains('\r'));
}

#[test]
fn every_fault_of_every_document_is_reported_at_once() {
    let text = format!(
        "{}---\nkind: [\n---\n{}",
        cluster("  workerz: []\n  controlPlane: {replicas: many}\n  runtime: dockr\n  paused: yes\n"),
        cluster("  workers:\n  - replicas: 2000\n").replace("name: dev", "name: two")
    );
    insta::assert_snapshot!(messages(&text).join("\n"), @r#"
    6:3: `spec.workerz` is not a field (did you mean `workers`?)
    7:28: `spec.controlPlane.replicas` must be a whole number
    8:12: `spec.runtime` must be `auto`, `apple`, `docker` or `sim` (did you mean `docker`?)
    9:11: `spec.paused` is ambiguous: `yes` is a truth value in YAML 1.1 and a text in YAML 1.2 (for a text, put it in quotes: "yes"; otherwise write it out)
    11:7: not valid YAML: unclosed bracket '['
    19:5: `spec.workers[0].name` is missing
    19:15: `spec.workers[0].replicas` must be from 0 to 1000
    "#);
}

#[test]
fn what_the_schema_cannot_say_is_checked_too_at_its_place() {
    let text = cluster("  controlPlane:\n    replicas: 2\n  ttl: soon\n  workers:\n  - name: Big\n");
    insta::assert_snapshot!(messages(&text).join("\n"), @r"
    7:15: 2 control planes cannot keep a quorum: use 1, 3, 5 or 7
    8:8: `soon` is not a duration such as `8h` or `30m`
    10:11: `Big` must consist of lower case letters, digits and `-`, and start and end with a letter or digit (such as `dev` or `team-a`)
    ");
}

#[test]
fn a_fault_is_shown_as_rustc_shows_one() {
    let text = cluster("  workers:\n  - name: a\n    replicas: three\n  workerz: []\n  workers: []\n");
    insta::assert_snapshot!(parse(&text).render(Colour::Off), @r"
    error: `spec.workers[0].replicas` must be a whole number
     --> clusters/dev.yaml:8:15
      |
    6 |   workers:
    7 |   - name: a
    8 |     replicas: three
      |               ^^^^^ this is a text
    9 |   workerz: []
      |

    error: `spec.workerz` is not a field
      --> clusters/dev.yaml:9:3
       |
     7 |   - name: a
     8 |     replicas: three
     9 |   workerz: []
       |   ^^^^^^^ unknown field
    10 |   workers: []
       |
       = help: did you mean `workers`?

    error: `workers` is set a second time
      --> clusters/dev.yaml:10:3
       |
     6 |   workers:
       |   ------- first set here
     7 |   - name: a
     8 |     replicas: three
     9 |   workerz: []
    10 |   workers: []
       |   ^^^^^^^ second value
       |
       = help: keep one of the two
    ");
    assert!(parse(&text).render(Colour::On).contains("\u{1b}["));
}

#[test]
fn broken_yaml_is_reported_where_it_breaks_and_the_next_document_is_read_on() {
    let text = format!(
        "apiVersion: kina.dev/v1alpha1\nkind: Cluster\n\tmetadata: x\n---\n{}",
        DEV.replace("name: dev", "nam: dev")
    );
    insta::assert_snapshot!(messages(&text).join("\n"), @r"
    2:7: not valid YAML: while scanning a plain scalar, found a tab (indent with spaces)
    7:1: `metadata.name` is missing (give the Cluster a name)
    8:3: `metadata.nam` is not a field (did you mean `name`?)
    ");
}

#[test]
fn scalars_with_two_meanings_are_refused_with_a_hint() {
    let text = cluster(
        "  protect: on\n  workers:\n  - name: 010\n    replicas: 1_000\n    labels:\n      a: yes\n      b: 1\n      c:\n",
    );
    insta::assert_snapshot!(messages(&text).join("\n"), @r#"
    6:12: `spec.protect` is ambiguous: `on` is a truth value in YAML 1.1 and a text in YAML 1.2 (for a text, put it in quotes: "on"; otherwise write it out)
    8:11: `spec.workers[0].name` is ambiguous: `010` is an octal number in YAML 1.1 and a decimal one in YAML 1.2 (for a text, put it in quotes: "010"; otherwise write it out)
    9:15: `spec.workers[0].replicas` is ambiguous: `1_000` is a number in YAML 1.1 and a text in YAML 1.2 (for a text, put it in quotes: "1_000"; otherwise write it out)
    11:10: `spec.workers[0].labels.a` is ambiguous: `yes` is a truth value in YAML 1.1 and a text in YAML 1.2 (for a text, put it in quotes: "yes"; otherwise write it out)
    12:10: `spec.workers[0].labels.b` must be a text (put it in quotes: "1")
    13:7: `spec.workers[0].labels.c` has no value (write "" for an empty text, or remove the line)
    "#);
}

#[test]
fn other_tools_files_are_left_alone_whatever_they_hold() {
    for text in [
        "",
        "# only a comment\n",
        "replicaCount: 010\nimage:\n  tag: on\n",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: x}\nweird: !custom 1\na: 1\na: 2\n",
        "{{- if .Values.x }}\nkind: Service\n{{- end }}\n",
        "- just\n- a list\n",
        "apiVersion: ctlptl.dev/v1alpha1\nkind: Cluster\nproduct: kind\n",
    ] {
        let manifest = parse(text);
        assert!(manifest.is_foreign(), "{text}: {:?}", manifest.faults);
        assert_eq!(manifest.documents, []);
    }
    assert_eq!(parse("apiVersion: apps/v1\nkind: Deployment\n").foreign, ["Deployment (apps/v1)"]);
}

#[test]
fn what_is_meant_for_kina_but_is_no_cluster_is_a_fault() {
    let kinds = |text: &str| messages(text).join("; ");
    insta::assert_snapshot!([
        kinds("apiVersion: kina.dev/v1\nkind: Cluster\nmetadata: {name: dev}\n"),
        kinds("apiVersion: kina.dev/v1alpha1\nkind: Clustr\n"),
        kinds("apiVersion: kina.dev/v1alpha1\nkind: Machine\n"),
        kinds("apiVersion: kina.dev/v1alpha1\n"),
        kinds("apiVersion: kina.dve/v1alpha1\nkind: Cluster\n"),
        kinds("kind: Cluster\nmetadata: {name: dev}\n"),
        kinds("apiVersion: v1\nkind: List\nitems:\n- apiVersion: kina.dev/v1alpha1\n  kind: Cluster\n"),
    ].join("\n"), @r"
    1:13: `apiVersion` must be `kina.dev/v1alpha1`
    2:7: `kind` must be `Cluster`
    2:7: a Machine cannot be declared: Kina makes it by itself
    1:1: `kind` must be `Cluster`
    1:13: `kina.dve/v1alpha1` is not an API that Kina knows (did you mean `kina.dev/v1alpha1`?)
    1:1: `apiVersion` is missing (add `apiVersion: kina.dev/v1alpha1`)
    1:1: a List is not accepted in manifests (write each Cluster as a document of its own, after a line `---`)
    ");
}

#[test]
fn metadata_that_makes_no_sense_in_a_file_is_refused() {
    let text = "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: Dev\n  namespace: default\n  uid: x\n  creationTimestamp: null\n  labels: {\"a b\": c, kina.dev/x: z}\n  annotations: {kina.dev/source: mine, kina.dev/paused: \"true\"}\nstatus: {}\n";
    insta::assert_snapshot!(messages(text).join("\n"), @r"
    4:9: `metadata.name`: `Dev` must consist of lower case letters, digits and `-`, and start and end with a letter or digit (such as `dev` or `team-a`)
    5:3: `metadata.namespace` makes no sense: a Cluster belongs to no namespace (remove it)
    6:3: `metadata.uid` is written by Kina (remove it)
    8:12: `a b` is not a key such as `tier` or `example.com/tier`
    8:22: the label `kina.dev/x` is written by Kina
    9:17: the annotation `kina.dev/source` is written by Kina
    10:1: `status` is written by Kina (remove it)
    ");
    insta::assert_snapshot!(messages("apiVersion: kina.dev/v1alpha1\nkind: Cluster\n").join("\n"), @"1:1: `metadata.name` is missing (give the Cluster a name)");
}

#[test]
fn one_file_declares_a_cluster_once() {
    insta::assert_snapshot!(messages(&format!("{DEV}---\n{DEV}")).join("\n"), @"6:1: cluster `dev` is declared a second time, first on line 1 (remove one of the two documents)");
}

#[test]
fn anchors_and_merge_keys_are_expanded() {
    let text = cluster("  workers:\n  - &base\n    name: a\n    replicas: 3\n  - <<: *base\n    name: b\n");
    let manifest = parse(&text);
    assert_eq!(manifest.faults, []);
    assert_eq!(manifest.documents[0].spec["workers"][1], serde_json::json!({"name": "b", "replicas": 3}));
}

#[test]
fn bombs_are_refused_quickly() {
    let mut laughs = format!("{DEV}a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let alias = format!("*a{}, ", level - 1).repeat(10);
        laughs.push_str(&format!("a{level}: &a{level} [{alias}]\n"));
    }
    assert!(messages(&laughs)[0].contains("more than 200000 values"), "{:?}", messages(&laughs));
    let deep = format!("{DEV}a: {}", "[".repeat(10_000));
    assert_eq!(messages(&deep).len(), 1);
    let deep = (0..1000).map(|level| format!("{}a:\n", " ".repeat(level))).collect::<String>();
    assert!(!messages(&deep).is_empty());
    let nested = format!(
        "{DEV}a: &a [[[[[[[[[[1]]]]]]]]]]\nb: &b [[[[[[[[[[*a]]]]]]]]]]\nc: &c [[[[[[[[[[*b]]]]]]]]]]\nd: [[[*c]]]\n"
    );
    assert!(messages(&nested)[0].contains("levels deep"), "{:?}", messages(&nested));
    assert!(messages(&format!("{DEV}a: &a [*a]\n"))[0].contains("holds itself"));
    let large = vec![b'#'; usize::try_from(FILE_BYTES_MAX).unwrap() + 1];
    assert!(Manifest::parse("x", &large).faults[0].message.contains("larger than 1024 KiB"));
}

#[test]
fn bytes_that_are_no_text_are_refused_with_their_place() {
    let message = |bytes: &[u8]| Manifest::parse("x.yaml", bytes).faults[0].message.clone();
    assert_eq!(message(b"a: b\nc: \xff\n"), "a byte that is not UTF-8, at line 2, column 4");
    assert_eq!(message(b"a: \0\n"), "a NUL byte, which no manifest may hold, at line 1, column 4");
    assert_eq!(message(b"\xff\xfea\0"), "the file is encoded as UTF-16: save it as UTF-8");
}

#[test]
fn no_beginning_of_a_manifest_is_taken_for_another_valid_one_of_the_same_name() {
    let whole = cluster("  workers:\n  - name: a\n    replicas: 12\n  - name: b\n");
    for end in 0..whole.len() {
        // What a half-written file may be: broken, nothing, or a Cluster that lacks fields. Never a panic.
        let manifest = parse(&whole[..end]);
        assert!(manifest.documents.len() <= 1);
    }
}

#[test]
fn long_lines_are_cut_around_the_fault() {
    let text = cluster(&format!("  image: \"{}\"\n  ttl: [\"{}\"]\n", "x".repeat(100_000), "y".repeat(100_000)));
    let manifest = parse(&text);
    assert!(manifest.errors().iter().all(|error| error.snippet.len() < 8_000));
    let many = cluster(&(0..500).map(|n| format!("  x{n}: 1\n")).collect::<String>());
    let faults = parse(&many).faults;
    assert_eq!(faults.len(), FAULTS_MAX);
    assert!(faults[FAULTS_MAX - 1].message.ends_with("(and 450 more faults in this file)"), "{:?}", faults.last());
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let manifest = Manifest::parse("x.yaml", &bytes);
        let _ = manifest.render(Colour::Off);
    }

    #[test]
    fn arbitrary_pieces_of_yaml_never_panic(pieces in proptest::collection::vec(prop_oneof![
        Just("apiVersion: kina.dev/v1alpha1\n"), Just("kind: Cluster\n"), Just("metadata:\n"), Just("  name: dev\n"),
        Just("spec:\n"), Just("  workers:\n"), Just("  - name: a\n"), Just("---\n"), Just("...\n"), Just("&a "), Just("*a "),
        Just("<<: *a\n"), Just("["), Just("]"), Just("{"), Just("}"), Just(": "), Just("\t"), Just("\""), Just("é"),
        Just("\r\n"), Just("|\n"), Just("# c\n"), Just("? "), Just("!x "), Just("010"), Just(","), Just("%Y\n"), Just("\u{2028}"),
    ], 0..40)) {
        let text = pieces.concat();
        let manifest = parse(&text);
        for fault in &manifest.faults {
            prop_assert!(fault.line as usize <= text.lines().count() + 1);
        }
        let _ = manifest.render(Colour::Off);
    }
}

fn kind(text: &str) -> String {
    format!("kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\n{text}")
}

fn converted(text: &str) -> (serde_json::Value, Vec<String>) {
    let manifest = Manifest::parse_in(std::path::Path::new("/home/me/project"), "kind.yaml", kind(text).as_bytes());
    assert_eq!(manifest.faults, []);
    let warnings = manifest.warnings.iter().map(|w| format!("{}:{}: {}", w.line, w.column, w.message)).collect();
    (manifest.documents[0].spec.clone(), warnings)
}

#[test]
fn an_empty_configuration_of_kind_is_a_cluster_of_one_node() {
    let manifest = parse(&kind(""));
    assert_eq!(manifest.faults, []);
    assert_eq!(manifest.documents[0].name, "kind");
    assert_eq!(manifest.documents[0].spec, serde_json::json!({"controlPlane": {"replicas": 1}}));
}

#[test]
fn nodes_of_kind_become_a_control_plane_and_pools_of_workers_that_are_alike() {
    let (spec, warnings) = converted(
        "name: app\nnodes:\n- role: control-plane\n- role: worker\n  labels: {tier: apps}\n- role: worker\n  labels: {tier: apps}\n- role: worker\n",
    );
    assert_eq!(warnings, [""; 0]);
    assert_eq!(
        spec,
        serde_json::json!({
            "controlPlane": {"replicas": 1},
            "workers": [
                {"name": "worker", "replicas": 2, "labels": {"tier": "apps"}},
                {"name": "worker-2", "replicas": 1},
            ],
        })
    );
}

#[test]
fn everything_that_kinds_users_write_has_its_place() {
    let (spec, warnings) = converted(
        r#"
name: full
featureGates: {SomeFeature: true}
runtimeConfig: {"api/alpha": "false"}
networking:
  ipFamily: ipv4
  apiServerAddress: 127.0.0.1
  apiServerPort: 6443
  podSubnet: 10.1.0.0/16
  serviceSubnet: 10.2.0.0/16
  disableDefaultCNI: true
  kubeProxyMode: nftables
  dnsSearch: [corp.example.com]
kubeadmConfigPatches:
- |
  apiVersion: kubeadm.k8s.io/v1beta3
  kind: ClusterConfiguration
  metadata: {name: config}
  networking: {serviceSubnet: 10.2.0.0/16}
kubeadmConfigPatchesJSON6902:
- group: kubeadm.k8s.io
  version: v1beta3
  kind: ClusterConfiguration
  patch: |
    - op: add
      path: /apiServer/certSANs/-
      value: my-hostname
containerdConfigPatches:
- |-
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "/etc/containerd/certs.d"
nodes:
- role: control-plane
  image: kindest/node:v1.33.1@sha256:050072256b9a903bd914c0b2866828150cb229cea0efe5892e2b644d5dd3b34f
  extraMounts:
  - hostPath: ./files
    containerPath: /files
    readOnly: true
    propagation: HostToContainer
  extraPortMappings:
  - containerPort: 80
    hostPort: 8080
    listenAddress: "127.0.0.1"
  - containerPort: 53
    hostPort: -1
    protocol: udp
  kubeadmConfigPatches:
  - |
    kind: InitConfiguration
    nodeRegistration: {kubeletExtraArgs: {node-labels: ingress-ready=true}}
- role: worker
  image: kindest/node:v1.33.1@sha256:050072256b9a903bd914c0b2866828150cb229cea0efe5892e2b644d5dd3b34f
"#,
    );
    assert_eq!(warnings, [""; 0]);
    insta::assert_json_snapshot!(spec);
}

/// As <https://kind.sigs.k8s.io/docs/user/configuration/#ip-family> has them.
#[test]
fn the_families_that_kind_publishes_are_converted() {
    let mapping = "nodes:\n- role: control-plane\n  extraPortMappings: [{containerPort: 80, hostPort: 80}]\n";
    let ipv6 = format!("networking:\n  ipFamily: ipv6\n  apiServerAddress: 127.0.0.1\n{mapping}");
    let port = |address: &str| serde_json::json!([{"containerPort": 80, "hostPort": 80, "listenAddress": address, "protocol": "TCP"}]);
    let plane = |address| serde_json::json!({"replicas": 1, "extraPortMappings": port(address)});
    let (spec, warnings) = converted(&ipv6);
    let networking = serde_json::json!({"ipFamily": "ipv6", "apiServer": {"address": "127.0.0.1"}});
    assert_eq!(spec, serde_json::json!({"networking": networking, "controlPlane": plane("::")}));
    assert_eq!(warnings, [""; 0]);
    let subnets = "  podSubnet: 10.1.0.0/16,fd00:1::/56\n  serviceSubnet: fd00:2::/112,10.2.0.0/16\n";
    for subnets in ["", subnets] {
        let (spec, warnings) = converted(&format!("networking:\n  ipFamily: dual\n{subnets}{mapping}"));
        assert_eq!((&spec["networking"]["ipFamily"], &spec["controlPlane"]), (&"dual".into(), &plane("0.0.0.0")));
        assert_eq!(spec["networking"]["podSubnet"].is_string(), !subnets.is_empty());
        assert_eq!(warnings, [""; 0]);
    }
}

#[test]
fn what_kina_has_no_equivalent_for_is_named_with_its_line() {
    let (spec, warnings) = converted(
        "nodes:\n- role: control-plane\n  extraPortMappings:\n  - {containerPort: 80, hostPort: 80}\n- role: control-plane\n  labels: {a: b}\n- role: control-plane\n",
    );
    assert_eq!(spec, serde_json::json!({"controlPlane": {"replicas": 3}}));
    insta::assert_snapshot!(warnings.join("\n"), @r"
    5:3: a port of the host cannot lead to one of several control planes: it is left out
    8:3: control planes are all alike in Kina: `labels` is that of the first one
    ");
}

#[test]
fn faults_of_a_configuration_of_kind_are_placed_where_kind_has_the_field() {
    let text = "name: My.Cluster\nnodes:\n- role: control-plane\n- role: control-plane\n- role: worker\n  extraMounts: [{hostPath: /a, containerPath: kind}]\n  kubeadmConfigPatches: ['kind: JoinConfig']\nnetworking: {ipFamily: dual, podSubnet: many, apiServerAddress: localhost}\n";
    insta::assert_snapshot!(messages(&kind(text)).join("\n"), @"3:7: `name`: `My.Cluster` must consist of lower case letters, digits and `-`, and start and end with a letter or digit (such as `dev` or `team-a`)");
    let text = kind(&text.replace("My.Cluster", "mine"));
    insta::assert_snapshot!(messages(&text).join("\n"), @r"
    4:1: 2 control planes cannot keep a quorum: use 1, 3, 5 or 7
    8:47: `kind` is not an absolute path in a node, such as `/data`
    9:26: the patch is for the kind `JoinConfig`, which kubeadm's configuration does not have: ClusterConfiguration, InitConfiguration, JoinConfiguration, KubeletConfiguration, KubeProxyConfiguration
    10:41: `many` is not a subnet of each family such as `10.244.0.0/16,fd00:10:244::/56`
    10:65: `localhost` is not an address of this host such as `127.0.0.1`
    ");
    let misspelt = kind("nodes:\n- rol: worker\n  image: 5\nnetworking: {disableDefaultCni: true}\n");
    insta::assert_snapshot!(messages(&misspelt).join("\n"), @r#"
    4:3: `nodes[0].rol` is not a field (did you mean `role`?)
    5:10: `nodes[0].image` must be a text (put it in quotes: "5")
    6:14: `networking.disableDefaultCni` is not a field (did you mean `disableDefaultCNI`?)
    "#);
    let old = "kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha3\n";
    insta::assert_snapshot!(messages(old).join("\n"), @"2:13: `apiVersion` of a configuration of kind must be `kind.x-k8s.io/v1alpha4`");
}

#[test]
fn relative_paths_of_the_host_are_meant_from_the_manifests_directory() {
    let text = cluster("  workers:\n  - name: a\n    extraMounts:\n    - {hostPath: ../data, containerPath: /data}\n");
    let path = |manifest: &Manifest| manifest.documents[0].typed.workers[0].extra_mounts[0].host_path.clone();
    let manifest = Manifest::parse_in(std::path::Path::new("/home/me/clusters"), "dev.yaml", text.as_bytes());
    assert_eq!(path(&manifest), "/home/me/data");
    insta::assert_snapshot!(messages(&text).join("\n"), @"9:18: `../data` is relative, and this manifest has no directory that it could be meant from (write an absolute path)");
}
