//! Asks the public interfaces: the admin service of any live controller, and the HTTP API of each router.

use std::collections::BTreeSet;

use anyhow::Context as _;

use super::http;
use super::layout::Layout;
use super::view::{ClusterView, RouterSelf};
use crate::domain::endpoint::Endpoint;
use crate::proto::admin::{ListRoutersRequest, RouterStatus};
use crate::rpc::client::AdminClient;
use crate::tls::Security;

/// Most pages of routers that are read at once.
const PAGES_MAX: usize = 16;

/// The admin endpoint of controller `number`.
pub(crate) fn admin_endpoint(layout: &Layout, number: u16) -> Endpoint {
    layout.endpoint(layout.ports(number).admin)
}

/// A client of whichever of these controllers answers.
pub(crate) async fn admin(
    layout: &Layout,
    controllers: &BTreeSet<u16>,
    security: &Security,
) -> anyhow::Result<AdminClient> {
    let endpoints: Vec<Endpoint> = controllers.iter().map(|number| admin_endpoint(layout, *number)).collect();
    Ok(AdminClient::connect(&endpoints, None, security.clone()).await?)
}

/// The cluster and its routers.
pub(crate) async fn cluster(client: &mut AdminClient) -> anyhow::Result<ClusterView> {
    let status = client.status().await?;
    Ok(ClusterView::new(&status, &routers(client).await?))
}

/// All routers.
async fn routers(client: &mut AdminClient) -> anyhow::Result<Vec<RouterStatus>> {
    let mut found: Vec<RouterStatus> = Vec::new();
    for _ in 0..PAGES_MAX {
        let after = found.last().map(|router| router.id.clone()).unwrap_or_default();
        let page = client.list_routers(ListRoutersRequest { after, limit: 0, only: String::new() }).await?;
        found.extend(page.routers);
        if !page.more {
            break;
        }
    }
    Ok(found)
}

/// What router `number` says of itself.
pub(crate) async fn router(layout: &Layout, number: u16) -> anyhow::Result<RouterSelf> {
    let body = http::get(layout.router_http(number), "/api/v1/status").await?;
    serde_json::from_str(&body).with_context(|| format!("router-{number} answered something else than its status"))
}
