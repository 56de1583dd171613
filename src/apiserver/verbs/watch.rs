//! Watch: the state at the beginning where asked for, then every change once and in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use futures::Stream;
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::list::{self, ListOptions, Selection};
use crate::apiserver::hub::{Change, Event, Topic};
use crate::apiserver::object::{from_bytes, set_meta, to_bytes};
use crate::apiserver::render::Renderer;
use crate::apiserver::request::query::{Query, option_fault, unsupported};
use crate::apiserver::status::ApiError;
use crate::apiserver::writer::Core;

/// Between two bookmarks (the watch cache's bookmarkFrequency).
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// The shortest life of a watch that names no timeout; the longest is twice that (apiserver's minRequestTimeout).
const MIN_LIFE_SECONDS: u64 = 1800;
/// Events in one piece of the body: bounds what a watcher holds.
const CHUNK: usize = 256;
/// Bytes of one piece, and whatever its last event has beyond: what a watcher that does not read keeps waiting.
const PIECE: usize = 64 * 1024;

/// A watch as asked for.
#[derive(Debug)]
pub(crate) struct WatchOptions {
    from: From,
    bookmarks: bool,
    /// Close the initial events with an annotated bookmark.
    initial_end: bool,
    timeout: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// The current state first; it must not be older than this.
    State(u64),
    /// Only what comes after the current state.
    Now,
    /// What came after a revision.
    Revision(u64),
}

impl WatchOptions {
    pub fn parse(query: &Query) -> Result<Self, ApiError> {
        let fault = |field: &str, message: &str| option_fault("ListOptions", field, "FieldValueForbidden", message);
        let revision = query.number("resourceVersion")?;
        let matching = query.get("resourceVersionMatch");
        let initial = query.flag("sendInitialEvents")?;
        match (initial, matching) {
            (None, Some(_)) => {
                let message =
                    "Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
                return Err(fault("resourceVersionMatch", message));
            }
            (Some(_), None) => {
                let message = "Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
                return Err(fault("resourceVersionMatch", message));
            }
            (Some(_), Some("NotOlderThan")) | (None, None) => {}
            (Some(_), Some(other)) => {
                return Err(unsupported("ListOptions", "resourceVersionMatch", other, "\"NotOlderThan\""));
            }
        }
        let from = match (initial, revision) {
            (Some(true), revision) => From::State(revision.unwrap_or(0)),
            (None, None | Some(0)) => From::State(0),
            (Some(false), None | Some(0)) => From::Now,
            (_, Some(revision)) => From::Revision(revision),
        };
        let timeout = query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0);
        Ok(Self {
            from,
            bookmarks: query.flag("allowWatchBookmarks")?.unwrap_or(false),
            initial_end: initial == Some(true),
            timeout: timeout.map(Duration::from_secs),
        })
    }
}

struct Watcher {
    selection: Selection,
    renderer: Renderer,
    topic: Arc<Topic>,
    /// How much had happened when it last looked.
    seen: u64,
    core: Arc<Core>,
    closing: CancellationToken,
    /// Events up to this revision have been sent, or do not concern this watcher.
    position: u64,
    initial: VecDeque<Bytes>,
    initial_end: bool,
    bookmarks: bool,
    deadline: Instant,
    next_bookmark: Instant,
    done: bool,
}

/// Starts a watch; the pieces of the stream are whole lines.
pub(crate) async fn watch(
    core: Arc<Core>,
    closing: CancellationToken,
    selection: Selection,
    renderer: Renderer,
    options: WatchOptions,
) -> Result<impl Stream<Item = Bytes> + Send + 'static, ApiError> {
    let (mut initial, mut expired) = (VecDeque::new(), None);
    let position = match options.from {
        From::State(at_least) => {
            list::wait_for(&core, at_least).await?;
            let listed = list::list(&core, &selection, &ListOptions::latest()).await?;
            initial = listed.items.into();
            listed.revision
        }
        From::Now => core.store.snapshot()?.revision(),
        From::Revision(revision) => {
            let current = core.store.snapshot()?.revision();
            if revision > current {
                // Handed out by another store, or one that was set back: only a new list helps.
                expired = Some(ApiError::expired(format!("too large resource version: {revision} ({current})")));
            }
            revision
        }
    };
    let topic = core.hub.topic(&selection.tenant, &selection.served.stored);
    let now = Instant::now();
    let life = options
        .timeout
        .unwrap_or_else(|| Duration::from_secs(MIN_LIFE_SECONDS + core.random.next_u64() % MIN_LIFE_SECONDS));
    let watcher = Watcher {
        seen: topic.wake.count(),
        selection,
        renderer,
        topic,
        core,
        closing,
        position,
        initial,
        initial_end: options.initial_end,
        bookmarks: options.bookmarks,
        deadline: now + life,
        next_bookmark: now + BOOKMARK_EVERY,
        done: false,
    };
    Ok(futures::stream::unfold((watcher, expired), |(mut watcher, expired)| async move {
        let piece = match expired {
            Some(error) => watcher.fail(&error),
            None => watcher.next().await?,
        };
        Some((piece, (watcher, None)))
    }))
}

