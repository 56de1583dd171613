//! `kina doctor` on a Mac: what each thing that can be missing looks like, with the built program.

use std::process::{Command, Output, Stdio};

use crate::lab::Lab;
use crate::runner::Test;
use crate::stand_in::state::What;
use crate::wiring;

pub const TESTS: &[Test] = &[
    ("doctor::on_a_mac_that_has_everything_nothing_is_missing", everything),
    ("doctor::every_supported_version_is_driven", versions),
    ("doctor::without_the_command_all_that_rests_on_it_is_not_looked_at", no_command),
    ("doctor::a_command_that_is_too_old_is_refused_with_where_a_newer_one_is", too_old),
    ("doctor::a_service_that_does_not_run_is_not_started_where_nobody_can_be_asked", no_service),
    ("doctor::a_service_that_does_not_run_is_started_once_a_person_says_yes", agreed),
    ("doctor::a_service_that_does_not_run_stays_so_when_a_person_says_anything_else", refused),
    ("doctor::a_kernel_that_is_missing_is_told", no_kernel),
    ("doctor::a_service_of_another_version_than_the_command_is_told", other_version),
    ("doctor::a_service_that_hangs_is_told_after_its_deadline", hangs),
    ("doctor::a_mac_before_macos_26_or_of_intel_is_told", other_macs),
    ("doctor::what_other_kinas_and_lost_records_left_is_listed", left_behind),
    ("doctor::a_home_that_others_may_write_to_is_told", bad_home),
    ("doctor::where_docker_is_meant_and_silent_all_that_rests_on_it_is_not_looked_at", silent_docker),
];

fn doctor(lab: &Lab) -> Output {
    wiring::command(lab, "apple").arg("doctor").output().unwrap()
}

/// What was shown, without what is this machine's own.
fn shown(lab: &Lab, output: &Output) -> String {
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let parts = text.split_inclusive('\n').fold(Vec::<String>::new(), |mut parts, line| {
        match line.starts_with("    ").then(|| parts.last_mut()).flatten() {
            Some(last) => last.push_str(&format!(" {}", line.trim_start())),
            None => parts.push(line.to_owned()),
        }
        parts
    });
    // Paths are of any length: lines are joined again, and what they lead to is named.
    let whole = |part: &String| part.split_whitespace().collect::<Vec<_>>().join(" ");
    let lines = parts.iter().map(whole).filter(|line| !line.contains("disk") && !line.contains("kubectl"));
    let root = lab.path("").display().to_string();
    lines.collect::<Vec<_>>().join("\n").replace(root.trim_end_matches('/'), "LAB")
}

fn line(shown: &str, check: &str) -> String {
    let found = shown.lines().find(|line| line.split(' ').nth(1) == Some(check));
    found.unwrap_or_else(|| panic!("nothing of {check}: {shown}")).to_owned()
}

fn mac(version: &str) -> Lab {
    let lab = Lab::with(version);
    lab.mac("26.1", true);
    lab.kernel(true);
    lab
}

