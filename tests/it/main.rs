//! Integration tests: real processes and in-process clusters, one binary.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on must stop")]

mod agents;
mod cli;
mod cli_asking;
mod conformance;
mod controllers;
mod demo;
mod faults_identity;
mod faults_router;
mod faults_start;
mod faults_stop;
mod faults_wire;
mod frozen;
mod health;
mod operating;
mod pki;
mod rafting;
mod storing;
mod supervised;
mod support;
mod surviving;
