//! Kina's home.

use super::Finding;
use super::facts::{Holder, HomeFacts, Usable};

/// Whether it can be used, and who has it.
pub fn findings(home: &HomeFacts) -> Vec<Finding> {
    const CHECK: &str = "home";
    let path = home.path.display();
    let found = match &home.usable {
        Usable::No(cause, next) => return vec![Finding::missing(CHECK, cause, next)],
        Usable::NotYet => Finding::note(CHECK, format!("{path} is made when Kina is first used")),
        Usable::Yes => match &home.network_file_system {
            Some(name) => {
                let cause = format!("{path} lies on a network file system ({name}), where locks may not hold");
                Finding::warning(CHECK, cause, "set `KINA_HOME` to a directory of a disk of this host")
            }
            None => Finding::ok(CHECK, path.to_string()),
        },
    };
    let holder = match &home.holder {
        Holder::Kina => Finding::ok("kina", "one runs, and keeps clusters converged"),
        Holder::Nobody => Finding::note("kina", "none runs: what drifts is repaired while one does (`kina serve`)"),
        Holder::Unknown(why) => {
            Finding::warning("kina", why, "if it neither answers nor ends, end it: clusters stay as they are")
        }
    };
    vec![found, holder]
}