impl Watcher {
    /// The next piece of the body; `None` at the end of the watch.
    async fn next(&mut self) -> Option<Bytes> {
        while !self.done {
            if !self.initial.is_empty() || self.initial_end {
                let piece = self.initial_piece();
                return Some(piece.unwrap_or_else(|error| self.fail(&error)));
            }
            self.seen = self.topic.wake.count();
            let published = self.core.hub.published();
            match self.topic.after(self.position, CHUNK) {
                Err(gone) => {
                    let message = format!("too old resource version: {} ({})", self.position, gone.floor);
                    return Some(self.fail(&ApiError::expired(message)));
                }
                Ok(events) => {
                    let quiet = events.is_empty();
                    if quiet {
                        self.position = self.position.max(published);
                    }
                    match self.piece(&events) {
                        Err(error) => return Some(self.fail(&error)),
                        Ok(piece) if !piece.is_empty() => return Some(piece),
                        Ok(_) if !quiet => continue,
                        Ok(_) => {}
                    }
                }
            }
            if let Some(piece) = self.wait().await {
                return Some(piece);
            }
        }
        None
    }

    /// Waits for an event, or for the time of a bookmark, which it returns.
    async fn wait(&mut self) -> Option<Bytes> {
        let until = if self.bookmarks { self.deadline.min(self.next_bookmark) } else { self.deadline };
        tokio::select! {
            biased;
            () = self.closing.cancelled() => {
                self.done = true;
                None
            }
            () = self.topic.wake.after(self.seen) => None,
            () = tokio::time::sleep_until(until) => {
                self.done = until == self.deadline;
                self.next_bookmark = until + BOOKMARK_EVERY;
                self.bookmarks.then(|| self.bookmark(false))
            }
        }
    }

    fn initial_piece(&mut self) -> Result<Bytes, ApiError> {
        let mut out = BytesMut::new();
        let mut size = 0;
        let fits = |object: &&Bytes| {
            let fits = size < PIECE;
            size += object.len();
            fits
        };
        let count = self.initial.iter().take(CHUNK).take_while(fits).count();
        for object in self.initial.drain(..count) {
            self.renderer.event(&mut out, "ADDED", &object)?;
        }
        if self.initial.is_empty() && self.initial_end {
            self.initial_end = false;
            out.put(self.bookmark(true));
        }
        Ok(out.freeze())
    }

    /// As many events as make one piece; the position is that of the last one.
    fn piece(&mut self, events: &[Arc<Event>]) -> Result<Bytes, ApiError> {
        let mut out = BytesMut::new();
        for event in events {
            if out.len() >= PIECE {
                break;
            }
            self.position = event.revision;
            let now = match event.change {
                Change::Deleted => None,
                Change::Added | Change::Modified => self.selected(event, &event.object)?,
            };
            let before = match &event.previous {
                Some(previous) => self.selected(event, previous)?,
                None => None,
            };
            match (before, now) {
                (None, Some(object)) => self.renderer.event(&mut out, "ADDED", &object)?,
                (Some(_), Some(object)) => self.renderer.event(&mut out, "MODIFIED", &object)?,
                (Some(before), None) => {
                    let last = self.last_state(event, before)?;
                    self.renderer.event(&mut out, "DELETED", &last)?;
                }
                (None, None) => {}
            }
        }
        Ok(out.freeze())
    }

    fn selected(&self, event: &Event, bytes: &Bytes) -> Result<Option<Bytes>, ApiError> {
        self.selection.select(&event.namespace, &event.name, bytes)
    }

    /// What a watcher is told of an object that is gone, or no longer selected: its last state that was selected, with
    /// the revision of the change.
    fn last_state(&self, event: &Event, before: Bytes) -> Result<Bytes, ApiError> {
        if event.change == Change::Deleted
            && let Some(last) = self.selected(event, &event.object)?
        {
            return Ok(last);
        }
        let mut last: Value = from_bytes(&before)?;
        set_meta(&mut last, "resourceVersion", Some(json!(event.revision.to_string())));
        to_bytes(&last)
    }

    fn bookmark(&self, initial_end: bool) -> Bytes {
        let kind = &self.selection.served.kind;
        let mut metadata = json!({ "resourceVersion": self.position.to_string(), "creationTimestamp": null });
        if initial_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let object = json!({ "kind": kind.kind, "apiVersion": kind.resource.api_version(), "metadata": metadata });
        self.renderer.bookmark(&object)
    }

    fn fail(&mut self, error: &ApiError) -> Bytes {
        self.done = true;
        Bytes::from(format!("{}\n", json!({ "type": "ERROR", "object": error.to_status() })))
    }
}
