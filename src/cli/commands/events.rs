//! `events`

use super::reach::{ANSWER_MAX, connect, within};
use crate::cli::arguments::{EventsArguments, Output};
use crate::cli::console::Console;
use crate::cli::exit::ExitStatus;
use crate::cli::failure::Failure;
use crate::cli::render::events::{Happened, gathered, line, table};
use crate::cli::render::{json, json_line};
use crate::proto::admin::EventsResponse;
use crate::rpc::client::Happened as Stream;

pub(super) async fn dispatch(arguments: EventsArguments, console: Console) -> Result<ExitStatus, Failure> {
    let deadline = arguments.reach.deadline_or(ANSWER_MAX);
    let asking = async { Ok(connect(&arguments.reach).await?.events(arguments.follow).await?) };
    let mut stream = within(deadline, asking).await?;
    if arguments.follow {
        return follow(stream, &arguments, console).await;
    }
    let told = within(deadline, all(&mut stream)).await?;
    let happened = gathered(told, arguments.severity.into());
    console.data(&match arguments.reach.output.output {
        Output::Json => json(&happened),
        Output::Table => table(&happened.events, console.out_colour()),
    })?;
    if happened.events.is_empty() && arguments.reach.output.output == Output::Table {
        console.note("nothing that is shown here happened since the controllers started");
    }
    warn_of_gaps(&happened, console);
    Ok(ExitStatus::Done)
}

async fn all(stream: &mut Stream) -> Result<Vec<EventsResponse>, Failure> {
    let mut told = Vec::new();
    while let Some(more) = stream.next().await? {
        told.push(more);
    }
    Ok(told)
}

/// Prints what comes until the controller or the reader goes away.
async fn follow(mut stream: Stream, arguments: &EventsArguments, console: Console) -> Result<ExitStatus, Failure> {
    let mut gaps = None;
    while let Some(told) = stream.next().await? {
        let happened = gathered(vec![told], arguments.severity.into());
        let colour = console.out_colour();
        let lines = happened.events.iter().map(|event| match arguments.reach.output.output {
            Output::Json => json_line(event),
            Output::Table => line(event, colour),
        });
        console.data(&lines.collect::<String>())?;
        let now = Some(happened.not_asked.clone());
        if gaps != now || happened.dropped > 0 {
            gaps = now;
            warn_of_gaps(&happened, console);
        }
    }
    Err(Failure::new("the controller ended the stream")
        .hint("it may have stopped: begin again with another --endpoint"))
}

fn warn_of_gaps(happened: &Happened, console: Console) {
    for gap in &happened.not_asked {
        console.note(&format!("events of controller {} are missing: {}", gap.controller, gap.why));
    }
    if happened.dropped > 0 {
        console.note(&format!("{} older events were not kept", happened.dropped));
    }
}
