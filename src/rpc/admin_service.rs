//! The operators' service: checks requests and passes them to the [`AdminPlane`], which finds the leader.

use std::pin::Pin;
use std::sync::Arc;

use futures::Stream;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, async_trait};

use super::client::HOPS_METADATA;
use super::control_plane::{AdminPlane, RouterPage};
use super::convert::InvalidRequest;
use crate::domain::ids::{ControllerId, RouterId};
use crate::proto::admin::admin_server::{Admin, AdminServer};
use crate::proto::admin::{
    AllowRouterRequest, AllowRouterResponse, ChangeProgress, ChangeRequest, CreateTokenRequest, CreateTokenResponse,
    EventsRequest, EventsResponse, FinalizeUpgradeRequest, ForgetRouterRequest, ForgetRouterResponse,
    ListRoutersRequest, ListRoutersResponse, StatusRequest, StatusResponse, TransferRequest, TransferResponse,
    UpgradeProgress, UpgradeRequest, UpgradeResponse,
};

/// Most bytes of an operator's request.
pub const ADMIN_REQUEST_BYTES_MAX: usize = 64 * 1024;
/// Most routers in one page: with full labels a page stays within 4 MiB.
pub const ROUTERS_PER_PAGE_MAX: usize = 500;

/// The service.
#[derive(Debug)]
pub struct AdminService<P> {
    plane: Arc<P>,
}

impl<P: AdminPlane> AdminService<P> {
    /// The service, with its limits, in front of a plane.
    pub fn server(plane: Arc<P>) -> AdminServer<Self> {
        AdminServer::new(Self { plane }).max_decoding_message_size(ADMIN_REQUEST_BYTES_MAX)
    }
}

/// How often the request was forwarded already. What is not a number was not forwarded by a controller.
fn hops<T>(request: &Request<T>) -> u32 {
    let text = request.metadata().get(HOPS_METADATA).and_then(|hops| hops.to_str().ok());
    text.and_then(|hops| hops.parse().ok()).unwrap_or(0)
}

#[async_trait]
impl<P: AdminPlane> Admin for AdminService<P> {
    type ChangeStream = Pin<Box<dyn Stream<Item = Result<ChangeProgress, Status>> + Send>>;
    type FinalizeUpgradeStream = Pin<Box<dyn Stream<Item = Result<UpgradeProgress, Status>> + Send>>;
    type EventsStream = Pin<Box<dyn Stream<Item = Result<EventsResponse, Status>> + Send>>;

    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(self.plane.status(hops(&request)).await?))
    }

    async fn change(&self, request: Request<ChangeRequest>) -> Result<Response<Self::ChangeStream>, Status> {
        let hops = hops(&request);
        let progress = self.plane.change(request.into_inner(), hops).await?;
        let progress = ReceiverStream::new(progress).map(|progress| progress.map_err(Status::from));
        Ok(Response::new(Box::pin(progress)))
    }

    async fn events(&self, request: Request<EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        let told = self.plane.events(request.into_inner().follow)?;
        Ok(Response::new(Box::pin(ReceiverStream::new(told).map(Ok))))
    }

    async fn transfer(&self, request: Request<TransferRequest>) -> Result<Response<TransferResponse>, Status> {
        let hops = hops(&request);
        let to = ControllerId::new(request.into_inner().to);
        let leader = self.plane.transfer(to, hops).await?;
        Ok(Response::new(TransferResponse { leader: leader.get() }))
    }

    async fn list_routers(
        &self,
        request: Request<ListRoutersRequest>,
    ) -> Result<Response<ListRoutersResponse>, Status> {
        let hops = hops(&request);
        let page = page(request.into_inner())?;
        Ok(Response::new(self.plane.list_routers(page, hops).await?))
    }

    async fn forget_router(
        &self,
        request: Request<ForgetRouterRequest>,
    ) -> Result<Response<ForgetRouterResponse>, Status> {
        let hops = hops(&request);
        let request = request.into_inner();
        let router = RouterId::new(request.id).map_err(InvalidRequest::from)?;
        Ok(Response::new(ForgetRouterResponse { existed: self.plane.forget(router, request.ban, hops).await? }))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let hops = hops(&request);
        Ok(Response::new(self.plane.create_token(request.into_inner(), hops).await?))
    }

    async fn upgrade(&self, request: Request<UpgradeRequest>) -> Result<Response<UpgradeResponse>, Status> {
        let hops = hops(&request);
        Ok(Response::new(self.plane.upgrade(request.into_inner(), hops).await?))
    }

    async fn finalize_upgrade(
        &self,
        request: Request<FinalizeUpgradeRequest>,
    ) -> Result<Response<Self::FinalizeUpgradeStream>, Status> {
        let hops = hops(&request);
        let progress = self.plane.finalize_upgrade(request.into_inner(), hops).await?;
        let progress = ReceiverStream::new(progress).map(|progress| progress.map_err(Status::from));
        Ok(Response::new(Box::pin(progress)))
    }

    async fn allow_router(
        &self,
        request: Request<AllowRouterRequest>,
    ) -> Result<Response<AllowRouterResponse>, Status> {
        let hops = hops(&request);
        let router = RouterId::new(request.into_inner().id).map_err(InvalidRequest::from)?;
        Ok(Response::new(AllowRouterResponse { existed: self.plane.allow(router, hops).await? }))
    }
}

fn page(request: ListRoutersRequest) -> Result<RouterPage, InvalidRequest> {
    let id = |text: String| if text.is_empty() { Ok(None) } else { RouterId::new(text).map(Some) };
    let limit = match usize::try_from(request.limit).unwrap_or(ROUTERS_PER_PAGE_MAX) {
        0 => ROUTERS_PER_PAGE_MAX,
        limit => limit.min(ROUTERS_PER_PAGE_MAX),
    };
    Ok(RouterPage { after: id(request.after)?, limit, only: id(request.only)? })
}
