//! Patches of kubeadm's and containerd's configuration, and addons.
#![no_main]

use std::collections::BTreeMap;

use kina::api::cluster::IpFamily;
use kina::api::defaults::{Components, Patches};
use kina::api::machine::ContainerdPatches;
use kina::api::node::JsonPatch6902;
use kina::api::{addon, patch};
use kina::kubeadm::{ClusterFacts, NodeFacts, config, containerd};
use libfuzzer_sys::fuzz_target;

const CONTAINERD: &str = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"pause\"\n";

fn facts(patches: Patches) -> (ClusterFacts, NodeFacts) {
    let cluster = ClusterFacts {
        name: "dev".into(),
        version: "v1.35.5".into(),
        endpoint_host: "dev-lb".into(),
        endpoint_addresses: vec![[10, 160, 0, 2].into()],
        ip_family: IpFamily::Ipv4,
        host_address: "127.0.0.1".into(),
        pod_subnet: "10.244.0.0/16".into(),
        service_subnet: "10.96.0.0/16".into(),
        gives_ranges: false,
        components: Components { patches, ..Components::default() },
    };
    let node = NodeFacts {
        name: "dev-control-plane-0".into(),
        addresses: vec![[10, 160, 0, 10].into()],
        control_plane: true,
        labels: BTreeMap::new(),
        taints: Vec::new(),
        runtime: "sim".into(),
        patches: Patches::default(),
    };
    (cluster, node)
}

fuzz_target!(|input: (u8, &str)| {
    let (which, text) = input;
    match which % 4 {
        0 => {
            let _ = patch::merge_patches(text);
            let (cluster, node) = facts(Patches { merge: vec![text.to_owned()], json: Vec::new() });
            let _ = config::init_file(&cluster, &node, &BTreeMap::new());
        }
        1 => {
            let json =
                JsonPatch6902 { kind: "ClusterConfiguration".into(), patch: text.into(), ..JsonPatch6902::default() };
            let (cluster, node) = facts(Patches { merge: Vec::new(), json: vec![json] });
            let _ = config::init_file(&cluster, &node, &BTreeMap::new());
        }
        2 => {
            let merge = ContainerdPatches { merge: vec![text.to_owned()], json: Vec::new() };
            if let Ok(config) = containerd::patched(CONTAINERD, &merge) {
                assert!(containerd::is_same(&config, &config), "what is written can be read");
                let _ = containerd::with_registries(&config);
            }
            let json = ContainerdPatches { merge: Vec::new(), json: vec![text.to_owned()] };
            let _ = containerd::patched(CONTAINERD, &json);
        }
        _ => {
            let _ = addon::objects(text);
        }
    }
});
