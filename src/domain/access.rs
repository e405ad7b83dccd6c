//! Who may call what: one table for every RPC of every service, and nothing that it does not name.
//!
//! Who somebody is was verified before ([`Caller`]). That a router speaks only for itself, and a controller only under
//! its own id, needs the message: [`Caller::may_speak_for_router`], and `raft::identity` for peer headers.

use super::ids::{ControllerId, RouterId};
use super::principal::{Principal, Role};

/// Who is on the other side of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Plain text, where the configuration allows it: nobody is verified, everybody is believed.
    Plain,
    /// The unix socket, which only the controller's own user can open.
    Local,
    /// TLS without a certificate.
    Anonymous,
    /// A verified certificate.
    Verified(Principal),
}

impl Caller {
    /// The role of a verified certificate.
    #[must_use]
    pub const fn role(&self) -> Option<&Role> {
        match self {
            Self::Verified(principal) => Some(&principal.role),
            Self::Plain | Self::Local | Self::Anonymous => None,
        }
    }

    /// Whether it may speak in the name of a router.
    #[must_use]
    pub fn may_speak_for_router(&self, router: &RouterId) -> bool {
        match self {
            Self::Plain => true,
            Self::Verified(Principal { role: Role::Router(own), .. }) => own == router,
            _ => false,
        }
    }

    /// Whether it may speak in the name of a controller.
    #[must_use]
    pub fn may_speak_for_controller(&self, id: ControllerId) -> bool {
        match self {
            Self::Plain => true,
            Self::Verified(Principal { role: Role::Controller(own), .. }) => *own == id,
            _ => false,
        }
    }
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Plain => f.write_str("somebody over plain text"),
            Self::Local => f.write_str("somebody on the local socket"),
            Self::Anonymous => f.write_str("somebody without a certificate"),
            Self::Verified(principal) => principal.fmt(f),
        }
    }
}

/// Who may call an RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody who reaches the port: how somebody without a certificate gets one, and whether the service lives.
    Anyone,
    /// Every verified certificate, and the local socket.
    Identified,
    /// Routers, each for itself.
    Router,
    /// Controllers, each under its own id, also such as this one has never heard of: one that was away must accept a
    /// leader that was added meanwhile.
    Controller,
    /// Controllers that are members, as far as is known here.
    Member,
    /// Operators, the local socket, and controllers that forward an operator's request.
    Admin,
}

/// Every RPC. Whatever is not here is refused.
pub const TABLE: &[(&str, Access)] = &[
    ("/pilothouse.router.v1.RouterControl/Register", Access::Router),
    ("/pilothouse.router.v1.RouterControl/Session", Access::Router),
    ("/pilothouse.router.v1.RouterControl/Watch", Access::Router),
    ("/pilothouse.enrolment.v1.Enrolment/Trust", Access::Anyone),
    ("/pilothouse.enrolment.v1.Enrolment/Enroll", Access::Anyone),
    ("/pilothouse.enrolment.v1.Enrolment/Renew", Access::Router),
    ("/pilothouse.peer.v1.RaftPeer/Identify", Access::Controller),
    ("/pilothouse.peer.v1.RaftPeer/Enlist", Access::Controller),
    ("/pilothouse.peer.v1.RaftPeer/Append", Access::Controller),
    ("/pilothouse.peer.v1.RaftPeer/Vote", Access::Controller),
    ("/pilothouse.peer.v1.RaftPeer/PreVote", Access::Controller),
    ("/pilothouse.peer.v1.RaftPeer/Snapshot", Access::Controller),
    ("/pilothouse.peer.v1.RaftPeer/TransferLeader", Access::Controller),
    ("/pilothouse.relay.v1.Relay/Register", Access::Member),
    ("/pilothouse.relay.v1.Relay/Sessions", Access::Member),
    ("/pilothouse.relay.v1.Relay/Removed", Access::Controller),
    ("/pilothouse.relay.v1.Relay/RedeemToken", Access::Member),
    ("/pilothouse.relay.v1.Relay/Checkpoints", Access::Member),
    ("/pilothouse.relay.v1.Relay/TryLevel", Access::Member),
    ("/pilothouse.relay.v1.Relay/Events", Access::Member),
    ("/pilothouse.admin.v1.Admin/Status", Access::Admin),
    ("/pilothouse.admin.v1.Admin/Change", Access::Admin),
    ("/pilothouse.admin.v1.Admin/Transfer", Access::Admin),
    ("/pilothouse.admin.v1.Admin/ListRouters", Access::Admin),
    ("/pilothouse.admin.v1.Admin/ForgetRouter", Access::Admin),
    ("/pilothouse.admin.v1.Admin/AllowRouter", Access::Admin),
    ("/pilothouse.admin.v1.Admin/CreateToken", Access::Admin),
    ("/pilothouse.admin.v1.Admin/Upgrade", Access::Admin),
    ("/pilothouse.admin.v1.Admin/FinalizeUpgrade", Access::Admin),
    ("/pilothouse.admin.v1.Admin/Events", Access::Admin),
    ("/grpc.health.v1.Health/Check", Access::Anyone),
    ("/grpc.health.v1.Health/Watch", Access::Identified),
    ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Access::Identified),
];

