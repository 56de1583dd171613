//! The one gate through which all effects go.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures::future::BoxFuture;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::effect::{Effect, Fault, Upset};
use super::oracle::Oracle;
use super::plan::{Faults, Plan, Planned, Point, mixed, number};

/// How much longer a slow effect takes.
const SLOW: Duration = Duration::from_secs(20);
/// Over which effects on one object are counted.
const MINUTE: Duration = Duration::from_secs(60);
/// How long everything of a kind fails on an object.
const OUTAGE: Duration = Duration::from_secs(300);
/// No run has more effects: one that goes on for ever without time passing would never end.
const EFFECTS_MAX: u64 = 300_000;
/// Lines of the trace that are kept.
const TRACE_LINES: usize = 50_000;

/// Decides what goes wrong, and writes down what happens. One a run.
#[derive(Debug)]
pub struct Gate {
    state: Mutex<State>,
    /// Tells the run that Kina was killed, or that the world is to be upset.
    pub news: Notify,
    pub oracle: Oracle,
    start: Instant,
}

#[derive(Debug)]
struct State {
    faults: Decider,
    /// Whether faults happen, and points are counted.
    armed: bool,
    counts: BTreeMap<(Effect, String), u32>,
    points: Vec<Point>,
    moments: Vec<u128>,
    fired: Vec<Planned>,
    upsets: VecDeque<(Upset, u64)>,
    /// What fails until then.
    outages: BTreeMap<(Effect, String), Instant>,
    recent: BTreeMap<(Effect, String), VecDeque<Instant>>,
    busiest: BTreeMap<Effect, (usize, String)>,
    effects: u64,
    seed: u64,
    trace: VecDeque<String>,
    traced: u64,
    digest: u64,
}

#[derive(Debug)]
enum Decider {
    List(BTreeMap<Point, Fault>),
    Drawn(Rates),
}

/// Which faults a seed has switched on, and how often in 10,000 effects each happens. Not all at once: a world in which
/// everything breaks hides what one fault alone breaks.
#[derive(Debug)]
struct Rates(Vec<(Fault, u64)>);

impl Rates {
    fn drawn(seed: u64) -> Self {
        let mut state = mixed(seed ^ 0x5a17);
        let mut draw = |below: u64| {
            state = mixed(state);
            state % below
        };
        let scale = [5, 20, 60, 150][draw(4) as usize];
        let on = Fault::all().filter_map(|fault| {
            let rate = if matches!(fault, Fault::Upset(_)) { 1 + draw(4) } else { 1 + draw(scale) };
            (draw(4) == 0).then_some((fault, rate))
        });
        Self(on.collect())
    }

    fn draw(&self, random: u64, effect: Effect) -> Option<Fault> {
        let mut left = random % 10_000;
        for (fault, rate) in self.0.iter().filter(|(fault, _)| fault.fits(effect)) {
            if left < *rate {
                return Some(*fault);
            }
            left -= rate;
        }
        None
    }
}

