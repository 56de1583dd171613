//! What this process has seen: never needed for what is right, only for when to look again, and for durations, which
//! count the time that Kina observed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use crate::runtime::ContainerId;

/// By UID of the object.
#[derive(Debug, Default)]
pub struct Memory {
    objects: Mutex<BTreeMap<String, Seen>>,
    images: Mutex<BTreeSet<(String, String)>>,
    /// How many objects wait for something that has to be looked at again and again.
    polled: AtomicUsize,
}

#[derive(Debug, Default)]
struct Seen {
    wishes: BTreeMap<&'static str, Instant>,
    settled: Option<Instant>,
    waiting: Option<(String, Instant)>,
    running: Option<(ContainerId, Timestamp)>,
    bootstrapped: Option<ContainerId>,
    untouched: Option<(ContainerId, bool)>,
    ailing: Option<(&'static str, Instant, u32)>,
    altered: Option<(ContainerId, u32)>,
    noted: BTreeSet<&'static str>,
    texts: BTreeMap<&'static str, String>,
}

impl Memory {
    /// When a wish was first seen.
    pub fn wished(&self, uid: &str, wish: &'static str) -> Instant {
        self.with(uid, |seen| *seen.wishes.entry(wish).or_insert_with(Instant::now))
    }

    /// A wish is over.
    pub fn unwish(&self, uid: &str, wish: &'static str) {
        self.with(uid, |seen| seen.wishes.remove(wish));
    }

    /// The last effect on an object ended at this time.
    pub fn settle(&self, uid: &str, at: Instant) {
        self.with(uid, |seen| seen.settled = Some(at));
    }

    /// When the last effect on an object ended.
    #[must_use]
    pub fn settled(&self, uid: &str) -> Option<Instant> {
        self.with(uid, |seen| seen.settled)
    }

    /// How soon to look again at something that is waited for: often at first, then ever less often, and less often where
    /// many are looked at. A wait for something else begins anew.
    #[must_use]
    pub fn poll(&self, uid: &str, reason: &str) -> Duration {
        const SHORTEST: Duration = Duration::from_millis(20);
        const LONGEST: Duration = Duration::from_secs(2);
        /// A look asks a node some three questions: all together ask at most 250 times as many a second.
        const APART: Duration = Duration::from_millis(4);
        let now = Instant::now();
        let (since, begins) = self.with(uid, |seen| match &seen.waiting {
            Some((old, since)) if old == reason => (*since, false),
            old => {
                let begins = old.is_none();
                seen.waiting = Some((reason.to_owned(), now));
                (now, begins)
            }
        });
        if begins {
            self.polled.fetch_add(1, Ordering::Relaxed);
        }
        let share = APART * u32::try_from(self.polled.load(Ordering::Relaxed)).unwrap_or(u32::MAX);
        (now.duration_since(since) / 4).clamp(SHORTEST.max(share).min(LONGEST), LONGEST)
    }

