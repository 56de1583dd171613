//! Findings, as functions of facts that nobody had to look for.

use super::facts::{Disk, Holder, HomeFacts, HostFacts, LinuxFacts, Usable};
use super::*;
use crate::api::Cluster;
use crate::api::cluster::{MachineResources, Quantity, RuntimeName};
use crate::runtime::apple::HostSize;
use crate::runtime::docker::{EngineFacts, Examination};
use crate::runtime::{Cause, Listing};

const GIB: u64 = 1 << 30;

fn engine() -> EngineFacts {
    EngineFacts {
        name: "Docker",
        version: "28.2.2".into(),
        api_version: "1.50".into(),
        operating_system: "Debian".into(),
        kernel: "6.12.1".into(),
        cgroup_version: Some(2),
        storage: "overlay2".into(),
        ..EngineFacts::default()
    }
}

fn linux() -> LinuxFacts {
    LinuxFacts {
        release: "6.12.1".into(),
        inotify_instances: Some(8192),
        inotify_watches: Some(1_000_000),
        knows_overlay: true,
    }
}

fn listing(routes: &[&str]) -> Listing {
    Listing {
        began: tokio::time::Instant::now(),
        containers: Vec::new(),
        networks: Vec::new(),
        volumes: Vec::new(),
        routes: routes.iter().map(|&route| route.to_owned()).collect(),
    }
}

fn facts(engine: Result<EngineFacts, RuntimeError>, linux: LinuxFacts) -> Facts {
    let listing = engine.is_ok().then(|| Ok(listing(&["192.168.0.0/24"])));
    let place = Some("/var/run/docker.sock".to_owned());
    Facts {
        subject: Subject::Docker(Some(Examination { place, engine, listing })),
        host: HostFacts {
            size: HostSize { cpus: 8, memory_bytes: 16 * GIB },
            disks: vec![Disk { of: "the home", path: "/home/me/.kina".into(), free_bytes: 100 * GIB }],
            linux: Some(linux),
            port_error: None,
            kubectl: Some("/usr/bin/kubectl".into()),
        },
        home: HomeFacts {
            path: "/home/me/.kina".into(),
            usable: Usable::Yes,
            network_file_system: None,
            holder: Holder::Kina,
        },
        installation: None,
        clusters: Some(Vec::new()),
    }
}

fn found(facts: &Facts, check: &str) -> Finding {
    findings(facts).into_iter().find(|finding| finding.check == check).unwrap()
}

fn silent(message: &str) -> RuntimeError {
    RuntimeError::new("connect to", "/var/run/docker.sock", Cause::Unavailable, message)
}

#[test]
fn on_a_host_that_has_everything_every_check_is_well() {
    let all = findings(&facts(Ok(engine()), linux()));
    assert!(all.iter().all(|finding| finding.state == State::Ok && finding.next.is_none()), "{all:#?}");
    assert_eq!(missing(&all), 0);
}

#[test]
fn everything_that_is_not_well_says_what_to_do_or_why_it_was_not_looked_at() {
    let rootless = EngineFacts { rootless: true, cgroup_version: Some(1), api_version: "1.40".into(), ..engine() };
    let low = LinuxFacts { inotify_instances: Some(128), inotify_watches: Some(8192), knows_overlay: false, ..linux() };
    let mut poor = facts(Ok(rootless), low);
    poor.host.size = HostSize { cpus: 1, memory_bytes: GIB };
    poor.host.disks[0].free_bytes = GIB;
    poor.host.port_error = Some("none".into());
    poor.home.network_file_system = Some("NFS");
    for finding in findings(&poor) {
        let is_well = matches!(finding.state, State::Ok | State::Note | State::Skipped);
        assert_eq!(finding.next.is_none(), is_well, "{finding:?}");
    }
    assert_eq!(found(&poor, "cgroups").state, State::Warning);
    assert_eq!(found(&poor, "privileges").state, State::Missing);
    assert_eq!(found(&poor, "disk").state, State::Missing);
    let inotify = found(&poor, "inotify");
    let next = "`sudo sysctl fs.inotify.max_user_instances=512 fs.inotify.max_user_watches=524288`, and the same in /etc/sysctl.d";
    assert_eq!((inotify.state, inotify.next.as_deref()), (State::Warning, Some(next)));
}

