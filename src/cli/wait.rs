//! `kina wait`: until objects are as wished, in kubectl's words.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use kube::api::DynamicObject;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use serde_json::Value;
use tokio::time::Instant;

use super::context::{Context, Failures};
use super::error::CliError;
use super::exit::Exit;
use super::get::{self, Selection};
use super::kinds::{self, Which};
use super::session::{Need, Runs, Session};
use crate::apiserver::jsonpath::{self, JsonPath};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// `TYPE NAME...` or `TYPE/NAME...`; `TYPE` with `--all` or `-l`
    #[arg(value_name = "WHAT", required = true)]
    what: Vec<String>,
    /// `condition=TYPE[=STATUS]`, `jsonpath=PATH[=VALUE]`, `create` or `delete`
    #[arg(long = "for", value_name = "WISH", value_parser = Wish::parse)]
    wish: Wish,
    /// Give up after this long; `0` looks once
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = super::duration_or_zero)]
    timeout: Duration,
    /// All objects of the kind
    #[arg(long, conflicts_with = "selector")]
    all: bool,
    /// Those with these labels
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    selector: Option<String>,
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq)]
enum Wish {
    Condition { type_: String, status: String },
    Path { path: JsonPath, value: Option<String> },
    Created,
    Deleted,
}

impl Wish {
    fn parse(text: &str) -> Result<Self, String> {
        let (name, rest) = text.split_once('=').map_or((text, None), |(name, rest)| (name, Some(rest)));
        match (name, rest) {
            ("create", None) => Ok(Self::Created),
            ("delete", None) => Ok(Self::Deleted),
            ("condition", Some(rest)) => {
                let (type_, status) = rest.split_once('=').unwrap_or((rest, "true"));
                Ok(Self::Condition { type_: type_.to_owned(), status: status.to_owned() })
            }
            ("jsonpath", Some(rest)) => {
                // `{.a}=b`; an equals sign amid braces belongs to the path.
                let (path, value) = match rest.rfind('}') {
                    Some(end) => (&rest[..=end], rest[end + 1..].strip_prefix('=')),
                    None => rest.split_once('=').map_or((rest, None), |(path, value)| (path, Some(value))),
                };
                let path = JsonPath::relaxed(path).map_err(|error| format!("in the path: {error}"))?;
                Ok(Self::Path { path, value: value.map(|value| value.trim_matches(['"', '\'']).to_owned()) })
            }
            _ => Err("there are `condition=TYPE`, `jsonpath=PATH=VALUE`, `create` and `delete`".to_owned()),
        }
    }

    /// Whether it holds of an object, or of one that is not there.
    fn holds(&self, object: Option<&Value>) -> bool {
        match (self, object) {
            (Self::Created, found) => found.is_some(),
            (Self::Deleted, found) => found.is_none(),
            (_, None) => false,
            (Self::Condition { type_, status }, Some(object)) => {
                let text =
                    |condition: &Value, field: &str| condition[field].as_str().unwrap_or_default().to_lowercase();
                let generation = object["metadata"]["generation"].as_i64();
                let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
                conditions.any(|condition| {
                    // As kubectl: what is said of an older spec does not count.
                    let is_current =
                        condition["observedGeneration"].as_i64().is_none_or(|seen| Some(seen) >= generation);
                    is_current
                        && text(condition, "type") == type_.to_lowercase()
                        && text(condition, "status") == status.to_lowercase()
                })
            }
            (Self::Path { path, value }, Some(object)) => {
                let found = path.find(object);
                match value {
                    None => !found.is_empty(),
                    Some(value) => found.iter().any(|found| jsonpath::plain(found) == *value),
                }
            }
        }
    }

    fn told(&self) -> &'static str {
        match self {
            Self::Condition { .. } | Self::Path { .. } => "condition met",
            Self::Created => "created",
            Self::Deleted => "deleted",
        }
    }
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    let targets = kinds::targets(&args.what)?;
    let selects = args.all || args.selector.is_some();
    if targets.iter().any(|(_, name)| name.is_some() == selects) {
        let error = CliError::new(Exit::Usage, "either names are given, or `--all` or `-l`");
        return Err(error.hint("`kina wait --for=condition=Ready cluster/dev`"));
    }
    let session = Session::open(context, Need::Read, None).await?;
    let (client, runs) = (session.client.clone(), session.runs());
    let work = async {
        let mut failures = Failures::default();
        let mut objects = Vec::new();
        let selection = Selection { labels: args.selector.clone(), fields: None };
        for (which, name) in targets {
            match name {
                Some(name) => objects.push((which, name)),
                None => {
                    let found = get::list(&client, which, &selection).await?;
                    let name = |object: &Value| object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                    objects.extend(found.iter().map(|object| (which, name(object))));
                }
            }
        }
        if objects.is_empty() {
            return Err(CliError::new(Exit::NotFound, "there is nothing to wait for"));
        }
        let deadline = Instant::now() + args.timeout;
        for (which, name) in objects {
            match one(&client, which, &name, &args, (deadline, runs), context).await {
                Ok(()) => {
                    let full = kinds::full(&which.kind()?, &name);
                    context.printer.data_line(&format!("{full} {}", args.wish.told()))?;
                }
                Err(error) => failures.add(context, error)?,
            }
        }
        failures.end()
    };
    session.run(work).await
}

