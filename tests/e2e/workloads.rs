//! What people run in a cluster works.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;

use super::lab::{Lab, docker};

/// Made by `tests/node-image/build`.
const IMAGE: &str = "kina-node-workload:1";
const PORT: u16 = 30_080;

/// Two servers behind a Service, each on a worker of its own, and a client with a volume. `IMAGE` has busybox.
const OBJECTS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: { name: web }
spec:
  replicas: 2
  selector: { matchLabels: { app: web } }
  template:
    metadata: { labels: { app: web } }
    spec:
      topologySpreadConstraints:
        - { maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: { matchLabels: { app: web } } }
      containers:
        - name: web
          image: 'IMAGE'
          imagePullPolicy: Never
          command: [/bin/sh, -c, 'echo hello from a pod > /tmp/index.html; exec busybox httpd -f -p 8080 -h /tmp']
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { type: NodePort, selector: { app: web }, ports: [{ port: 80, targetPort: 8080, nodePort: 30080 }] }
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: { name: data }
spec: { accessModes: [ReadWriteOnce], resources: { requests: { storage: 1Mi } } }
---
apiVersion: batch/v1
kind: Job
metadata: { name: client }
spec:
  backoffLimit: 10
  template:
    spec:
      restartPolicy: OnFailure
      volumes: [{ name: data, persistentVolumeClaim: { claimName: data } }]
      containers:
        - name: client
          image: 'IMAGE'
          imagePullPolicy: Never
          command: [/bin/sh, -c, 'timeout 5 busybox wget -q -O /data/answer http://web.default.svc.cluster.local/ && cat /data/answer']
          volumeMounts: [{ name: data, mountPath: /data }]
";

/// What the client wrote, read from the same claim. `IMAGE` has busybox.
const READER: &str = "
apiVersion: batch/v1
kind: Job
metadata: { name: reader }
spec:
  template:
    spec:
      restartPolicy: OnFailure
      volumes: [{ name: data, persistentVolumeClaim: { claimName: data } }]
      containers:
        - name: reader
          image: 'IMAGE'
          imagePullPolicy: Never
          command: [/bin/sh, -c, 'cat /data/answer']
          volumeMounts: [{ name: data, mountPath: /data }]
";

/// Two pools of one worker each, one of which may mount a directory of the host.
fn spec(image: &str, host_port: u16, mount: Option<(&str, &str)>) -> String {
    let mut text = format!("  images: ['{image}']\n  workers:\n");
    for pool in ["default", "more"] {
        writeln!(text, "    - name: {pool}").unwrap();
        if pool == "default" {
            let mapping = format!("{{ containerPort: {PORT}, hostPort: {host_port} }}");
            writeln!(text, "      extraPortMappings: [{mapping}]").unwrap();
        }
        if let Some((_, path)) = mount.filter(|(which, _)| *which == pool) {
            writeln!(text, "      extraMounts: [{{ hostPath: '{path}', containerPath: /shared }}]").unwrap();
        }
    }
    text
}

#[test]
fn deployments_services_dns_volumes_and_published_ports_work() {
    let Some(lab) = Lab::open("use") else { return };
    let host_port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let image = std::env::var("KINA_E2E_WORKLOAD_IMAGE").unwrap_or_else(|_| IMAGE.to_owned());
    if docker(&["image", "inspect", &image]).is_none() {
        eprintln!(
            "SKIPPED, workloads: {image} is not on this host (`KINA_E2E_WORKLOAD_IMAGE` names another one with busybox)"
        );
        return;
    }
    lab.declare_spec(&spec(&image, host_port, None));
    lab.settled(3);
    lab.kina(&["wait", "--for=condition=ImagesLoaded", "machine/use-default-0", "--timeout=120s"]);
    lab.kina(&["wait", "--for=condition=ImagesLoaded", "machine/use-more-0", "--timeout=120s"]);
    lab.apply(&OBJECTS.replace("IMAGE", &image));
    lab.kubectl(&["wait", "--for=condition=Available", "deployment/web", "--timeout=120s"]);
    lab.kubectl(&["wait", "--for=condition=Complete", "job/client", "--timeout=120s"]);
    assert_eq!(lab.kubectl(&["logs", "job/client"]).trim(), "hello from a pod");
    published_port_answers(host_port);
    images_are_loaded(&lab, &image);
    logs_are_exported(&lab);
    machines_are_reached(&lab);
    a_claim_outlives_a_roll(&lab, &image, host_port);
    lab.remove();
}

fn published_port_answers(host_port: u16) {
    let mut connection = TcpStream::connect(("127.0.0.1", host_port)).unwrap();
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("hello from a pod\n"), "{answer}");
}

