//! Images of the host, into the containerd of nodes.

use std::path::Path;

use futures::future::join_all;

use super::calls::PULL;
use super::create::PLATFORM;
use super::failure::failed;
use super::process::Input;
use super::{AppleRuntime, FILE_BYTES_MAX, STAGE_MODE};
use crate::runtime::import::{IMPORT, not_imported};
use crate::runtime::{Cause, ContainerId, RuntimeError, image_name};
use crate::world::uuid;

const OPERATION: &str = "load images";

impl AppleRuntime {
    /// Reads the images once, and hands them to all nodes. Tells which did not take them.
    pub(super) async fn load(
        &self,
        ids: &[ContainerId],
        images: &[String],
    ) -> Result<Vec<(ContainerId, RuntimeError)>, RuntimeError> {
        let object = images.join(" ");
        for image in images {
            self.image(OPERATION, image).await?;
        }
        let file = self.stages.join(format!(".load-{}.tar", uuid(self.world.random.as_ref())));
        let unusable = |error: std::io::Error| {
            RuntimeError::new(OPERATION, &object, Cause::Unknown, format!("{}: {error}", self.stages.display()))
        };
        self.world.files.create_directories(&self.stages, STAGE_MODE).map_err(unusable)?;
        let outcome = self.load_from(&file, ids, images, &object).await;
        // Best effort: it was there for this call alone.
        let _ = self.world.files.remove_file(&file);
        outcome
    }

    /// Writes images into a file, and feeds it to nodes. Tells which did not take them.
    async fn load_from(
        &self,
        file: &Path,
        ids: &[ContainerId],
        images: &[String],
        object: &str,
    ) -> Result<Vec<(ContainerId, RuntimeError)>, RuntimeError> {
        let names: Vec<String> = images.iter().map(|image| image_name::full(image)).collect();
        // To a file: through a pipe 1.0 mixes names of images into it.
        let path = file.to_string_lossy();
        let options = ["image", "save", "--platform", PLATFORM, "-o", &path];
        let save: Vec<&str> = options.into_iter().chain(names.iter().map(String::as_str)).collect();
        match self.command.ask(&save, PULL, FILE_BYTES_MAX).await? {
            Ok(output) if output.code == 0 => {}
            result => return Err(failed(OPERATION, object, &result)),
        }
        let import = IMPORT.map(str::to_owned);
        let each = ids.iter().map(|id| async {
            let input = Input::File(file.to_owned());
            let error = match self.run_inside(OPERATION, &id.0, &import, input, PULL, FILE_BYTES_MAX).await {
                Ok(output) => not_imported(OPERATION, object, &output)?,
                Err(error) => error,
            };
            Some((id.clone(), error))
        });
        Ok(join_all(each).await.into_iter().flatten().collect())
    }
}
