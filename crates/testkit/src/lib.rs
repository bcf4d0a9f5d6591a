//! Test support: API-server fixture, builders and generators
