//! When a change has settled: a file that was seen to change is taken over once it has stayed the same, in content and
//! in metadata, over a quiet interval. Rename-and-swap, a file that is still being written, a link that is swapped or a
//! thousand files at once are each taken over once.

use std::collections::BTreeMap;
use std::time::Duration;

use super::scan::{Seen, Stamp};

/// How long a changed file must stay the same. Editors and copies write in bursts of a few milliseconds; and with it a
/// change reaches the API well within the quarter of a second that was promised.
pub const QUIET: Duration = Duration::from_millis(100);
/// How long one must stay the same that looks cut off: it ends amid a line, or has lost more than half of its length. A
/// writer that pauses between emptying a file and filling it is not taken at its word at once.
pub const SUSPICIOUS_QUIET: Duration = Duration::from_secs(1);
/// What changed and cannot be seen is looked at again after so long at the latest.
const UNSEEN_MAX: Duration = Duration::from_secs(30);
/// A file that has been changing for this long is worth a word in status.
pub const RESTLESS: Duration = Duration::from_secs(10);

/// What is remembered of files between scans. Times are since any fixed beginning.
#[derive(Clone, Debug, Default)]
pub struct Settler {
    tracks: BTreeMap<String, Track>,
}

#[derive(Clone, Debug)]
struct Track {
    /// Last seen state, `None` where the file was gone.
    last: Option<(String, Stamp)>,
    /// Since when it has been like that.
    since: Duration,
    /// Since when it has not settled.
    restless_since: Duration,
    /// Content that was taken over, and its length; `None` before the first time.
    settled: Option<(String, u64)>,
    /// How long it must stay the same.
    quiet: Duration,
    is_settled: bool,
}

/// What a scan changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Files with new content to take over.
    pub changed: Vec<String>,
    /// Files that are gone.
    pub removed: Vec<String>,
    /// Files that are still in motion.
    pub moving: Vec<String>,
    /// Files that have been in motion for more than [`RESTLESS`].
    pub restless: Vec<String>,
    /// When to look again, where something is in motion.
    pub wake: Option<Duration>,
}

impl Settler {
    /// Takes notice of a scan. With `is_complete` false, files that were not seen are left as they were.
    pub fn observe(&mut self, files: &BTreeMap<String, Seen>, is_complete: bool, now: Duration) -> Settled {
        for (path, seen) in files {
            let state = Some((seen.hash.clone(), seen.stamp));
            match self.tracks.get_mut(path) {
                Some(track) => track.see(state, seen.ends_whole, now),
                None => {
                    let quiet = if seen.ends_whole { QUIET } else { SUSPICIOUS_QUIET };
                    let track =
                        Track { last: state, since: now, restless_since: now, settled: None, quiet, is_settled: false };
                    self.tracks.insert(path.clone(), track);
                }
            }
        }
        if is_complete {
            for (path, track) in &mut self.tracks {
                if !files.contains_key(path) {
                    track.see(None, true, now);
                }
            }
        }
        self.settle(|path| is_complete || files.contains_key(path), now)
    }

    /// Hashes of the contents that were taken over.
    #[must_use]
    pub fn known(&self) -> BTreeMap<String, String> {
        self.tracks.iter().filter_map(|(path, track)| Some((path.clone(), track.settled.clone()?.0))).collect()
    }

    fn settle(&mut self, is_seen: impl Fn(&str) -> bool, now: Duration) -> Settled {
        let mut settled = Settled::default();
        self.tracks.retain(|path, track| {
            if track.is_settled {
                return true;
            }
            // What this scan could not see is not taken over by it: its content is not at hand.
            let is_seen = is_seen(path);
            if !is_seen || now.saturating_sub(track.since) < track.quiet {
                let wake = if is_seen { track.since + track.quiet } else { now + track.unseen_for(now) };
                settled.wake = Some(settled.wake.map_or(wake, |earlier| earlier.min(wake)));
                settled.moving.push(path.clone());
                if now.saturating_sub(track.restless_since) >= RESTLESS {
                    settled.restless.push(path.clone());
                }
                return true;
            }
            track.is_settled = true;
            match &track.last {
                Some((hash, _)) if track.settled.as_ref().is_some_and(|(settled, _)| settled == hash) => true,
                Some((hash, (_, length, _))) => {
                    track.settled = Some((hash.clone(), *length));
                    settled.changed.push(path.clone());
                    true
                }
                None => {
                    if track.settled.is_some() {
                        settled.removed.push(path.clone());
                    }
                    false
                }
            }
        });
        settled
    }
}

