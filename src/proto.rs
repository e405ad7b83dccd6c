//! The generated messages and services of `proto/`. Nothing here is written by hand.
#![allow(missing_docs, reason = "generated; the .proto files carry the documentation")]
#![allow(
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::unwrap_used,
    unreachable_pub,
    reason = "generated"
)]

macro_rules! package {
    ($(#[$doc:meta])* $name:ident, $package:literal) => {
        $(#[$doc])*
        pub mod $name {
            // The nesting is the generated code's: it names its neighbours by package.
            #[doc(hidden)]
            pub mod v1 {
                tonic::include_proto!($package);
            }
            pub use v1::*;
        }
    };
}

package!(
    /// The router protocol.
    router, "pilothouse.router.v1"
);
package!(
    /// The operators' protocol.
    admin, "pilothouse.admin.v1"
);
package!(
    /// Raft between controllers.
    peer, "pilothouse.peer.v1"
);
package!(
    /// Everything else between controllers.
    relay, "pilothouse.relay.v1"
);
package!(
    /// How somebody without a certificate gets one.
    enrolment, "pilothouse.enrolment.v1"
);
package!(
    /// What controllers write to disk.
    store, "pilothouse.store.v1"
);

/// Descriptors of all of the above, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
