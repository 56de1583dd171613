//! What every runtime must do: one suite, generic over the trait. An implementation passes it as it is.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;

use super::{
    Cause, Container, ContainerId, ContainerSpec, ContainerState, ExecRequest, InstallationId, Labels, Listing, Mount,
    NetworkSpec, NodeFile, OwnerLabels, Privileges, PublishedPort, Resources, Role, Runtime, RuntimeError, VolumeSpec,
};
use crate::api::cidr::Cidr6;
use crate::api::node::Protocol;

/// What the suite works with. All that it creates has names with `prefix`, and is removed at the end.
#[derive(Clone, Debug)]
pub struct Setup {
    /// An image that exists, whose own command keeps running and that has `cat`, `echo`, `false` and `sleep`.
    pub image: String,
    /// An image that does not exist.
    pub missing_image: String,
    /// Begins every name.
    pub prefix: String,
    /// Two parts of `10.A.B.0/24`, a subnet that nothing uses.
    pub subnet: (u8, u8),
    /// A host port that nothing uses.
    pub port: u16,
    /// The host knows IPv6.
    pub has_ipv6: bool,
}

struct Suite<'a> {
    runtime: &'a dyn Runtime,
    setup: &'a Setup,
}

/// Runs the whole suite; panics where the contract is broken.
pub async fn run(runtime: &dyn Runtime, setup: &Setup) {
    let suite = Suite { runtime, setup };
    suite.runtime.info().await.expect("the runtime tells its version");
    suite.images().await;
    suite.networks().await;
    suite.volumes().await;
    suite.containers().await;
    suite.addresses_and_ports().await;
    suite.both_families().await;
    suite.commands().await;
    suite.files().await;
    suite.events().await;
    suite.leaves_nothing().await;
}

fn cause<T: std::fmt::Debug>(result: Result<T, RuntimeError>) -> Cause {
    result.expect_err("the contract wants a refusal").cause
}