#[test]
fn a_kernel_in_a_virtual_machine_is_not_judged_by_that_of_the_host() {
    let elsewhere = facts(Ok(EngineFacts { kernel: "6.10.14-linuxkit".into(), ..engine() }), linux());
    assert_eq!(found(&elsewhere, "inotify").state, State::Skipped);
    assert_eq!(found(&elsewhere, "overlay").state, State::Skipped);
}

#[test]
fn an_engine_that_may_not_be_asked_or_is_not_there_stops_what_rests_on_it() {
    let refused = facts(Err(silent("client error (Connect): Permission denied (os error 13)")), linux());
    let first = found(&refused, "engine");
    assert!(first.cause.starts_with("/var/run/docker.sock: ") && first.next.unwrap().contains("group `docker`"));
    assert_eq!(found(&refused, "subnets").cause, "not looked at: the engine does not answer");
    let bare = Facts { subject: Subject::Docker(None), ..facts(Ok(engine()), linux()) };
    let all = findings(&bare);
    assert_eq!((missing(&all), all[0].state), (1, State::Missing));
    assert!(!lacks_service_alone(&all), "that is another service");
}

#[test]
fn a_pool_of_subnets_that_the_host_has_routes_to_is_missing() {
    let mut full = facts(Ok(engine()), linux());
    let Subject::Docker(Some(examination)) = &mut full.subject else { return };
    examination.listing = Some(Ok(listing(&["10.0.0.0/8"])));
    assert_eq!(found(&full, "subnets").state, State::Missing);
}

fn cluster(runtime: Option<RuntimeName>, memory: Option<&str>, replicas: u32) -> Cluster {
    let mut cluster = Cluster::new("dev", crate::api::cluster::ClusterSpec::default());
    cluster.spec.runtime = runtime;
    cluster.spec.control_plane.replicas = replicas;
    let memory = memory.map(|text| Quantity(text.to_owned()));
    cluster.spec.control_plane.resources = memory.map(|memory| MachineResources { cpus: None, memory: Some(memory) });
    cluster.spec.workers.clear();
    cluster
}

#[test]
fn machines_that_are_to_have_more_memory_than_there_is_are_told_before_they_are_made() {
    let mut host = facts(Ok(engine()), linux());
    host.clusters = Some(vec![cluster(Some(RuntimeName::Docker), Some("6Gi"), 3), cluster(None, None, 1)]);
    let memory = found(&host, "memory");
    assert_eq!((memory.state, &*memory.cause), (State::Warning, "16 GiB, and 3 machines are to have 18 GiB together"));
    host.clusters = Some(vec![cluster(Some(RuntimeName::Sim), Some("6Gi"), 7)]);
    assert_eq!(found(&host, "memory").state, State::Ok, "simulated ones need none");
    // On Apple Container a node without limits has its share, and each machine a little more.
    let command = None;
    host.subject = Subject::Apple(super::facts::AppleFacts { mac: None, command });
    host.clusters = Some(vec![cluster(None, None, 7)]);
    let memory = found(&host, "memory");
    assert_eq!(memory.cause, "16 GiB; a node has 2 GiB where nobody says how much");
    host.clusters = Some(vec![cluster(None, None, 7), cluster(Some(RuntimeName::Apple), None, 1)]);
    assert_eq!(found(&host, "memory").state, State::Warning);
}

#[test]
fn a_home_that_cannot_be_used_or_is_held_in_silence_is_told() {
    let mut host = facts(Ok(engine()), linux());
    host.home.holder = Holder::Unknown("a kina holds the home, and cannot be reached".into());
    assert_eq!((found(&host, "home").state, found(&host, "kina").state), (State::Ok, State::Warning));
    host.home.usable = Usable::No("it is not a directory".into(), "set KINA_HOME".into());
    assert_eq!(found(&host, "home").state, State::Missing);
    assert!(findings(&host).iter().all(|finding| finding.check != "kina"));
}
