//! Images of the engine, into the containerd of nodes.

use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bytes::Bytes;
use futures::future::join_all;
use futures::stream::Empty;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;

use super::exec;
use super::failure::failed;
use crate::runtime::import::{self, not_imported};
use crate::runtime::{ContainerId, ExecOutput, RuntimeError, image_name};

/// So many pieces may wait for each node: the slowest sets the pace.
const PIECES: usize = 8;
const OPERATION: &str = "load images";
/// Until the first piece of what an engine hands out: it writes all layers into a file before.
const FIRST_PIECE: Duration = Duration::from_secs(900);

/// Reads the images once, and hands them to all nodes as they come. Tells which did not take them.
///
/// # Errors
/// Where the images cannot be read.
pub async fn images(
    docker: &Docker,
    ids: &[ContainerId],
    images: &[String],
) -> Result<Vec<(ContainerId, RuntimeError)>, RuntimeError> {
    let mut tags = Vec::new();
    for image in images {
        let seen = docker.inspect_image(image).await.map_err(|error| failed(OPERATION, image, error))?;
        tags.extend(alias(image, &seen.repo_tags.unwrap_or_default()).map(|(name, also)| import::tag(&name, &also)));
    }
    let names: Vec<&str> = images.iter().map(String::as_str).collect();
    let (senders, receivers): (Vec<_>, Vec<_>) = ids.iter().map(|_| mpsc::channel(PIECES)).unzip();
    let nodes = ids.iter().zip(receivers).map(|(id, pieces)| take(docker, &id.0, pieces, &tags));
    let patient = docker.clone().with_timeout(FIRST_PIECE);
    let (read, ended) = tokio::join!(hand_out(patient.export_images(&names), senders), join_all(nodes));
    let object = names.join(" ");
    read.map_err(|error| failed(OPERATION, &object, error))?;
    let outcomes = ids.iter().zip(ended).filter_map(|(id, ended)| {
        let error = match ended {
            Ok(output) => not_imported(OPERATION, &object, &output)?,
            Err(error) => failed(OPERATION, &object, error),
        };
        Some((id.clone(), error))
    });
    Ok(outcomes.collect())
}

/// Takes images into one node, and gives them the names that they are to have besides. Ends with the first command that fails.
async fn take(
    docker: &Docker,
    id: &str,
    pieces: mpsc::Receiver<Bytes>,
    tags: &[Vec<String>],
) -> Result<ExecOutput, Error> {
    let mut said = exec::feed(docker, id, &import::IMPORT.map(str::to_owned), Some(stream(pieces))).await?;
    for tag in tags {
        if said.code != 0 {
            break;
        }
        said = exec::feed(docker, id, tag, None::<Empty<Bytes>>).await?;
    }
    Ok(said)
}

/// The name under which the engine hands out an image that was asked for by a short one, and the name that the short one stands
/// for in a cluster. Podman keeps what was built or loaded as `app` under `localhost/app`; a pod with `app` has
/// `docker.io/library/app`.
fn alias(image: &str, tags: &[String]) -> Option<(String, String)> {
    let wanted = image_name::full(image);
    let is_wanted = |tag: &String| image_name::full(tag) == wanted;
    if image.contains('@') || tags.iter().any(is_wanted) {
        return None;
    }
    let local = image_name::full(&format!("localhost/{image}"));
    tags.contains(&local).then_some((local, wanted))
}

/// Hands every piece to everybody who still listens, and ends early once nobody does.
async fn hand_out(
    mut pieces: impl Stream<Item = Result<Bytes, Error>> + Unpin,
    mut to: Vec<mpsc::Sender<Bytes>>,
) -> Result<(), Error> {
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        join_all(to.iter().map(|to| to.send(piece.clone()))).await;
        to.retain(|to| !to.is_closed());
        if to.is_empty() {
            break;
        }
    }
    Ok(())
}

fn stream(pieces: mpsc::Receiver<Bytes>) -> impl Stream<Item = Bytes> {
    futures::stream::unfold(pieces, |mut pieces| async move { Some((pieces.recv().await?, pieces)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(count: u8) -> impl Stream<Item = Result<Bytes, Error>> + Unpin {
        futures::stream::iter((0..count).map(|piece| Ok(Bytes::from(vec![piece]))))
    }

    #[test]
    fn what_podman_keeps_as_local_has_the_name_that_pods_ask_for_too() {
        let alias = |image: &str, tags: &[&str]| {
            let tags: Vec<String> = tags.iter().map(|&tag| tag.to_owned()).collect();
            alias(image, &tags).map(|(name, also)| format!("{name} {also}"))
        };
        let both = Some("localhost/app:dev docker.io/library/app:dev".to_owned());
        assert_eq!(alias("app:dev", &["localhost/other:1", "localhost/app:dev"]), both);
        let both = Some("localhost/me/app:latest docker.io/me/app:latest".to_owned());
        assert_eq!(alias("me/app", &["localhost/me/app:latest"]), both);
        // Docker's own names, names that say where the image is from, and what was found by its digest.
        assert_eq!(alias("app:dev", &["app:dev"]), None);
        assert_eq!(alias("nginx", &["docker.io/library/nginx:latest", "localhost/nginx:latest"]), None);
        assert_eq!(alias("localhost/app:dev", &["localhost/app:dev"]), None);
        assert_eq!(alias("7d577a3a5126", &["localhost/app:dev"]), None);
    }

    #[tokio::test]
    async fn everybody_gets_every_piece_and_who_went_away_holds_up_nobody() {
        let (senders, mut receivers): (Vec<_>, Vec<_>) = (0..3).map(|_| mpsc::channel(PIECES)).unzip();
        let left = receivers.remove(1);
        let read = async { join_all(receivers.into_iter().map(|to| stream(to).collect::<Vec<_>>())).await };
        let leave = async {
            let mut left = left;
            left.recv().await;
        };
        let (handed, heard, ()) = tokio::join!(hand_out(pieces(100), senders), read, leave);
        handed.unwrap();
        let all: Vec<Bytes> = (0..100).map(|piece| Bytes::from(vec![piece])).collect();
        assert_eq!(heard, [all.clone(), all]);
    }

    #[tokio::test]
    async fn what_cannot_be_read_to_its_end_is_told() {
        let broken = pieces(2).chain(futures::stream::iter([Err(Error::RequestTimeoutError)]));
        let (to, from) = mpsc::channel(PIECES);
        let (handed, heard) = tokio::join!(hand_out(broken, vec![to]), stream(from).count());
        assert!(handed.is_err() && heard == 2);
    }
}