impl Track {
    /// How soon to look again at what could not be seen: ever less often, the longer it stays so.
    fn unseen_for(&self, now: Duration) -> Duration {
        (now.saturating_sub(self.since) / 4).clamp(self.quiet, UNSEEN_MAX)
    }

    fn see(&mut self, state: Option<(String, Stamp)>, ends_whole: bool, now: Duration) {
        if self.last != state {
            let before = self.settled.as_ref().map_or(0, |(_, length)| *length);
            let has_shrunk = state.as_ref().is_some_and(|(_, (_, length, _))| *length < before / 2);
            self.quiet = if has_shrunk || !ends_whole { SUSPICIOUS_QUIET } else { QUIET };
            self.last = state;
            self.since = now;
            if self.is_settled {
                self.restless_since = now;
            }
            self.is_settled = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::scan::Content;
    use super::*;
    use crate::world::FileIdentity;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn file(content: &str, inode: u64) -> Seen {
        let stamp = (FileIdentity { device: 1, inode }, content.len() as u64, jiff::Timestamp::UNIX_EPOCH);
        Seen { hash: content.to_owned(), stamp, ends_whole: !content.ends_with('.'), content: Content::Known }
    }

    fn files(files: &[(&str, Seen)]) -> BTreeMap<String, Seen> {
        files.iter().map(|(path, seen)| ((*path).to_owned(), seen.clone())).collect()
    }

    #[test]
    fn a_file_is_taken_over_once_it_has_been_quiet() {
        let mut settler = Settler::default();
        let one = files(&[("a", file("x", 1))]);
        let first = settler.observe(&one, true, millis(0));
        assert_eq!((first.changed.len(), first.wake), (0, Some(millis(100))));
        assert_eq!(settler.observe(&one, true, millis(100)).changed, ["a"]);
        assert_eq!(settler.observe(&one, true, millis(200)), Settled::default());
    }

    #[test]
    fn a_file_that_is_still_written_waits_and_others_do_not() {
        let mut settler = Settler::default();
        for step in 0..5 {
            let content = "x".repeat(step + 1);
            let seen = files(&[("a", file(&content, 1)), ("b", file("y", 2))]);
            let settled = settler.observe(&seen, true, millis(60 * step as u64));
            assert_eq!(settled.changed, if step == 2 { vec!["b".to_owned()] } else { vec![] });
        }
        let seen = files(&[("a", file("xxxxx", 1)), ("b", file("y", 2))]);
        assert_eq!(settler.observe(&seen, true, millis(340)).changed, ["a"]);
    }

    #[test]
    fn a_file_that_is_replaced_by_unlink_and_create_is_never_removed() {
        let mut settler = Settler::default();
        let old = files(&[("a", file("old", 1))]);
        settler.observe(&old, true, millis(0));
        settler.observe(&old, true, millis(100));
        assert_eq!(settler.observe(&files(&[]), true, millis(200)).moving, ["a"]);
        let new = files(&[("a", file("new", 2))]);
        assert_eq!(settler.observe(&new, true, millis(250)).removed, [""; 0]);
        assert_eq!(settler.observe(&new, true, millis(350)).changed, ["a"]);
    }

    #[test]
    fn what_changed_and_cannot_be_seen_is_looked_at_ever_less_often() {
        let mut settler = Settler::default();
        settler.observe(&files(&[("a", file("old", 1))]), true, millis(0));
        let mut now = millis(0);
        let mut looks = 0;
        while now < Duration::from_secs(300) {
            now = settler.observe(&files(&[]), false, now).wake.unwrap();
            looks += 1;
        }
        assert!((20..45).contains(&looks), "{looks}");
    }

    #[test]
    fn a_file_that_looks_cut_off_must_be_quiet_for_longer() {
        let mut settler = Settler::default();
        for (content, start, quiet) in
            [("whole and long", 0, 100), ("amid a line.", 10_000, 1000), ("short", 20_000, 1000)]
        {
            let seen = files(&[("a", file(content, 1))]);
            settler.observe(&seen, true, millis(start));
            assert_eq!(settler.observe(&seen, true, millis(start + quiet - 1)).changed, [""; 0], "{content}");
            assert_eq!(settler.observe(&seen, true, millis(start + quiet)).changed, ["a"], "{content}");
        }
    }

    #[test]
    fn a_file_that_is_only_touched_is_not_taken_over_again() {
        let mut settler = Settler::default();
        settler.observe(&files(&[("a", file("x", 1))]), true, millis(0));
        settler.observe(&files(&[("a", file("x", 1))]), true, millis(100));
        assert_eq!(settler.observe(&files(&[("a", file("x", 2))]), true, millis(200)).moving, ["a"]);
        assert_eq!(settler.observe(&files(&[("a", file("x", 2))]), true, millis(300)), Settled::default());
    }

    #[test]
    fn what_an_incomplete_scan_does_not_see_is_not_gone() {
        let mut settler = Settler::default();
        settler.observe(&files(&[("a", file("x", 1))]), true, millis(0));
        settler.observe(&files(&[("a", file("x", 1))]), true, millis(100));
        assert_eq!(settler.observe(&files(&[]), false, millis(200)), Settled::default());
        assert_eq!(settler.observe(&files(&[]), false, millis(900)), Settled::default());
        settler.observe(&files(&[]), true, millis(1000));
        assert_eq!(settler.observe(&files(&[]), true, millis(1100)).removed, ["a"]);
        assert_eq!(settler.known(), BTreeMap::new());
    }

    #[test]
    fn what_changed_is_taken_over_by_a_scan_that_sees_it() {
        let mut settler = Settler::default();
        settler.observe(&files(&[("a", file("x", 1))]), true, millis(0));
        let blind = settler.observe(&files(&[]), false, millis(100));
        assert_eq!((blind.changed.len(), blind.moving, blind.wake), (0, vec!["a".to_owned()], Some(millis(200))));
        assert_eq!(settler.observe(&files(&[("a", file("x", 1))]), true, millis(200)).changed, ["a"]);
    }

    #[test]
    fn a_file_that_never_rests_is_named() {
        let mut settler = Settler::default();
        let mut last = Settled::default();
        for step in 0..250_u64 {
            last = settler.observe(&files(&[("a", file(&step.to_string(), 1))]), true, millis(50 * step));
        }
        assert_eq!(last.restless, ["a"]);
    }

    proptest! {
        #[test]
        fn only_what_was_the_same_over_the_quiet_interval_is_taken_over(steps in proptest::collection::vec((0_u64..80, 0_u8..4), 1..60)) {
            let mut settler = Settler::default();
            let (mut now, mut history): (u64, Vec<(u64, u8)>) = (0, vec![]);
            for (pause, content) in steps {
                now += pause;
                history.push((now, content));
                let seen = if content == 0 { files(&[]) } else { files(&[("a", file(&content.to_string(), 1))]) };
                let settled = settler.observe(&seen, true, millis(now));
                if !settled.changed.is_empty() || !settled.removed.is_empty() {
                    let same = history.iter().rev().take_while(|(_, seen)| *seen == content).last().map_or(now, |(at, _)| *at);
                    prop_assert!(now - same >= 100);
                }
            }
            let seen = files(&[("a", file("last", 1))]);
            settler.observe(&seen, true, millis(now + 1));
            let settled = settler.observe(&seen, true, millis(now + 101));
            prop_assert_eq!(settled.changed, vec!["a".to_owned()]);
        }
    }
}
