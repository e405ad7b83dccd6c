//! Whole controllers in this process: real Raft, real ports, real files; only the network between them can be cut.

mod admin;
mod alarmed;
mod bans;
mod cluster;
mod enrolment;
mod faults;
mod guards;
mod happenings;
mod registrations;
mod router;
mod secure;
mod sessions;
mod stops;
mod surfaces;
mod upgrades;
