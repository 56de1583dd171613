//! Get and list, from a snapshot: readers never wait for the writer.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::to_served;
use crate::apiserver::kind::Kind;
use crate::apiserver::object::{from_bytes, to_bytes};
use crate::apiserver::raw::{self, from_bytes_without_managers};
use crate::apiserver::registry::Served;
use crate::apiserver::request::query::{Query, option_fault, unsupported};
use crate::apiserver::request::selector::{FieldSelector, LabelSelector};
use crate::apiserver::status::ApiError;
use crate::apiserver::store::{Snapshot, visit_over};
use crate::apiserver::txn::resource_prefix;
use crate::apiserver::writer::Core;

/// How long a reader waits for a revision that is yet to come (the watch cache's blockTimeout).
const WAIT_FOR_REVISION: Duration = Duration::from_secs(3);

/// Which objects of a tenant.
#[derive(Clone, Debug)]
pub(crate) struct Selection {
    pub tenant: Arc<str>,
    pub served: Served,
    pub namespace: Option<String>,
    pub labels: LabelSelector,
    pub fields: FieldSelector,
}

impl Selection {
    /// Reads the selectors of a query; `name` narrows to one object.
    pub fn parse(
        tenant: &Arc<str>,
        served: &Served,
        namespace: Option<String>,
        name: Option<&str>,
        query: &Query,
    ) -> Result<Self, ApiError> {
        Ok(Self {
            tenant: Arc::clone(tenant),
            served: served.clone(),
            namespace,
            labels: LabelSelector::parse(query.get("labelSelector").unwrap_or_default())?,
            fields: match name {
                Some(name) => FieldSelector::name(name),
                None => FieldSelector::parse(query.get("fieldSelector").unwrap_or_default(), &served.kind)?,
            },
        })
    }

    pub fn prefix(&self) -> String {
        resource_prefix(&self.tenant, &self.served.stored, self.namespace.as_deref())
    }

    pub fn is_everything(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The object in the form of the kind asked for, if it is selected.
    pub fn select(&self, namespace: &str, name: &str, bytes: &Bytes) -> Result<Option<Bytes>, ApiError> {
        if self.namespace.as_deref().is_some_and(|wanted| wanted != namespace)
            || !self.fields.matches_key(namespace, name)
        {
            return Ok(None);
        }
        let converts = self.served.kind.stored_as.is_some() || self.served.kind.view.is_some();
        if !converts && self.labels.is_empty() && self.fields.by_key_alone() {
            return Ok(Some(bytes.clone()));
        }
        let whole = if converts { from_bytes(bytes)? } else { from_bytes_without_managers(bytes)? };
        let object = viewed(&self.tenant, &self.served.kind, whole);
        if !self.labels.matches(&object) || !self.fields.matches(&object) {
            return Ok(None);
        }
        if converts { to_bytes(&object).map(Some) } else { Ok(Some(bytes.clone())) }
    }
}

/// Which state a list shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Latest,
    NotOlderThan(u64),
    Exact(u64),
}

/// Where a list goes on: a revision, or the latest state where the revision expired, and a key.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    start: String,
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

impl Token {
    fn encode(revision: i64, start: &str) -> String {
        let token = Self { v: TOKEN_VERSION.to_owned(), rv: revision, start: start.to_owned() };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }

    fn decode(text: &str) -> Result<Self, ApiError> {
        let invalid = || ApiError::bad_request("continue key is not valid: it is not one that this server made");
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid())?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|_| invalid())?;
        if token.v == TOKEN_VERSION && token.rv != 0 { Ok(token) } else { Err(invalid()) }
    }
}

/// A list as asked for.
#[derive(Debug)]
pub(crate) struct ListOptions {
    at: At,
    /// Objects a page; `None` for all.
    limit: Option<usize>,
    /// Key to start at, relative to the resource.
    start: String,
}

