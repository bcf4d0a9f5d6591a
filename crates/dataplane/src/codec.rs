//! Encodes the model as nf_tables messages, and decodes it.
//!
//! A rule has two forms: [`Expression`](palisade_ruleset::model::Expression)s are lowered to the kernel's own
//! [`Instruction`]s, which are encoded as attributes. Decoding goes the other way, and a lifted expression must lower
//! to what was read, or it counts as foreign. Everything is encoded as nft 1.0.6 does, including its hints for
//! listings.

mod constant;
mod instruction;
mod lift;
mod lower;
mod object;
mod rule;
mod set;
mod userdata;
mod value;

pub(crate) use constant::{msg, nfnl, nfproto, nft, nfta};
pub(crate) use lower::Mismatch;
pub(crate) use object::{decode_chain, decode_counter, write_chain, write_counter, write_table};
pub(crate) use rule::{decode_count, decode_rule, write_rule};
pub(crate) use set::{SetShape, decode_elements, decode_key, decode_set, element_wire, write_set, zero_end};

use crate::netlink::Writer;

/// Appends `struct nfgenmsg`, which follows the header of every netfilter message.
pub(crate) fn nfgenmsg(writer: &mut Writer, family: u8, resource: u16) {
    let [high, low] = resource.to_be_bytes();
    writer.raw(&[family, 0, high, low]);
}
