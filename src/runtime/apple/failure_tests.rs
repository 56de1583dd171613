use super::*;

fn ended(code: i32, stderr: &str) -> Result<Output, CallError> {
    Ok(Output { code, stderr: stderr.as_bytes().to_vec(), ..Output::default() })
}

fn said(code: i32, stderr: &str) -> (Cause, String) {
    let error = failed("do", "it", &ended(code, stderr));
    (error.cause, error.message)
}

/// Texts of the sources of 1.2.2, or published from versions up to 1.5.0.
#[test]
fn what_the_command_says_has_a_cause() {
    for (text, cause) in [
        ("Error: get failed: container x not found", Cause::NotFound),
        ("Error: container not found: x", Cause::NotFound),
        (
            r#"Error: internalError: "failed to stop container" (cause: "notFound: "container with ID x not found"")"#,
            Cause::NotFound,
        ),
        ("Error: no such container: x", Cause::NotFound),
        ("Error: container with id x already exists", Cause::AlreadyExists),
        ("Error: container already exists: x", Cause::AlreadyExists),
        (r#"Error: failed to create container (cause: "exists: "container already exists: x"")"#, Cause::AlreadyExists),
        (r#"Error: hostname(s) already exist: ["a.test."]"#, Cause::AlreadyExists),
        ("Error: container x is not running", Cause::NotRunning),
        (
            r#"Error: failed to create process in container (cause: "invalidState: "no runtime client exists: container is stopped"")"#,
            Cause::NotRunning,
        ),
        (
            r#"Error: internalError: "failed to delete container" (cause: "invalidState: "container x is running and can not be deleted"")"#,
            Cause::InUse,
        ),
        ("Error: container ID _x is not a valid container ID", Cause::Invalid),
        ("Error: invalid entity name _x", Cause::Invalid),
        ("Error: minimum memory amount allowed is 200 MiB (got 104857600 bytes)", Cause::Invalid),
        (
            r#"Error: failed to bootstrap container (cause: "internalError: "failed to bootstrap container b (cause: "unknown: "bind(descriptor:ptr:bytes:): Address already in use) (errno: 48)"")"")"#,
            Cause::Conflict,
        ),
        ("Error: host ports for different publish port specs may not overlap", Cause::Conflict),
        ("Error: network x not found", Cause::NotFound),
        (r#"Error: failed to delete one or more networks: ["x"]"#, Cause::NotFound),
        (
            "failed to delete network: [\"error\": invalidState: \"cannot delete subnet x with referring containers: a, b\", \
             \"id\": x]\nError: delete failed for one or more networks: [\"x\"]",
            Cause::InUse,
        ),
        ("Error: network x already exists", Cause::AlreadyExists),
        ("Error: network x has a pending operation", Cause::Unavailable),
        (
            "Error: IPv4 subnet 192.168.66.0/24 overlaps an existing network with subnet 192.168.66.0/24",
            Cause::Conflict,
        ),
        ("Error: failed to create vmnet network with status vmnet_return_t(rawValue: 1001)", Cause::Conflict),
        (
            "failed to delete volume: [\"error\": invalidArgument: \"volume 'x' is currently in use and cannot be accessed by \
             another container, or deleted\", \"id\": x]\nError: delete failed for one or more volumes: [\"x\"]",
            Cause::InUse,
        ),
        ("Error: volume 'x' already exists", Cause::AlreadyExists),
        ("Error: image not found: x", Cause::NotFound),
        ("Error: path '/x' does not exist", Cause::Invalid),
        ("Error: invalid label format a=b=c", Cause::Invalid),
        ("Error: something new", Cause::Unknown),
        ("", Cause::Unknown),
    ] {
        assert_eq!(said(1, text).0, cause, "{text}");
    }
}

#[test]
fn what_a_person_can_mend_is_told_with_what_to_do() {
    let down = "Error: internalError: \"failed to list containers\" (cause: \"interrupted: \"XPC connection error: \
                Connection invalid\"\")\nEnsure container system service has been started with `container system start`.\n";
    for (text, cause, next) in [
        (down, Cause::Unavailable, "container system start --enable-kernel-install"),
        (
            "Error: Plugins are unavailable. Start the container system services and retry:",
            Cause::Unavailable,
            "container system start --enable-kernel-install",
        ),
        (
            "Error: default kernel not configured for architecture arm64, please use the `container system kernel set` \
             command to configure it",
            Cause::Unavailable,
            "container system kernel set --recommended",
        ),
        (
            r#"Error: failed to list networks (cause: "internalError: "XPC timeout for request to com.apple.container.apiserver/networkList"")"#,
            Cause::Timeout,
            "container system stop",
        ),
        (r#"Error: internalError: "no free indices are available for allocation""#, Cause::Exhausted, "252"),
        (
            r#"Error: failed to bootstrap container (cause: "unknown: "Error Domain=VZErrorDomain Code=2 "The storage device attachment is invalid."""#,
            Cause::InUse,
            "container list --all",
        ),
        (r#"Error: x (cause: "unknown: "Cannot allocate memory""#, Cause::Exhausted, "no memory left"),
        (r#"Error: typeMismatch(Swift.Dictionary<String, Any>)"#, Cause::Unavailable, "container system stop"),
        ("Error: unauthorized request", Cause::Unavailable, "another user"),
        (
            "Error: Permission denied while binding to host port 80. Binding to ports below 1024 requires root privileges.",
            Cause::Invalid,
            "1024 or above",
        ),
        (r#"Error: x (cause: "notFound: "no network for id kina-dev"")"#, Cause::NotFound, "container system stop"),
    ] {
        let (found, message) = said(1, text);
        assert!(found == cause && message.contains(next), "{found:?}: {message}");
        assert!(!message.starts_with("Error: ") && !message.contains("Ensure container"), "{message}");
    }
    let (cause, message) = said(
        64,
        "Error: Unknown option '--masked-path'\nUsage: container create ...\n  See 'container create --help' for more information.\n",
    );
    assert_eq!(cause, Cause::Invalid);
    insta::assert_snapshot!(message, @"Unknown option '--masked-path'; `container` 1.2.2 or newer has all that Kina needs: update it");
    let late = failed("list", "apple", &Err(CallError::Late(std::time::Duration::from_secs(12))));
    assert_eq!(late.cause, Cause::Timeout);
    insta::assert_snapshot!(late, @"list apple: no answer of `container` within 12 s; if it hangs by itself, too, start the service anew: `container system stop`, then `container system start --enable-kernel-install`");
}

#[test]
fn progress_and_warnings_are_no_part_of_an_error() {
    let text = "Warning! Running debug build. Performance may be degraded.\n[0/6] [0s]\n[1/6] Fetching image [0s]\n[6/6] \
                Starting container [0s]\nError: network x not found\n";
    assert_eq!(said(1, text).1, "network x not found");
}

#[test]
fn an_image_that_no_registry_has_is_not_asked_for_again() {
    let pull = |text: &str| failed_pull("i", &ended(1, text)).cause;
    let registry =
        "Error: HTTP request to https://registry-1.docker.io/v2/library/alpine/manifests/x failed with response: ";
    assert_eq!(pull(&format!("{registry}404 Not Found. Reason: Unknown")), Cause::Invalid);
    assert_eq!(pull("Error: image sha256:6822b9.. does not support required platforms"), Cause::Invalid);
    assert_eq!(pull("Error: platform linux/arm64"), Cause::Invalid);
    assert_eq!(
        pull(&format!("{registry}401 Unauthorized. Reason: access denied or wrong credentials")),
        Cause::ImagePull
    );
    assert_eq!(pull("Error: The Internet connection appears to be offline."), Cause::ImagePull);
    assert_eq!(pull("Error: XPC connection error: Connection interrupted"), Cause::Unavailable);
}

#[test]
fn only_a_call_that_had_not_begun_is_made_again() {
    let text =
        |call: &str| format!("Error: x (cause: \"XPC timeout for request to com.apple.container.apiserver/{call}\"\")");
    assert!(is_transient(&ended(1, &text("networkList"))));
    assert!(!is_transient(&ended(1, &text("containerCreate"))), "it may have been made");
    assert!(!is_transient(&ended(0, &text("networkList"))));
    assert!(!is_transient(&Err(CallError::Late(std::time::Duration::from_secs(1)))));
}

#[test]
fn a_failure_of_the_command_is_told_from_one_of_what_it_ran() {
    let of_command = |code, stderr: &str| {
        is_of_command("one", &Output { code, stderr: stderr.as_bytes().to_vec(), ..Output::default() })
    };
    assert!(of_command(1, "Error: container one is not running\n"));
    assert!(of_command(1, "Error: get failed: container one not found\n"));
    assert!(of_command(1, "Error: failed to list containers (cause: \"internalError: \"XPC timeout\"\")\n"));
    assert!(of_command(64, "Error: Unknown option '--x'\nUsage: container exec ...\n"));
    assert!(!of_command(1, "Error: container two is not running\n"));
    assert!(!of_command(1, "Error: image not found\n"), "ctr says so");
    assert!(!of_command(2, "Error: container one is not running\n"));
    assert!(!of_command(64, "usage: program FILE\n"));
    assert!(!of_command(1, ""));
}