fn everything() {
    let lab = mac("1.2.2");
    let output = doctor(&lab);
    insta::assert_snapshot!(shown(&lab, &output), @r"
    + macOS 26.1 on Apple silicon
    + container 1.2.2 at LAB/bin/container
    + service it runs, 1.2.2
    + kernel machines have one
    + listing 0 containers, 0 volumes
    + networks 1 network; each cluster gets one of its own
    + memory 32 GiB; a node has 4 GiB where nobody says how much
    + CPUs 12
    - home LAB/home is made when Kina is first used
    - kina none runs: what drifts is repaired while one does (`kina serve`)
    + ports 127.0.0.1 has free ones
    + remains nothing of Kina's is here that no Cluster has

    nothing is missing
    ");
    assert_eq!(output.status.code(), Some(0));
    assert!(!lab.path("home").exists(), "nothing was made");
    let asked = |call: &Vec<String>| !call.contains(&"create".to_owned()) && !call.contains(&"start".to_owned());
    assert!(lab.place.calls().iter().all(asked), "{:?}", lab.place.calls());
}

fn versions() {
    for version in ["1.0.0", "1.1.0", "1.2.0", "1.2.1", "1.2.2", "1.3.1", "1.4.1", "1.5.0", "1.6.0"] {
        let lab = mac(version);
        let output = doctor(&lab);
        let shown = shown(&lab, &output);
        assert_eq!(output.status.code(), Some(0), "{shown}");
        let mark = match version {
            "1.0.0" | "1.1.0" | "1.2.0" | "1.2.1" => "!",
            "1.6.0" => "-",
            _ => "+",
        };
        assert!(
            line(&shown, "container").starts_with(&format!("{mark} container {version} at LAB/bin/container")),
            "{shown}"
        );
        assert_eq!(line(&shown, "service"), format!("+ service it runs, {version}"), "the service tells its version");
        assert_eq!(line(&shown, "kernel"), "+ kernel machines have one");
    }
}

fn no_command() {
    let lab = mac("1.2.2");
    std::fs::remove_file(lab.program()).unwrap();
    let output = doctor(&lab);
    insta::assert_snapshot!(shown(&lab, &output), @r"
    + macOS 26.1 on Apple silicon
    x container Apple Container's command is not installed next: install it: https://github.com/apple/container/releases
    - service not looked at: there is no `container`
    - kernel not looked at: there is no `container`
    - listing not looked at: there is no `container`
    - networks not looked at: there is no `container`
    + memory 32 GiB; a node has 4 GiB where nobody says how much
    + CPUs 12
    - home LAB/home is made when Kina is first used
    - kina none runs: what drifts is repaired while one does (`kina serve`)
    + ports 127.0.0.1 has free ones
    - remains not looked at: nothing could be listed

    1 thing is missing
    ");
    assert_eq!(output.status.code(), Some(1));
}

fn too_old() {
    let lab = mac("0.12.3");
    let output = doctor(&lab);
    let shown = shown(&lab, &output);
    insta::assert_snapshot!(line(&shown, "container"), @"x container LAB/bin/container: `container` 0.12.3 is older than 1.0.0, the oldest that Kina drives: update it next: install 1.2.2 or newer: https://github.com/apple/container/releases");
    assert_eq!(line(&shown, "service"), "- service not looked at: the command cannot be driven");
    assert_eq!(output.status.code(), Some(1));
    assert!(lab.place.calls().iter().all(|call| call == &["--version"]));
}

fn is_started(lab: &Lab) -> bool {
    lab.place.calls().iter().any(|call| call.join(" ").starts_with("system start"))
}

fn no_service() {
    for (version, status) in [("1.2.2", "unregistered"), ("1.4.1", "not running")] {
        let lab = mac(version);
        lab.control(|control| control.service = status.to_owned());
        let output = doctor(&lab);
        let shown = shown(&lab, &output);
        let expected = format!(
            "x service Apple Container's service does not run: it is {status} next: start it: `container system start --enable-kernel-install`"
        );
        assert_eq!(line(&shown, "service"), expected);
        assert_eq!(line(&shown, "kernel"), "- kernel not looked at: the service does not run");
        assert_eq!(output.status.code(), Some(1));
        assert!(!is_started(&lab));
    }
}

/// With a terminal, at which somebody types. `None` where no program is here that makes one.
fn at_a_terminal(lab: &Lab, typed: &str) -> Option<String> {
    let mut child = Command::new("/usr/bin/script");
    if !std::path::Path::new("/usr/bin/script").exists() || cfg!(target_os = "macos") {
        eprintln!("SKIPPED: no `script` of util-linux is here, which makes a terminal");
        return None;
    }
    let kina = wiring::command(lab, "apple");
    child.envs(kina.get_envs().filter_map(|(key, value)| Some((key, value?)))).env("SHELL", "/bin/sh");
    let line = format!("{} --color never doctor; echo ended with $?", env!("CARGO_BIN_EXE_kina"));
    child.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = child.spawn().unwrap();
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), typed.as_bytes()).unwrap();
    // The end of what is typed would be the end of the terminal.
    let input = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(input);
    Some(String::from_utf8_lossy(&output.stdout).split_whitespace().collect::<Vec<_>>().join(" "))
}

fn agreed() {
    let lab = mac("1.2.2");
    lab.control(|control| control.service = "unregistered".to_owned());
    let Some(told) = at_a_terminal(&lab, "y\n") else { return };
    assert!(
        told.contains("1 thing is missing Start it now with `container system start --enable-kernel-install`? [y/N]"),
        "{told}"
    );
    assert!(told.contains("Launching container-apiserver..."), "what it says is shown: {told}");
    assert!(told.contains("service it runs, 1.2.2") && told.ends_with("nothing is missing ended with 0"), "{told}");
    let started = lab.place.calls().iter().filter(|call| call.join(" ").starts_with("system start")).count();
    assert_eq!(started, 1);
}

fn refused() {
    for typed in ["n\n", "\n", "maybe\n"] {
        let lab = mac("1.2.2");
        lab.control(|control| control.service = "unregistered".to_owned());
        let Some(told) = at_a_terminal(&lab, typed) else { return };
        assert!(told.contains("[y/N]") && told.ends_with("ended with 1"), "{told}");
        assert!(!is_started(&lab));
    }
    // Something else is missing, too: to start the service would not be enough.
    let lab = mac("1.2.2");
    lab.mac("26.1", false);
    lab.control(|control| control.service = "unregistered".to_owned());
    let Some(told) = at_a_terminal(&lab, "y\n") else { return };
    assert!(!told.contains("[y/N]") && told.contains("2 things are missing"), "{told}");
    assert!(!is_started(&lab));
}

fn no_kernel() {
    let lab = mac("1.2.2");
    let bare = Lab::with("1.4.1");
    bare.mac("26.1", true);
    bare.kernel(false);
    let output = doctor(&bare);
    let expected =
        "x kernel no kernel is installed for machines next: install it: `container system kernel set --recommended`";
    assert_eq!(line(&shown(&bare, &output), "kernel"), expected);
    assert_eq!(output.status.code(), Some(1));
    // A directory that cannot be seen tells nothing.
    lab.control(|control| control.root = "/nowhere/at/all/".to_owned());
    assert!(line(&shown(&lab, &doctor(&lab)), "kernel").starts_with("- kernel "));
}

