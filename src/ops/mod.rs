//! What operators and their tools look at: events, alarms, metrics, HTTP, the service manager. It does not know controllers
//! or routers.

pub mod alerts;
pub mod check;
pub mod config;
pub mod events;
pub mod http;
pub mod liveness;
pub mod seldom;
pub mod supervisor;

pub use check::Check;
pub use http::{Incoming, Surface, serve};
pub use liveness::Liveness;
pub use seldom::Seldom;
pub use supervisor::{Ready, Vitals};
