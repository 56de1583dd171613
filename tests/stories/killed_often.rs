//! `kill -9` of `kina serve` at any moment, while a client writes and notes what was acknowledged: nothing of that is
//! lost, and no revision is handed out twice.
//!
//! `KINA_KILLS=1000` makes it the long run; `KINA_BIN` names another binary, such as one built with `--release`; `TMPDIR` says where the
//! home lies. A kill loses nothing that the system has in its page cache: what a loss of power does is tried in
//! `apiserver::store::tests`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

use super::environment::TestEnvironment;

/// How often Kina is killed unless told otherwise: some seconds.
const KILLS: u64 = 8;
/// Clients at once, each with objects of its own, so that commits hold writes of several.
const CLIENTS: u64 = 4;
/// Objects that a client writes to, one after another.
const SLOTS: u64 = 7;
/// Random moments lie up to so many milliseconds after the first acknowledged write.
const MOMENTS: u64 = 120;

/// How long an answer of a living server can take on a busy machine.
const ANSWER: Duration = Duration::from_secs(5);

/// What a client knows of one object.
#[derive(Clone, Debug, Default)]
struct Known {
    /// The last write that was acknowledged: its number, and the revision it got; nothing for a deletion.
    acknowledged: Option<(u64, u64)>,
    /// A write without an answer: it may have been done. `None` in it is a deletion.
    in_doubt: Option<Option<u64>>,
}

#[derive(Debug, Default)]
struct Ledger {
    objects: BTreeMap<String, Known>,
    /// Every revision that an acknowledged write got, with who got it.
    revisions: BTreeMap<u64, String>,
    writes: u64,
    lost: Vec<String>,
}

const MAPS: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

fn lease(name: &str, number: u64) -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name},
        "spec": {"holderIdentity": number.to_string()}})
}

