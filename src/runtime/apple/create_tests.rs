use std::collections::BTreeMap;

use super::*;
use crate::runtime::{Mount, Resources};

fn spec(privileges: Privileges) -> ContainerSpec {
    ContainerSpec {
        name: "dev-control-plane-0".into(),
        image: "kindest/node:v1.35.5".into(),
        labels: BTreeMap::from([("dev.kina.cluster".into(), "dev".into())]),
        network: "kina-dev".into(),
        address: None,
        ipv6_address: None,
        environment: BTreeMap::from([("A".into(), "b=c".into())]),
        mounts: vec![Mount { volume: "dev-0".into(), subdirectory: "etcd".into(), target: "/var/lib/etcd".into() }],
        host_mounts: Vec::new(),
        ports: vec![PublishedPort {
            host_address: "127.0.0.1".parse().unwrap(),
            host_port: 6443,
            container_port: 6443,
            protocol: Protocol::Tcp,
        }],
        resources: Resources { cpu_millis: Some(1500), memory_bytes: Some(2 << 30) },
        hosts: BTreeMap::from([("dev-lb".into(), "10.1.2.3".parse().unwrap())]),
        dns_search: Some(vec!["example.org".into()]),
        privileges,
        command: Vec::new(),
    }
}

fn made(spec: &ContainerSpec, version: Version) -> Result<Vec<String>, String> {
    let first = ["/usr/local/bin/entrypoint".to_owned(), "/sbin/init".to_owned()];
    container(spec, &first, version, Path::new("/home/apple/dev-control-plane-0"))
}

/// The command line without the script.
fn shown(spec: &ContainerSpec, version: Version) -> String {
    made(spec, version).unwrap().join(" ").replace(inside::START, "SCRIPT")
}