/// What the table says of an RPC, by its path (`/package.Service/Method`).
#[must_use]
pub fn access(path: &str) -> Option<Access> {
    TABLE.iter().find(|(known, _)| *known == path).map(|(_, access)| *access)
}

/// Why a call is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The table does not name it.
    #[error("there is no such RPC here")]
    Unknown,
    /// It needs a certificate.
    #[error("this RPC needs a certificate, and none was presented")]
    NoCertificate,
    /// The certificate is of another role.
    #[error("this RPC is for {} certificates", needed(*.0))]
    WrongRole(Access),
    /// The controller was removed from the cluster.
    #[error("this controller was removed from the cluster, and its certificate opens nothing any more")]
    Retired,
    /// The router was banned.
    #[error("this router is banned from the cluster")]
    Banned,
    /// The controller is no member yet.
    #[error("this controller is not a member of the cluster yet")]
    NotAMember,
}

impl Denied {
    /// Stable name. Appended, never edited.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Unknown => "unknown_rpc",
            Self::NoCertificate => "no_certificate",
            Self::WrongRole(_) => "wrong_role",
            Self::Retired => "retired",
            Self::Banned => "banned",
            Self::NotAMember => "not_a_member",
        }
    }

    /// What to do.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::Unknown => "check the port: peer, router and admin services each have their own",
            Self::NoCertificate => {
                "present a certificate; `pilothouse pki issue` or `pilothouse router enroll` makes one"
            }
            Self::WrongRole(_) => "use a certificate of the right role, or another port",
            Self::Retired => "add it again as a new controller, under a new id and with a new certificate",
            Self::NotAMember => "an operator adds it with `pilothouse cluster add`",
            Self::Banned => "an operator lifts it with `pilothouse routers allow`",
        }
    }
}

const fn needed(access: Access) -> &'static str {
    match access {
        Access::Router => "router",
        Access::Controller | Access::Member => "controller",
        Access::Admin => "admin",
        Access::Anyone | Access::Identified => "verified",
    }
}

/// What the applied state has against an identity. It may only deny: a controller that was away must accept a leader
/// that it has never heard of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// A controller id that was used and is no member's any more.
    pub retired: bool,
    /// A controller id that was never a member's, as far as is known here: one that may be about to join.
    pub joining: bool,
    /// A router that was banned.
    pub banned: bool,
}

