//! The pure half of Pilothouse: every decision as a plain synchronous function over plain values.
//!
//! Nothing here knows async, clocks, files, sockets, randomness, sled, openraft or protobuf. What time it is, which
//! bytes arrived and which random number was drawn are arguments. Read in this order, the module is the product:
//!
//! | module | the one question that it answers |
//! |---|---|
//! | [`ids`] | what are things called? |
//! | [`endpoint`] | where does a controller listen? |
//! | [`controller_list`] | what do routers hold, and why can it never be empty? |
//! | [`membership`] | may the cluster change in this way, and in which steps? |
//! | [`acceptance`] | may this offered list replace the held one? |
//! | [`negotiation`] | which protocol do the two of us speak? |
//! | [`command`], [`state`] | what does a log entry change? |
//! | [`principal`] | who is it, according to its certificate? |
//! | [`access`] | who may call what? |
//! | [`token`] | who may ask for a certificate, once? |
//! | [`feature`] | what may the whole cluster write? |
//! | [`upgrade`] | may it write more, what is in the way, and what changes for routers? |
//! | [`agreement`] | have two controllers come to the same state? |
//! | [`renewal`] | when does it need its next certificate? |
//! | [`retry`] | how long until the next attempt? |
//! | [`pace`] | how often may somebody do this? |

pub mod acceptance;
pub mod access;
pub mod agreement;
pub mod command;
pub mod controller_list;
pub mod endpoint;
pub mod feature;
pub mod ids;
pub mod membership;
pub mod negotiation;
pub mod pace;
pub mod principal;
pub mod renewal;
pub mod retry;
#[doc(hidden)]
pub mod samples;
pub mod state;
pub mod token;
pub mod upgrade;

#[cfg(test)]
pub(crate) mod tests;
