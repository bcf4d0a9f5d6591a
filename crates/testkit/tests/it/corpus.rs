//! Replays the fuzzing corpus: the targets of `hack/fuzz` on every file.
//!
//! Seen to fail when: a rule without ports allows nothing (both).

#[path = "../../../../fuzz/src/targets.rs"]
#[allow(unreachable_pub, reason = "a library elsewhere")]
mod targets;

use std::fs;
use std::path::PathBuf;

fn replay(target: &str, run: fn(&[u8])) {
    let directory: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../../fuzz/corpus", target].iter().collect();
    let mut files: Vec<_> = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(files.len() > 5, "{} has {} files", directory.display(), files.len());
    for file in files {
        println!("{}", file.display());
        run(&fs::read(file).unwrap());
    }
}

#[test]
fn the_decoder_survives_its_corpus() {
    replay("decode", targets::decode);
}

#[test]
fn the_compiler_survives_its_corpus() {
    replay("compile", targets::compile);
}
