use std::sync::Arc;

use proptest::prelude::*;

use super::document::Node;
use super::*;
use crate::world::{Disk, MemoryFiles, SystemClock};

fn entry(name: &str) -> ContextEntry {
    ContextEntry {
        name: name.to_owned(),
        server: "https://127.0.0.1:6443".to_owned(),
        ca_pem: "ca".to_owned(),
        client_cert_pem: "cert".to_owned(),
        client_key_pem: "key".to_owned(),
    }
}

fn memory() -> MemoryFiles {
    let files = MemoryFiles::new(Arc::new(SystemClock));
    files.create_directories(Path::new("/home/.kube"), 0o700).unwrap();
    files
}

fn text(files: &MemoryFiles, path: &str) -> String {
    String::from_utf8(files.read(Path::new(path), FILE_BYTES_MAX).unwrap()).unwrap()
}

fn put(files: &MemoryFiles, path: &str, content: &str) {
    files.write(Path::new(path), content.as_bytes(), 0o600).unwrap();
}

const CONFIG: &str = "/home/.kube/config";

#[test]
fn a_new_file_is_written_as_kubectl_would_write_it() {
    let files = MemoryFiles::new(Arc::new(SystemClock));
    let target = Target::resolve(None, Path::new("/home"));
    let change = merge(&files, &target, &entry("kina-dev"), true).unwrap();
    assert_eq!(change.written, [PathBuf::from(CONFIG)]);
    insta::assert_snapshot!(text(&files, CONFIG), @r"
    apiVersion: v1
    clusters:
    - cluster:
        certificate-authority-data: Y2E=
        server: https://127.0.0.1:6443
      name: kina-dev
    contexts:
    - context:
        cluster: kina-dev
        user: kina-dev
      name: kina-dev
    current-context: kina-dev
    kind: Config
    users:
    - user:
        client-certificate-data: Y2VydA==
        client-key-data: a2V5
      name: kina-dev
    ");
    assert_eq!(files.metadata(Path::new(CONFIG)).unwrap().mode, 0o600);
    assert_eq!(files.metadata(Path::new("/home/.kube")).unwrap().mode, 0o700);
    assert_eq!(files.list(Path::new("/home/.kube")).unwrap(), ["config"], "the lock is gone");
}

const FOREIGN: &str = r##"apiVersion: v1
kind: Config
preferences:
  colors: true
x-unknown: [1, two, 3.5, null, "0123", "yes", 'on', 2026-01-01]
clusters:
- name: work
  cluster:
    server: https://work.example:443
    tls-server-name: other
    extensions:
    - name: cluster_info
      extension: {provider: minikube.sigs.k8s.io, version: "1.30"}
contexts:
- context: {cluster: work, namespace: team, user: me@work}
  name: work
current-context: work
users:
- name: me@work
  user:
    exec:
      apiVersion: client.authentication.k8s.io/v1
      args: ["--flag", "a: b", "# no comment", "line one\nline two\n", ""]
      command: aws
      env: null
    token: "000123"
"##;

#[test]
fn foreign_entries_unknown_fields_and_order_survive_a_merge_and_a_removal() {
    let files = memory();
    put(&files, CONFIG, FOREIGN);
    let target = Target::explicit(CONFIG);
    merge(&files, &target, &entry("kina-dev"), false).unwrap();
    insta::assert_snapshot!(text(&files, CONFIG), @r##"
    apiVersion: v1
    kind: Config
    preferences:
      colors: true
    x-unknown:
    - 1
    - two
    - 3.5
    - null
    - "0123"
    - "yes"
    - "on"
    - "2026-01-01"
    clusters:
    - name: work
      cluster:
        server: https://work.example:443
        tls-server-name: other
        extensions:
        - name: cluster_info
          extension:
            provider: minikube.sigs.k8s.io
            version: "1.30"
    - cluster:
        certificate-authority-data: Y2E=
        server: https://127.0.0.1:6443
      name: kina-dev
    contexts:
    - context:
        cluster: work
        namespace: team
        user: me@work
      name: work
    - context:
        cluster: kina-dev
        user: kina-dev
      name: kina-dev
    current-context: work
    users:
    - name: me@work
      user:
        exec:
          apiVersion: client.authentication.k8s.io/v1
          args:
          - --flag
          - "a: b"
          - "# no comment"
          - "line one\nline two\n"
          - ""
          command: aws
          env: null
        token: "000123"
    - user:
        client-certificate-data: Y2VydA==
        client-key-data: a2V5
      name: kina-dev
    "##);
    remove(&files, &target, "kina-dev").unwrap();
    let before = Document::parse(Path::new(CONFIG), FOREIGN.as_bytes()).unwrap();
    let after = Document::parse(Path::new(CONFIG), text(&files, CONFIG).as_bytes()).unwrap();
    assert_eq!(after, before);
}

#[test]
fn nothing_is_written_where_nothing_differs() {
    let files = memory();
    let target = Target::explicit(CONFIG);
    merge(&files, &target, &entry("kina-dev"), true).unwrap();
    let before = files.metadata(Path::new(CONFIG)).unwrap();
    // Not even a lock is taken: one that somebody holds does not matter.
    put(&files, "/home/.kube/config.lock", "");
    assert_eq!(merge(&files, &target, &entry("kina-dev"), true).unwrap(), Change::default());
    assert_eq!(remove(&files, &target, "kina-other").unwrap(), Change::default());
    assert_eq!(files.metadata(Path::new(CONFIG)).unwrap(), before);
}

#[test]
fn removal_clears_the_current_context_only_where_it_is_ours() {
    let files = memory();
    let target = Target::explicit(CONFIG);
    merge(&files, &target, &entry("kina-a"), true).unwrap();
    merge(&files, &target, &entry("kina-b"), false).unwrap();
    remove(&files, &target, "kina-b").unwrap();
    assert_eq!(current_context(&files, &target).unwrap().as_deref(), Some("kina-a"));
    remove(&files, &target, "kina-a").unwrap();
    assert_eq!(current_context(&files, &target).unwrap(), None);
    assert!(!text(&files, CONFIG).contains("kina-"));
}

#[test]
fn an_entry_is_changed_where_it_is_defined_and_made_in_the_first_file_that_exists() {
    let files = memory();
    let list = format!("/home/missing:/home/.kube/a::/home/.kube/b:/home/.kube/a:{CONFIG}");
    let target = Target::resolve(Some(&list), Path::new("/home"));
    assert_eq!(target.files().len(), 4);
    put(&files, "/home/.kube/b", "current-context: elsewhere\n");
    put(&files, CONFIG, "users:\n- name: kina-dev\n  user: {token: mine}\n");
    merge(&files, &target, &entry("kina-dev"), true).unwrap();
    assert!(text(&files, CONFIG).contains("client-key-data"), "the user is where it was");
    assert!(text(&files, CONFIG).contains("token: mine"), "what Kina does not set stays");
    assert!(text(&files, "/home/.kube/b").contains("server: https://127.0.0.1:6443"));
    assert_eq!(current_context(&files, &target).unwrap().as_deref(), Some("kina-dev"));
    assert!(files.metadata(Path::new("/home/missing")).is_err());
    // From every file of the list.
    put(&files, "/home/missing", "contexts:\n- name: kina-dev\n  context: {cluster: kina-dev, user: kina-dev}\n");
    remove(&files, &target, "kina-dev").unwrap();
    for path in ["/home/missing", "/home/.kube/b", CONFIG] {
        assert!(!text(&files, path).contains("kina-dev"), "{path}");
    }
}

#[test]
fn without_any_file_the_last_of_the_list_is_made() {
    let files = memory();
    let target = Target::resolve(Some("/home/.kube/a:/home/.kube/b"), Path::new("/home"));
    let change = merge(&files, &target, &entry("kina-dev"), true).unwrap();
    assert_eq!(change.written, [PathBuf::from("/home/.kube/b")]);
}

#[test]
fn a_lock_of_somebody_else_is_busy_and_names_the_lock() {
    let files = memory();
    put(&files, "/home/.kube/config.lock", "");
    let target = Target::explicit(CONFIG).owned_by("us");
    let error = merge(&files, &target, &entry("kina-dev"), true).unwrap_err();
    assert!(error.is_transient());
    insta::assert_snapshot!(format!("{error}\nhint: {}", error.hint()), @r"
    /home/.kube/config is locked by another program
    hint: if no other program is changing it, remove the leftover lock `/home/.kube/config.lock`
    ");
    assert!(files.metadata(Path::new(CONFIG)).is_err());
}

#[test]
fn a_lock_that_we_left_in_a_crash_is_taken_over() {
    let files = memory();
    put(&files, "/home/.kube/config.lock", "kina us\n");
    let target = Target::explicit(CONFIG).owned_by("us");
    merge(&files, &target, &entry("kina-dev"), true).unwrap();
    assert_eq!(files.list(Path::new("/home/.kube")).unwrap(), ["config"]);
}

#[test]
fn a_file_that_cannot_be_parsed_is_refused_with_its_place_and_left_alone() {
    let files = memory();
    let target = Target::explicit(CONFIG);
    let broken = [
        "clusters:\n  - a\n b: {",
        "just text",
        "clusters: 3",
        "kind: Pod",
        "a: 1\na: 2\n",
        "a: 1\n---\nb: 2\n",
        "1: one\n",
        "contexts: [x]",
    ];
    let mut messages = String::new();
    for content in broken {
        put(&files, CONFIG, content);
        let error = merge(&files, &target, &entry("kina-dev"), true).unwrap_err();
        messages += &format!("{error}\n");
        assert_eq!(text(&files, CONFIG), content);
    }
    insta::assert_snapshot!(messages, @r"
    the kubeconfig /home/.kube/config is not valid YAML, line 3 column 2: while parsing a block mapping, did not find expected key
    the kubeconfig /home/.kube/config is not one: it is not a mapping
    the kubeconfig /home/.kube/config is not one: `clusters` is not a list of mappings
    the kubeconfig /home/.kube/config is not one: its `kind` is not `Config`
    the kubeconfig /home/.kube/config is not valid YAML, line 2 column 1: duplicate mapping key: a
    the kubeconfig /home/.kube/config is not valid YAML, line 3 column 1: multiple YAML documents detected
    the kubeconfig /home/.kube/config is not one: a key is not a text
    the kubeconfig /home/.kube/config is not one: `contexts` is not a list of mappings
    ");
    assert_eq!(files.list(Path::new("/home/.kube")).unwrap(), ["config"], "no lock is left");
}

#[test]
fn an_altered_entry_is_told_field_by_field_and_mended() {
    let files = memory();
    let target = Target::explicit(CONFIG);
    assert_eq!(inspect(&files, &target, &entry("kina-dev")).unwrap(), Comparison::Missing);
    merge(&files, &target, &entry("kina-dev"), true).unwrap();
    assert_eq!(inspect(&files, &target, &entry("kina-dev")).unwrap(), Comparison::Same);
    let altered = text(&files, CONFIG).replace(":6443", ":7443").replace("cluster: kina-dev", "cluster: other");
    put(&files, CONFIG, &altered);
    let comparison = inspect(&files, &target, &entry("kina-dev")).unwrap();
    assert_eq!(comparison, Comparison::Differs(vec!["cluster.server", "context.cluster"]));
    merge(&files, &target, &entry("kina-dev"), false).unwrap();
    assert_eq!(inspect(&files, &target, &entry("kina-dev")).unwrap(), Comparison::Same);
}

#[test]
fn settings_that_contradict_ours_go_and_others_stay() {
    let files = memory();
    put(
        &files,
        CONFIG,
        "clusters:\n- name: kina-dev\n  cluster: {insecure-skip-tls-verify: true, proxy-url: socks5://x}\n\
         contexts:\n- name: kina-dev\n  context: {namespace: team}\n",
    );
    merge(&files, &Target::explicit(CONFIG), &entry("kina-dev"), false).unwrap();
    let text = text(&files, CONFIG);
    assert!(!text.contains("insecure") && text.contains("socks5://x") && text.contains("namespace: team"), "{text}");
}

#[test]
fn many_edits_are_one_write() {
    let files = memory();
    let target = Target::explicit(CONFIG);
    let edits: Vec<Edit> =
        (0..50).map(|n| Edit::Merge { entry: entry(&format!("kina-{n}")), current: Current::Keep }).collect();
    apply(&files, &target, &edits).unwrap();
    let gone: Vec<Edit> = (0..50).map(|n| Edit::Remove { name: format!("kina-{n}") }).collect();
    apply(&files, &target, &gone).unwrap();
    assert!(!text(&files, CONFIG).contains("kina-"));
}

#[test]
fn what_another_program_writes_between_two_looks_is_seen() {
    let files = memory();
    let target = Target::explicit(CONFIG);
    merge(&files, &target, &entry("kina-a"), true).unwrap();
    let edited = text(&files, CONFIG).replace("server: https://127.0.0.1:6443", "server: https://127.0.0.1:7777");
    put(&files, CONFIG, &edited);
    merge(&files, &target, &entry("kina-b"), false).unwrap();
    assert!(text(&files, CONFIG).contains(":7777"), "the other's change is kept");
    assert_eq!(inspect(&files, &target, &entry("kina-a")).unwrap(), Comparison::Differs(vec!["cluster.server"]));
    files.remove_file(Path::new(CONFIG)).unwrap();
    assert_eq!(inspect(&files, &target, &entry("kina-b")).unwrap(), Comparison::Missing);
}

#[test]
fn keys_do_not_show_in_debug_output() {
    assert!(!format!("{:?}", entry("kina-dev")).contains("key:"));
}

#[test]
fn a_kubeconfig_behind_a_link_on_a_disk_stays_behind_it() {
    let home = tempfile::tempdir().unwrap();
    let (real, link) = (home.path().join("real"), home.path().join("config"));
    std::fs::write(&real, FOREIGN).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    merge(&Disk, &Target::explicit(&link), &entry("kina-dev"), true).unwrap();
    assert!(std::fs::read_to_string(&real).unwrap().contains("kina-dev"));
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(Disk.metadata(&real).unwrap().mode, 0o600);
}

fn any_node() -> impl Strategy<Value = Node> {
    let scalar = prop_oneof![
        Just(Node::Null),
        any::<bool>().prop_map(Node::Bool),
        any::<u64>().prop_map(Node::Unsigned),
        (i64::MIN..0).prop_map(Node::Signed),
        (-1e9..1e9f64).prop_map(Node::Float),
        "\\PC{0,20}".prop_map(Node::Text),
        "[a-zA-Z0-9+/=]{90,120}".prop_map(Node::Text),
        "[ -~\n\t]{0,30}".prop_map(Node::Text),
        prop::sample::select(vec![
            "yes", "~", "null", "0x1f", "1e3", "0o7", "-", "? a", "&a", "*a", "<<", "12:30", "=", ".inf"
        ])
        .prop_map(|text| Node::Text(text.to_owned())),
    ];
    scalar.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Node::List),
            prop::collection::btree_map("\\PC{1,12}", inner, 0..4)
                .prop_map(|map| Node::Map(map.into_iter().filter(|(key, _)| key != "<<").collect())),
        ]
    })
}

proptest! {
    #[test]
    fn whatever_a_file_holds_is_the_same_after_a_round(node in any_node()) {
        let mut document = Document::new();
        document.set_entry(&stanzas(&entry("kina-dev"))[0], "kina-dev").unwrap();
        document.put_for_test("x-foreign", node);
        let text = document.render().unwrap();
        prop_assert_eq!(Document::parse(Path::new(CONFIG), text.as_bytes()).unwrap(), document);
    }
}

#[test]
fn an_entry_becomes_current_by_itself_only_where_nothing_is() {
    let files = MemoryFiles::new(Arc::new(SystemClock));
    let target = Target::explicit(CONFIG);
    let merge = |name: &str| {
        apply(&files, &target, &[Edit::Merge { entry: entry(name), current: Current::IfNone }]).unwrap();
        String::from_utf8(files.read(Path::new(CONFIG), 1 << 20).unwrap()).unwrap()
    };
    assert!(merge("kina-a").contains("current-context: kina-a"));
    assert!(merge("kina-b").contains("current-context: kina-a"));
}
