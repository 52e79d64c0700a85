//! Every target takes its seeds and what the fuzzer has found before.

use std::fs;
use std::path::Path;

use paquebot_fuzz::TARGETS;

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
