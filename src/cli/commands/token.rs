//! `token …`

use super::reach::{ANSWER_MAX, connect, within};
use crate::cli::arguments::{Creation, Output, TokenCommand};
use crate::cli::console::Console;
use crate::cli::exit::ExitStatus;
use crate::cli::failure::Failure;
use crate::cli::render::json;
use crate::proto::admin::CreateTokenRequest;

pub(super) async fn dispatch(command: TokenCommand, console: Console) -> Result<ExitStatus, Failure> {
    match command {
        TokenCommand::Create(creation) => create(creation, console).await,
    }
}

async fn create(creation: Creation, console: Console) -> Result<ExitStatus, Failure> {
    let Creation { role, id, ttl, reach } = creation;
    let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    let request = CreateTokenRequest { role: role.to_string(), id: id.to_string(), ttl_ms };
    let asking = async { Ok(connect(&reach).await?.create_token(request).await?) };
    let made = within(reach.deadline_or(ANSWER_MAX), asking).await?;
    console.data(&match reach.output.output {
        Output::Json => json(&serde_json::json!({
            "token": made.token,
            "role": role.to_string(),
            "id": id.to_string(),
            "expires_ms": made.expires_ms,
        })),
        Output::Table => format!("{}\n", made.token),
    })?;
    console.note(&format!(
        "this token makes one certificate for {role} {id}, within {} s; it is a secret, and is not shown again\n\
         on its host: pilothouse router enroll --data-dir DIR --token -",
        ttl.as_secs()
    ));
    Ok(ExitStatus::Done)
}