impl ListOptions {
    pub fn parse(query: &Query) -> Result<Self, ApiError> {
        let fault = |field: &str, message: &str| option_fault("ListOptions", field, "FieldValueForbidden", message);
        if query.flag("sendInitialEvents")?.is_some() {
            return Err(fault("sendInitialEvents", "Forbidden: sendInitialEvents is forbidden for list"));
        }
        let limit = query.number("limit")?.filter(|limit| *limit > 0);
        let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let revision = query.number("resourceVersion")?;
        let matching = query.get("resourceVersionMatch");
        if let Some(token) = query.get("continue") {
            if matching.is_some() {
                let message = "Forbidden: resourceVersionMatch is forbidden when continue is provided";
                return Err(fault("resourceVersionMatch", message));
            }
            if revision.is_some_and(|revision| revision != 0) {
                return Err(ApiError::bad_request("specifying resource version is not allowed when using continue"));
            }
            let token = Token::decode(token)?;
            let at = u64::try_from(token.rv).map_or(At::Latest, At::Exact);
            return Ok(Self { at, limit, start: token.start });
        }
        let at = match (matching, revision) {
            (None, None | Some(0)) | (Some("NotOlderThan"), Some(0)) => At::Latest,
            // Without a match, a page at a revision is at exactly that revision (the table in "API concepts").
            (None, Some(revision)) if limit.is_some() => At::Exact(revision),
            (None | Some("NotOlderThan"), Some(revision)) => At::NotOlderThan(revision),
            (Some("Exact"), Some(0)) => {
                let message = "Forbidden: resourceVersionMatch \"Exact\" is forbidden for resourceVersion \"0\"";
                return Err(fault("resourceVersionMatch", message));
            }
            (Some("Exact"), Some(revision)) => At::Exact(revision),
            (Some("Exact" | "NotOlderThan"), None) => {
                let message = "Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
                return Err(fault("resourceVersionMatch", message));
            }
            (Some(other), _) => {
                return Err(unsupported("ListOptions", "resourceVersionMatch", other, "\"Exact\", \"NotOlderThan\""));
            }
        };
        Ok(Self { at, limit, start: String::new() })
    }

    /// The latest state, whole.
    pub fn latest() -> Self {
        Self { at: At::Latest, limit: None, start: String::new() }
    }
}

/// A list, or a page of one.
#[derive(Debug, Default)]
pub(crate) struct Listed {
    pub revision: u64,
    /// Objects in the form of the kind asked for, in order of key.
    pub items: Vec<Bytes>,
    pub continue_token: Option<String>,
    pub remaining: Option<u64>,
}

impl Listed {
    /// Leaves the objects that were written last, so many of them, still in order of key.
    pub fn keep_newest(&mut self, count: usize) {
        let mut revisions: Vec<u64> = self.items.iter().map(|item| raw::revision(item)).collect();
        revisions.sort_unstable();
        let oldest = revisions.len().checked_sub(count).and_then(|left_out| revisions.get(left_out).copied());
        if let Some(oldest) = oldest {
            self.items.retain(|item| raw::revision(item) >= oldest);
        }
    }
}

/// Lists.
pub(crate) async fn list(core: &Core, selection: &Selection, options: &ListOptions) -> Result<Listed, ApiError> {
    if let At::NotOlderThan(revision) | At::Exact(revision) = options.at {
        wait_for(core, revision).await?;
    }
    let snapshot = core.store.snapshot()?;
    let (revision, undone) = match options.at {
        At::Exact(revision) if revision < snapshot.revision() => {
            // The ring must hold what the snapshot shows.
            let mut published = core.hub.subscribe();
            let shown = snapshot.revision();
            published.wait_for(|seen| *seen >= shown).await.map_err(|_| ApiError::shutting_down())?;
            (revision, undo(core, selection, revision, shown).ok_or_else(|| expired(options))?)
        }
        _ => (snapshot.revision(), BTreeMap::new()),
    };
    collect(&*snapshot, selection, options, revision, &undone)
}

/// What has to be written over a snapshot at `shown` to see the state at an older revision. `None` where that is no
/// longer known.
fn undo(core: &Core, selection: &Selection, revision: u64, shown: u64) -> Option<BTreeMap<String, Option<Bytes>>> {
    let topic = core.hub.topic(&selection.tenant, &selection.served.stored);
    let events = topic.after(revision, usize::MAX).ok()?;
    let prefix = resource_prefix(&selection.tenant, &selection.served.stored, None);
    let mut undone = BTreeMap::new();
    for event in events.iter().rev().filter(|event| event.revision <= shown) {
        undone.insert(format!("{prefix}{}/{}", event.namespace, event.name), event.previous.clone());
    }
    Some(undone)
}

