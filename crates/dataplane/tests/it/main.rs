//! The dataplane against a real kernel: every test in a network namespace of its own, as root.
//!
//! Seen to fail, here or in `src/table/tests.rs`, when:
//! - a prefix of length 0 is compared like one of whole bytes; the second field of a concatenation goes to the wrong
//!   register; a conntrack state has the wrong bit; `ct reply` is written as `ct original`;
//! - an interval set lacks nft's mark of the last range or its end element at 0 (only the comparison of bytes shows these);
//!   interface names have the wrong byte order for nft; the end of a range is sorted after a start at the same value; the
//!   value after a range does not carry over to the next byte;
//! - elements are added without NLM_F_EXCL; a list of elements outgrows its attribute; the offset of the element at fault is
//!   misread; a batch leaves out the generation that it is for; ERESTART is taken for something else;
//! - a lost answer is taken for a success because the generation moved; ENOBUFS ends the reading of answers; the send buffer
//!   is not forced;
//! - a first load goes in one batch, or has the rules of base chains in its first batch; an orphan is not adopted; the table
//!   does not persist; an owner is ignored;
//! - chains of other tables are read as ours; a foreign rule is left out of its chain; what was lifted is not lowered again
//!   to compare;
//! - entries are looked for by their sources or by the original tuple only, or are not compared before they are deleted;
//! - the uplink, or the way to a broadcast address, counts as a pod port; a bridge's own setting is ignored.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "in tests, also outside of test functions"
)]

mod commit;
mod conntrack;
mod drift;
mod forms;
mod generate;
mod host;
mod owner;
mod roundtrip;
mod space;
mod streamed;
