//! The dataplane against a real kernel: every test runs as root in its own network namespace.
//!
//! Seen to fail, here or in `src/table/tests.rs`, when:
//! - a prefix of length 0 is compared like one of whole bytes; the second field of a concatenation goes to the wrong
//!   register; a conntrack state has the wrong bit; `ct reply` is written as `ct original`;
//! - an interval set lacks nft's mark of the last range or its end element at 0 (only the byte comparison finds these);
//!   interface names have the wrong byte order for nft; the end of a range is sorted after a start at the same value;
//!   the value after a range does not carry over to the next byte;
//! - elements are added without NLM_F_EXCL; a list of elements outgrows its attribute; the offset of the failing
//!   element is misread; a batch does not name its generation; ERESTART is taken for another error;
//! - a lost answer is taken for a success because the generation moved; ENOBUFS ends the reading of answers; the send buffer
//!   is not forced;
//! - a first load is one batch, or has the rules of base chains in its first batch; an orphan is not adopted; the table
//!   does not persist; an owner is ignored;
//! - chains of other tables are read as ours; a foreign rule is left out of its chain; a lifted expression is not
//!   lowered again for comparison;
//! - entries are looked up by their sources or by the original tuple only, or are not compared before deletion;
//! - the uplink, or the route to a broadcast address, counts as a pod interface; a bridge's own setting is ignored.

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