fn expired(options: &ListOptions) -> ApiError {
    if options.start.is_empty() {
        return ApiError::expired("The resourceVersion for the provided list is too old.");
    }
    let mut error = ApiError::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list \
         without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
         results. Continuing with the provided token results in an inconsistent list - objects that were created, \
         modified, or deleted between the time the first chunk was returned and now may show up in the list.",
    );
    error.continue_token = Some(Token::encode(-1, &options.start));
    error
}

fn collect(
    snapshot: &dyn Snapshot,
    selection: &Selection,
    options: &ListOptions,
    revision: u64,
    undone: &BTreeMap<String, Option<Bytes>>,
) -> Result<Listed, ApiError> {
    let resource = resource_prefix(&selection.tenant, &selection.served.stored, None);
    let (prefix, from) = match (&selection.namespace, selection.fields.single_name()) {
        // One name in one place: look no further.
        (Some(namespace), Some(name)) => (format!("{resource}{namespace}/{name}"), options.start.clone()),
        _ => (selection.prefix(), options.start.clone()),
    };
    let from = format!("{resource}{from}");
    let overlay = undone.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
    let limit = options.limit.unwrap_or(usize::MAX);
    let (mut listed, mut failure, mut remaining) = (Listed { revision, ..Listed::default() }, None, 0);
    let mut last = String::new();
    visit_over(snapshot, overlay, &prefix, &from, &mut |key, value| {
        let place = key.strip_prefix(&resource).and_then(|rest| rest.split_once('/'));
        let Some((namespace, name)) = place else { return ControlFlow::Continue(()) };
        if listed.items.len() == limit && selection.is_everything() {
            remaining += 1;
            return ControlFlow::Continue(());
        }
        match selection.select(namespace, name, &Bytes::copy_from_slice(value)) {
            Ok(None) => ControlFlow::Continue(()),
            Ok(Some(_)) if listed.items.len() == limit => {
                remaining += 1;
                ControlFlow::Break(())
            }
            Ok(Some(object)) => {
                listed.items.push(object);
                // The next key in order.
                last = format!("{namespace}/{name}\0");
                ControlFlow::Continue(())
            }
            Err(error) => {
                failure = Some(error);
                ControlFlow::Break(())
            }
        }
    })?;
    if let Some(error) = failure {
        return Err(error);
    }
    if remaining > 0 {
        listed.continue_token = Some(Token::encode(i64::try_from(revision).unwrap_or(i64::MAX), &last));
        listed.remaining = selection.is_everything().then_some(remaining);
    }
    Ok(listed)
}

/// Waits until the store has reached a revision.
pub(crate) async fn wait_for(core: &Core, revision: u64) -> Result<(), ApiError> {
    if revision <= core.hub.published() || revision <= core.store.snapshot()?.revision() {
        return Ok(());
    }
    let mut published = core.hub.subscribe();
    let reached = tokio::time::timeout(WAIT_FOR_REVISION, published.wait_for(|seen| *seen >= revision)).await;
    match reached {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) => Err(ApiError::shutting_down()),
        Err(_) => Err(ApiError::too_large_revision(revision, core.hub.published())),
    }
}

/// One object, in the form of the kind asked for.
pub(crate) async fn get(core: &Core, selection: &Selection, name: &str, query: &Query) -> Result<Bytes, ApiError> {
    if let Some(revision) = query.number("resourceVersion")? {
        wait_for(core, revision).await?;
    }
    let snapshot = core.store.snapshot()?;
    let key = format!(
        "{}{name}",
        resource_prefix(
            &selection.tenant,
            &selection.served.stored,
            Some(selection.namespace.as_deref().unwrap_or_default())
        )
    );
    let bytes = snapshot.get(&key)?.ok_or_else(|| ApiError::not_found(&selection.served.kind, name))?;
    if selection.served.kind.stored_as.is_none() && selection.served.kind.view.is_none() {
        return Ok(bytes);
    }
    to_bytes(&viewed(&selection.tenant, &selection.served.kind, from_bytes(&bytes)?))
}

/// A stored object in the form in which readers of `kind` see it.
fn viewed(tenant: &str, kind: &Kind, object: Value) -> Value {
    let mut object = to_served(kind, object);
    if let Some(view) = &kind.view {
        view(tenant, &mut object);
    }
    object
}
