//! Requests for a change of membership, from the wire.

use super::InvalidRequest;
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::ControllerId;
use crate::domain::membership::Request;
use crate::proto::admin as wire;
use crate::proto::admin::change_request::Change;
use crate::rpc::session::excerpt;

/// What an operator asks for. Adding names an address only: the record comes from whoever listens there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// Add the blank controller that listens here.
    Add {
        /// Its peer address.
        peer: Endpoint,
    },
    /// Anything else is complete as it is.
    Change(Request),
}

/// Checks a request.
///
/// # Errors
/// [`InvalidRequest`].
pub fn from_wire(request: wire::ChangeRequest) -> Result<Asked, InvalidRequest> {
    let change = request.change.ok_or(InvalidRequest::Missing { what: "the change" })?;
    Ok(match change {
        Change::Add(add) => Asked::Add { peer: endpoint(&add.peer)? },
        Change::Promote(id) => Asked::Change(Request::Promote(controller(id)?)),
        Change::Demote(id) => Asked::Change(Request::Demote(controller(id)?)),
        Change::Remove(id) => Asked::Change(Request::Remove(controller(id)?)),
        Change::Readdress(readdress) => Asked::Change(Request::Readdress {
            id: controller(readdress.id)?,
            peer: endpoints(&readdress.peer)?,
            router: endpoints(&readdress.router)?,
            admin: endpoints(&readdress.admin)?,
        }),
    })
}

/// A controller id from the wire, where 0 means absent.
///
/// # Errors
/// [`InvalidRequest::ControllerId`] for 0.
pub fn controller(id: u64) -> Result<ControllerId, InvalidRequest> {
    ControllerId::new(id).ok_or(InvalidRequest::ControllerId)
}

/// An empty kind of address stays as it is.
fn endpoints(texts: &[String]) -> Result<Option<Vec<Endpoint>>, InvalidRequest> {
    if texts.is_empty() {
        return Ok(None);
    }
    texts.iter().map(|text| endpoint(text)).collect::<Result<_, _>>().map(Some)
}

fn endpoint(text: &str) -> Result<Endpoint, InvalidRequest> {
    text.parse().map_err(|reason| InvalidRequest::Endpoint { text: excerpt(text), reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(change: Option<Change>) -> Result<Asked, InvalidRequest> {
        from_wire(wire::ChangeRequest { change, wait: false })
    }

    #[test]
    fn every_change_has_its_request() {
        let three = ControllerId::new(3).unwrap();
        assert_eq!(asked(Some(Change::Promote(3))), Ok(Asked::Change(Request::Promote(three))));
        assert_eq!(asked(Some(Change::Demote(3))), Ok(Asked::Change(Request::Demote(three))));
        assert_eq!(asked(Some(Change::Remove(3))), Ok(Asked::Change(Request::Remove(three))));
        let peer: Endpoint = "http://127.0.0.1:7".parse().unwrap();
        let add = Change::Add(wire::AddMember { peer: peer.to_string() });
        assert_eq!(asked(Some(add)), Ok(Asked::Add { peer: peer.clone() }));
        let readdress = wire::Readdress { id: 3, peer: vec![peer.to_string()], ..Default::default() };
        let request = Request::Readdress { id: three, peer: Some(vec![peer]), router: None, admin: None };
        assert_eq!(asked(Some(Change::Readdress(readdress))), Ok(Asked::Change(request)));
    }

    #[test]
    fn what_is_unusable_is_named() {
        assert_eq!(asked(None), Err(InvalidRequest::Missing { what: "the change" }));
        assert_eq!(asked(Some(Change::Remove(0))), Err(InvalidRequest::ControllerId));
        let add = Change::Add(wire::AddMember { peer: "localhost".into() });
        assert!(asked(Some(add)).unwrap_err().to_string().contains("https://HOST:PORT"));
    }
}
