//! nft accepts every golden ruleset.
//!
//! Seen to fail when an expected text has a word that nft does not know.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::golden::cases;

#[test]
fn nft_takes_every_golden_text() {
    for case in cases() {
        let expect = case.join("expect.nft");
        let mut nft = Command::new("unshare");
        nft.args(["--net", "nft", "-c", "-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut nft = nft.spawn().expect("unshare from util-linux");
        nft.stdin.take().unwrap().write_all(&fs::read(&expect).unwrap()).unwrap();
        let output = nft.wait_with_output().unwrap();
        assert!(output.status.success(), "{}: {}", expect.display(), String::from_utf8_lossy(&output.stderr));
    }
}
