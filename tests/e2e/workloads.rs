//! What people run in a cluster works.

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
    lab.declare_spec(&format!(
        "  images: ['{image}']\n  workers:\n    - name: default\n      extraPortMappings: [{{ containerPort: {PORT}, hostPort: \
         {host_port} }}]\n    - name: more\n"
    ));
    lab.settled(3);
    lab.kina(&["wait", "--for=condition=ImagesLoaded", "machine/use-default-0", "--timeout=120s"]);
    lab.kina(&["wait", "--for=condition=ImagesLoaded", "machine/use-more-0", "--timeout=120s"]);
    lab.apply(&OBJECTS.replace("IMAGE", &image));
    lab.kubectl(&["wait", "--for=condition=Available", "deployment/web", "--timeout=120s"]);
    lab.kubectl(&["wait", "--for=condition=Complete", "job/client", "--timeout=120s"]);
    assert_eq!(lab.kubectl(&["logs", "job/client"]).trim(), "hello from a pod");
    let mut connection = TcpStream::connect(("127.0.0.1", host_port)).unwrap();
    connection.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("hello from a pod\n"), "{answer}");
    lab.remove();
}
