//! Tests of the domain: transcripts that need no Rust to be read, properties, and the traps of the incident.

pub(crate) mod fixtures;

mod enumeration;
mod limits;
mod offers;
mod plans;
mod properties;
mod registrations;
mod transcript;
mod traps;
mod upgrades;
mod words;
