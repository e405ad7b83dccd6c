//! Changes of membership, with what the tour knows of its members.

use anyhow::Context as _;

use super::Tour;
use crate::cli::demo::layout::Unit;
use crate::proto::admin::change_request::Change;

impl Tour<'_> {
    /// Starts a blank controller and adds it as a learner. Returns its id.
    pub(super) async fn add(&mut self, number: u16) -> anyhow::Result<u64> {
        let id = self.stage.add(number).await?;
        self.members.insert(number, id);
        self.stage.write_client_config(self.members.keys().copied())?;
        Ok(id)
    }

    /// Gives a learner a vote.
    pub(super) async fn give_vote(&mut self, id: u64) -> anyhow::Result<()> {
        self.stage.change(Change::Promote(id)).await.map(drop)
    }

    /// Removes a member, then stops its process. The question goes to another one.
    pub(super) async fn take_out(&mut self, number: u16) -> anyhow::Result<u64> {
        let id = self.members.remove(&number).with_context(|| format!("controller-{number} is a member"))?;
        self.stage.asked.remove(&number);
        self.stage.reconnect();
        self.stage.change(Change::Remove(id)).await?;
        self.stage.write_client_config(self.members.keys().copied())?;
        let obeyed = self.stage.children.stop(Unit::Controller(number)).await?;
        anyhow::ensure!(obeyed, "controller-{number} had to be killed");
        Ok(id)
    }
}
