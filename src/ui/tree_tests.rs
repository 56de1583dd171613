use super::super::fixtures::{busy_house, now};
use super::*;

fn shown(view: &View, width: usize, style: Style, only: &[&str]) -> String {
    let only = only.iter().map(|name| (*name).to_owned()).collect();
    let options = Options { width, style, now: now(), only, events: 5, folded: false };
    lines(view, &options).iter().map(|line| line.render(style)).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_whole_picture_reads_well_at_80_columns() {
    let style = Style { colour: false, unicode: true };
    insta::assert_snapshot!(shown(&busy_house(), 80, style, &[]), @r"
    … new  Provisioning  v1.35.5  docker  1/3 machines  2m5s
      │  waiting  MachinesJoining: 2 of 2 workers are joining (12s)
      ├─ control-plane  1/1 ready
      │  └─ ✓ new-control-plane-0  Running  10.160.0.2
      └─ default  0/2 ready
         ├─ … new-default-0  Bootstrapping  10.160.0.2
         │    waiting  Joining: kubeadm join runs in the node (9s)
         └─ … new-default-1  Bootstrapping  10.160.0.3
              waiting  Joining: kubeadm join runs in the node (9s)
    ✗ prod  Degraded  v1.35.5  apple  2/3 machines  2m5s
      │  not Ready  MachineFailed: machine prod-default-1 cannot be started (8s)
      │  Stalled  ForeignContainer: a container named prod-default-1 belongs to
      │    somebody else (8s)
      │  drift  warning: subnet of kina-prod is 10.160.9.0/24, wanted 10.160.1.0/24;
      │    reported (60s)
      ├─ control-plane  1/1 ready
      │  └─ ✓ prod-control-plane-0  Running  10.160.0.2
      └─ default  1/2 ready
         ├─ ✓ prod-default-0  Running  10.160.0.2
         └─ ✗ prod-default-1  Failed  10.160.0.3
              failed  NameTaken: creating container prod-default-1: a container of
                that name exists and is not Kina's, 3 times, needs a person (5m)
              drift  critical: state of prod-default-1 is gone, wanted running
                (5m1s)
    ✓ toy  Running  v1.35.5  simulated  12/13 machines  2m5s
      │  https://127.0.0.1:40001
      ├─ control-plane  1/1 ready
      │  └─ ✓ toy-control-plane-0  Running  10.160.0.2
      └─ default  11/2 ready
         └─ ! toy-default-11  NotReady  10.160.0.13

    Sources
    ! clusters  /home/me/.kina/clusters  3 clusters, 1 error, 1 held
        ✗ team/broken.yaml:7:12  `replicas` must be a number from 0 to 1000, found a
          text
            7 |   replicas: three
              |             ^^^^^ expected a number
          the last good state stays: prod
        ! held deletion of old, older  2 clusters would be deleted; at most 1 may be
          deleted or made anew within an hour (3m20s)
          kina approve h-3f2c
        ! dear stays  no file declares it any more, and it is protected (90s)
          to delete it, declare it with `protect: false` and remove that again; to
            keep it, `kina detach dear`
        let-go in let-go.yaml was detached: it is not applied until the file changes

    Recent events
        5s  normal   Machine/new-default-0  Bootstrapping: kubeadm join has started
      5m1s  warning  Machine/prod-default-1  ContainerGone: container prod-default-1
                     is gone
     6m40s  warning  Source/clusters  FileInvalid: team/broken.yaml:7:12: `replicas`
                     must be a number
    ");
}

#[test]
fn the_whole_picture_at_120_columns_in_plain_ascii() {
    insta::assert_snapshot!(shown(&busy_house(), 120, Style::default(), &[]), @r"
    ~ new  Provisioning  v1.35.5  docker  1/3 machines  2m5s
      |  waiting  MachinesJoining: 2 of 2 workers are joining (12s)
      |- control-plane  1/1 ready
      |  `- + new-control-plane-0  Running  10.160.0.2
      `- default  0/2 ready
         |- ~ new-default-0  Bootstrapping  10.160.0.2
         |    waiting  Joining: kubeadm join runs in the node (9s)
         `- ~ new-default-1  Bootstrapping  10.160.0.3
              waiting  Joining: kubeadm join runs in the node (9s)
    x prod  Degraded  v1.35.5  apple  2/3 machines  2m5s
      |  not Ready  MachineFailed: machine prod-default-1 cannot be started (8s)
      |  Stalled  ForeignContainer: a container named prod-default-1 belongs to somebody else (8s)
      |  drift  warning: subnet of kina-prod is 10.160.9.0/24, wanted 10.160.1.0/24; reported (60s)
      |- control-plane  1/1 ready
      |  `- + prod-control-plane-0  Running  10.160.0.2
      `- default  1/2 ready
         |- + prod-default-0  Running  10.160.0.2
         `- x prod-default-1  Failed  10.160.0.3
              failed  NameTaken: creating container prod-default-1: a container of that name exists and is not Kina's, 3
                times, needs a person (5m)
              drift  critical: state of prod-default-1 is gone, wanted running (5m1s)
    + toy  Running  v1.35.5  simulated  12/13 machines  2m5s
      |  https://127.0.0.1:40001
      |- control-plane  1/1 ready
      |  `- + toy-control-plane-0  Running  10.160.0.2
      `- default  11/2 ready
         `- ! toy-default-11  NotReady  10.160.0.13

    Sources
    ! clusters  /home/me/.kina/clusters  3 clusters, 1 error, 1 held
        x team/broken.yaml:7:12  `replicas` must be a number from 0 to 1000, found a text
            7 |   replicas: three
              |             ^^^^^ expected a number
          the last good state stays: prod
        ! held deletion of old, older  2 clusters would be deleted; at most 1 may be deleted or made anew within an hour
          (3m20s)
          kina approve h-3f2c
        ! dear stays  no file declares it any more, and it is protected (90s)
          to delete it, declare it with `protect: false` and remove that again; to keep it, `kina detach dear`
        let-go in let-go.yaml was detached: it is not applied until the file changes

    Recent events
        5s  normal   Machine/new-default-0  Bootstrapping: kubeadm join has started
      5m1s  warning  Machine/prod-default-1  ContainerGone: container prod-default-1 is gone
     6m40s  warning  Source/clusters  FileInvalid: team/broken.yaml:7:12: `replicas` must be a number
    ");
}

#[test]
fn colour_adds_no_meaning() {
    let style = Style { colour: true, unicode: true };
    let coloured = shown(&busy_house(), 80, style, &["new"]);
    insta::assert_snapshot!(coloured.replace('\x1b', "^"), @r"
    ^[36m… ^[0m^[1mnew^[0m^[36m  Provisioning^[0m  v1.35.5  docker  1/3 machines  2m5s
    ^[2m  │  ^[0m^[36mwaiting^[0m  MachinesJoining: 2 of 2 workers are joining^[2m (12s)^[0m
    ^[2m  ├─ ^[0m^[1mcontrol-plane^[0m  1/1 ready
    ^[2m  │  └─ ^[0m^[32m✓ ^[0mnew-control-plane-0^[32m  Running^[0m^[2m  10.160.0.2^[0m
    ^[2m  └─ ^[0m^[1mdefault^[0m  0/2 ready
    ^[2m     ├─ ^[0m^[36m… ^[0mnew-default-0^[36m  Bootstrapping^[0m^[2m  10.160.0.2^[0m
    ^[2m     │    ^[0m^[36mwaiting^[0m  Joining: kubeadm join runs in the node^[2m (9s)^[0m
    ^[2m     └─ ^[0m^[36m… ^[0mnew-default-1^[36m  Bootstrapping^[0m^[2m  10.160.0.3^[0m
    ^[2m          ^[0m^[36mwaiting^[0m  Joining: kubeadm join runs in the node^[2m (9s)^[0m

    ^[1mRecent events^[0m
    ^[2m    5s  ^[0mnormal   ^[1mMachine/new-default-0^[0m  Bootstrapping: kubeadm join has started
    ");
    let plain = shown(&busy_house(), 80, Style { colour: false, unicode: true }, &["new"]);
    assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), plain);
}

#[test]
fn the_whole_picture_reads_well_at_120_columns() {
    let style = Style { colour: false, unicode: true };
    insta::assert_snapshot!(shown(&busy_house(), 120, style, &[]));
}

#[test]
fn where_not_everything_fits_what_is_not_fine_comes_first_and_the_rest_is_short() {
    let style = Style { colour: false, unicode: true };
    let folded = |view: &View, width: usize| {
        let options = Options { width, style, now: now(), only: Vec::new(), events: 5, folded: true };
        lines(view, &options).iter().map(|line| line.render(style)).collect::<Vec<_>>()
    };
    insta::assert_snapshot!(folded(&busy_house(), 80).join("\n"));
    let one = super::super::fixtures::cluster(
        "c",
        "sim",
        serde_json::json!({"phase": "Running",
        "conditions": [super::super::fixtures::condition("Ready", "True", "Ready", "")]}),
    );
    let cluster = |n: usize| {
        let mut value = one.clone();
        value["metadata"]["name"] = format!("c{n}").into();
        serde_json::from_value(value).unwrap()
    };
    let many = folded(&View::of((0..1000).map(cluster).collect(), vec![], vec![], vec![]), 80);
    assert_eq!((many.len(), many[5].as_str()), (6, "✓ 995 more that are Ready"));
}

#[test]
fn an_empty_house_says_so() {
    let empty = View::of(vec![], vec![], vec![], vec![]);
    assert_eq!(shown(&empty, 80, Style::default(), &[]), "No clusters.");
}

#[test]
fn a_directory_of_which_not_everything_can_be_seen_is_not_shown_as_fine() {
    let status = serde_json::json!({"conditions": [
        super::super::fixtures::condition("Available", "True", "Readable", ""),
        super::super::fixtures::condition("Settled", "False", "Incomplete", "l.yaml: the link leads out of the watched directory"),
    ]});
    let source = serde_json::json!({"apiVersion": "kina.dev/v1alpha1", "kind": "Source", "metadata": {"name": "clusters"},
        "spec": {"path": "/home/me/.kina/clusters"}, "status": status});
    let view = View::of(vec![], vec![], vec![serde_json::from_value(source).unwrap()], vec![]);
    let shown = shown(&view, 80, Style::default(), &[]);
    assert!(shown.contains("! clusters  /home/me/.kina/clusters"), "{shown}");
    assert!(shown.contains("Incomplete: l.yaml: the link leads out of the watched directory"), "{shown}");
}

#[test]
fn of_many_clusters_those_that_are_fine_have_one_line_each() {
    let ready = super::super::fixtures::condition("Ready", "True", "AllReady", "");
    let sick = super::super::fixtures::condition("AddonsReady", "False", "DnsAway", "CoreDNS is not Available");
    let house = |clusters: usize| {
        let cluster = |n: usize| {
            let conditions = if n == 7 { vec![ready.clone(), sick.clone()] } else { vec![ready.clone()] };
            let status =
                serde_json::json!({"phase": "Running", "conditions": conditions, "endpoint": "https://127.0.0.1:1"});
            serde_json::from_value(super::super::fixtures::cluster(&format!("c{n:02}"), "sim", status)).unwrap()
        };
        let machine = |n: usize| {
            let machine =
                super::super::fixtures::machine(&format!("c{n:02}"), "default", 0, super::super::fixtures::running());
            serde_json::from_value(machine).unwrap()
        };
        View::of((0..clusters).map(cluster).collect(), (0..clusters).map(machine).collect(), vec![], vec![])
    };
    let lines = |house: &View, only: &[&str]| shown(house, 80, Style::default(), only).lines().count();
    assert_eq!(lines(&house(20), &[]), 20 * 4 + 1);
    let many = house(21);
    // The one that is not fine shows its endpoint, what is wrong, its pool and its machine.
    assert_eq!((lines(&many, &[]), lines(&many, &["c03"])), (21 + 4, 4));
    let clusters: Vec<Cluster> = many.clusters().cloned().collect();
    assert!(shows_machines(&clusters, &[]));
    let fine: Vec<Cluster> = clusters
        .into_iter()
        .filter(|cluster| cluster.name_any() != "c07")
        .chain(many.cluster("c03").cloned())
        .collect();
    assert!(
        !shows_machines(&fine, &[]) && shows_machines(&fine, &["c03".to_owned()]) && shows_machines(&fine[..2], &[])
    );
}

#[test]
fn a_thousand_clusters_are_drawn() {
    let one = super::super::fixtures::cluster("c", "sim", serde_json::json!({}));
    let cluster = |n: usize| {
        let mut value = one.clone();
        value["metadata"]["name"] = format!("c{n}").into();
        serde_json::from_value(value).unwrap()
    };
    let view = View::of((0..1000).map(cluster).collect(), vec![], vec![], vec![]);
    assert_eq!(shown(&view, 80, Style::default(), &[]).lines().count(), 1000);
}