/// Whether somebody may call an RPC.
///
/// # Errors
/// [`Denied`].
pub fn judge(path: &str, caller: &Caller, standing: Standing) -> Result<Access, Denied> {
    let access = access(path).ok_or(Denied::Unknown)?;
    if standing.retired {
        return Err(Denied::Retired);
    }
    if standing.banned {
        return Err(Denied::Banned);
    }
    let role = match (access, caller) {
        (Access::Anyone, _) | (_, Caller::Plain) => return Ok(access),
        (Access::Identified | Access::Admin, Caller::Local) => return Ok(access),
        (_, Caller::Anonymous) => return Err(Denied::NoCertificate),
        (_, Caller::Local) => return Err(Denied::WrongRole(access)),
        (_, Caller::Verified(principal)) => &principal.role,
    };
    if standing.joining && matches!(access, Access::Member | Access::Admin) {
        return Err(Denied::NotAMember);
    }
    let allowed = match access {
        Access::Anyone | Access::Identified => true,
        Access::Router => matches!(role, Role::Router(_)),
        Access::Controller | Access::Member => matches!(role, Role::Controller(_)),
        Access::Admin => matches!(role, Role::Admin(_) | Role::Controller(_)),
    };
    if allowed { Ok(access) } else { Err(Denied::WrongRole(access)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verified(text: &str) -> Caller {
        Caller::Verified(text.parse().unwrap())
    }

    #[test]
    fn the_table_names_each_rpc_once() {
        for (at, (path, _)) in TABLE.iter().enumerate() {
            assert!(TABLE[at + 1..].iter().all(|(other, _)| other != path), "{path}");
        }
    }

    #[test]
    fn every_role_against_every_kind_of_access() {
        let of = |wanted: Access| TABLE.iter().find(|(_, access)| *access == wanted).unwrap().0;
        let callers = [
            verified("spiffe://x/controller/1"),
            verified("spiffe://x/router/r"),
            verified("spiffe://x/admin/a"),
            Caller::Local,
            Caller::Anonymous,
            Caller::Plain,
        ];
        let allowed = |access| callers.each_ref().map(|caller| judge(of(access), caller, Standing::default()).is_ok());
        assert_eq!(allowed(Access::Anyone), [true; 6]);
        assert_eq!(allowed(Access::Identified), [true, true, true, true, false, true]);
        assert_eq!(allowed(Access::Router), [false, true, false, false, false, true]);
        assert_eq!(allowed(Access::Controller), [true, false, false, false, false, true]);
        assert_eq!(allowed(Access::Member), [true, false, false, false, false, true]);
        assert_eq!(allowed(Access::Admin), [true, false, true, true, false, true]);
        assert_eq!(judge("/x.Y/Z", &Caller::Plain, Standing::default()), Err(Denied::Unknown));
    }

    #[test]
    fn whoever_was_removed_or_banned_may_call_nothing() {
        for (path, _) in TABLE {
            let retired = Standing { retired: true, ..Standing::default() };
            assert_eq!(judge(path, &verified("spiffe://x/controller/1"), retired), Err(Denied::Retired));
            let banned = Standing { banned: true, ..Standing::default() };
            assert_eq!(judge(path, &verified("spiffe://x/router/r"), banned), Err(Denied::Banned));
        }
    }

    #[test]
    fn a_controller_that_joins_may_do_what_joining_needs_and_no_more() {
        let joining = Standing { joining: true, ..Standing::default() };
        for (path, access) in TABLE {
            let expected = match access {
                Access::Member | Access::Admin => Err(Denied::NotAMember),
                Access::Router => Err(Denied::WrongRole(Access::Router)),
                access => Ok(*access),
            };
            assert_eq!(judge(path, &verified("spiffe://x/controller/9"), joining), expected, "{path}");
        }
    }

    #[test]
    fn everybody_speaks_only_for_himself() {
        let (own, other) = (RouterId::new("r").unwrap(), RouterId::new("s").unwrap());
        let router = verified("spiffe://x/router/r");
        assert!(router.may_speak_for_router(&own) && !router.may_speak_for_router(&other));
        let (one, two) = (ControllerId::new(1).unwrap(), ControllerId::new(2).unwrap());
        let controller = verified("spiffe://x/controller/1");
        assert!(controller.may_speak_for_controller(one) && !controller.may_speak_for_controller(two));
        assert!(!controller.may_speak_for_router(&own) && !router.may_speak_for_controller(one));
        for nobody in [Caller::Anonymous, Caller::Local, verified("spiffe://x/admin/r")] {
            assert!(!nobody.may_speak_for_router(&own) && !nobody.may_speak_for_controller(one));
        }
    }
}
