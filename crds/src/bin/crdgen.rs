//! Writes the CustomResourceDefinitions beside the crate, or into the directory that is given: `make crds` runs it.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let directory = env::args_os().nth(1).map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    for file in paquebot_crds::manifest::files()? {
        let path = directory.join(&file.name);
        fs::write(&path, &file.text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
        println!("wrote {}", path.display());
    }
    Ok(())
}
