//! Who is who over TLS: the only module that knows rustls, rcgen and X.509.
//!
//! | module | what it is |
//! |---|---|
//! | [`certificate`] | what a certificate says of its owner |
//! | [`verify`] | whether it is to be believed |
//! | [`material`], [`store`] | certificate, key and anchors on disk, and their replacement without a restart |
//! | [`newcomer`] | somebody without a certificate, who has to find out whom to trust |
//! | [`identity`] | key and certificate on disk of somebody who is being enrolled |
//! | [`succession`] | the next certificate of somebody who has one |
//! | [`security`] | how bytes travel: everything that dials or accepts goes through it |
//! | [`watching`] | what people are told of certificates |
//! | [`config`] | the `[tls]` table of every configuration |
//! | [`authority`] | issuers, requests and certificates: what `pilothouse pki` and enrolment make |
//! | [`web`] | servers of the world outside, where alarms are posted |
//! | [`enrol`] | what enrolment needs of an authority, as a seam |

pub mod authority;
pub mod certificate;
pub mod config;
pub mod identity;
pub mod material;
pub mod newcomer;
pub mod security;
pub mod store;
pub mod succession;
pub mod verify;
pub mod watching;
pub mod web;

#[cfg(test)]
mod tests;

pub use config::{ControllerTlsFile, TlsConfig, TlsFile};
pub use material::{Door, Files, Material, MaterialError};
pub use newcomer::{Newcomer, NotTrusted};
pub use security::{Dialed, Security, Stream};
pub use store::{Expiry, Reload, Store};
pub mod enrol;
