//! `routers …`

use super::reach::{ANSWER_MAX, connect, within};
use crate::cli::arguments::{Output, Reach, RoutersCommand};
use crate::cli::console::{Console, Tone};
use crate::cli::exit::ExitStatus;
use crate::cli::failure::Failure;
use crate::cli::render::routers::{Router, Routers, list, show};
use crate::cli::render::{json, listed};
use crate::domain::ids::RouterId;
use crate::proto::admin::ListRoutersRequest;

pub(super) async fn dispatch(command: RoutersCommand, console: Console) -> Result<ExitStatus, Failure> {
    match command {
        RoutersCommand::List(reach) => {
            let found = within(reach.deadline_or(ANSWER_MAX), gather(&reach, None)).await?;
            console.data(&match reach.output.output {
                Output::Json => json(&found),
                Output::Table => list(&found.routers, console.out_colour()),
            })?;
            if found.routers.is_empty() && reach.output.output == Output::Table {
                console.note("no router is registered yet");
            }
            warn_of_gaps(&found, console);
            Ok(ExitStatus::Done)
        }
        RoutersCommand::Show { id, reach } => {
            let found = within(reach.deadline_or(ANSWER_MAX), gather(&reach, Some(&id))).await?;
            let Some(router) = found.routers.first() else { return Err(unknown(&id)) };
            console.data(&match reach.output.output {
                Output::Json => json(router),
                Output::Table => show(router),
            })?;
            warn_of_gaps(&found, console);
            Ok(ExitStatus::Done)
        }
        RoutersCommand::Forget { id, ban: true, reach } => {
            let asking = async { Ok(connect(&reach).await?.ban(&id).await?) };
            let existed = within(reach.deadline_or(ANSWER_MAX), asking).await?;
            console.data(&match reach.output.output {
                Output::Json => json(&serde_json::json!({ "banned": id.to_string(), "was_registered": existed })),
                Output::Table => format!(
                    "router {id} is banned: its sessions end, and every controller refuses it; \
                     `pilothouse routers allow {id}` lifts it\n"
                ),
            })?;
            Ok(ExitStatus::Done)
        }
        RoutersCommand::Allow { id, reach } => {
            let asking = async { Ok(connect(&reach).await?.allow(&id).await?) };
            if !within(reach.deadline_or(ANSWER_MAX), asking).await? {
                return Err(Failure::new(format!("router {id} is not banned"))
                    .hint("`pilothouse routers list` shows which routers are"));
            }
            console.data(&match reach.output.output {
                Output::Json => json(&serde_json::json!({ "allowed": id.to_string() })),
                Output::Table => {
                    format!("router {id} is not banned any more; a certificate that it still has counts again\n")
                }
            })?;
            Ok(ExitStatus::Done)
        }
        RoutersCommand::Forget { id, ban: false, reach } => {
            let asking = async { Ok(connect(&reach).await?.forget(&id).await?) };
            if !within(reach.deadline_or(ANSWER_MAX), asking).await? {
                return Err(unknown(&id));
            }
            console.data(&match reach.output.output {
                Output::Json => json(&serde_json::json!({ "forgotten": id.to_string() })),
                Output::Table => format!("router {id} is forgotten; if it comes back, it registers again\n"),
            })?;
            Ok(ExitStatus::Done)
        }
    }
}

fn unknown(id: &RouterId) -> Failure {
    Failure::new(format!("no router {id} is known")).hint("`pilothouse routers list` shows every router")
}

/// Every page, or just one router.
async fn gather(reach: &Reach, only: Option<&RouterId>) -> Result<Routers, Failure> {
    let mut client = connect(reach).await?;
    let mut found = Routers { routers: Vec::new(), unreachable: Vec::new() };
    let only = only.map(RouterId::to_string).unwrap_or_default();
    let mut after = String::new();
    loop {
        let page = client.list_routers(ListRoutersRequest { after, limit: 0, only: only.clone() }).await?;
        found.unreachable = page.unreachable;
        let last = page.routers.last().map(|router| router.id.clone());
        found.routers.extend(page.routers.into_iter().map(Router::from));
        match last {
            Some(last) if page.more => after = last,
            _ => return Ok(found),
        }
    }
}

fn warn_of_gaps(found: &Routers, console: Console) {
    if !found.unreachable.is_empty() {
        let label = console.err_paint(Tone::Doubtful, "note:");
        let controllers = listed(&found.unreachable);
        console.note(&format!(
            "{label} the sessions of controllers {controllers} are not known: routers on them may seem to be away"
        ));
    }
}
