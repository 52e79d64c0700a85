//! Addresses, and the configuration contract.

use std::collections::BTreeMap;

use paquebot_config::bundle::{INDEX_FILE, RELAY_FILE, SECRETS_FILE, SERVER_FILE};
use paquebot_config::{Address, Configuration, Domain, LocalPart, ShardName};

use crate::input::Input;

/// What is read as an address is written as one that reads as the same.
pub fn address(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(domain) = Domain::parse(&text) {
        assert_eq!(Domain::parse(domain.as_str()).as_ref(), Ok(&domain));
        assert!(domain.as_str().len() <= 255 && domain.as_str().is_ascii());
    }
    if let Ok(local_part) = LocalPart::parse(&text) {
        let canonical = LocalPart::parse(&local_part.canonical());
        // Lower case may be longer than upper case, but never another name.
        assert!(canonical.is_err() || canonical.is_ok_and(|again| again.canonical() == local_part.canonical()));
    }
    if let Ok(address) = Address::parse(&text) {
        let written = address.to_string();
        assert_eq!(Address::parse(&written).as_ref(), Ok(&address));
        assert!(!written.chars().any(char::is_control), "{written:?} would break a line");
    }
}

/// Any files are a configuration, or an error that names the file.
pub fn files(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let names = [INDEX_FILE, SERVER_FILE, RELAY_FILE, SECRETS_FILE].map(str::to_owned);
    let names: Vec<String> = names.into_iter().chain(ShardName::all().take(2).map(|shard| shard.to_string())).collect();
    let mut files = BTreeMap::new();
    for name in &names {
        files.insert(name.clone(), input.piece(255).to_vec());
    }
    // A right index gets further than one that was guessed.
    let is_indexed = input.flag();
    if is_indexed {
        files.insert(SERVER_FILE.to_owned(), input.rest().to_vec());
        files.insert(INDEX_FILE.to_owned(), index_of(&files));
    }
    if let Err(error) = Configuration::read(&files, "0.1.0") {
        assert!(!error.to_string().is_empty());
    }
}

fn index_of(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let shards: Vec<String> = files
        .iter()
        .filter(|(name, _)| *name != INDEX_FILE)
        .map(|(name, bytes)| {
            let sha256 = paquebot_config::bundle::digest(bytes);
            format!(r#"{{"name":"{name}","sha256":"{sha256}","records":1}}"#)
        })
        .collect();
    let shards = shards.join(",");
    format!(r#"{{"formatVersion":1,"revision":"0","minServerVersion":"0.1.0","shards":[{shards}]}}"#).into_bytes()
}