fn machines_are_reached(lab: &Lab) {
    assert_eq!(lab.kina(&["exec", "use-more-0", "--", "hostname"]).trim(), "use-more-0");
    assert_eq!(lab.kina_exits(&["exec", "use-more-0", "--", "sh", "-c", "exit 7"]), Some(7));
    assert!(lab.kina(&["logs", "use-more-0"]).contains("systemd"));
}

/// The worker that has the claim's data is made anew, with a mount more.
fn a_claim_outlives_a_roll(lab: &Lab, image: &str, host_port: u16) {
    let pods = lab.object(&["pods", "-l", "job-name=client"]);
    let node = pods["items"][0]["spec"]["nodeName"].as_str().unwrap().to_owned();
    let pool = node.strip_prefix("use-").and_then(|rest| rest.strip_suffix("-0")).unwrap();
    let shared = lab.path("shared");
    std::fs::create_dir(&shared).unwrap();
    let container = docker(&["inspect", "--format={{.Id}}", &node]).unwrap();
    // A pod of nobody stays where it is: drains leave it to people.
    lab.kubectl(&["delete", "pod", "loaded", "--wait=false"]);
    lab.declare_spec(&spec(image, host_port, Some((pool, shared.to_str().unwrap()))));
    lab.settled(3);
    assert_ne!(docker(&["inspect", "--format={{.Id}}", &node]).unwrap(), container);
    lab.kina(&["wait", "--for=condition=ImagesLoaded", &format!("machine/{node}"), "--timeout=120s"]);
    lab.apply(&READER.replace("IMAGE", image));
    lab.kubectl(&["wait", "--for=condition=Complete", "job/reader", "--timeout=120s"]);
    assert_eq!(lab.kubectl(&["logs", "job/reader"]).trim(), "hello from a pod");
    lab.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"]);
    published_port_answers(host_port);
}

/// What is missing, and only that: also what was built anew under the same name.
fn images_are_loaded(lab: &Lab, image: &str) {
    const NAME: &str = "kina-e2e-loaded:1";
    const MACHINES: &str = "use-control-plane-0, use-default-0, use-more-0";
    docker(&["tag", image, NAME]).unwrap();
    assert_eq!(lab.kina(&["load", "image", NAME]), format!("{NAME}: loaded into {MACHINES}\n"));
    assert_eq!(lab.kina(&["load", "image", NAME]), format!("{NAME}: already in {MACHINES}\n"));
    lab.kubectl(&["run", "loaded", "--image", NAME, "--image-pull-policy=Never", "--command", "--", "sleep", "600"]);
    lab.kubectl(&["wait", "--for=condition=Ready", "pod/loaded", "--timeout=60s"]);
    docker(&["create", "--name=kina-e2e-loaded", image]).unwrap();
    docker(&["commit", "--message=anew", "kina-e2e-loaded", NAME]).unwrap();
    let anew = lab.kina(&["load", "image", NAME, "--nodes=use-more-0"]);
    docker(&["rm", "kina-e2e-loaded"]).unwrap();
    docker(&["rmi", NAME]).unwrap();
    assert_eq!(anew, format!("{NAME}: loaded into use-more-0\n"));
}

fn logs_are_exported(lab: &Lab) {
    let directory = lab.path("logs");
    lab.kina(&["export", "logs", directory.to_str().unwrap()]);
    let read = |file: String| std::fs::read_to_string(directory.join(&file)).unwrap_or_else(|_| panic!("no {file}"));
    for machine in ["use-control-plane-0", "use-default-0", "use-more-0"] {
        for (file, sign) in [
            ("serial.log", "systemd"),
            ("journal.log", "systemd"),
            ("kubelet.log", "kubelet"),
            ("containerd.log", "containerd"),
            ("bootstrap.log", "kubeadm"),
            ("images.log", "kube-proxy"),
            ("containers.log", "Running"),
            ("kubernetes-version.txt", "v1."),
        ] {
            let text = read(format!("{machine}/{file}"));
            assert!(text.contains(sign), "{machine}/{file}: {text}");
        }
    }
    assert!(read("history.yaml".to_owned()).contains("cluster/use"));
    let pods = ["use-default-0", "use-more-0"].into_iter().flat_map(|machine| {
        let pods = std::fs::read_dir(directory.join(machine).join("pods")).unwrap();
        pods.map(|pod| pod.unwrap().path()).collect::<Vec<_>>()
    });
    let client = pods.into_iter().find(|pod| pod.to_string_lossy().contains("default_client-")).expect("the job's pod");
    assert!(std::fs::read_to_string(client.join("client/0.log")).unwrap().contains("hello from a pod"));
}
