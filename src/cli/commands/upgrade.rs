//! `cluster upgrade …`

use std::time::Duration;

use super::reach::{ANSWER_MAX, CHANGE_MAX, connect, within};
use crate::cli::arguments::{Finalizing, Output, Reach, UpgradeCommand};
use crate::cli::console::Console;
use crate::cli::exit::ExitStatus;
use crate::cli::failure::Failure;
use crate::cli::progress::Progress;
use crate::cli::render::json;
use crate::cli::render::upgrade::{Upgrade, upgrade};
use crate::domain::feature::FeatureLevel;
use crate::proto::admin::{FinalizeUpgradeRequest, UpgradeRequest};

/// Waiting until nothing is in the way takes at most this long, a little more than the leader waits.
const FINALIZE_WAIT_MAX: Duration = Duration::from_secs(660);

pub(super) async fn dispatch(command: UpgradeCommand, console: Console) -> Result<ExitStatus, Failure> {
    match command {
        UpgradeCommand::Status(reach) => {
            show(UpgradeRequest::default(), ANSWER_MAX, &reach, console).await.map(|_| ExitStatus::Done)
        }
        UpgradeCommand::Plan { to, reach } => {
            let request = UpgradeRequest { level: to.map_or(0, FeatureLevel::get), plan: true };
            let shown = show(request, CHANGE_MAX, &reach, console).await?;
            if shown.is_harmless() {
                return Ok(ExitStatus::Done);
            }
            Err(Failure::new(format!("something speaks against raising the feature level to {}", shown.target))
                .hint("see above; nothing was changed"))
        }
        UpgradeCommand::Finalize(finalizing) => finalize(finalizing, console).await,
    }
}

async fn show(
    request: UpgradeRequest,
    answer_max: Duration,
    reach: &Reach,
    console: Console,
) -> Result<Upgrade, Failure> {
    let asking = async { Ok(Upgrade::from(connect(reach).await?.within(answer_max).upgrade(request).await?)) };
    let shown = within(reach.deadline_or(answer_max), asking).await?;
    console.data(&match reach.output.output {
        Output::Json => json(&shown),
        Output::Table => upgrade(&shown, console.out_colour()),
    })?;
    Ok(shown)
}

async fn finalize(Finalizing { to, wait, reach }: Finalizing, console: Console) -> Result<ExitStatus, Failure> {
    let deadline = reach.deadline_or(if wait { FINALIZE_WAIT_MAX } else { CHANGE_MAX });
    let request = FinalizeUpgradeRequest { level: to.map_or(0, FeatureLevel::get), wait };
    let progress = Progress::begin(console, "finalize …");
    let done = within(deadline, async {
        let mut steps = connect(&reach).await?.finalize_upgrade(request).await?;
        while let Some(step) = steps.next().await? {
            if step.done {
                return Ok(step.feature_level);
            }
            progress.say(&step.message);
        }
        Err(Failure::new("the answer ended before the upgrade was finalized")
            .hint("look at `pilothouse cluster upgrade status`; repeating it is safe"))
    });
    let outcome = done.await;
    drop(progress);
    let level = outcome?;
    console.data(&match reach.output.output {
        Output::Json => json(&serde_json::json!({ "feature_level": level })),
        Output::Table => {
            format!("the cluster writes feature level {level}; versions that cannot read it are refused\n")
        }
    })?;
    Ok(ExitStatus::Done)
}