    /// An object waits for nothing that has to be looked at again and again.
    pub fn rests(&self, uid: &str) {
        if self.with(uid, |seen| seen.waiting.take()).is_some() {
            self.polled.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Since when a container is seen to run; the time starts anew with another container, or after [`Self::stopped`].
    #[must_use]
    pub fn running(&self, uid: &str, id: &ContainerId, now: Timestamp) -> Timestamp {
        self.with(uid, |seen| match &seen.running {
            Some((old, since)) if old == id => *since,
            _ => {
                seen.running = Some((id.clone(), now));
                now
            }
        })
    }

    /// A container is seen not to run.
    pub fn stopped(&self, uid: &str) {
        self.with(uid, |seen| (seen.running, seen.untouched) = (None, None));
    }

    /// A container was seen to be up with nothing at work in it, and whether something is left of an earlier life.
    pub fn untouched(&self, uid: &str, id: &ContainerId, leftovers: bool) {
        self.with(uid, |seen| seen.untouched = Some((id.clone(), leftovers)));
    }

    /// Something is about to be done in it.
    pub fn touched(&self, uid: &str) {
        self.with(uid, |seen| seen.untouched = None);
    }

    /// What was left in a container when it was last seen to be up with nothing at work in it.
    #[must_use]
    pub fn is_untouched(&self, uid: &str, id: &ContainerId) -> Option<bool> {
        self.with(uid, |seen| seen.untouched.as_ref().filter(|(known, _)| known == id).map(|(_, leftovers)| *leftovers))
    }

    /// kubeadm has succeeded in this container.
    pub fn bootstrapped(&self, uid: &str, id: &ContainerId) {
        self.with(uid, |seen| seen.bootstrapped = Some(id.clone()));
    }

    /// Whether kubeadm was seen to have succeeded in this container.
    #[must_use]
    pub fn is_bootstrapped(&self, uid: &str, id: &ContainerId) -> bool {
        self.with(uid, |seen| seen.bootstrapped.as_ref() == Some(id))
    }

    /// For how long a Node is seen to ail so without interruption, and how often its services were restarted for it.
    #[must_use]
    pub fn ails(&self, uid: &str, how: &'static str) -> (Duration, u32) {
        let now = Instant::now();
        self.with(uid, |seen| match seen.ailing {
            Some((old, since, restarts)) if old == how => (now.duration_since(since), restarts),
            _ => {
                seen.ailing = Some((how, now, 0));
                (Duration::ZERO, 0)
            }
        })
    }

    /// A Node's services were restarted: it has time to recover.
    pub fn restarted(&self, uid: &str) {
        self.with(uid, |seen| {
            if let Some((_, since, restarts)) = &mut seen.ailing {
                (*since, *restarts) = (Instant::now(), restarts.saturating_add(1));
            }
        });
    }

    /// A Node is well, or cannot be seen: a later judgement starts anew.
    pub fn healed(&self, uid: &str) {
        self.with(uid, |seen| seen.ailing = None);
    }

    /// A container is shown otherwise than it was asked for. How many were in succession, this one included.
    pub fn altered(&self, uid: &str, id: &ContainerId) -> u32 {
        self.with(uid, |seen| {
            let count = match &seen.altered {
                Some((known, count)) if known == id => *count,
                Some((_, count)) => count.saturating_add(1),
                None => 1,
            };
            seen.altered = Some((id.clone(), count));
            count
        })
    }

    /// A container is shown as it was asked for.
    pub fn as_asked(&self, uid: &str) {
        self.with(uid, |seen| seen.altered = None);
    }

    /// Notes something; `true` the first time.
    pub fn note(&self, uid: &str, what: &'static str) -> bool {
        self.with(uid, |seen| seen.noted.insert(what))
    }

    /// Whether something was noted.
    #[must_use]
    pub fn is_noted(&self, uid: &str, what: &'static str) -> bool {
        self.with(uid, |seen| seen.noted.contains(what))
    }

    /// Forgets a note.
    pub fn unnote(&self, uid: &str, what: &'static str) {
        self.with(uid, |seen| seen.noted.remove(what));
    }

    /// A text kept under a key: what was done last, as its hash.
    #[must_use]
    pub fn text(&self, uid: &str, key: &'static str) -> Option<String> {
        self.with(uid, |seen| seen.texts.get(key).cloned())
    }

    /// Keeps a text under a key; tells whether it is another than before.
    pub fn keep_text(&self, uid: &str, key: &'static str, text: &str) -> bool {
        self.with(uid, |seen| seen.texts.insert(key, text.to_owned()).as_deref() != Some(text))
    }

    /// Forgets a text.
    pub fn drop_text(&self, uid: &str, key: &'static str) {
        self.with(uid, |seen| seen.texts.remove(key));
    }

    /// An object is gone.
    pub fn forget(&self, uid: &str) {
        self.rests(uid);
        self.lock().remove(uid);
    }

    /// An image was seen on a host.
    pub fn image_seen(&self, runtime: &str, image: &str) {
        /// Names of images of all clusters; a host has some tens. Forgetting one costs a look.
        const IMAGES_MAX: usize = 1_024;
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if images.len() >= IMAGES_MAX {
            images.clear();
        }
        images.insert((runtime.to_owned(), image.to_owned()));
    }

    /// An image was seen missing.
    pub fn image_missing(&self, runtime: &str, image: &str) {
        let mut images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        images.remove(&(runtime.to_owned(), image.to_owned()));
    }

    /// Whether an image is known to be on a host.
    #[must_use]
    pub fn has_image(&self, runtime: &str, image: &str) -> bool {
        let images = self.images.lock().unwrap_or_else(PoisonError::into_inner);
        images.contains(&(runtime.to_owned(), image.to_owned()))
    }

    fn with<T>(&self, uid: &str, act: impl FnOnce(&mut Seen) -> T) -> T {
        let mut objects = self.lock();
        match objects.get_mut(uid) {
            Some(seen) => act(seen),
            None => act(objects.entry(uid.to_owned()).or_default()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Seen>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn of_many_each_is_looked_at_less_often_and_who_rests_is_none_of_them() {
        let memory = Memory::default();
        let millis = |uid: &str| memory.poll(uid, "Booting").as_millis();
        assert_eq!([millis("a"), millis("a")], [20, 20]);
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(millis("a"), 500);
        (0..99).for_each(|other| assert!(millis(&other.to_string()) <= 400));
        assert_eq!([millis("new"), millis("a")], [404, 500]);
        (0..99).for_each(|other| memory.rests(&other.to_string()));
        memory.rests("0");
        memory.forget("new");
        assert_eq!([millis("b"), millis("a")], [20, 500]);
    }

    #[test]
    fn containers_that_are_shown_otherwise_are_counted_until_one_is_as_it_was_asked_for() {
        let memory = Memory::default();
        let altered = |id: &str| memory.altered("a", &ContainerId(id.to_owned()));
        assert_eq!([altered("1"), altered("1"), altered("2"), altered("3")], [1, 1, 2, 3]);
        memory.as_asked("a");
        assert_eq!(altered("3"), 1);
    }
}
