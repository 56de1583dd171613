//! What a user would see; one file a story.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "tests may")]

mod api_kubectl;
mod bad_hosts;
mod cli_complete;
mod cli_edit;
mod cli_home;
mod cli_inside;
mod cli_manifests;
mod cli_output;
mod cli_web;
mod environment;
mod killed;
mod killed_often;
mod kubectl;
mod store;

/// A file that is not a module here would never be compiled.
#[test]
fn no_story_is_forgotten() {
    let main = include_str!("main.rs");
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories");
    for entry in std::fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        assert!(module == "main" || main.contains(&format!("mod {module};\n")), "{name} is not a module of main.rs");
    }
}
