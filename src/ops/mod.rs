//! What operators and their tools look at: events, alarms, metrics, HTTP. It does not know controllers or routers.

pub mod alerts;
pub mod check;
pub mod config;
pub mod events;
pub mod http;
pub mod seldom;

pub use check::Check;
pub use http::{Incoming, Surface, serve};
pub use seldom::Seldom;
