//! Every target takes its seeds and what the fuzzer has found before, and a few thousand inputs that are nearly those.
//! `FUZZ_SEED=n` gives others.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use paquebot_fuzz::TARGETS;
use paquebot_fuzz::mutation::Mutator;

/// Inputs for each target at each run of the tests; `make fuzz` makes millions.
const MUTATIONS: usize = 2_000;

/// The inputs that are kept for a target.
fn kept(target: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = ["seeds", "regressions"].map(|folder| root.join(folder).join(target));
    let mut paths: Vec<_> = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .map(|file| file.unwrap().path())
        .collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn every_target_takes_what_is_nearly_one_of_its_inputs() {
    let seed: u64 = std::env::var("FUZZ_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let mut executions = 0;
    for target in TARGETS {
        let (inputs, mut mutator) = (kept(target.name), Mutator::new(seed));
        for _ in 0..MUTATIONS {
            let input = mutator.next(&inputs, target.longest);
            let run = target.run;
            if catch_unwind(|| run(&input)).is_err() {
                let text = String::from_utf8_lossy(&input).into_owned();
                panic!("{} with FUZZ_SEED={seed}: {input:?} ({text:?})", target.name);
            }
            executions += 1;
        }
    }
    eprintln!("{executions} inputs for {} targets", TARGETS.len());
}

#[test]
fn every_target_takes_its_seeds_and_what_was_found() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut inputs = 0;
    for target in TARGETS {
        (target.run)(b"");
        for folder in ["seeds", "regressions"] {
            let Ok(files) = fs::read_dir(root.join(folder).join(target.name)) else { continue };
            for file in files {
                let path = file.unwrap().path();
                let bytes = fs::read(&path).unwrap();
                eprintln!("{}: {}", target.name, path.display());
                (target.run)(&bytes);
                inputs += 1;
            }
        }
    }
    assert!(inputs >= TARGETS.len(), "there are only {inputs} inputs for {} targets", TARGETS.len());
}

#[test]
fn each_folder_belongs_to_a_target_and_each_target_has_seeds() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for folder in ["seeds", "regressions"] {
        for entry in fs::read_dir(root.join(folder)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(name == "README.md" || paquebot_fuzz::target(&name).is_some(), "{folder}/{name} is of no target");
        }
    }
    for target in TARGETS {
        assert!(root.join("seeds").join(target.name).is_dir(), "{} has no seeds", target.name);
    }
}
