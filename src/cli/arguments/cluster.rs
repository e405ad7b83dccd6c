//! `cluster …` and `routers …`.

use clap::{Args, Subcommand};

use super::{Reach, UpgradeCommand};
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{ControllerId, RouterId};

/// `cluster …`
#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// Show the cluster, its leader and each member; exit 1 when there is no leader
    ///
    /// With `-o json`: `leader` (a number, or null), `cluster_id`, `epoch`, `list_version` (EPOCH.INDEX), `voters`,
    /// `voter_sets`, `failure_tolerance`, `term`, `committed_index`, `feature_level`, `routers`, `answered_by`,
    /// `next_id` (for a new controller; null when it is not known), and `members` with `id`, `name`, `role`, `leader`,
    /// `state`, `version`, `applied_index`, `lag_entries`, `last_contact_ms`, `sessions`, `peer`, `router`, `admin`.
    Status(Reach),
    /// Show each member's addresses, and the id that a new controller may have
    Members(Reach),
    /// Add the blank controller that waits at an address (join = true); it becomes a learner
    Add {
        /// Its peer address.
        #[arg(long, value_name = "https://HOST:PORT")]
        peer: Endpoint,
        /// How it is carried out.
        #[command(flatten)]
        change: Change,
    },
    /// Make a learner a voter
    Promote {
        /// Id of the controller.
        id: ControllerId,
        /// How it is carried out.
        #[command(flatten)]
        change: Change,
    },
    /// Make a voter a learner
    Demote {
        /// Id of the controller.
        id: ControllerId,
        /// How it is carried out.
        #[command(flatten)]
        change: Change,
    },
    /// Remove a controller; its id is never used again
    Remove {
        /// Id of the controller.
        id: ControllerId,
        /// How it is carried out.
        #[command(flatten)]
        change: Change,
    },
    /// Change the addresses of a controller; what is not given stays
    Readdress(Readdressing),
    /// Show, plan and finalize an upgrade of the whole cluster
    #[command(subcommand)]
    Upgrade(UpgradeCommand),
    /// Hand leadership to another voter
    Transfer {
        /// Id of the controller; without it, whoever is most caught up
        #[arg(long, value_name = "ID")]
        to: Option<ControllerId>,
        /// Whom to ask.
        #[command(flatten)]
        reach: Reach,
    },
}

/// How a change is carried out.
#[derive(Debug, Args)]
pub struct Change {
    /// Wait for what the change needs, such as a learner that must catch up, and show it
    #[arg(long)]
    pub wait: bool,
    /// Whom to ask.
    #[command(flatten)]
    pub reach: Reach,
}

/// `cluster readdress`
#[derive(Debug, Args)]
#[group(id = "addresses", required = true, multiple = true, args = ["peer", "router", "admin"])]
pub struct Readdressing {
    /// Id of the controller.
    pub id: ControllerId,
    /// For other controllers (repeatable)
    #[arg(long, value_name = "https://HOST:PORT")]
    pub peer: Vec<Endpoint>,
    /// For routers (repeatable)
    #[arg(long, value_name = "https://HOST:PORT")]
    pub router: Vec<Endpoint>,
    /// For operators (repeatable)
    #[arg(long, value_name = "https://HOST:PORT")]
    pub admin: Vec<Endpoint>,
    /// How it is carried out.
    #[command(flatten)]
    pub change: Change,
}

/// `routers …`
#[derive(Debug, Subcommand)]
pub enum RoutersCommand {
    /// List every router: protocol, held list, controllers, last heard
    List(Reach),
    /// Show one router
    Show {
        /// Its id.
        id: RouterId,
        /// Whom to ask.
        #[command(flatten)]
        reach: Reach,
    },
    /// Forget a router that is gone; with --ban, refuse it from now on as well
    Forget {
        /// Its id.
        id: RouterId,
        /// End its sessions and refuse it on every controller, until `routers allow`
        #[arg(long)]
        ban: bool,
        /// Whom to ask.
        #[command(flatten)]
        reach: Reach,
    },
    /// Lift the ban of a router
    Allow {
        /// Its id.
        id: RouterId,
        /// Whom to ask.
        #[command(flatten)]
        reach: Reach,
    },
}