#[test]
fn a_node_has_everything_that_a_node_needs() {
    let line = shown(&spec(Privileges::Node), Version(1, 2, 2)).replace(" -", "\n-");
    insta::assert_snapshot!(line, @r#"
    create
    --name dev-control-plane-0
    --platform linux/arm64
    --cpus 2
    --memory 2048m
    --network kina-dev,mtu=1500
    --label dev.kina.cluster=dev
    --label dev.kina.asked={"image":"kindest/node:v1.35.5","cpuMillis":1500,"memoryBytes":2147483648}
    -e A=b=c
    -p 127.0.0.1:6443:6443/tcp
    --dns-search example.org
    -v dev-0:/kina/volumes/dev-0
    -v /home/apple/dev-control-plane-0:/kina/stage
    --cap-add ALL
    --read-only-path NONE
    --masked-path NONE
    --entrypoint /bin/sh kindest/node:v1.35.5
    -c SCRIPT kina root= forward-node 1 dev-lb 10.1.2.3 1 dev-0 etcd /var/lib/etcd /usr/local/bin/entrypoint /sbin/init
    "#);
}

#[test]
fn what_may_see_proc_differs_between_versions() {
    let says = |privileges, version, text: &str| {
        let spec = ContainerSpec { mounts: Vec::new(), ..spec(privileges) };
        shown(&spec, version).contains(text)
    };
    for (version, flags, remount) in
        [(Version(1, 1, 0), false, false), (Version(1, 2, 0), false, true), (Version(1, 2, 1), true, false)]
    {
        assert_eq!(says(Privileges::Node, version, "--masked-path NONE"), flags, "{version}");
        assert_eq!(says(Privileges::Network, version, "--read-only-path NONE"), flags, "{version}");
        assert_eq!(says(Privileges::Node, version, "kina root= remount-forward-node "), remount, "{version}");
        assert_eq!(says(Privileges::Network, version, "--cap-add SYS_ADMIN"), remount, "{version}");
        assert!(!says(Privileges::None, version, "--cap-add"));
        assert!(!says(Privileges::None, version, "forward"));
    }
    assert!(says(Privileges::Network, Version(1, 2, 0), "kina root= remount-forward "));
    assert!(says(Privileges::Network, Version(1, 5, 0), "kina root= forward "));
}

#[test]
fn options_precede_the_image_and_everything_after_it_is_the_containers() {
    let arguments = made(&spec(Privileges::Node), Version(1, 5, 0)).unwrap();
    let image = arguments.iter().position(|word| word == "kindest/node:v1.35.5").unwrap();
    assert_eq!(arguments[image + 1..image + 4], ["-c", inside::START, "kina"]);
    assert!(arguments[..image].iter().skip(1).step_by(2).all(|word| word.starts_with('-')), "{arguments:?}");
    assert_eq!(arguments[arguments.len() - 2..], ["/usr/local/bin/entrypoint", "/sbin/init"]);
}

#[test]
fn what_apple_cannot_do_is_refused_and_never_left_out() {
    type Change = fn(&mut ContainerSpec);
    let cases: [(Change, &str); 8] = [
        (|spec| spec.ports[0].protocol = Protocol::Sctp, "SCTP"),
        (|spec| spec.name = "x".repeat(64), "2 to 63 characters"),
        (|spec| spec.privileges = Privileges::Network, "only a node"),
        (|spec| drop(spec.labels.insert("a".into(), "b=c".into())), "the label a has a `=`"),
        (|spec| spec.host_mounts.push(host_mount("/a:b", MountPropagation::None, false)), "has a `:`"),
        (|spec| spec.host_mounts.push(host_mount("/a", MountPropagation::HostToContainer, false)), "propagation"),
        (|spec| spec.host_mounts.push(host_mount("/a", MountPropagation::None, true)), "selinuxRelabel"),
        (|spec| spec.name = "x".into(), "2 to 63 characters"),
    ];
    for (change, why) in cases {
        let mut spec = spec(Privileges::Node);
        change(&mut spec);
        let refused = made(&spec, Version(1, 5, 0)).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
    let nothing = container(&spec(Privileges::Node), &[], Version(1, 5, 0), Path::new("/s")).unwrap_err();
    assert!(nothing.contains("does not say what it runs"), "{nothing}");
}

fn host_mount(host_path: &str, propagation: MountPropagation, selinux_relabel: bool) -> HostMount {
    HostMount {
        host_path: host_path.into(),
        container_path: "/x".into(),
        read_only: true,
        selinux_relabel,
        propagation,
    }
}

#[test]
fn limits_are_whole_and_somebody_without_any_has_some() {
    let with = |privileges, resources| {
        let spec = ContainerSpec { mounts: Vec::new(), resources, ..spec(privileges) };
        let words = made(&spec, Version(1, 2, 2)).unwrap();
        let value = |name: &str| words.iter().position(|word| word == name).map(|index| words[index + 1].clone());
        (value("--cpus"), value("--memory").unwrap())
    };
    let some = |text: &str| Some(text.to_owned());
    let limits =
        |cpu_millis, memory_bytes| Resources { cpu_millis: Some(cpu_millis), memory_bytes: Some(memory_bytes) };
    assert_eq!(with(Privileges::Node, limits(1, 1)), (some("1"), "200m".into()));
    assert_eq!(with(Privileges::Node, limits(2001, (1 << 30) + 1)), (some("3"), "1025m".into()));
    assert_eq!(with(Privileges::Node, Resources::default()), (None, "2048m".into()));
    assert_eq!(with(Privileges::Network, Resources::default()), (some("1"), "512m".into()));
}

#[test]
fn networks_and_volumes_carry_their_labels() {
    let labels = BTreeMap::from([("dev.kina.cluster".to_owned(), "dev".to_owned())]);
    let made = network(&NetworkSpec {
        name: "kina-dev".into(),
        subnet: Some("10.1.2.0/24".into()),
        ipv6_subnet: None,
        labels: labels.clone(),
    });
    assert_eq!(made.unwrap().join(" "), "network create --subnet 10.1.2.0/24 --label dev.kina.cluster=dev kina-dev");
    let made = volume(&VolumeSpec { name: "dev-0".into(), labels });
    assert_eq!(made.unwrap().join(" "), "volume create --label dev.kina.cluster=dev dev-0");
}
