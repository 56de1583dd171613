use proptest::prelude::*;

use super::*;

const V0_12: &str = include_str!("../../../tests/apple/literals/list-0.12.3.json");
const V1_1: &str = include_str!("../../../tests/apple/literals/list-1.1.0.json");
const V1_2: &str = include_str!("../../../tests/apple/literals/control-plane.json");
const PRETTY: &str = include_str!("../../../tests/apple/literals/control-plane-pretty.json");
const BUILDER: &str = include_str!("../../../tests/apple/literals/builder-1.2.2.json");

fn only(text: &str) -> (ContainerDocument, Doing) {
    let mut all = containers(text.as_bytes()).unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn doing(state: &str, was_started: bool) -> Doing {
    Doing { state: state.to_owned(), was_started }
}

#[test]
fn containers_of_every_version_are_understood() {
    for text in [V1_2, PRETTY, &V1_2.replace("\\/", "/")] {
        let (document, state) = only(text);
        assert_eq!((document.id.as_str(), state), ("demo-control-plane", doing("running", true)));
        assert_eq!(document.attachments()[0].address(), Some("192.168.66.2"));
        assert_eq!(document.configuration.mounts[1].volume(), Some("demo-etcd"));
        assert_eq!(document.configuration.published_ports[0].host_port, 6445);
        assert_eq!(document.configuration.labels["dev.example.role"], "control-plane");
        assert_eq!(document.configuration.resources.memory_in_bytes, Some(4 << 30));
    }
    let (document, state) = only(V1_1);
    assert_eq!(state, doing("running", true));
    assert_eq!(document.attachments()[0].address(), Some("192.168.64.3"));
    let (document, state) = only(BUILDER);
    assert_eq!((document.id.as_str(), state), ("buildkit", doing("stopped", false)));
    let (document, state) = only(V0_12);
    assert_eq!((document.id.as_str(), state), ("Hotline", doing("running", false)));
    assert!(document.configuration.mounts.iter().all(MountDocument::is_of_host));
}

#[test]
fn networks_of_every_version_are_understood() {
    let subnet = |text: &str| networks(text.as_bytes()).unwrap().into_iter().map(|found| (found.name, found.subnet));
    let default = ("default".to_owned(), Some("192.168.64.0/24".to_owned()));
    let demo = ("demo".to_owned(), Some("192.168.66.0/24".to_owned()));
    let all: Vec<_> = subnet(include_str!("../../../tests/apple/literals/networks.json")).collect();
    assert_eq!(all, [default.clone(), demo]);
    let old = r#"[{"id":"default","config":{"id":"default","mode":"nat"},"state":"running","status":{"address":"192.168.64.0/24","gateway":"192.168.64.1"}}]"#;
    assert_eq!(subnet(old).collect::<Vec<_>>(), std::slice::from_ref(&default));
    let newer = r#"[{"config":{"mode":"nat","id":"default","creationDate":802450042.708275,"labels":{"com.apple.container.resource.role":"builtin"},"pluginInfo":{"variant":"reserved","plugin":"container-network-vmnet"}},"state":"running","status":{"ipv6Subnet":"fdd8:3480:c3b9:586f::/64","ipv4Subnet":"192.168.64.0/24","ipv4Gateway":"192.168.64.1"},"id":"default"}]"#;
    assert_eq!(subnet(newer).collect::<Vec<_>>(), [default]);
    assert_eq!(networks(newer.as_bytes()).unwrap()[0].labels.len(), 1);
    let asked = r#"[{"id":"n1","configuration":{"ipv4Subnet":"10.1.2.0/24","labels":{}}}]"#;
    assert_eq!(subnet(asked).next().unwrap().1.as_deref(), Some("10.1.2.0/24"), "it has no state yet");
}

#[test]
fn volumes_of_every_version_are_understood() {
    let label = |text: &str, key: &str| {
        let found = volumes(text.as_bytes()).unwrap().remove(0);
        (found.name, found.labels.get(key).cloned())
    };
    let now = include_str!("../../../tests/apple/literals/volumes.json");
    assert_eq!(label(now, "dev.example.cluster"), ("demo-etcd".to_owned(), Some("demo".to_owned())));
    let old = r#"[{"format":"ext4","options":{},"name":"gantry-test-vol","driver":"local","createdAt":802450492.371705,"sizeInBytes":549755813888,"labels":{"a":"b"},"source":"/x/volume.img"}]"#;
    assert_eq!(label(old, "a"), ("gantry-test-vol".to_owned(), Some("b".to_owned())));
}

#[test]
fn an_image_is_understood_for_one_platform() {
    let text = include_str!("../../../tests/apple/literals/image.json").as_bytes();
    let found = image(text, "arm64").unwrap().unwrap();
    assert_eq!(found.digest, "sha256:ce977ae6d65918d0b58a5f8b5e940429c2ce42fa3a5619ec2bbc60b949c0ac95");
    let manifest = "sha256:2222222222222222222222222222222222222222222222222222222222222222";
    assert_eq!(found.manifest.as_deref(), Some(manifest));
    assert_eq!(found.command, ["/usr/local/bin/entrypoint", "/sbin/init"]);
    assert_eq!(image(text, "amd64").unwrap(), None);
    image(b"[]", "arm64").unwrap_err();
}

#[test]
fn the_state_of_the_service_is_in_every_shape_of_its_document() {
    for (text, state) in [
        (r#"{"apiServerAppName":"container-apiserver","status":"running"}"#, "running"),
        (r#"{"apiServerAppName":"","status":"unregistered"}"#, "unregistered"),
        (r#"{"status":"running","client":{"version":"1.4.1"},"server":{"version":"1.4.1"}}"#, "running"),
        (r#"{"status":"not running"}"#, "not running"),
    ] {
        assert_eq!(service(text.as_bytes()).unwrap().status, state);
    }
    service(b"apiserver is not running").unwrap_err();
}

#[test]
fn what_is_needed_and_not_there_is_an_error_and_never_a_guess() {
    for (text, why) in [
        (r#"[{"configuration":{},"status":"running"}]"#, "a container has no id"),
        (r#"[{"id":"one","configuration":{}}]"#, "the container one has no status"),
        (r#"[{"id":"one","status":{"networks":[]}}]"#, "the container one has no state"),
        (r#"[{"id":"one","status":{"state":"running"},"configuration":{"labels":{"a":1}}}]"#, "invalid type"),
        (r#"{"id":"one"}"#, "invalid type"),
        (r#"[{"id":"one","#, "EOF"),
    ] {
        let error = containers(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
    }
    networks(br#"[{"configuration":{}}]"#).unwrap_err();
    volumes(br#"[{"configuration":{}}]"#).unwrap_err();
}

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z./:]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let key = prop::sample::select(vec![
            "id",
            "configuration",
            "config",
            "status",
            "state",
            "networks",
            "labels",
            "mounts",
            "type",
            "volume",
            "name",
            "image",
            "publishedPorts",
            "hostPort",
            "count",
            "initProcess",
            "arguments",
            "resources",
            "ipv4Address",
            "variants",
            "descriptor",
            "digest",
            "platform",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(key.prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_document_breaks_the_reader(document in json()) {
        let text = document.to_string().into_bytes();
        for (document, doing) in containers(&text).unwrap_or_default() {
            prop_assert!(!document.id.is_empty() && !doing.state.is_empty());
            let _ = crate::runtime::apple::observed::container(document, &doing);
        }
        prop_assert!(networks(&text).unwrap_or_default().iter().all(|found| !found.name.is_empty()));
        prop_assert!(volumes(&text).unwrap_or_default().iter().all(|found| !found.name.is_empty()));
        let _ = image(&text, "arm64");
        let _ = service(&text);
    }

    #[test]
    fn what_a_later_version_adds_is_passed_over(key in "[a-z]{3,9}X", value in json()) {
        let mut document: Value = serde_json::from_str(V1_2).unwrap();
        for place in [&[][..], &["configuration"], &["status"], &["configuration", "image"], &["configuration", "resources"]] {
            let inner = place.iter().fold(&mut document[0], |inner, key| &mut inner[*key]);
            inner[&key] = value.clone();
        }
        let (with, doing) = only(&document.to_string());
        let (without, same) = only(V1_2);
        prop_assert_eq!(doing, same);
        prop_assert_eq!(format!("{:?}", with.configuration), format!("{:?}", without.configuration));
    }

    #[test]
    fn no_bytes_break_the_reader(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = (containers(&bytes), networks(&bytes), volumes(&bytes), image(&bytes, "arm64"), service(&bytes));
    }
}
