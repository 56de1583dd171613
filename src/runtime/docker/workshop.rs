//! Images made in containers of the engine: `docker run`, `exec` and `commit`, over its API.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use bollard::errors::Error;
use bollard::exec::StartExecOptions;
use bollard::models::{
    ContainerConfig, ContainerCreateBody, CreateImageInfo, ExecConfig, HostConfig, ImageInspect, Mount, MountType,
    MountVolumeOptions,
};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptionsBuilder, CreateImageOptionsBuilder,
    RemoveContainerOptionsBuilder,
};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;

use super::create::Peculiarities;
use super::failure::{failed, failed_pull};
use super::{DockerRuntime, Engine, exec, is_no_container};
use crate::runtime::workshop::{BaseImage, BenchSpec, ImageSpec, Pulled, Workshop};
use crate::runtime::{Cause, ExecOutput, ExecRequest, Runtime, RuntimeError, RuntimeInfo, image_name};

/// An image of a gigabyte on a slow disk.
const COMMIT: Duration = Duration::from_secs(900);
/// Over a slow line.
const PULL: Duration = Duration::from_secs(1800);
const RUN: &str = "run a command in";

#[async_trait]
impl Workshop for DockerRuntime {
    async fn info(&self) -> Result<RuntimeInfo, RuntimeError> {
        Runtime::info(self).await
    }

    async fn base(&self, image: &str, platform: &str, pulled: Pulled<'_>) -> Result<BaseImage, RuntimeError> {
        const OPERATION: &str = "look up image";
        let docker = &self.engine().await?.docker;
        let present = match docker.inspect_image(image).await {
            Ok(seen) => Some(seen),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => None,
            Err(error) => return Err(failed(OPERATION, image, error)),
        };
        if let Some(base) = present.map(of_inspected).filter(|base| is_for(base, platform)) {
            return Ok(base);
        }
        let options = CreateImageOptionsBuilder::new().from_image(&image_name::full(image)).platform(platform).build();
        let pull = async {
            let mut layers = BTreeMap::new();
            let mut pull = docker.create_image(Some(options), None, None);
            while let Some(progress) = pull.next().await {
                let (done, total) = so_far(&mut layers, progress.map_err(|error| failed_pull(image, error))?);
                pulled(done, total);
            }
            Ok(())
        };
        within(PULL, "pull image", image, pull).await?;
        let seen = docker.inspect_image(image).await.map_err(|error| failed(OPERATION, image, error))?;
        let base = of_inspected(seen);
        if is_for(&base, platform) {
            return Ok(base);
        }
        let message = format!("it is for linux/{}, and {platform} is wanted", base.architecture);
        Err(RuntimeError::new(OPERATION, image, Cause::Invalid, message))
    }

    async fn open(&self, spec: &BenchSpec) -> Result<(), RuntimeError> {
        let Engine { docker, peculiarities, .. } = self.engine().await?;
        let mut options = CreateContainerOptionsBuilder::new().name(&spec.name);
        if let Some(platform) = &spec.platform {
            options = options.platform(platform);
        }
        let made = docker.create_container(Some(options.build()), bench(spec, *peculiarities)).await;
        let made = made.map_err(|error| failed("create container", &spec.name, error))?;
        docker.start_container(&made.id, None).await.map_err(|error| failed("start container", &spec.name, error))
    }

    async fn run(&self, bench: &str, request: &ExecRequest) -> Result<ExecOutput, RuntimeError> {
        let docker = &self.engine().await?.docker;
        let run = async { exec::run(docker, bench, request).await.map_err(|error| failed(RUN, bench, error)) };
        within(request.timeout, RUN, bench, run).await
    }

    async fn feed(
        &self,
        bench: &str,
        command: &[String],
        input: BoxStream<'static, Bytes>,
        timeout: Duration,
    ) -> Result<ExecOutput, RuntimeError> {
        let docker = &self.engine().await?.docker;
        let run =
            async { exec::feed(docker, bench, command, Some(input)).await.map_err(|error| failed(RUN, bench, error)) };
        within(timeout, RUN, bench, run).await
    }

    async fn launch(&self, bench: &str, command: &[String]) -> Result<(), RuntimeError> {
        let docker = &self.engine().await?.docker;
        let config = ExecConfig { cmd: Some(command.to_vec()), ..ExecConfig::default() };
        let failed = |error| failed(RUN, bench, error);
        let exec = docker.create_exec(bench, config).await.map_err(failed)?;
        let detached = StartExecOptions { detach: true, ..StartExecOptions::default() };
        docker.start_exec(&exec.id, Some(detached)).await.map(drop).map_err(failed)
    }

