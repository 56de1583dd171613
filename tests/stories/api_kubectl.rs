//! kubectl as a client of the embedded API, over TLS.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::environment::TestEnvironment;
use crate::kubectl::Served;

const APPLES: &str = "apiVersion: example.dev/v1\nkind: Orchard\nmetadata:\n  name: apples\n  labels: { team: a }\nspec:\n  fruit: apple\n  trees: 3\n";

/// Lines of a table, blanks squeezed.
fn lines(out: &str) -> Vec<String> {
    out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

async fn with_apples() -> Option<Served> {
    let served = Served::start().await?;
    served.file("apples.yaml", APPLES);
    let created = served.kubectl("create -f apples.yaml").await.ok();
    assert_eq!(created, "orchard.example.dev/apples created\n");
    Some(served)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_is_found_and_named() {
    let Some(served) = Served::start().await else { return };
    let version = served.kubectl("version").await.ok();
    assert!(version.contains("Server Version: v1.37.0+kina"), "{version}");
    let resources = served.kubectl("api-resources --no-headers").await.ok();
    let found = lines(&resources);
    assert!(found.contains(&"orchards or example.dev/v1 false Orchard".to_owned()), "{resources}");
    assert!(found.contains(&"deployments deploy apps/v1 true Deployment".to_owned()), "{resources}");
    let versions = served.kubectl("api-versions").await.ok();
    assert_eq!(versions.lines().next(), Some("apps/v1"));
    assert_eq!(served.kubectl("get --raw /healthz").await.ok(), "ok");
    assert_eq!(served.kubectl("get --raw /metrics").await.ok(), "trees_total 3\n");
    let index: Value = serde_json::from_str(&served.kubectl("get --raw /openapi/v3").await.ok()).unwrap();
    assert!(index["paths"]["apis/example.dev/v1"].is_object());
    let info = served.kubectl("cluster-info").await.ok();
    assert!(info.contains("is running at"), "{info}");
    for probe in ["livez", "readyz"] {
        assert_eq!(served.kubectl(&format!("get --raw /{probe}")).await.ok(), "ok");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_learn_what_they_may_do_and_who_they_are() {
    let Some(served) = Served::start().await else { return };
    assert_eq!(served.kubectl("auth can-i get pods").await.ok(), "yes\n");
    assert_eq!(served.kubectl("auth can-i delete orchards.example.dev").await.ok(), "yes\n");
    assert_eq!(served.kubectl("auth can-i get /healthz").await.ok(), "yes\n");
    let all = lines(&served.kubectl("auth can-i --list").await.ok());
    assert!(all.contains(&"*.* [] [] [*]".to_owned()), "{all:?}");
    let who = lines(&served.kubectl("auth whoami").await.ok());
    assert_eq!(who[1], "Username kina:admin");
    // Answering for another would be a lie, and acting for another a hole.
    let refused = served.kubectl("auth can-i get pods --as=bob").await.failed();
    assert!(refused.contains("impersonation is not supported"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_scaled_where_a_kind_has_them() {
    let Some(served) = with_apples().await else { return };
    served.kubectl("create deployment web --image=nginx --replicas=1").await.ok();
    assert_eq!(served.kubectl("scale deployment web --replicas=3").await.ok(), "deployment.apps/web scaled\n");
    assert_eq!(served.kubectl("get deploy web -o jsonpath={.spec.replicas}").await.ok(), "3");
    served.kubectl("scale deployment web --current-replicas=3 --replicas=0").await.ok();
    assert_eq!(served.kubectl("get deploy web -o jsonpath={.spec.replicas}").await.ok(), "0");
    let refused = served.kubectl("scale deployment web --current-replicas=3 --replicas=1").await.failed();
    assert!(refused.contains("Expected replicas to be 3, was 0"), "{refused}");
    let refused = served.kubectl("scale orchard apples --replicas=3").await.failed();
    assert!(refused.contains("could not find the requested resource"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn get_shows_tables_names_and_whole_objects() {
    let Some(served) = with_apples().await else { return };
    let twice = served.kubectl("create -f apples.yaml").await.failed();
    assert!(twice.contains(r#"orchards.example.dev "apples" already exists"#), "{twice}");
    let table = lines(&served.kubectl("get orchards").await.ok());
    assert_eq!(table[0], "NAME FRUIT READY AGE");
    assert!(table[1].starts_with("apples apple "), "{table:?}");
    let wide = lines(&served.kubectl("get or apples -o wide").await.ok());
    assert_eq!(wide[0], "NAME FRUIT READY TREES AGE");
    assert_eq!(served.kubectl("get or -o name").await.ok(), "orchard.example.dev/apples\n");
    let yaml = served.kubectl("get or apples -o yaml").await.ok();
    assert!(
        yaml.contains("  fruit: apple\n  rows: []\n  trees: 3\n") || yaml.contains("  fruit: apple\n  trees: 3\n"),
        "{yaml}"
    );
    assert_eq!(served.kubectl("get or apples -o jsonpath={.spec.trees}").await.ok(), "3");
    let missing = served.kubectl("get or pears").await.failed();
    assert_eq!(missing, "Error from server (NotFound): orchards.example.dev \"pears\" not found\n");
    for name in ["b", "c", "d"] {
        served.file("more.yaml", &APPLES.replace("apples", name).replace("team: a", "team: b"));
        served.kubectl("create -f more.yaml").await.ok();
    }
    let paged = lines(&served.kubectl("get or --chunk-size=1 --no-headers").await.ok());
    assert_eq!(paged.len(), 4, "{paged:?}");
    let selected = served.kubectl("get or -l team=b -o name").await.ok();
    assert_eq!(selected.lines().count(), 3, "{selected}");
    assert_eq!(served.kubectl("get or -l team=none -o name").await.ok(), "");
    let field = served.kubectl("get or --field-selector metadata.name=c -o name").await.ok();
    assert_eq!(field, "orchard.example.dev/c\n");
    assert_eq!(served.kubectl("get or --field-selector spec.fruit=pear -o name").await.ok(), "");
    let refused = served.kubectl("get or --field-selector spec.trees=3").await.failed();
    assert!(refused.contains("field label not supported"), "{refused}");
    let all = served.kubectl("get all -A -o name").await.ok();
    assert!(all.contains("orchard.example.dev/apples"), "{all}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn describe_shows_fields_and_events() {
    let Some(served) = with_apples().await else { return };
    let uid = served.orchard("apples").await["metadata"]["uid"].clone();
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "apples.1"},
        "type": "Normal", "reason": "Planted", "note": "three trees planted", "action": "Plant",
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "gardener", "reportingInstance": "g-1",
        "regarding": {"apiVersion": "example.dev/v1", "kind": "Orchard", "name": "apples", "uid": uid}});
    let path = "/apis/events.k8s.io/v1/namespaces/default/events";
    let (code, body) = served.call("POST", path, "application/json", event).await;
    assert_eq!(code, 201, "{body}");
    let described = served.kubectl("describe orchard apples").await.ok();
    for expected in ["Name:         apples", "Fruit:  apple", "Planted", "three trees planted", "gardener"] {
        assert!(described.contains(expected), "{expected} in {described}");
    }
    let events = served.kubectl("events").await.ok();
    assert!(events.contains("Orchard/apples"), "{events}");
    let events = lines(&served.kubectl("get events --field-selector involvedObject.name=apples").await.ok());
    assert_eq!(events[0], "LAST SEEN TYPE REASON OBJECT MESSAGE");
    assert!(events[1].ends_with("Normal Planted orchard/apples three trees planted"), "{events:?}");
    let none = served.kubectl("get events --field-selector involvedObject.name=pears -o name").await.ok();
    assert_eq!(none, "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_creates_changes_and_prunes_on_the_client_side() {
    let Some(served) = Served::start().await else { return };
    served.file("a.yaml", APPLES);
    assert_eq!(served.kubectl("apply -f a.yaml").await.ok(), "orchard.example.dev/apples created\n");
    assert_eq!(served.kubectl("apply -f a.yaml").await.ok(), "orchard.example.dev/apples unchanged\n");
    served.file("a.yaml", &APPLES.replace("trees: 3", "trees: 5").replace("  labels: { team: a }\n", ""));
    assert_eq!(served.kubectl("apply -f a.yaml").await.ok(), "orchard.example.dev/apples configured\n");
    let orchard = served.orchard("apples").await;
    assert_eq!(orchard["spec"]["trees"], 5);
    assert!(orchard["metadata"].get("labels").is_none(), "{orchard}");
    assert_eq!(orchard["metadata"]["generation"], 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apply_on_the_server_side_knows_owners() {
    let Some(served) = Served::start().await else { return };
    served.file("a.yaml", APPLES);
    let applied = served.kubectl("apply --server-side -f a.yaml").await.ok();
    assert_eq!(applied, "orchard.example.dev/apples serverside-applied\n");
    let before = served.orchard("apples").await;
    served.kubectl("apply --server-side -f a.yaml").await.ok();
    assert_eq!(served.orchard("apples").await, before);
    served.kubectl("patch or apples --type=merge -p {\"spec\":{\"trees\":9}} --field-manager=hand").await.ok();
    let conflict = served.kubectl("apply --server-side -f a.yaml").await.failed();
    assert!(conflict.contains(r#"conflict with "hand" using example.dev/v1: .spec.trees"#), "{conflict}");
    served.kubectl("apply --server-side --force-conflicts -f a.yaml").await.ok();
    assert_eq!(served.orchard("apples").await["spec"]["trees"], 3);
    served.file("a.yaml", &APPLES.replace("  labels: { team: a }\n", ""));
    served.kubectl("apply --server-side -f a.yaml").await.ok();
    assert!(served.orchard("apples").await["metadata"].get("labels").is_none());
    // From client-side to server-side apply, without a conflict with itself.
    served.file("b.yaml", &APPLES.replace("apples", "pears"));
    served.kubectl("apply -f b.yaml").await.ok();
    served.file("b.yaml", &APPLES.replace("apples", "pears").replace("trees: 3", "trees: 4"));
    served.kubectl("apply --server-side -f b.yaml").await.ok();
    assert_eq!(served.orchard("pears").await["spec"]["trees"], 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_refused_with_its_field() {
    let Some(served) = Served::start().await else { return };
    served.file("typo.yaml", &APPLES.replace("trees:", "treez:"));
    for verb in ["create", "apply"] {
        let refused = served.kubectl(&format!("{verb} -f typo.yaml")).await.failed();
        assert!(refused.contains(r#"strict decoding error: unknown field "spec.treez""#), "{refused}");
    }
    let refused = served.kubectl("apply --server-side -f typo.yaml").await.failed();
    assert!(refused.contains(".spec.treez: field not declared in schema"), "{refused}");
    let warned = served.kubectl("create --validate=warn -f typo.yaml").await;
    assert!(warned.err.contains(r#"Warning: unknown field "spec.treez""#), "{warned:?}");
    warned.ok();
    served.file("many.yaml", &APPLES.replace("apples", "many").replace("trees: 3", "trees: 5000"));
    let refused = served.kubectl("create -f many.yaml").await.failed();
    let expected = "The Orchard \"many\" is invalid: spec.trees: Invalid value: 5000: spec.trees in body should be less \
                    than or equal to 1000\n";
    assert_eq!(refused, expected);
    served.file("text.yaml", &APPLES.replace("apples", "text").replace("trees: 3", "trees: three"));
    let refused = served.kubectl("create -f text.yaml").await.failed();
    assert!(refused.contains(r#"spec.trees in body must be of type integer: "string""#), "{refused}");
    served.file("name.yaml", &APPLES.replace("apples", "Not_A_Name"));
    let refused = served.kubectl("create -f name.yaml").await.failed();
    assert!(refused.contains("a lowercase RFC 1123 subdomain must consist of"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dry_run_and_diff_change_nothing() {
    let Some(served) = with_apples().await else { return };
    served.file("a.yaml", &APPLES.replace("trees: 3", "trees: 7"));
    let before = served.orchard("apples").await;
    let diff = served.kubectl("diff -f a.yaml").await;
    assert_eq!(diff.code, 1, "{diff:?}");
    assert!(diff.out.contains("-  trees: 3") && diff.out.contains("+  trees: 7"), "{}", diff.out);
    let diff = served.kubectl("diff --server-side --force-conflicts -f a.yaml").await;
    assert!(diff.code == 1 && diff.out.contains("+  trees: 7"), "{diff:?}");
    let dry = served.kubectl("apply --dry-run=server -f a.yaml").await.ok();
    assert_eq!(dry, "orchard.example.dev/apples configured (server dry run)\n");
    served.kubectl("delete --dry-run=server or apples").await.ok();
    served.file("b.yaml", &APPLES.replace("apples", "pears"));
    served.kubectl("create --dry-run=server -f b.yaml").await.ok();
    assert_eq!(served.orchard("apples").await, before);
    assert_eq!(served.kubectl("get or -o name").await.ok(), "orchard.example.dev/apples\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn labels_annotations_patches_and_replacement_change_what_they_say() {
    let Some(served) = with_apples().await else { return };
    let uid = served.orchard("apples").await["metadata"]["uid"].clone();
    served.kubectl("label or apples season=autumn").await.ok();
    served.kubectl("label or apples team-").await.ok();
    served.kubectl("annotate or apples note=ripe").await.ok();
    let orchard = served.orchard("apples").await;
    assert_eq!(orchard["metadata"]["labels"], json!({"season": "autumn"}));
    assert_eq!(orchard["metadata"]["annotations"], json!({"note": "ripe"}));
    assert_eq!(orchard["metadata"]["generation"], 1);
    served.kubectl("patch or apples --type=merge -p {\"spec\":{\"trees\":4}}").await.ok();
    let patch = r#"patch or apples --type=json -p [{"op":"replace","path":"/spec/fruit","value":"quince"}]"#;
    served.kubectl(patch).await.ok();
    let orchard = served.orchard("apples").await;
    assert_eq!((&orchard["spec"]["trees"], &orchard["spec"]["fruit"]), (&json!(4), &json!("quince")));
    assert_eq!(orchard["metadata"]["generation"], 3);
    let refused = served.kubectl("patch or apples -p {\"spec\":{\"trees\":5}}").await.failed();
    assert!(refused.contains("application/merge-patch+json"), "{refused}");
    served.kubectl("patch or apples --type=merge --subresource=status -p {\"status\":{\"phase\":\"Ripe\"}}").await.ok();
    served.kubectl("patch or apples --type=merge -p {\"status\":{\"phase\":\"Rotten\"}}").await.ok();
    assert_eq!(served.orchard("apples").await["status"]["phase"], "Ripe");
    served.file("replace.yaml", &APPLES.replace("trees: 3", "trees: 8"));
    served.kubectl("replace -f replace.yaml").await.ok();
    let orchard = served.orchard("apples").await;
    assert_eq!((&orchard["spec"]["trees"], &orchard["metadata"]["uid"]), (&json!(8), &uid));
    assert_eq!(orchard["status"]["phase"], "Ripe");
    served.kubectl_with(&["edit", "or", "apples"], &[("KUBE_EDITOR", "sed -i s/trees:.8/trees:\\ 11/")]).await.ok();
    assert_eq!(served.orchard("apples").await["spec"]["trees"], 11);
    served.file(
        "g.yaml",
        "apiVersion: example.dev/v1\nkind: Orchard\nmetadata: { generateName: plum- }\nspec: { fruit: plum }\n",
    );
    let made = served.kubectl("create -f g.yaml -o name").await.ok();
    assert!(made.starts_with("orchard.example.dev/plum-") && made.trim().len() == 30, "{made}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deletion_waits_for_finalizers_and_selects_with_care() {
    let Some(served) = with_apples().await else { return };
    let none = served.kubectl("delete or -l team=none").await.ok();
    assert!(none.contains("No resources found"), "{none}");
    assert_eq!(served.kubectl("get or -o name").await.ok().lines().count(), 1);
    served.merge("apples", json!({"metadata": {"finalizers": ["example.dev/harvest"]}})).await;
    let started = served.kubectl("delete or apples --wait=false").await.ok();
    assert!(started.contains("deleted"), "{started}");
    let orchard = served.orchard("apples").await;
    assert!(orchard["metadata"]["deletionTimestamp"].is_string(), "{orchard}");
    let waiting = served.spawn("wait --for=delete or/apples --timeout=30s");
    let patched = served
        .kubectl("patch or apples --type=merge -p {\"metadata\":{\"finalizers\":[\"example.dev/harvest\",\"a/b\"]}}");
    let refused = patched.await.failed();
    assert!(refused.contains("no new finalizers can be added if the object is being deleted"), "{refused}");
    served.merge("apples", json!({"metadata": {"finalizers": null}})).await;
    let waited = waiting.wait_with_output().await.unwrap();
    assert!(waited.status.success(), "{waited:?}");
    assert_eq!(served.kubectl("get or -o name").await.ok(), "");
    served.kubectl("create -f apples.yaml").await.ok();
    assert_eq!(served.kubectl("delete -f apples.yaml").await.ok(), "orchard.example.dev \"apples\" deleted\n");
    served.kubectl("create -f apples.yaml").await.ok();
    served.kubectl("delete or --all").await.ok();
    assert_eq!(served.kubectl("get or -o name").await.ok(), "");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_and_watching_see_changes_as_they_come() {
    let Some(served) = with_apples().await else { return };
    let mut watching = served.spawn("get or -w --no-headers");
    let mut seen = BufReader::new(watching.stdout.take().unwrap()).lines();
    let next = async |seen: &mut tokio::io::Lines<BufReader<tokio::process::ChildStdout>>| {
        let line = tokio::time::timeout(Duration::from_secs(30), seen.next_line()).await.expect("no event came");
        lines(&line.unwrap().unwrap()).remove(0)
    };
    assert!(next(&mut seen).await.starts_with("apples apple "));
    let ready = served.spawn("wait --for=condition=Ready or/apples --timeout=30s");
    let phase = served.spawn("wait --for=jsonpath={.status.phase}=Ripe or/apples --timeout=30s");
    let (code, body) = served
        .call(
            "PATCH",
            "/apis/example.dev/v1/orchards/apples/status",
            "application/merge-patch+json",
            json!({"status": {"phase": "Ripe", "conditions": [{"type": "Ready", "status": "True"}]}}),
        )
        .await;
    assert_eq!(code, 200, "{body}");
    assert!(next(&mut seen).await.starts_with("apples apple True"));
    assert!(ready.wait_with_output().await.unwrap().status.success());
    assert!(phase.wait_with_output().await.unwrap().status.success());
    let never = served.kubectl("wait --for=condition=Never or/apples --timeout=1s").await.failed();
    assert!(never.contains("timed out waiting"), "{never}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_tells_what_a_field_is() {
    let Some(served) = Served::start().await else { return };
    let explained = served.kubectl("explain orchard.spec").await.ok();
    assert!(explained.contains("How many trees there are."), "{explained}");
    assert!(explained.contains("fruit\t<string> -required-"), "{explained}");
    let explained = served.kubectl("explain orchard.spec.rows --recursive").await.ok();
    assert!(explained.contains("name\t<string>"), "{explained}");
    let explained = served.kubectl("explain pod.spec.containers.image").await.ok();
    assert!(explained.contains("Container image name"), "{explained}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn built_in_kinds_look_as_in_any_cluster() {
    let Some(served) = Served::start().await else { return };
    let web = "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: web }\nspec:\n  replicas: 2\n  \
        selector: { matchLabels: { app: web } }\n  template:\n    metadata: { labels: { app: web } }\n    spec:\n      \
        containers:\n      - name: web\n        image: nginx\n        ports: [{ containerPort: 80 }]\n";
    served.file("web.yaml", web);
    served.kubectl("apply -f web.yaml").await.ok();
    let deployments = lines(&served.kubectl("get deploy").await.ok());
    assert_eq!(deployments[0], "NAME READY UP-TO-DATE AVAILABLE AGE");
    assert!(deployments[1].starts_with("web 0/2 0 0 "), "{deployments:?}");
    assert_eq!(served.kubectl("get deploy web -o jsonpath={.spec.strategy.type}").await.ok(), "RollingUpdate");
    served.file(
        "side.yaml",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: { name: web }\nspec:\n  template:\n    \
        spec:\n      containers:\n      - name: side\n        image: busybox\n",
    );
    served.kubectl("apply --server-side --field-manager=sidecar -f side.yaml").await.ok();
    let images = served.kubectl("get deploy web -o jsonpath={.spec.template.spec.containers[*].image}").await.ok();
    assert_eq!(images, "nginx busybox");
    // Client-side apply, label and set change built-in kinds with strategic merge patches.
    served.file("web.yaml", &web.replace("image: nginx", "image: nginx:2"));
    assert_eq!(served.kubectl("apply -f web.yaml").await.ok(), "deployment.apps/web configured\n");
    served.kubectl("set image deploy/web side=busybox:2").await.ok();
    served.kubectl("label deploy web tier=front").await.ok();
    let images = served.kubectl("get deploy -l tier=front -o jsonpath={..image}").await.ok();
    assert_eq!(images, "nginx:2 busybox:2");
    let nodes = served.kubectl("get nodes").await.ok();
    assert_eq!(nodes, "");
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n-1",
        "labels": {"node-role.kubernetes.io/control-plane": ""}}, "status": {"nodeInfo": {"kubeletVersion": "v1.35.5"},
        "conditions": [{"type": "Ready", "status": "True"}]}});
    served.create("nodes", node).await;
    let nodes = lines(&served.kubectl("get nodes").await.ok());
    assert_eq!(nodes[0], "NAME STATUS ROLES AGE VERSION");
    assert!(nodes[1].starts_with("n-1 Ready control-plane ") && nodes[1].ends_with("v1.35.5"), "{nodes:?}");
    let namespaces = lines(&served.kubectl("get ns").await.ok());
    assert!(namespaces[1].starts_with("default Active "), "{namespaces:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_kubectl_sends_as_protobuf_is_understood() {
    let Some(served) = Served::start().await else { return };
    served.kubectl("create ns x").await.ok();
    served.kubectl("create configmap c -n x --from-literal=a=b").await.ok();
    assert_eq!(served.kubectl("get cm c -n x -o jsonpath={.data.a}").await.ok(), "b");
    served.kubectl("create secret generic s --from-literal=a=b").await.ok();
    assert_eq!(served.kubectl("get secret s -o jsonpath={.data.a}/{.type}").await.ok(), "Yg==/Opaque");
    served.kubectl("create sa robot").await.ok();
    served.kubectl("create deployment web --image=nginx --replicas=0 --port=80").await.ok();
    let path = "{.spec.replicas} {.spec.template.spec.containers[0].image} {.spec.strategy.rollingUpdate.maxSurge}";
    let got = served.kubectl_with(&["get", "deploy", "web", "-o", &format!("jsonpath={path}")], &[]).await.ok();
    assert_eq!(got, "0 nginx 25%");
    served.kubectl("create service clusterip web --tcp=80:8080").await.ok();
    assert_eq!(served.kubectl("get svc web -o jsonpath={.spec.ports[0].targetPort}").await.ok(), "8080");
}

/// The API of a Kina that runs, and of a cluster that it simulates.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_simulated_cluster_is_scaled_and_drained_within_its_budgets() {
    let Some(kubectl) = crate::kubectl::find() else { return };
    let environment = TestEnvironment::new();
    let toy = "apiVersion: kina.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: toy\nspec:\n  runtime: sim\n  \
               kubernetesVersion: v1.35.5\n  workers:\n  - name: pool\n    replicas: 2\n";
    environment.write("toy.yaml", toy);
    let mut command = environment.command(&["serve"]);
    let server = environment.start_command(command.env("KINA_SIM_LATENCY", "none"), "Ctrl-C ends it");
    let _ = environment.kina(&["up", "-f", "toy.yaml", "--timeout", "60s"]).success();
    let run = |kubeconfig: &str, arguments: &str| {
        let mut command = std::process::Command::new(&kubectl);
        command.env_clear().env("HOME", environment.path("work")).args(arguments.split_whitespace());
        let output = command.env("KUBECONFIG", environment.path(kubeconfig)).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        crate::kubectl::Ran {
            code: output.status.code().unwrap_or(-1),
            out: text(&output.stdout),
            err: text(&output.stderr),
        }
    };
    let toy = |arguments: &str| run("home/.kube/config", arguments);
    let version: Value = serde_json::from_str(&toy("version -o json").ok()).unwrap();
    assert_eq!(version["serverVersion"]["gitVersion"], "v1.35.5");
    toy("create deployment web --image=nginx --replicas=2").ok();
    assert_eq!(toy("scale deployment web --replicas=4").ok(), "deployment.apps/web scaled\n");
    toy("rollout status deployment/web --timeout=30s").ok();
    toy("create pdb web --selector=app=web --min-available=4").ok();
    toy("wait --for=jsonpath={.status.currentHealthy}=4 pdb/web --timeout=30s").ok();
    let blocked = toy("drain toy-pool-0 --ignore-daemonsets --timeout=1s").failed();
    assert!(blocked.contains("Cannot evict pod as it would violate the pod's disruption budget"), "{blocked}");
    assert!(toy("delete pdb web").ok().contains("deleted"));
    let drained = toy("drain toy-pool-0 --ignore-daemonsets --timeout=30s").ok();
    assert!(drained.ends_with("node/toy-pool-0 drained\n"), "{drained}");
    let left = toy("get pods -o jsonpath={.items[?(@.spec.nodeName==\"toy-pool-0\")].metadata.name}").ok();
    assert_eq!(left, "");
    toy("uncordon toy-pool-0").ok();
    assert_eq!(toy("auth can-i create pods").ok(), "yes\n");

    let kina = |arguments: &str| run("home/.kina/kubeconfig", arguments);
    assert_eq!(kina("auth can-i --list").code, 0);
    let refused = kina("scale cluster toy --replicas=3").failed();
    assert!(refused.contains("could not find the requested resource"), "{refused}");
    assert_eq!(kina("delete cluster toy --dry-run=server").code, 0);
    assert_eq!(kina("get clusters --chunk-size=1 -o name").ok(), "cluster.kina.dev/toy\n");
    for probe in ["healthz", "livez", "readyz"] {
        assert_eq!(kina(&format!("get --raw /{probe}")).ok(), "ok");
    }
    assert_eq!(server.end(), 0);
}
