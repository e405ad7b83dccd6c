//! The membership with which a cluster is founded: judged as every later one is, before anything is written anywhere.
//!
//! What is wrong with it could not be repaired afterwards: without a list no router is served, and every later change
//! of membership would be judged beside the same faulty records. It does not know who founds, or how.

use std::collections::BTreeSet;

use super::planning::{check_record, judged};
use super::{Judge, Member, Membership, Refusal};
use crate::domain::controller_list::{Applied, ClusterIdentity};
use crate::domain::ids::ControllerId;

/// Why no cluster is founded of these controllers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the initial members do not make a cluster{}: {reason}; {}",
    about.map_or_else(String::new, |id| format!(", because of controller {id}")),
    reason.hint()
)]
pub struct Unfoundable {
    /// Whose record it is; `None` when it is all of them together.
    pub about: Option<ControllerId>,
    /// What is wrong. It names the other controller, where there is one.
    pub reason: Refusal,
}

/// All initial members as the voters of the first membership entry.
///
/// # Errors
/// [`Unfoundable`] when two share a name or an endpoint, one lacks an endpoint, or routers would refuse the list.
pub fn found(identity: &ClusterIdentity, members: Vec<Member>, judge: &Judge<'_>) -> Result<Membership, Unfoundable> {
    let voters: BTreeSet<_> = members.iter().map(|member| member.id).collect();
    let mut membership = Membership::new(vec![voters.clone()], []);
    for member in members {
        check_record(&membership, &member).map_err(|reason| Unfoundable { about: Some(member.id), reason })?;
        membership = membership.with_member(member);
    }
    let applied =
        Applied { identity: Some(identity), term: 0, log_index: 0, used_ids: &voters, previous_log_index: None };
    judged(&membership, applied, judge).map_err(|reason| Unfoundable { about: None, reason })?;
    Ok(membership)
}
