//! Writes a complete set of the contract from JSON on standard input, `{server, domains, relay, records, secrets}`, into a directory:
//! for who wants to run the server with a configuration that no operator made, such as the benchmark.
//!
//! `cargo run --package paquebot-config --example write_contract -- DIRECTORY < content.json`

use std::error::Error;
use std::path::PathBuf;

use paquebot_config::{Bundle, Content, DomainConfig, Record, RelayRule, Secrets, ServerConfig, directory};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    server: ServerConfig,
    domains: Vec<DomainConfig>,
    relay: Vec<RelayRule>,
    records: Vec<Record>,
    #[serde(default)]
    secrets: Secrets,
}

fn main() -> Result<(), Box<dyn Error>> {
    let target = std::env::args_os().nth(1).map(PathBuf::from).ok_or("the directory is missing")?;
    let input: Input = serde_json::from_reader(std::io::stdin().lock())?;
    let Input { server, domains, relay, records, secrets } = input;
    let content = Content { server, domains, relay, records, secrets };
    std::fs::create_dir_all(&target)?;
    directory::write(&Bundle::build(content)?, &target)?;
    Ok(())
}
