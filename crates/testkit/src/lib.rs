//! Test support: API-server fixture, builders and generators

pub mod apiserver;
pub mod cluster;
pub mod difference;
pub mod fakeapi;
pub mod generate;
pub mod kernel;
pub mod table;
pub mod trials;
pub mod walking;
