//! Runs tests as `cargo test` expects it, as far as it is used here.

use std::panic::catch_unwind;
use std::path::Path;
use std::process::ExitCode;

/// A name, and what it checks.
pub type Test = (&'static str, fn());

/// Runs those that the arguments name: all, or those with one of these texts in their names.
pub fn run(arguments: &[String], all: &[Test]) -> ExitCode {
    let mut arguments = arguments.iter().skip(1).map(String::as_str).peekable();
    let (mut wanted, mut unwanted, mut exact) = (Vec::new(), Vec::new(), false);
    while let Some(argument) = arguments.next() {
        match argument {
            "--list" => {
                all.iter().for_each(|(name, _)| println!("{name}: test"));
                return ExitCode::SUCCESS;
            }
            "--install" => return install(arguments.next().unwrap_or(".")),
            "--exact" => exact = true,
            "--skip" => unwanted.extend(arguments.next()),
            "--test-threads" | "--format" | "--color" => drop(arguments.next()),
            flag if flag.starts_with('-') => {}
            name => wanted.push(name),
        }
    }
    let fits = |name: &str, part: &&str| if exact { name == *part } else { name.contains(*part) };
    let chosen: Vec<&Test> = all
        .iter()
        .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|part| fits(name, part)))
        .filter(|(name, _)| !unwanted.iter().any(|part| fits(name, part)))
        .collect();
    println!("\nrunning {} tests", chosen.len());
    // One after the other: most of the time they wait for other processes, and there are few.
    let failed: Vec<&str> = chosen
        .iter()
        .filter_map(|(name, test)| {
            let passed = catch_unwind(test).is_ok();
            println!("test {name} ... {}", if passed { "ok" } else { "FAILED" });
            (!passed).then_some(*name)
        })
        .collect();
    let result = if failed.is_empty() { "ok" } else { "FAILED" };
    let (passed, filtered) = (chosen.len() - failed.len(), all.len() - chosen.len());
    println!("\ntest result: {result}. {passed} passed; {} failed; {filtered} filtered out\n", failed.len());
    failed.iter().for_each(|name| println!("    {name}"));
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Puts the stand-in into a directory, for use by hand.
fn install(directory: &str) -> ExitCode {
    let program = Path::new(directory).join("container");
    std::fs::create_dir_all(directory).expect("the directory");
    let _ = std::fs::remove_file(&program);
    std::os::unix::fs::symlink(std::env::current_exe().expect("this program"), &program).expect("a link");
    println!("{}", program.display());
    ExitCode::SUCCESS
}