fn other_version() {
    for version in ["1.2.2", "1.5.0"] {
        let lab = mac(version);
        lab.control(|control| control.service_version = Some("1.1.0".to_owned()));
        let output = doctor(&lab);
        let told = line(&shown(&lab, &output), "service");
        assert!(told.starts_with(&format!("! service it runs as 1.1.0, and the command is {version}")), "{told}");
        assert_eq!(output.status.code(), Some(0), "it may do");
    }
}

fn hangs() {
    let lab = mac("1.2.2");
    lab.fault("list", What::Hang);
    let output = doctor(&lab);
    let shown = shown(&lab, &output);
    let told = line(&shown, "listing");
    assert!(told.starts_with("x listing no answer of `container` within 12 s next: if it hangs by itself"), "{told}");
    assert_eq!(line(&shown, "networks"), "- networks not looked at: nothing could be listed");
    assert_eq!(output.status.code(), Some(1));
    assert!(!lab.has_processes(), "what hung was ended");
}

fn other_macs() {
    let lab = mac("1.2.2");
    lab.mac("15.7.1", true);
    let output = doctor(&lab);
    let seen = shown(&lab, &output);
    insta::assert_snapshot!(line(&seen, "macOS"), @"! macOS 15.7.1: before macOS 26 containers do not reach each other: clusters of one control plane alone work next: for more nodes update to macOS 26, or use Docker: `KINA_RUNTIME=docker`");
    insta::assert_snapshot!(line(&seen, "networks"), @"- networks the default one alone: the only node of each cluster is in it");
    assert_eq!(output.status.code(), Some(0), "nothing is missing for one node");
    assert!(!lab.place.calls().iter().any(|call| call[0] == "network"), "before macOS 26 there is no such command");
    lab.mac("26.1", false);
    let output = doctor(&lab);
    insta::assert_snapshot!(line(&shown(&lab, &output), "macOS"), @"x macOS this Mac has a processor of Intel's; Apple Container needs Apple silicon next: use Docker or Podman on this Mac: `KINA_RUNTIME=docker`");
    assert_eq!(output.status.code(), Some(1));
}

fn left_behind() {
    let lab = mac("1.2.2");
    std::fs::create_dir(lab.path("home")).unwrap();
    std::fs::set_permissions(lab.path("home"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::write(lab.path("home/installation-id"), "0f7c9a10-aaaa\n").unwrap();
    for (name, installation) in [("kina-old", "0f7c9a10-aaaa"), ("kina-far", "11111111-bbbb")] {
        let labels = [
            format!("dev.kina.installation={installation}"),
            format!("dev.kina.cluster={}", &name[5..]),
            "dev.kina.cluster-uid=uid-1".to_owned(),
        ];
        let labels: Vec<&str> = labels.iter().flat_map(|label| ["--label", label]).collect();
        lab.say(&[&["network", "create"], labels.as_slice(), &[name]].concat());
        lab.say(&[&["volume", "create"], labels.as_slice(), &[name]].concat());
    }
    lab.say(&["volume", "create", "mine"]);
    let output = doctor(&lab);
    let shown = shown(&lab, &output);
    let told: Vec<&str> = shown.lines().filter(|line| line.contains(" remains ")).collect();
    insta::assert_snapshot!(told.join("\n"), @r"
    - remains cluster far of another Kina (installation 11111111-bbbb): 1 network, 1 volume; only that one touches it
    ! remains cluster old (UID uid-1), which Kina does not know: 1 network, 1 volume next: apply a Cluster of this name, which adopts it; or remove it with `container`
    ");
    assert_eq!(output.status.code(), Some(0), "nothing is missing for it");
}

fn bad_home() {
    let lab = mac("1.2.2");
    std::fs::create_dir(lab.path("home")).unwrap();
    std::fs::set_permissions(lab.path("home"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let output = doctor(&lab);
    let told = line(&shown(&lab, &output), "home");
    assert_eq!(told, "x home the home LAB/home is writable by others (mode 0777) next: chmod go-w LAB/home");
    assert_eq!(output.status.code(), Some(1));
}

fn silent_docker() {
    let lab = mac("1.2.2");
    let output = wiring::command(&lab, "docker").arg("doctor").output().unwrap();
    let shown = shown(&lab, &output);
    let expected = "x engine Socket not found: LAB/no.sock next: start the engine: `sudo systemctl start docker`, or Podman's socket";
    assert_eq!(line(&shown, "engine"), expected);
    for check in ["cgroups", "privileges", "inotify", "overlay", "subnets"] {
        assert_eq!(line(&shown, check), format!("- {check} not looked at: the engine does not answer"));
    }
    assert!(lab.place.calls().is_empty(), "Apple Container is not what is meant");
    assert_eq!(output.status.code(), Some(1));
}
