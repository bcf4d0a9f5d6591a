//! `palisade graph`: what its outputs show, in the tools that they are for.

mod formats;
mod keyboard;
mod page;
mod sample;