impl Gate {
    pub fn new(plan: &Plan, oracle: Oracle) -> Arc<Self> {
        let faults = match &plan.faults {
            Faults::List(list) => {
                Decider::List(list.iter().map(|planned| (planned.point.clone(), planned.fault)).collect())
            }
            Faults::Drawn => Decider::Drawn(Rates::drawn(plan.seed)),
        };
        let state = State {
            faults,
            armed: false,
            counts: BTreeMap::new(),
            points: Vec::new(),
            moments: Vec::new(),
            fired: Vec::new(),
            upsets: VecDeque::new(),
            outages: BTreeMap::new(),
            recent: BTreeMap::new(),
            busiest: BTreeMap::new(),
            effects: 0,
            seed: plan.seed,
            trace: VecDeque::new(),
            traced: 0,
            digest: plan.seed,
        };
        Arc::new(Self { state: Mutex::new(state), news: Notify::new(), oracle, start: Instant::now() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// From now on faults happen, or happen no more.
    pub fn arm(&self, armed: bool) {
        let mut state = self.lock();
        state.armed = armed;
        state.outages.clear();
    }

    /// Whether faults happen.
    pub fn is_armed(&self) -> bool {
        self.lock().armed
    }

    /// Whether there were more effects than any run has: nothing more happens then.
    pub fn is_exhausted(&self) -> bool {
        self.lock().effects > EFFECTS_MAX
    }

    /// What happens to an effect that begins now.
    fn decide(&self, effect: Effect, object: &str) -> (Option<Fault>, u64) {
        let mut state = self.lock();
        state.effects += 1;
        if state.effects == EFFECTS_MAX {
            self.oracle.violated(format!("more than {EFFECTS_MAX} effects, the last one {effect} {object}"));
            self.news.notify_one();
        }
        let now = Instant::now();
        let key = (effect, object.to_owned());
        let within = {
            let recent = state.recent.entry(key.clone()).or_default();
            recent.push_back(now);
            while recent.front().is_some_and(|first| now.duration_since(*first) > MINUTE) {
                recent.pop_front();
            }
            recent.len()
        };
        if state.busiest.get(&effect).is_none_or(|(most, _)| *most < within) {
            state.busiest.insert(effect, (within, object.to_owned()));
        }
        let nth = if state.armed {
            let count = state.counts.entry(key).or_default();
            *count += 1;
            *count
        } else {
            0
        };
        let point = Point { effect, object: object.to_owned(), nth };
        let random = number(state.seed, &point);
        let fault = match &state.faults {
            _ if !state.armed => None,
            Decider::List(list) => list.get(&point).copied().filter(|fault| fault.fits(effect)),
            Decider::Drawn(rates) => rates.draw(random, effect),
        };
        if fault == Some(Fault::Outage) {
            state.outages.insert((effect, object.to_owned()), now + OUTAGE);
        }
        let is_out = state.outages.get(&(effect, object.to_owned())).is_some_and(|until| now < *until);
        drop(state);
        match fault {
            None if is_out => self.note(&format!("{effect} {object}: out")),
            None => self.note(&format!("{effect} {object}")),
            Some(fault) => self.note(&format!("{effect} {object}: {fault}")),
        }
        let mut state = self.lock();
        // Only a run without faults is asked for its points; one that goes astray has millions.
        if state.armed && matches!(&state.faults, Decider::List(list) if list.is_empty()) {
            state.points.push(point.clone());
            state.moments.push(self.start.elapsed().as_nanos());
        }
        if let Some(fault) = fault {
            state.fired.push(Planned { point, fault });
            self.oracle.disturbed();
            if let Fault::Upset(upset) = fault {
                state.upsets.push_back((upset, random));
                self.news.notify_one();
            }
        }
        if is_out {
            self.oracle.disturbed();
        }
        (if is_out { Some(Fault::FailBefore) } else { fault }, random)
    }

    /// Virtual time since the run began.
    pub fn milliseconds(&self) -> u32 {
        u32::try_from(self.start.elapsed().as_millis()).unwrap_or(u32::MAX)
    }

    /// The next way in which the world is to be upset, with a number to choose by.
    pub fn next_upset(&self) -> Option<(Upset, u64)> {
        self.lock().upsets.pop_front()
    }

    /// Writes a line into the trace.
    pub fn note(&self, line: &str) {
        let line = format!("{:>9} {line}", self.start.elapsed().as_millis());
        if std::env::var_os("KINA_SIM_TRACE").is_some() {
            eprintln!("{line}");
        }
        let mut state = self.lock();
        state.traced += 1;
        state.digest = line.bytes().fold(state.digest, |digest, byte| mixed(digest ^ u64::from(byte)));
        if state.trace.len() == TRACE_LINES {
            state.trace.pop_front();
        }
        state.trace.push_back(line);
    }

    pub fn report(&self) -> Report {
        let state = self.lock();
        Report {
            points: state.points.clone(),
            moments: state.moments.clone(),
            fired: state.fired.clone(),
            busiest: state.busiest.clone(),
            effects: state.effects,
            trace: state.trace.iter().cloned().collect(),
            digest: state.digest,
        }
    }
}

/// What a gate saw.
#[derive(Clone, Debug)]
pub struct Report {
    /// Every effect while faults could have happened, in order; nothing where any were planned.
    pub points: Vec<Point>,
    /// When each of them was, in virtual nanoseconds.
    moments: Vec<u128>,
    pub fired: Vec<Planned>,
    /// The most effects of a kind on one object within a minute of one life.
    pub busiest: BTreeMap<Effect, (usize, String)>,
    pub effects: u64,
    /// The last lines of the trace.
    pub trace: Vec<String>,
    /// Follows from the whole trace.
    pub digest: u64,
}

impl Report {
    /// Whether another effect of the kind came before this one without any wait between: files are asked one after the
    /// other, in one breath.
    pub fn is_same_moment(&self, index: usize) -> bool {
        let (effect, moment) = (self.points[index].effect, self.moments[index]);
        let breath = (0..index).rev().take_while(|&before| {
            effect.is_file() && self.points[before].effect.is_file() && self.moments[before] == moment
        });
        breath.map(|before| self.points[before].effect).any(|before| before == effect)
    }
}

/// How an effect failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Refused,
    Lost,
    TimedOut,
    Full,
    /// The process is dead: whoever asks is about to be dropped.
    Dead,
}

/// One life of Kina at the gate. After its death nothing more of it has any effect.
#[derive(Clone, Debug)]
pub struct Life {
    pub gate: Arc<Gate>,
    dead: Arc<AtomicBool>,
}

impl Life {
    /// A new life remembers nothing, and has to look at everything anew: only what one life does again and again is a
    /// loop.
    pub fn begin(gate: &Arc<Gate>) -> Self {
        gate.lock().recent.clear();
        Self { gate: Arc::clone(gate), dead: Arc::default() }
    }

    pub fn is_dead(&self) -> bool {
        self.dead.load(Ordering::Relaxed) || self.gate.is_exhausted()
    }

    pub fn kill(&self) {
        if !self.dead.swap(true, Ordering::Relaxed) {
            self.gate.note("killed");
            self.gate.news.notify_one();
        }
    }

    /// Performs an effect that can be awaited.
    pub async fn perform<'a, T, E>(
        &self,
        effect: Effect,
        object: &str,
        failed: impl Fn(Failure) -> E,
        lie: Option<BoxFuture<'a, Result<T, E>>>,
        mut act: impl FnMut() -> BoxFuture<'a, Result<T, E>>,
    ) -> Result<T, E> {
        if self.is_dead() {
            return std::future::pending().await;
        }
        let (fault, _) = self.gate.decide(effect, object);
        let answer = match fault {
            None | Some(Fault::Upset(_) | Fault::Torn | Fault::Full | Fault::Cut | Fault::Expired | Fault::Late) => {
                act().await
            }
            Some(Fault::FailBefore | Fault::Outage) => Err(failed(Failure::Refused)),
            Some(Fault::ReplyLost) => {
                drop(act().await);
                Err(failed(Failure::Lost))
            }
            Some(Fault::Timeout) => {
                tokio::time::sleep(effect.limit()).await;
                Err(failed(Failure::TimedOut))
            }
            Some(Fault::Slow) => {
                tokio::time::sleep(SLOW).await;
                if self.is_dead() {
                    return std::future::pending().await;
                }
                act().await
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::HangAfter) => {
                drop(act().await);
                std::future::pending().await
            }
            Some(Fault::Repeat) => {
                drop(act().await);
                act().await
            }
            Some(Fault::Lie) => match lie {
                Some(lie) => lie.await,
                None => act().await,
            },
            Some(Fault::CrashBefore) => {
                self.kill();
                std::future::pending().await
            }
            Some(Fault::CrashAfter) => {
                drop(act().await);
                self.kill();
                std::future::pending().await
            }
        };
        if self.is_dead() { std::future::pending().await } else { answer }
    }

    /// Performs an effect that takes place between two awaits.
    pub fn perform_now<T, E>(
        &self,
        effect: Effect,
        object: &str,
        failed: impl Fn(Failure) -> E,
        mut act: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        if self.is_dead() {
            return Err(failed(Failure::Dead));
        }
        match self.gate.decide(effect, object).0 {
            Some(Fault::FailBefore) => Err(failed(Failure::Refused)),
            Some(Fault::Full) => Err(failed(Failure::Full)),
            Some(Fault::ReplyLost) => {
                drop(act());
                Err(failed(Failure::Lost))
            }
            Some(Fault::Repeat) => {
                drop(act());
                act()
            }
            Some(Fault::CrashBefore) => {
                self.kill();
                Err(failed(Failure::Dead))
            }
            Some(Fault::CrashAfter) => {
                drop(act());
                self.kill();
                Err(failed(Failure::Dead))
            }
            _ => act(),
        }
    }

    /// As [`Self::perform_now`] with what happens to it left to the caller.
    pub fn decide(&self, effect: Effect, object: &str) -> (Option<Fault>, u64) {
        self.gate.decide(effect, object)
    }
}
