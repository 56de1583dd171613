use serde_json::{Value, json};

use super::*;
use crate::apiserver::schema::{default, unknown_fields, unsupported, validate};

#[test]
fn every_schema_is_structural_and_enforced() {
    for kind in workload() {
        assert_eq!(unsupported(kind.schema.document()), Vec::<String>::new(), "{}", kind.kind);
        let mut references = 0;
        count_references(kind.schema.document(), &mut references);
        assert_eq!(references, 0, "{}", kind.kind);
    }
}

fn count_references(schema: &Value, found: &mut usize) {
    match schema {
        Value::Object(fields) => fields.iter().for_each(|(name, field)| {
            *found += usize::from(name == "$ref");
            count_references(field, found);
        }),
        Value::Array(items) => items.iter().for_each(|item| count_references(item, found)),
        _ => {}
    }
}

#[test]
fn the_schema_is_made_once_and_shared() {
    let (first, second) = (workload(), workload());
    assert!(first.iter().zip(&second).all(|(first, second)| Arc::ptr_eq(&first.schema, &second.schema)));
    assert_eq!(first.len(), 18);
}

#[test]
fn well_known_lists_merge_by_their_keys() {
    let pod = pod().schema;
    let pod = pod.document();
    let spec = &pod["properties"]["spec"]["properties"];
    assert_eq!(spec["containers"]["x-kubernetes-list-map-keys"], json!(["name"]));
    let container = &spec["containers"]["items"]["properties"];
    assert_eq!(container["ports"]["x-kubernetes-list-map-keys"], json!(["containerPort", "protocol"]));
    assert_eq!(container["env"]["x-kubernetes-list-type"], "map");
    assert_eq!(spec["nodeSelector"]["x-kubernetes-map-type"], "atomic");
    let metadata = &pod["properties"]["metadata"]["properties"];
    assert_eq!(metadata["finalizers"]["x-kubernetes-list-type"], "set");
    assert_eq!(metadata["ownerReferences"]["items"]["x-kubernetes-map-type"], "atomic");
}

#[test]
fn a_deployment_as_people_write_it_is_completed_and_valid() {
    let schema = deployment().schema;
    let mut object = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "creationTimestamp": null},
        "spec": {"selector": {"matchLabels": {"app": "web"}}, "strategy": {},
            "template": {"metadata": {"labels": {"app": "web"}, "creationTimestamp": null}, "spec": {"containers": [{
                "name": "web", "image": "nginx:1", "ports": [{"containerPort": 80}],
                "resources": {"requests": {"cpu": 1, "memory": "1Gi"}}}]}}},
        "status": {}});
    assert_eq!(unknown_fields(&schema, &object), Vec::<String>::new());
    default(&schema, &mut object);
    assert_eq!(validate(&schema, &object), Vec::new());
    assert_eq!(object["spec"]["replicas"], 1);
    assert_eq!(object["spec"]["strategy"]["type"], "RollingUpdate");
    let pod = &object["spec"]["template"]["spec"];
    assert_eq!(pod["restartPolicy"], "Always");
    assert_eq!(pod["containers"][0]["ports"][0]["protocol"], "TCP");
    assert!(object["metadata"].get("creationTimestamp").is_none());
}

#[test]
fn an_event_keeps_everything_between_its_two_faces() {
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e"}, "note": "n",
        "regarding": {"name": "x"}, "reportingController": "c", "reportingInstance": "i", "action": "a"});
    let mut changed = event.clone();
    event_to_core(&mut changed);
    assert_eq!(changed["message"], "n");
    assert_eq!(changed["involvedObject"]["name"], "x");
    assert_eq!(changed["reportingComponent"], "c");
    event_to_events(&mut changed);
    assert_eq!(changed, event);
}

fn row(kind: &Kind, object: &Value) -> Vec<String> {
    let printer = kind.printer.clone().unwrap();
    let row = (printer.row)(object, "2024-01-01T01:00:00Z".parse().unwrap());
    assert_eq!(row.len(), printer.columns.len(), "{}", kind.kind);
    let narrow = printer.columns.iter().zip(row).filter(|(column, _)| column.priority == 0);
    narrow.map(|(_, cell)| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)).collect()
}

#[test]
fn rows_read_as_kubectl_users_know_them() {
    for kind in workload() {
        row(&kind, &json!({}));
    }
    let metadata = json!({"name": "x", "creationTimestamp": "2024-01-01T00:00:00Z",
        "labels": {"node-role.kubernetes.io/control-plane": ""}});
    let node_object = json!({"metadata": metadata, "spec": {"unschedulable": true}, "status": {
        "conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.35.5"}}});
    assert_eq!(row(&node(), &node_object), ["x", "Ready,SchedulingDisabled", "control-plane", "60m", "v1.35.5"]);
    let pod_object = json!({"metadata": metadata, "spec": {"containers": [{}, {}]}, "status": {"phase": "Running",
        "containerStatuses": [{"ready": true, "restartCount": 2}, {"ready": false, "restartCount": 1,
            "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}});
    assert_eq!(row(&pod(), &pod_object), ["x", "1/2", "CrashLoopBackOff", "3", "60m"]);
    let deployment_object = json!({"metadata": metadata, "spec": {"replicas": 3}, "status": {"readyReplicas": 2,
        "updatedReplicas": 3, "availableReplicas": 2}});
    assert_eq!(row(&deployment(), &deployment_object), ["x", "2/3", "3", "2", "60m"]);
    let service_object = json!({"metadata": metadata, "spec": {"type": "NodePort", "clusterIP": "10.96.0.1",
        "ports": [{"port": 443, "protocol": "TCP"}, {"port": 80, "nodePort": 30080}]}});
    assert_eq!(
        row(&service(), &service_object),
        ["x", "NodePort", "10.96.0.1", "<none>", "443/TCP,80:30080/TCP", "60m"]
    );
    let event_object = json!({"apiVersion": "events.k8s.io/v1", "type": "Normal", "reason": "Created", "note": "hello",
        "eventTime": "2024-01-01T00:59:55.000000Z", "regarding": {"kind": "Cluster", "name": "dev"}});
    assert_eq!(row(&event_in_group(), &event_object), ["5s", "Normal", "Created", "cluster/dev", "hello"]);
}
