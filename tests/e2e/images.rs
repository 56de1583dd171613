//! Node images that Kina makes.

use std::fs;
use std::process::{Command, Stdio};

use crate::lab::{Lab, SINGLE, docker};

/// What the container that an image is made in carries while it is there.
const BUILDING: &str = "label=dev.kina.node-image=building";

#[test]
fn an_image_that_kina_makes_carries_a_cluster_with_everything_unpacked() {
    let Some(mut lab) = Lab::open("e2e-image") else { return };
    let base = lab.image.clone();
    let programs = lab.path("bin");
    fs::create_dir(&programs).unwrap();
    // Of the base itself: what is made of it has to be as good as it.
    let donor = docker(&["create", "--entrypoint=sleep", &base, "1"]).unwrap();
    for program in ["kubeadm", "kubelet", "kubectl"] {
        let from = format!("{}:/usr/bin/{program}", donor.trim());
        docker(&["cp", "--follow-link", &from, programs.join(program).to_str().unwrap()]).unwrap();
    }
    docker(&["rm", donor.trim()]).unwrap();
    let arch = docker(&["image", "inspect", "--format={{.Architecture}}", &base]).unwrap();
    let beside = format!("kina.test/beside-{}:1", arch.trim());
    import(&beside);
    docker(&["save", "--output", programs.join("beside.tar").to_str().unwrap(), &beside]).unwrap();
    docker(&["image", "rm", &beside]).unwrap();

    let name = format!("kina-e2e-built:{}", lab.version);
    let printed =
        lab.kina(&["build", "node-image", programs.to_str().unwrap(), "--base-image", &base, "--image", &name]);
    assert_eq!(printed.trim(), name);
    assert_eq!(docker(&["ps", "-aq", "--filter", BUILDING]).unwrap(), "", "nothing is left");
    let label = docker(&["image", "inspect", "--format={{index .Config.Labels \"dev.kina.node-image\"}}", &name]);
    assert_eq!(label.unwrap().trim(), lab.version);

    lab.image.clone_from(&name);
    lab.declare(SINGLE);
    lab.settled(1);
    let node = format!("{}-control-plane-0", lab.cluster);
    let images = docker(&["exec", &node, "ctr", "--namespace=k8s.io", "images", "ls", "--quiet"]).unwrap();
    // By the name without the architecture.
    assert!(images.lines().any(|image| image == "kina.test/beside:1"), "{images}");
    let unpacked = docker(&["exec", &node, "ls", "/usr/lib/kina-node/snapshots"]).unwrap();
    assert!(unpacked.lines().count() > 1, "{unpacked}");
    lab.remove();
    docker(&["image", "rm", &name]).unwrap();
}

/// An image of one file, for the engine.
fn import(name: &str) {
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(3);
    header.set_mode(0o644);
    archive.append_data(&mut header, "file", b"one".as_slice()).unwrap();
    let archive = archive.into_inner().unwrap();
    let mut import = Command::new("docker").args(["import", "-", name]).stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut import.stdin.take().unwrap(), &archive).unwrap();
    assert!(import.wait().unwrap().success());
}
