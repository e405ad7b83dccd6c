//! Changes of membership, as an operator asks for them.

use std::time::Duration;

use anyhow::Context as _;

use super::layout::Entry;
use super::observe::admin_endpoint;
use super::stage::Stage;
use super::wait::until;
use crate::proto::admin::ChangeRequest;
use crate::proto::admin::change_request::Change;
use crate::proto::admin::{AddMember, ChangeProgress};
use crate::rpc::client::AdminClient;

/// From the start of a blank controller to its first answer.
const START_DEADLINE: Duration = Duration::from_secs(10);
/// One change, from the question to `done`.
const CHANGE_DEADLINE: Duration = Duration::from_secs(15);

impl Stage {
    /// Makes a change and waits until it is done. Returns whom it was about.
    pub(crate) async fn change(&mut self, change: Change) -> anyhow::Result<u64> {
        let asked = format!("{change:?}");
        let request = ChangeRequest { change: Some(change), wait: true };
        let client = self.admin().await?;
        let done = tokio::time::timeout(CHANGE_DEADLINE, carry_out(client, request)).await;
        let done = done.with_context(|| format!("within {CHANGE_DEADLINE:?}")).and_then(|done| done);
        Ok(done.with_context(|| format!("change {asked}"))?.member)
    }

    /// Starts a blank controller and adds it as a learner. Returns its id.
    pub(crate) async fn add(&mut self, number: u16) -> anyhow::Result<u64> {
        self.start_controller(number, Entry::Joins)?;
        let endpoint = admin_endpoint(&self.layout, number);
        let security = self.security.clone();
        let answers = async || {
            Ok(AdminClient::connect(std::slice::from_ref(&endpoint), None, security.clone()).await.map(drop)?)
        };
        until(START_DEADLINE, answers).await.with_context(|| format!("controller-{number} was started"))?;
        let peer = self.layout.endpoint(self.layout.ports(number).peer).to_string();
        let id = self.change(Change::Add(AddMember { peer })).await?;
        self.asked.insert(number);
        Ok(id)
    }
}

async fn carry_out(client: &mut AdminClient, request: ChangeRequest) -> anyhow::Result<ChangeProgress> {
    let mut progress = client.change(request).await?;
    while let Some(message) = progress.next().await? {
        if message.done {
            return Ok(message);
        }
    }
    anyhow::bail!("the progress ended before the change was done")
}
