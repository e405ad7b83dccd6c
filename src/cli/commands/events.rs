//! `events`

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use super::reach::{ANSWER_MAX, connect, within};
use crate::cli::arguments::{EventsArguments, Output};
use crate::cli::console::Console;
use crate::cli::exit::ExitStatus;
use crate::cli::failure::Failure;
use crate::cli::render::events::{Happened, Happening, gathered, line, table};
use crate::cli::render::{json, json_line};
use crate::domain::retry::{Backoff, delay};
use crate::proto::admin::EventsResponse;
use crate::rpc::client::{ClientError, Happened as Stream};

/// Whoever follows is told by another controller within this time, or it ends.
const FOLLOW_AGAIN_MAX: Duration = Duration::from_secs(60);
/// Most events that are known to have been printed: more than five controllers keep.
const SHOWN_MAX: usize = 16_384;

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

/// Prints what comes, from one controller after the other, until the reader goes away or nobody tells anything any more.
async fn follow(mut stream: Stream, arguments: &EventsArguments, console: Console) -> Result<ExitStatus, Failure> {
    let (mut shown, mut gaps) = (Shown::default(), None);
    loop {
        let ended = loop {
            match stream.next().await {
                Ok(Some(told)) => {
                    let mut happened = gathered(vec![told], arguments.severity.into());
                    happened.events.retain(|event| shown.is_new(event));
                    if !print(&happened, arguments, console)? {
                        return Ok(ExitStatus::Done);
                    }
                    let now = Some(happened.not_asked.clone());
                    if gaps != now || happened.dropped > 0 {
                        gaps = now;
                        warn_of_gaps(&happened, console);
                    }
                }
                Ok(None) => break "it ended the stream".to_owned(),
                Err(error) if is_final(&error) => return Err(error.into()),
                Err(ClientError::Broken { at, .. }) => break format!("the connection to {at} broke"),
                Err(error) => break error.to_string(),
            }
        };
        console.note(&format!("the controller tells nothing any more ({ended}): asking again"));
        stream = again(arguments).await?;
    }
}

/// Events as they came. Whether anybody still reads them.
fn print(happened: &Happened, arguments: &EventsArguments, console: Console) -> Result<bool, Failure> {
    let colour = console.out_colour();
    let lines = happened.events.iter().map(|event| match arguments.reach.output.output {
        Output::Json => json_line(event),
        Output::Table => line(event, colour),
    });
    Ok(console.more_data(&lines.collect::<String>())?)
}

/// The stream of whoever answers next, within the time that somebody has to answer.
async fn again(arguments: &EventsArguments) -> Result<Stream, Failure> {
    let deadline = Instant::now() + arguments.reach.deadline_or(FOLLOW_AGAIN_MAX);
    for attempt in 0.. {
        tokio::time::sleep(delay(Backoff::DIAL, attempt, rand::random())).await;
        let asking = async {
            match connect(&arguments.reach).await {
                Ok(mut client) => client.events(true).await.map_err(|error| (is_final(&error), error.into())),
                Err(why) => Err((false, why)),
            }
        };
        match tokio::time::timeout_at(deadline, asking).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err((ends, why))) if ends || Instant::now() >= deadline => return Err(why),
            Ok(Err(_)) => {}
            Err(_) => break,
        }
    }
    Err(Failure::new("no controller tells events any more")
        .hint("look at `pilothouse cluster status`; name several with --endpoint"))
}

/// Another controller, or another attempt, would be answered the same.
fn is_final(error: &ClientError) -> bool {
    use Code::{InvalidArgument, PermissionDenied, Unauthenticated, Unimplemented};
    let same = [InvalidArgument, PermissionDenied, Unauthenticated, Unimplemented];
    matches!(error, ClientError::Refused { code, .. } if same.contains(code))
}

/// What was printed: a controller that is asked anew tells everything that it has kept.
#[derive(Debug, Default)]
struct Shown {
    names: HashSet<Name>,
    order: VecDeque<Name>,
}

/// Who raised an event, in which start of its process, and the number there.
type Name = (String, String, u64);

impl Shown {
    /// Whether an event was not printed before; from now on it was.
    fn is_new(&mut self, event: &Happening) -> bool {
        let name = (event.source.clone(), event.instance.clone(), event.number);
        if !self.names.insert(name.clone()) {
            return false;
        }
        self.order.push_back(name);
        if self.order.len() > SHOWN_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.names.remove(&oldest);
        }
        true
    }
}

fn warn_of_gaps(happened: &Happened, console: Console) {
    for gap in &happened.not_asked {
        console.note(&format!("events of controller {} are missing: {}", gap.controller, gap.why));
    }
    if happened.dropped > 0 {
        console.note(&format!("{} older events were not kept", happened.dropped));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_new_once_and_what_is_remembered_is_bounded() {
        let event = |number| Happening {
            time: String::new(),
            at_ms: 0,
            severity: String::new(),
            phase: String::new(),
            code: String::new(),
            source: "router edge-1".into(),
            subject: String::new(),
            message: String::new(),
            hint: String::new(),
            facts: Default::default(),
            reported_by: 1,
            instance: "00".into(),
            number,
        };
        let mut shown = Shown::default();
        assert!(shown.is_new(&event(1)) && !shown.is_new(&event(1)));
        let told_by_another = Happening { reported_by: 2, ..event(1) };
        assert!(!shown.is_new(&told_by_another), "whoever tells it");
        let restarted = Happening { instance: "01".into(), ..event(1) };
        assert!(shown.is_new(&restarted));
        for number in 2..=SHOWN_MAX as u64 + 1 {
            assert!(shown.is_new(&event(number)));
        }
        assert_eq!((shown.names.len(), shown.order.len()), (SHOWN_MAX, SHOWN_MAX));
    }
}