    async fn commit(&self, bench: &str, spec: &ImageSpec) -> Result<String, RuntimeError> {
        const OPERATION: &str = "commit container";
        let docker = self.engine().await?.docker.clone().with_timeout(COMMIT);
        let options =
            CommitContainerOptionsBuilder::new().container(bench).repo(&spec.repository).tag(&spec.tag).pause(true);
        let config = ContainerConfig {
            entrypoint: Some(spec.entrypoint.clone()),
            cmd: Some(spec.command.clone()),
            labels: Some(spec.labels.clone().into_iter().collect()),
            ..ContainerConfig::default()
        };
        let made = docker.commit_container(options.build(), config).await;
        made.map(|made| made.id).map_err(|error| failed(OPERATION, bench, error))
    }

    async fn close(&self, bench: &str) -> Result<(), RuntimeError> {
        let docker = &self.engine().await?.docker;
        let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
        match docker.remove_container(bench, Some(options)).await {
            Err(Error::DockerResponseServerError { message, .. }) if is_gone(&message) => Ok(()),
            removed => removed.map_err(|error| failed("remove container", bench, error)),
        }
    }
}

/// It removes itself where it has ended.
fn is_gone(message: &str) -> bool {
    is_no_container(message) || message.contains("is already in progress")
}

async fn within<T>(
    limit: Duration,
    operation: &'static str,
    object: &str,
    work: impl Future<Output = Result<T, RuntimeError>>,
) -> Result<T, RuntimeError> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| {
        let message = format!("it took longer than {} s", limit.as_secs());
        Err(RuntimeError::new(operation, object, Cause::Timeout, message))
    })
}

fn of_inspected(seen: ImageInspect) -> BaseImage {
    let config = seen.config.unwrap_or_default();
    BaseImage {
        id: seen.id.unwrap_or_default(),
        architecture: seen.architecture.unwrap_or_default(),
        entrypoint: config.entrypoint.unwrap_or_default(),
        command: config.cmd.unwrap_or_default(),
        volumes: config.volumes.unwrap_or_default(),
    }
}

fn is_for(base: &BaseImage, platform: &str) -> bool {
    platform.strip_prefix("linux/") == Some(base.architecture.as_str())
}

/// How far a pull is: of all layers that were heard of, by their ids.
fn so_far(layers: &mut BTreeMap<String, (u64, u64)>, progress: CreateImageInfo) -> (u64, u64) {
    let count = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).unwrap_or_default();
    if let (Some(layer), Some(detail), Some("Downloading")) =
        (progress.id, progress.progress_detail, progress.status.as_deref())
    {
        layers.insert(layer, (count(detail.current), count(detail.total)));
    }
    layers.values().fold((0, 0), |(done, total), (more_done, more)| (done + more_done, total + more))
}

fn bench(spec: &BenchSpec, peculiarities: Peculiarities) -> ContainerCreateBody {
    let labels = || Some(spec.labels.clone().into_iter().collect());
    let scratch = Mount {
        target: Some(spec.scratch.clone()),
        typ: Some(MountType::VOLUME),
        volume_options: Some(MountVolumeOptions { labels: labels(), ..MountVolumeOptions::default() }),
        ..Mount::default()
    };
    ContainerCreateBody {
        image: Some(spec.image.clone()),
        labels: labels(),
        entrypoint: Some(vec!["sleep".to_owned()]),
        cmd: Some(vec![spec.lifetime.as_secs().to_string()]),
        host_config: Some(HostConfig {
            // With its volume, when it ends.
            auto_remove: Some(true),
            init: Some(true),
            mounts: Some(vec![scratch]),
            // Snapshots are mounted while they are unpacked.
            cap_add: Some(vec!["SYS_ADMIN".to_owned()]),
            security_opt: Some(vec!["seccomp=unconfined".to_owned(), "apparmor=unconfined".to_owned()]),
            userns_mode: peculiarities.maps_users.then(|| "host".to_owned()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::ProgressDetail;

    use super::*;

    #[test]
    fn a_pull_is_as_far_as_its_layers_together() {
        let told = |layer: &str, status: &str, current, total| CreateImageInfo {
            id: Some(layer.to_owned()),
            status: Some(status.to_owned()),
            progress_detail: Some(ProgressDetail { current: Some(current), total: Some(total) }),
            ..CreateImageInfo::default()
        };
        let mut layers = BTreeMap::new();
        assert_eq!(so_far(&mut layers, told("a", "Downloading", 10, 100)), (10, 100));
        assert_eq!(so_far(&mut layers, told("b", "Downloading", 1, 50)), (11, 150));
        assert_eq!(so_far(&mut layers, told("a", "Downloading", 100, 100)), (101, 150));
        assert_eq!(so_far(&mut layers, told("a", "Extracting", 5, 100)), (101, 150), "another scale");
        assert_eq!(so_far(&mut layers, CreateImageInfo::default()), (101, 150));
    }
}
