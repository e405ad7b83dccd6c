//! Routers of protocol 1 that share no code with any build: those of the integration tests.

#[path = "../it/frozen/messages.rs"]
#[allow(dead_code, reason = "shared with the tests of its bytes, which use all of it")]
mod messages;
#[path = "../it/frozen/router.rs"]
#[allow(dead_code, reason = "shared with the integration tests, which use all of it")]
pub(crate) mod router;
