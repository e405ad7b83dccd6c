//! `cluster …`

use super::reach::{ANSWER_MAX, CHANGE_MAX, WAIT_MAX, connect, within};
use super::upgrade;
use crate::cli::arguments::{Change, ClusterCommand, Output, Reach, Readdressing};
use crate::cli::console::{Console, Tone};
use crate::cli::exit::ExitStatus;
use crate::cli::failure::Failure;
use crate::cli::progress::Progress;
use crate::cli::render::cluster::{Changed, Cluster, Members, changed, members, status};
use crate::cli::render::json;
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::ControllerId;
use crate::proto::admin::{AddMember, ChangeRequest, Readdress, change_request};

pub(super) async fn dispatch(command: ClusterCommand, console: Console) -> Result<ExitStatus, Failure> {
    use change_request::Change as Wire;
    match command {
        ClusterCommand::Status(reach) => show_status(reach, console).await,
        ClusterCommand::Members(reach) => show_members(reach, console).await,
        ClusterCommand::Add { peer, change } => {
            make("add", Wire::Add(AddMember { peer: peer.to_string() }), change, console).await
        }
        ClusterCommand::Promote { id, change } => make("promote", Wire::Promote(id.get()), change, console).await,
        ClusterCommand::Demote { id, change } => make("demote", Wire::Demote(id.get()), change, console).await,
        ClusterCommand::Remove { id, change } => make("remove", Wire::Remove(id.get()), change, console).await,
        ClusterCommand::Readdress(Readdressing { id, peer, router, admin, change }) => {
            let texts = |list: Vec<Endpoint>| list.iter().map(Endpoint::to_string).collect();
            let wire = Readdress { id: id.get(), peer: texts(peer), router: texts(router), admin: texts(admin) };
            make("readdress", Wire::Readdress(wire), change, console).await
        }
        ClusterCommand::Upgrade(command) => upgrade::dispatch(command, console).await,
        ClusterCommand::Transfer { to, reach } => transfer(to, reach, console).await,
    }
}

async fn ask(reach: &Reach) -> Result<Cluster, Failure> {
    let asking = async { Ok(Cluster::from(connect(reach).await?.status().await?)) };
    within(reach.deadline_or(ANSWER_MAX), asking).await
}

async fn show_status(reach: Reach, console: Console) -> Result<ExitStatus, Failure> {
    let cluster = ask(&reach).await?;
    console.data(&match reach.output.output {
        Output::Json => json(&cluster),
        Output::Table => status(&cluster, console.out_colour()),
    })?;
    if cluster.leader.is_some() {
        return Ok(ExitStatus::Done);
    }
    Err(match &cluster.cluster_id {
        None => Failure::new("the controller that answered is blank: it belongs to no cluster yet").hint(
            "start every controller of its initial_members, or, when it has join = true, run `pilothouse cluster add`",
        ),
        Some(_) => Failure::new("the cluster has no leader").hint(
            "an election takes a few seconds; if this stays so, start controllers that are down until a majority of the voters is up",
        ),
    })
}

async fn show_members(reach: Reach, console: Console) -> Result<ExitStatus, Failure> {
    let cluster = ask(&reach).await?;
    console.data(&match reach.output.output {
        Output::Json => json(&Members { next_id: cluster.next_id, members: &cluster.members }),
        Output::Table => members(&cluster, console.out_colour()),
    })?;
    Ok(ExitStatus::Done)
}

/// One change of membership, with its progress on stderr.
async fn make(
    name: &'static str,
    wire: change_request::Change,
    Change { wait, reach }: Change,
    console: Console,
) -> Result<ExitStatus, Failure> {
    let deadline = reach.deadline_or(if wait { WAIT_MAX } else { CHANGE_MAX });
    let request = ChangeRequest { change: Some(wire), wait };
    let progress = Progress::begin(console, &format!("{name} …"));
    let done = within(deadline, async {
        let mut steps = connect(&reach).await?.change(request).await?;
        while let Some(step) = steps.next().await? {
            if step.done {
                return Ok(Changed { change: name, member: step.member, failure_tolerance: step.failure_tolerance });
            }
            progress.say(&step.message);
        }
        Err(Failure::new("the answer ended before the change was done")
            .hint("look at `pilothouse cluster status` before you repeat it"))
    });
    let outcome = done.await;
    drop(progress);
    let outcome = outcome?;
    console.data(&match reach.output.output {
        Output::Json => json(&outcome),
        Output::Table => changed(&outcome),
    })?;
    if outcome.failure_tolerance == 0 {
        let warning = console.err_paint(Tone::Doubtful, "note:");
        console.note(&format!(
            "{warning} the cluster now stops when one more voter fails; three voters tolerate one failure"
        ));
    }
    Ok(ExitStatus::Done)
}

async fn transfer(to: Option<ControllerId>, reach: Reach, console: Console) -> Result<ExitStatus, Failure> {
    let asking = async { Ok(connect(&reach).await?.transfer(to).await?) };
    let leader = within(reach.deadline_or(ANSWER_MAX), asking).await?;
    let Some(leader) = leader else {
        return Err(Failure::new("leadership was given up, and nobody has taken it yet")
            .hint("look at `pilothouse cluster status` in a few seconds"));
    };
    console.data(&match reach.output.output {
        Output::Json => json(&serde_json::json!({ "leader": leader.get() })),
        Output::Table => format!("controller {leader} leads now\n"),
    })?;
    Ok(ExitStatus::Done)
}
