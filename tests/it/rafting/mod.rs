//! Raft as this project runs it, without routers and operators: real Raft, real TCP, real files. What openraft leaves
//! to its user, or does silently otherwise, is here.

mod elections;
mod forming;
mod identity;
mod memberships;
mod nodes;
mod snapshots;
mod streams;