async fn one(
    client: &kube::Client,
    which: Which,
    name: &str,
    args: &Args,
    (deadline, runs): (Instant, Runs),
    context: &Context,
) -> Result<(), CliError> {
    let kind = which.kind()?;
    let now = match get::one(client, which, name).await {
        Ok(object) => Some(object),
        Err(error) if error.exit() == Exit::NotFound && matches!(args.wish, Wish::Created | Wish::Deleted) => None,
        Err(error) => return Err(error),
    };
    if args.wish.holds(now.as_ref()) {
        return Ok(());
    }
    let short = kinds::short(&kind, name);
    if runs == Runs::Nothing {
        let error = CliError::new(Exit::Failure, format!("{short} is not as wished, and no kina runs to change that"));
        return Err(error.hint("`kina serve` in another terminal"));
    }
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let events = watch(kinds::api(client, &kind), config).default_backoff().boxed();
    let typed = |object: &DynamicObject| get::typed(&kind, object);
    let interrupt = context.interrupt.clone();
    let seen = tokio::select! {
        biased;
        () = interrupt.first() => return Err(CliError::silent(Exit::Interrupted)),
        seen = tokio::time::timeout_at(deadline, until(events, &args.wish, typed)) => seen,
    };
    match seen {
        Ok(result) => result,
        Err(_) => {
            let seconds = args.timeout.as_secs();
            let error = CliError::new(Exit::Timeout, format!("{short} was not as wished within {seconds} s"));
            Err(error.hint(format!("`kina describe {} {name}` says what it waits for", kind.singular)))
        }
    }
}

/// Follows an object until the wish holds.
async fn until(
    mut events: impl futures::Stream<Item = Result<Event<DynamicObject>, watcher::Error>> + Unpin,
    wish: &Wish,
    typed: impl Fn(&DynamicObject) -> Option<Value>,
) -> Result<(), CliError> {
    let mut listed = None;
    loop {
        let holds = match events.try_next().await {
            // Tried again, until the time is over.
            Err(_) => false,
            Ok(None) => return Err(CliError::new(Exit::Failure, "the API ended the watch")),
            Ok(Some(Event::Init)) => {
                listed = None;
                false
            }
            Ok(Some(Event::InitApply(object))) => {
                listed = typed(&object);
                false
            }
            Ok(Some(Event::InitDone)) => wish.holds(listed.as_ref()),
            Ok(Some(Event::Apply(object))) => wish.holds(typed(&object).as_ref()),
            Ok(Some(Event::Delete(_))) => wish.holds(None),
        };
        if holds {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn wishes_are_written_and_judged_as_with_kubectl() {
        let object = json!({
            "metadata": {"generation": 2},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": "True", "observedGeneration": 2},
                {"type": "Drifted", "status": "False"},
                {"type": "Old", "status": "True", "observedGeneration": 1},
            ]},
        });
        for (wish, holds) in [
            ("condition=Ready", true),
            ("condition=ready=true", true),
            ("condition=Ready=False", false),
            ("condition=Drifted=false", true),
            ("condition=Old", false),
            ("condition=Missing", false),
            ("jsonpath={.status.phase}=Running", true),
            ("jsonpath={.status.phase}=\"Running\"", true),
            ("jsonpath=.status.phase=Pending", false),
            ("jsonpath={.status.conditions[?(@.type==\"Ready\")].status}=True", true),
            ("jsonpath={.status.phase}", true),
            ("jsonpath={.status.missing}", false),
            ("create", true),
            ("delete", false),
        ] {
            assert_eq!(Wish::parse(wish).unwrap().holds(Some(&object)), holds, "{wish}");
        }
        assert!(Wish::Deleted.holds(None) && !Wish::Created.holds(None));
        for wish in ["ready", "condition", "jsonpath={.a", "delete=now"] {
            assert!(Wish::parse(wish).is_err(), "{wish}");
        }
    }
}
