//! `make bench`: ours beside Postfix and Dovecot, on the same disk, with the same clients, in one run. `scripts/bench`
//! prepares what it needs and starts it with the paths in its environment.
//!
//! - [`load`]: the clients, none of which is ours; [`names`]: the name server for relayed mail;
//! - [`paquebot`], [`postfix`], [`dovecot`]: the servers; [`process`]: what they cost, as the operating system sees it;
//! - [`scenarios`]: what is measured;
//! - [`statistics`], [`results`], [`table`], [`picture`]: what is said about it.

mod dovecot;
mod load;
mod names;
mod paquebot;
mod picture;
mod postfix;
mod process;
mod results;
mod scenarios;
mod statistics;
mod table;

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};

use load::Clients;
use results::Results;
use scenarios::{Bench, Mode};

/// The domain that is served.
pub const DOMAIN: &str = "server1.test";
/// The domain to which mail is relayed.
pub const SINK_DOMAIN: &str = "sink.test";
/// Every mailbox has this password.
pub const PASSWORD: &str = "bench-password";
/// Its Argon2 at the strength that the operator uses, for the mailbox that is measured; Dovecot verifies the same.
pub const VERIFIER: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$cGFxdWVib3RiZW5jaG1hcms$+I+CjZ9zs7CrnmUvhAHv0ueYbGvafrCS0Ch9vMDK0LY";
/// And one that costs nothing, for thousands of logins whose sessions then wait.
pub const VERIFIER_CHEAP: &str =
    "$argon2id$v=19$m=64,t=1,p=1$cGFxdWVib3RiZW5jaG1hcms$wjXdJDAf6VMW6OEsiY1Ak6TOk89xm4/Bwl/Id1e8pUs";

fn main() -> anyhow::Result<()> {
    let mode = match std::env::args().nth(1).as_deref() {
        Some("quick") => Mode::Quick,
        Some("full") | None => Mode::Full,
        Some("curve") => Mode::Curve,
        Some(other) => bail!("{other}: the benchmark is full, quick or curve"),
    };
    let (packages, tools) = (path("BENCH_PACKAGES")?, path("BENCH_TOOLS")?);
    let bench = Bench {
        mode,
        clients: Clients { packages: packages.clone(), mail_load: tools.join("mail-load") },
        programs: paquebot::Programs {
            server: path("BENCH_SERVER")?,
            write_contract: path("BENCH_CONTRACT")?,
            certificate: tools,
        },
        packages,
        place: path("BENCH_DIRECTORY")?,
    };
    let mut results = Results::default();
    for fact in std::env::var("BENCH_FACTS").unwrap_or_default().lines() {
        if let Some((name, value)) = fact.split_once(": ") {
            results.fact(name, value);
        }
    }
    let is_complete = scenarios::run(&bench, &mut results)?;
    let output = path("BENCH_OUTPUT")?;
    fs::create_dir_all(&output)?;
    // The curve has a page of its own: it is measured apart.
    let name = if mode == Mode::Curve { "curve" } else { "benchmark" };
    let page = table::render(&results, &format!("{name}.svg"));
    fs::write(output.join(format!("{name}.json")), serde_json::to_string_pretty(&results.to_json())? + "\n")?;
    fs::write(output.join(format!("{name}.svg")), picture::render(&results))?;
    fs::write(output.join(if mode == Mode::Curve { "curve.md" } else { "README.md" }), &page)?;
    say(&page);
    ensure!(is_complete, "a part of the benchmark failed, as said above");
    Ok(())
}

fn path(variable: &str) -> anyhow::Result<PathBuf> {
    let value = std::env::var_os(variable).with_context(|| format!("{variable} is not set: use scripts/bench"))?;
    Ok(PathBuf::from(value))
}

/// A line for who watches.
pub fn say(text: &str) {
    // Whoever does not listen misses it.
    let _ = writeln!(std::io::stderr(), "{text}");
}
