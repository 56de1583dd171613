//! `kina get -w`: what is there, and then whatever changes, a row or a document each.

use std::collections::BTreeMap;

use futures::{StreamExt, TryStreamExt};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use serde_json::Value;

use super::context::Context;
use super::error::CliError;
use super::exit::Exit;
use super::get::{self, Selection};
use super::kinds::{self, Which};
use super::output::{self, Format, Headings};
use super::session::{Need, Runs, Session};
use crate::apiserver::kind::Kind;
use crate::ui::table::Widths;

/// What to watch, and how to print it.
#[derive(Clone, Debug)]
pub struct Watch {
    kind: Kind,
    selection: Selection,
    format: Format,
    headings: Headings,
    /// Only what changes from now on.
    only_changes: bool,
}

impl Watch {
    /// Of one kind, all objects or one by name.
    ///
    /// # Errors
    /// A usage error for more than that, as with kubectl.
    pub fn of(
        mut targets: Vec<(Which, Option<String>)>,
        mut selection: Selection,
        (format, headings): (Format, Headings),
        only_changes: bool,
    ) -> Result<Self, CliError> {
        let Some((which, name)) = targets.pop().filter(|_| targets.is_empty()) else {
            let error = CliError::new(Exit::Usage, "one kind can be watched, or one object of it");
            return Err(error.hint("`kina status -w` shows everything"));
        };
        if let Some(name) = name {
            selection.fields = Some(format!("metadata.name={name}"));
        }
        Ok(Self { kind: which.kind()?, selection, format, headings, only_changes })
    }
}

/// Prints until Ctrl-C, which is no failure.
pub async fn run(watch: &Watch, context: &mut Context) -> Result<(), CliError> {
    let session = Session::open(context, Need::Read, None).await?;
    if session.runs() == Runs::Nothing {
        let error = CliError::new(Exit::Failure, "no kina runs, so nothing would ever change");
        let refused =
            async { Err(error.hint("`kina serve` in another terminal; without `-w` the last known is shown")) };
        return session.run(refused).await;
    }
    let client = session.client.clone();
    let interrupt = context.interrupt.clone();
    let work = async {
        tokio::select! {
            biased;
            () = interrupt.first() => Ok(()),
            end = follow(watch, &client, context) => end,
        }
    };
    session.run(work).await
}

async fn follow(what: &Watch, client: &kube::Client, context: &mut Context) -> Result<(), CliError> {
    let config = watcher::Config {
        label_selector: what.selection.labels.clone(),
        field_selector: what.selection.fields.clone(),
        ..watcher::Config::default()
    };
    let mut events = watch(kinds::api(client, &what.kind), config).default_backoff().boxed();
    let mut screen = Screen { what, widths: Widths::default(), known: BTreeMap::new(), has_printed: false };
    let mut first = Vec::new();
    let mut is_first = true;
    loop {
        match events.try_next().await {
            // What is tried again by itself: a server that restarts is waited for. What is refused is not.
            Err(watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) if matches!(&error, kube::Error::Api(status) if status.code < 500) =>
            {
                return Err(CliError::request(&format!("watch {}", what.kind.resource.plural), error));
            }
            Err(_) => {}
            Ok(None) => return Ok(()),
            Ok(Some(Event::Init)) => first.clear(),
            Ok(Some(Event::InitApply(object))) => first.extend(get::typed(&what.kind, &object)),
            Ok(Some(Event::InitDone)) => {
                let mut listed: Vec<Value> = std::mem::take(&mut first);
                listed.retain(|object| screen.is_news(object));
                if !(std::mem::take(&mut is_first) && what.only_changes) {
                    screen.show(context, listed)?;
                }
            }
            Ok(Some(Event::Apply(object) | Event::Delete(object))) => {
                let object = get::typed(&what.kind, &object).filter(|object| screen.is_news(object));
                screen.show(context, object.into_iter().collect())?;
            }
        }
    }
}

/// What has been printed.
struct Screen<'a> {
    what: &'a Watch,
    widths: Widths,
    /// Resource versions by namespace and name: what a new list shows again is not printed again. As many as there are
    /// objects.
    known: BTreeMap<(String, String), String>,
    has_printed: bool,
}

impl Screen<'_> {
    fn is_news(&mut self, object: &Value) -> bool {
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
        let before = self.known.insert((text("namespace"), text("name")), text("resourceVersion"));
        before != Some(text("resourceVersion"))
    }

    fn show(&mut self, context: &mut Context, objects: Vec<Value>) -> Result<(), CliError> {
        if objects.is_empty() {
            return Ok(());
        }
        let now = context.world.clock.now();
        let headings = if self.has_printed { Headings::Hidden } else { self.what.headings };
        self.has_printed = true;
        let style = (&self.what.format, headings);
        if let Some(rows) = output::rows(&self.what.kind, &objects, style, now) {
            return output::lines(&mut context.printer, self.widths.align(&rows));
        }
        for object in objects {
            output::print(&mut context.printer, &self.what.kind, vec![object], false, style, now)?;
        }
        Ok(())
    }
}