fn revision(object: &Value) -> u64 {
    object["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap()
}

async fn client(kubeconfig: &str) -> kube::Client {
    let kubeconfig = Kubeconfig::from_yaml(kubeconfig).unwrap();
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    // What is done twice could not be told from what is done once.
    config.default_retry = false;
    kube::Client::try_from(config).unwrap()
}

async fn call(client: &kube::Client, method: &str, path: &str, body: Value) -> Result<Value, kube::Error> {
    let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    let request = Request::builder().method(method).uri(path).header("content-type", "application/json").body(body);
    // A client whose server is killed amid its connecting may wait for ever: that is no answer, either.
    match tokio::time::timeout(ANSWER, client.request(request.unwrap())).await {
        Ok(answer) => answer,
        Err(elapsed) => Err(kube::Error::Service(elapsed.into())),
    }
}

/// Writes until a call has no answer: creates, replaces and deletes in turn.
async fn write(
    client: kube::Client,
    who: u64,
    ledger: Arc<Mutex<Ledger>>,
    numbers: Arc<Mutex<u64>>,
    ready: Arc<AtomicBool>,
) {
    for slot in (0..SLOTS).cycle() {
        let name = format!("w{who}-{slot}");
        let number = {
            let mut numbers = numbers.lock().unwrap();
            *numbers += 1;
            *numbers
        };
        let known = ledger.lock().unwrap().objects.entry(name.clone()).or_default().clone();
        let path = format!("{MAPS}/{name}");
        let wish = match known.acknowledged {
            Some(_) if number.is_multiple_of(11) => None,
            _ => Some(number),
        };
        ledger.lock().unwrap().objects.entry(name.clone()).or_default().in_doubt = Some(wish);
        let answer = match (wish, known.acknowledged) {
            (None, _) => call(&client, "DELETE", &path, Value::Null).await,
            (Some(number), None) => call(&client, "POST", MAPS, lease(&name, number)).await,
            (Some(number), Some(_)) => call(&client, "PUT", &path, lease(&name, number)).await,
        };
        let mut ledger = ledger.lock().unwrap();
        match answer {
            Ok(object) => {
                ledger.writes += 1;
                let acknowledged = wish.map(|number| (number, revision(&object)));
                if let Some((number, revision)) = acknowledged
                    && let Some(other) = ledger.revisions.insert(revision, format!("{name}#{number}"))
                {
                    ledger.lost.push(format!("revision {revision} was given to {other} and to {name}#{number}"));
                }
                ledger.objects.insert(name, Known { acknowledged, in_doubt: None });
                ready.store(true, Ordering::SeqCst);
            }
            // The server says no: it must not, for nobody else writes here.
            Err(kube::Error::Api(status)) if status.code < 500 => {
                ledger.lost.push(format!("{name}: {} ({})", status.message, status.code));
                return;
            }
            Err(_) => return,
        }
    }
}

/// Compares what is there with what was acknowledged.
async fn check(client: &kube::Client, ledger: &Mutex<Ledger>) {
    let list = call(client, "GET", MAPS, Value::Null).await.unwrap();
    let mut ledger = ledger.lock().unwrap();
    let head = revision(&list);
    let highest = ledger.revisions.last_key_value().map_or(0, |(revision, _)| *revision);
    if head < highest {
        ledger.lost.push(format!("the store is at {head}, and {highest} was handed out"));
    }
    let found: BTreeMap<String, (u64, u64)> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|item| {
            let number = item["spec"]["holderIdentity"].as_str()?.parse().ok()?;
            Some((item["metadata"]["name"].as_str()?.to_owned(), (number, revision(item))))
        })
        .collect();
    let mut lost = Vec::new();
    for (name, known) in &mut ledger.objects {
        let here = found.get(name).copied();
        let is_done = known.in_doubt.is_some_and(|wish| wish == here.map(|(number, _)| number));
        if here != known.acknowledged && !is_done {
            lost.push(format!(
                "{name}: acknowledged {:?}, found {here:?}, in doubt {:?}",
                known.acknowledged, known.in_doubt
            ));
        }
        *known = Known { acknowledged: here, in_doubt: None };
    }
    for (number, revision) in found.values() {
        ledger.revisions.entry(*revision).or_insert_with(|| format!("#{number}"));
    }
    ledger.lost.extend(lost);
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a story waits for another process")]
fn killed_at_any_moment_nothing_acknowledged_is_lost_and_no_revision_is_reused() {
    let kills = std::env::var("KINA_KILLS").ok().map_or(KILLS, |text| text.parse().unwrap());
    let home = TestEnvironment::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (ledger, numbers) = (Arc::new(Mutex::new(Ledger::default())), Arc::new(Mutex::new(0)));
    let begin = Instant::now();
    // A sequence of moments that is the same in every run; what it meets is not.
    let mut random = 42_u64;
    for kill in 0..=kills {
        let server = home.start(&["serve"], "Ctrl-C ends it");
        let kubeconfig = std::fs::read_to_string(home.path("home/.kina/kubeconfig")).unwrap();
        runtime.block_on(async { check(&client(&kubeconfig).await, &ledger).await });
        let lost = ledger.lock().unwrap().lost.clone();
        assert!(lost.is_empty(), "after {kill} kills: {lost:#?}");
        if kill % 100 == 0 && kill > 0 {
            eprintln!("{kill} kills, {} acknowledged writes", ledger.lock().unwrap().writes);
        }
        if kill == kills {
            assert_eq!(server.end(), 0);
            break;
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = Duration::from_micros((random >> 33) % (MOMENTS * 1000));
        let ready = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..CLIENTS)
            .map(|who| {
                let (kubeconfig, ledger, numbers) = (kubeconfig.clone(), Arc::clone(&ledger), Arc::clone(&numbers));
                let ready = Arc::clone(&ready);
                runtime.spawn(async move { write(client(&kubeconfig).await, who, ledger, numbers, ready).await })
            })
            .collect();
        while !ready.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(moment);
        server.kill();
        runtime.block_on(async {
            for writer in writers {
                writer.await.unwrap();
            }
        });
    }
    let ledger = ledger.lock().unwrap();
    eprintln!("{kills} kills, {} acknowledged writes, {:.0} s, 0 lost", ledger.writes, begin.elapsed().as_secs_f64());
    assert!(ledger.writes > kills);
    let checked = home.kina(&["store", "check"]).success();
    assert!(checked.ends_with("sound\n"), "{checked}");
}