impl Suite<'_> {
    fn name(&self, name: &str) -> String {
        format!("{}-{name}", self.setup.prefix)
    }

    fn labels(&self) -> Labels {
        let owner = OwnerLabels {
            installation: InstallationId::parse("contract-suite").unwrap(),
            cluster: self.setup.prefix.clone(),
            cluster_uid: "uid-1".into(),
            machine_uid: Some("uid-2".into()),
            role: Some(Role::Worker),
            spec_hash: Some("abc".into()),
        };
        owner.to_labels()
    }

    fn address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.setup.subnet.0, self.setup.subnet.1, last)
    }

    fn network_spec(&self) -> NetworkSpec {
        let (a, b) = self.setup.subnet;
        NetworkSpec {
            name: self.name("net"),
            subnet: Some(format!("10.{a}.{b}.0/24")),
            ipv6_subnet: None,
            labels: self.labels(),
        }
    }

    fn spec(&self, name: &str) -> ContainerSpec {
        ContainerSpec {
            name: self.name(name),
            image: self.setup.image.clone(),
            labels: self.labels(),
            network: self.name("net"),
            address: None,
            ipv6_address: None,
            environment: BTreeMap::new(),
            mounts: Vec::new(),
            ports: Vec::new(),
            resources: Resources::default(),
            hosts: BTreeMap::new(),
            dns_search: None,
            host_mounts: Vec::new(),
            privileges: Privileges::Node,
            command: Vec::new(),
        }
    }

    fn mount(&self, subdirectory: &str, target: &str) -> Mount {
        Mount { volume: self.name("vol"), subdirectory: subdirectory.into(), target: target.into() }
    }

    async fn list(&self) -> Listing {
        self.runtime.list().await.expect("a listing")
    }

    async fn find(&self, name: &str) -> Option<Arc<Container>> {
        let name = self.name(name);
        self.list().await.containers.into_iter().find(|container| container.name == name)
    }

    async fn create(&self, spec: &ContainerSpec) -> ContainerId {
        self.runtime.create_container(spec).await.expect("a container is created")
    }

    async fn started(&self, spec: &ContainerSpec) -> ContainerId {
        let id = self.create(spec).await;
        self.runtime.start_container(&id).await.expect("a container starts");
        id
    }

    /// Starts a container of which files are to be read, where the runtime reads none of a stopped one.
    async fn readable(&self, id: &ContainerId) {
        if !self.runtime.capabilities().reads_stopped {
            assert_eq!(cause(self.runtime.read_file(id, "/etc/hosts").await), Cause::NotRunning);
            self.runtime.start_container(id).await.expect("a container starts");
        }
    }

    async fn with_network(&self) {
        self.runtime.create_network(&self.network_spec()).await.expect("a network is created");
    }

    async fn without_network(&self) {
        self.runtime.remove_network(&self.name("net")).await.expect("a network is removed");
    }

    async fn remove(&self, id: &ContainerId) {
        self.runtime.remove_container(id).await.expect("a container is removed");
    }

    async fn images(&self) {
        let first = self.runtime.ensure_image(&self.setup.image).await.expect("the image is pulled");
        let second = self.runtime.ensure_image(&self.setup.image).await.expect("and is there the next time");
        assert_eq!(first, second);
        assert!(first.digest.starts_with("sha256:") && first.digest.len() == 71, "{first:?}");
        assert_eq!(cause(self.runtime.ensure_image(&self.setup.missing_image).await), Cause::Invalid);
    }

    async fn networks(&self) {
        let spec = self.network_spec();
        self.with_network().await;
        assert_eq!(cause(self.runtime.create_network(&spec).await), Cause::AlreadyExists);
        let other = NetworkSpec { name: self.name("net2"), ..spec.clone() };
        assert_eq!(cause(self.runtime.create_network(&other).await), Cause::Conflict, "the subnet is taken");
        let listed = self.list().await.networks.into_iter().find(|network| network.name == spec.name).unwrap();
        assert_eq!(
            (listed.subnet.clone(), listed.labels.get("dev.kina.cluster")),
            (spec.subnet.clone(), spec.labels.get("dev.kina.cluster"))
        );
        let any = NetworkSpec { name: self.name("any"), subnet: None, ..spec.clone() };
        self.runtime.create_network(&any).await.expect("the runtime chooses a subnet");
        let listed = self.list().await.networks.into_iter().find(|network| network.name == any.name).unwrap();
        assert!(listed.subnet.is_some() && listed.owner().is_some());
        self.runtime.remove_network(&any.name).await.expect("a network is removed");
        let id = self.create(&self.spec("user")).await;
        assert_eq!(cause(self.runtime.remove_network(&spec.name).await), Cause::InUse);
        self.remove(&id).await;
        self.without_network().await;
        assert_eq!(cause(self.runtime.remove_network(&spec.name).await), Cause::NotFound);
        assert_eq!(cause(self.runtime.create_container(&self.spec("lost")).await), Cause::NotFound, "no such network");
    }

    async fn volumes(&self) {
        self.with_network().await;
        let spec = VolumeSpec { name: self.name("vol"), labels: self.labels() };
        self.runtime.create_volume(&spec).await.expect("a volume is created");
        assert_eq!(cause(self.runtime.create_volume(&spec).await), Cause::AlreadyExists);
        let listed = self.list().await.volumes.into_iter().find(|volume| volume.name == spec.name).unwrap();
        assert!(listed.owner().is_some());
        let mut user = self.spec("user");
        user.mounts = vec![self.mount("etc", "/etc/contract"), self.mount("deep/er", "/var/contract")];
        let id = self.create(&user).await;
        let files = [file("/etc/contract/a", "one"), file("/var/contract/b", "two"), file("/opt/c", "three")];
        self.runtime.copy_in(&id, &files).await.expect("files are copied in");
        assert_eq!(cause(self.runtime.remove_volume(&spec.name).await), Cause::InUse);
        self.readable(&id).await;
        assert_eq!(self.read(&id, "/opt/c").await.as_deref(), Some("three"));
        self.remove(&id).await;
        // What lies on the volume outlives the container; what does not, does not.
        let id = self.create(&user).await;
        self.readable(&id).await;
        assert_eq!(self.read(&id, "/etc/contract/a").await.as_deref(), Some("one"));
        assert_eq!(self.read(&id, "/var/contract/b").await.as_deref(), Some("two"));
        assert_eq!(self.read(&id, "/opt/c").await, None);
        self.remove(&id).await;
        self.runtime.remove_volume(&spec.name).await.expect("a volume is removed");
        assert_eq!(cause(self.runtime.remove_volume(&spec.name).await), Cause::NotFound);
        assert_eq!(cause(self.runtime.create_container(&user).await), Cause::NotFound, "no such volume");
        self.without_network().await;
    }

    async fn containers(&self) {
        self.with_network().await;
        let mut spec = self.spec("one");
        spec.resources = Resources { cpu_millis: Some(500), memory_bytes: Some(256 << 20) };
        let id = self.create(&spec).await;
        assert_eq!(cause(self.runtime.create_container(&spec).await), Cause::AlreadyExists);
        let listed = self.find("one").await.expect("it is listed");
        assert_eq!((&listed.id, listed.state), (&id, ContainerState::Created));
        assert_eq!((listed.image.clone(), listed.resources), (spec.image.clone(), spec.resources));
        assert_eq!(OwnerLabels::from_labels(&listed.labels), OwnerLabels::from_labels(&spec.labels));
        assert_eq!(cause(self.runtime.exec(&id, &command(&["echo"])).await), Cause::NotRunning);
        for _ in 0..2 {
            self.runtime.start_container(&id).await.expect("starting twice is starting once");
        }
        let listed = self.find("one").await.unwrap();
        assert!(listed.state == ContainerState::Running && listed.address.is_some(), "{listed:?}");
        for _ in 0..2 {
            self.runtime.stop_container(&id).await.expect("stopping twice is stopping once");
        }
        assert!(matches!(self.find("one").await.unwrap().state, ContainerState::Stopped { .. }));
        self.runtime.start_container(&id).await.expect("a stopped container starts again");
        self.remove(&id).await;
        assert!(self.find("one").await.is_none());
        for gone in [
            self.runtime.start_container(&id).await,
            self.runtime.stop_container(&id).await,
            self.runtime.remove_container(&id).await,
            self.runtime.copy_in(&id, &[file("/a", "")]).await,
        ] {
            assert_eq!(cause(gone), Cause::NotFound);
        }
        assert_eq!(cause(self.runtime.read_file(&id, "/a").await), Cause::NotFound);
        assert_eq!(cause(self.runtime.logs(&id, 1).await), Cause::NotFound);
        assert_eq!(cause(self.runtime.exec(&id, &command(&["echo"])).await), Cause::NotFound);
        let mut unpulled = self.spec("two");
        unpulled.image = self.setup.missing_image.clone();
        assert_eq!(cause(self.runtime.create_container(&unpulled).await), Cause::NotFound);
        self.without_network().await;
    }

    async fn addresses_and_ports(&self) {
        self.with_network().await;
        let mut one = self.spec("one");
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        // Not heeded where none can be pinned.
        one.address = Some(self.address(10));
        one.ports = vec![PublishedPort {
            host_address: loopback,
            host_port: self.setup.port,
            container_port: 6443,
            protocol: Protocol::Tcp,
        }];
        let first = self.started(&one).await;
        let listed = self.find("one").await.unwrap();
        assert_eq!(listed.ports, one.ports);
        match self.runtime.capabilities().pins_addresses {
            true => assert_eq!(listed.address, one.address),
            false => assert!(listed.address.is_some(), "while it runs it has some address"),
        }
        let mut two = self.spec("two");
        two.ports.clone_from(&one.ports);
        // Some runtimes look at ports only when a container starts.
        let refused = match self.runtime.create_container(&two).await {
            Ok(id) => {
                let refused = self.runtime.start_container(&id).await;
                self.remove(&id).await;
                cause(refused)
            }
            Err(error) => error.cause,
        };
        assert_eq!(refused, Cause::Conflict, "the host port is taken");
        if let Some(address) = one.address.filter(|_| self.runtime.capabilities().pins_addresses) {
            let mut three = self.spec("three");
            three.address = Some(address);
            let refused = match self.runtime.create_container(&three).await {
                Ok(id) => {
                    let refused = self.runtime.start_container(&id).await;
                    self.remove(&id).await;
                    cause(refused)
                }
                Err(error) => error.cause,
            };
            assert_eq!(refused, Cause::Conflict, "the address is taken");
            self.runtime.stop_container(&first).await.unwrap();
            self.runtime.start_container(&first).await.unwrap();
            assert_eq!(self.find("one").await.unwrap().address, Some(address), "a pinned address stays");
        }
        self.remove(&first).await;
        self.without_network().await;
    }

    async fn both_families(&self) {
        if !(self.runtime.capabilities().supports_ipv6 && self.setup.has_ipv6) {
            return;
        }
        let (a, b) = self.setup.subnet;
        let subnet = format!("fd6b:696e:610a:{a:02x}{b:02x}::/64");
        let spec = NetworkSpec { ipv6_subnet: Some(subnet.clone()), ..self.network_spec() };
        self.runtime.create_network(&spec).await.expect("a network of both families is created");
        let other =
            NetworkSpec { name: self.name("net2"), subnet: Some(format!("10.{a}.{}.0/24", b ^ 1)), ..spec.clone() };
        assert_eq!(cause(self.runtime.create_network(&other).await), Cause::Conflict, "the subnet of IPv6 is taken");
        let listed = self.list().await.networks.into_iter().find(|network| network.name == spec.name).unwrap();
        assert_eq!((&listed.subnet, &listed.ipv6_subnet), (&spec.subnet, &Some(subnet.clone())));
        let address = |last: u128| subnet.parse::<Cidr6>().unwrap().address(last);
        let mut one = self.spec("one");
        (one.address, one.ipv6_address) = (Some(self.address(10)), address(10));
        let id = self.started(&one).await;
        let mut two = self.spec("two");
        (two.address, two.ipv6_address) = (Some(self.address(11)), address(10));
        let refused = match self.runtime.create_container(&two).await {
            Ok(id) => {
                let refused = self.runtime.start_container(&id).await;
                self.remove(&id).await;
                cause(refused)
            }
            Err(error) => error.cause,
        };
        assert_eq!(refused, Cause::Conflict, "the address of IPv6 is taken");
        for _ in 0..2 {
            let seen = self.find("one").await.unwrap();
            assert_eq!((seen.address, seen.ipv6_address), (one.address, one.ipv6_address), "pinned addresses stay");
            self.runtime.stop_container(&id).await.unwrap();
            self.runtime.start_container(&id).await.unwrap();
        }
        self.remove(&id).await;
        self.without_network().await;
    }

    async fn commands(&self) {
        self.with_network().await;
        let id = self.started(&self.spec("one")).await;
        let said = self.runtime.exec(&id, &command(&["echo", "a b", "$HOME"])).await.unwrap();
        assert_eq!((said.code, said.stdout.as_slice()), (0, b"a b $HOME\n".as_slice()), "no shell sees an argument");
        let failed = self.runtime.exec(&id, &command(&["false"])).await.expect("a command that fails is no error");
        assert_ne!(failed.code, 0);
        let missing = self.runtime.exec(&id, &command(&["cat", "/no/such/file"])).await.unwrap();
        assert!(missing.code != 0 && missing.stdout.is_empty() && !missing.stderr.is_empty());
        let fed = ExecRequest { stdin: Some(b"secret\0data".to_vec()), ..command(&["cat"]) };
        assert_eq!(self.runtime.exec(&id, &fed).await.unwrap().stdout, b"secret\0data");
        let slow = ExecRequest { timeout: Duration::from_secs(1), ..command(&["sleep", "30"]) };
        assert_eq!(cause(self.runtime.exec(&id, &slow).await), Cause::Timeout);
        self.runtime.logs(&id, 10).await.expect("a running container has a log");
        self.remove(&id).await;
        self.without_network().await;
    }

    async fn files(&self) {
        self.with_network().await;
        let id = self.create(&self.spec("one")).await;
        self.runtime.copy_in(&id, &[file("/opt/new/deep/file", "one")]).await.expect("also before the start");
        self.readable(&id).await;
        assert_eq!(self.read(&id, "/opt/new/deep/file").await.as_deref(), Some("one"));
        self.runtime.start_container(&id).await.unwrap();
        self.runtime.copy_in(&id, &[file("/opt/new/deep/file", "two"), file("/opt/other", "three")]).await.unwrap();
        assert_eq!(self.read(&id, "/opt/new/deep/file").await.as_deref(), Some("two"));
        let seen = self.runtime.exec(&id, &command(&["cat", "/opt/other"])).await.unwrap();
        assert_eq!(seen.stdout, b"three");
        assert_eq!(self.read(&id, "/opt/none").await, None);
        assert_eq!(self.read(&id, "/opt").await, None, "a directory is no file");
        self.remove(&id).await;
        self.without_network().await;
    }

    async fn read(&self, id: &ContainerId, path: &str) -> Option<String> {
        let content = self.runtime.read_file(id, path).await.expect("a file is read");
        content.map(|content| String::from_utf8(content).unwrap())
    }

    async fn events(&self) {
        if !self.runtime.capabilities().supports_events {
            return;
        }
        let mut events = self.runtime.events();
        self.with_network().await;
        let seen = tokio::time::timeout(Duration::from_secs(10), events.next()).await;
        assert_eq!(seen.expect("an event comes"), Some(()));
        self.without_network().await;
    }

    async fn leaves_nothing(&self) {
        let listing = self.list().await;
        let names: Vec<String> = listing
            .containers
            .iter()
            .map(|container| container.name.clone())
            .chain(listing.networks.iter().map(|network| network.name.clone()))
            .chain(listing.volumes.iter().map(|volume| volume.name.clone()))
            .filter(|name| name.starts_with(&self.setup.prefix))
            .collect();
        assert!(names.is_empty(), "{names:?}");
    }
}

fn command(words: &[&str]) -> ExecRequest {
    ExecRequest {
        command: words.iter().map(|&word| word.to_owned()).collect(),
        stdin: None,
        timeout: Duration::from_secs(30),
    }
}

fn file(path: &str, content: &str) -> NodeFile {
    NodeFile { path: path.into(), mode: 0o600, content: content.into() }
}
