//! Names of images, as containerd keeps them.

/// The whole name of an image, as a node's containerd lists it: `nginx` is `docker.io/library/nginx:latest`.
#[must_use]
pub fn full(image: &str) -> String {
    let (first, rest) = image.split_once('/').unwrap_or(("", image));
    let is_registry = first.contains(['.', ':']) || first == "localhost";
    let name = match (first, is_registry) {
        ("", _) => format!("docker.io/library/{rest}"),
        (_, true) => image.to_owned(),
        (_, false) => format!("docker.io/{image}"),
    };
    let last = name.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) { name } else { format!("{name}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_completed_as_containerd_does() {
        for (short, whole) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("me/app:dev", "docker.io/me/app:dev"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5001/app:1", "localhost:5001/app:1"),
            ("quay.io/a/b@sha256:00", "quay.io/a/b@sha256:00"),
        ] {
            assert_eq!(full(short), whole);
        }
    }
}
