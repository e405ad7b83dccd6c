//! A router of a test: it says exactly what the test wants it to say.

use std::net::SocketAddr;

use pilothouse::proto::router::controller_message::Kind;
use pilothouse::proto::router::router_control_client::RouterControlClient;
use pilothouse::proto::router::router_message::Kind as Says;
use pilothouse::proto::router::{
    Ack, ControllerList, EventsTaken, Goodbye, Hello, ListUpdate, Refused, RegisterRequest, RegisterResponse,
    RouterMessage, Welcome, register_response::Effect,
};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::cluster::PATIENCE;

pub(super) async fn client(router_port: SocketAddr) -> RouterControlClient<Channel> {
    RouterControlClient::connect(format!("http://{router_port}")).await.unwrap()
}

pub(super) fn registration(router: &str, boot: u8, sequence: u64) -> RegisterRequest {
    RegisterRequest {
        router_id: router.to_owned(),
        software_version: "0.1.0".into(),
        boot_id: vec![boot; 16],
        sequence,
        protocol_min: 1,
        protocol_max: 2,
        labels: [("boot".to_owned(), boot.to_string())].into(),
        keys: Vec::new(),
    }
}

pub(super) async fn register(router_port: SocketAddr, request: RegisterRequest) -> Result<Effect, Status> {
    let answer: RegisterResponse = client(router_port).await.register(request).await?.into_inner();
    Ok(answer.effect())
}

pub(super) fn hello(router: &str, boot: u8) -> Hello {
    Hello {
        router_id: router.to_owned(),
        software_version: "0.1.0".into(),
        boot_id: vec![boot; 16],
        protocol_min: 1,
        protocol_max: 2,
        ..Hello::default()
    }
}

/// One session.
pub(super) struct Session {
    to: mpsc::Sender<RouterMessage>,
    from: Streaming<pilothouse::proto::router::ControllerMessage>,
}

impl Session {
    /// A stream on which nothing was said yet.
    pub(super) async fn silent(router_port: SocketAddr) -> Self {
        Self::with(client(router_port).await).await
    }

    /// The same, over a connection of the test's making.
    pub(super) async fn over(channel: Channel) -> Self {
        Self::with(RouterControlClient::new(channel)).await
    }

    async fn with(mut client: RouterControlClient<Channel>) -> Self {
        let (to, messages) = mpsc::channel(16);
        let from = client.session(ReceiverStream::new(messages)).await.unwrap().into_inner();
        Self { to, from }
    }

    /// A session whose hello was said.
    pub(super) async fn open(router_port: SocketAddr, hello: Hello) -> Self {
        let session = Self::silent(router_port).await;
        session.say(Says::Hello(hello)).await;
        session
    }

    /// A session that was welcomed.
    pub(super) async fn welcomed(router_port: SocketAddr, hello: Hello) -> (Self, Welcome) {
        let mut session = Self::open(router_port, hello).await;
        match session.next().await {
            Some(Ok(Kind::Welcome(welcome))) => (session, welcome),
            other => panic!("no welcome: {other:?}"),
        }
    }

    pub(super) async fn say(&self, says: Says) {
        // A test that goes on talking after the end of a session is told by what it reads.
        let _ = self.to.send(RouterMessage { kind: Some(says) }).await;
    }

    /// The next message, the status that ended the stream, or its plain end.
    pub(super) async fn next(&mut self) -> Option<Result<Kind, Status>> {
        let next = tokio::time::timeout(PATIENCE, self.from.message()).await.expect("the controller says something");
        next.transpose().map(|message| message.map(|message| message.kind.expect("a message of this version")))
    }

    /// The next message that is not a heartbeat.
    async fn matter(&mut self) -> Option<Result<Kind, Status>> {
        loop {
            match self.next().await {
                Some(Ok(Kind::Heartbeat(_))) => {}
                other => return other,
            }
        }
    }

    pub(super) async fn update(&mut self) -> ListUpdate {
        match self.matter().await {
            Some(Ok(Kind::Update(update))) => update,
            other => panic!("no update: {other:?}"),
        }
    }

    /// The answer to a report, whatever came before it.
    pub(super) async fn taken(&mut self) -> EventsTaken {
        loop {
            match self.next().await {
                Some(Ok(Kind::EventsTaken(taken))) => return taken,
                Some(Ok(_)) => {}
                other => panic!("not taken: {other:?}"),
            }
        }
    }

    pub(super) async fn refused(&mut self) -> Refused {
        match self.matter().await {
            Some(Ok(Kind::Refused(refused))) => refused,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// The goodbye, whatever came before it; nothing comes after it.
    pub(super) async fn goodbye(&mut self) -> Goodbye {
        let goodbye = self.farewell().await;
        assert!(self.next().await.is_none(), "a goodbye is the last word");
        goodbye
    }

    /// The goodbye, whatever came before it; the stream may go on.
    pub(super) async fn farewell(&mut self) -> Goodbye {
        let last = async {
            loop {
                match self.next().await {
                    Some(Ok(Kind::Goodbye(goodbye))) => return goodbye,
                    Some(Ok(_)) => {}
                    other => panic!("no goodbye: {other:?}"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, last).await.expect("the controller says goodbye")
    }

    /// The router ends its side of the stream. What the controller says afterwards can still be read.
    pub(super) fn close(&mut self) {
        self.to = mpsc::channel(1).0;
    }

    /// Takes a list as a router would: acknowledges it. Returns what it names.
    pub(super) async fn adopt(&mut self) -> ControllerList {
        let update = self.update().await;
        let list = structured(&update);
        let ack = Ack { nonce: update.nonce, version: list.version, digest: update.digest };
        self.say(Says::Ack(ack)).await;
        list
    }

    /// Takes lists until one names exactly these controllers.
    pub(super) async fn adopt_until(&mut self, ids: &[u64]) -> ControllerList {
        loop {
            let list = self.adopt().await;
            if named(&list) == ids {
                return list;
            }
        }
    }
}

pub(super) fn structured(update: &ListUpdate) -> ControllerList {
    assert_eq!(update.protocol, 2);
    let list = ControllerList::decode(update.list.clone()).unwrap();
    assert!(!list.controllers.is_empty(), "an empty list left a controller");
    list
}

pub(super) fn named(list: &ControllerList) -> Vec<u64> {
    list.controllers.iter().map(|controller| controller.id).collect()
}
