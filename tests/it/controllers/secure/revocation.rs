//! Access that ends: a banned router, a removed controller.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use pilothouse::controller::accept::ANONYMOUS_CONNECTIONS_MAX;
use pilothouse::domain::ids::RouterId;
use pilothouse::proto::admin::ChangeRequest;
use pilothouse::proto::admin::change_request::Change;
use pilothouse::proto::peer::IdentifyRequest;
use pilothouse::proto::peer::raft_peer_client::RaftPeerClient;
use pilothouse::proto::router::controller_message::Kind;
use pilothouse::proto::router::router_control_client::RouterControlClient;
use pilothouse::proto::router::router_message::Kind as Says;
use pilothouse::rpc::client::AdminClient;
use pilothouse::rpc::status::reason_of;
use pilothouse::tls::{Security, Stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::transport::Channel;

use super::super::cluster::{Cluster, eventually};
use super::super::router::{Session, hello, registration};
use super::{channel, newcomer};

/// Access ends within this time on every controller that hears a leader.
const ENDS_WITHIN: Duration = Duration::from_secs(1);

async fn session(channel: Channel, router: &str) -> Session {
    let mut session = Session::over(channel).await;
    session.say(Says::Hello(hello(router, 1))).await;
    assert!(matches!(session.next().await, Some(Ok(Kind::Welcome(_)))));
    session.adopt().await;
    session
}

/// Until nothing more comes: why it ended.
async fn over(session: &mut Session) -> Option<String> {
    let mut reason = None;
    while let Some(Ok(message)) = session.next().await {
        if let Kind::Goodbye(goodbye) = message {
            reason = Some(goodbye.reason);
        }
    }
    reason
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ban_ends_the_access_of_a_certificate_on_every_controller_within_a_second() {
    let cluster = Cluster::secure(3).await;
    let pki = cluster.pki.as_ref().unwrap();
    let (mut banned, mut others) = (Vec::new(), Vec::new());
    for seat in &cluster.seats {
        let open = async |role| channel(&cluster, pki.security(role), seat.router).await.unwrap();
        let stolen = open("router/edge-1").await;
        banned.push((session(stolen.clone(), "edge-1").await, stolen));
        others.push(session(open("router/edge-2").await, "edge-2").await);
    }
    let mut operator = cluster.admin_of(cluster.follower().await).await;
    operator.ban(&RouterId::new("edge-1").unwrap()).await.unwrap();
    let began = Instant::now();
    for (session, _) in &mut banned {
        assert_eq!(over(session).await.as_deref(), Some("banned"), "it is told why");
    }
    assert!(began.elapsed() < ENDS_WITHIN, "{:?}", began.elapsed());
    for (_, stolen) in banned {
        // The same channel, which connects again, and everything that it may be asked for.
        let refused = eventually("the stolen certificate is refused by name", async || {
            let refused = RouterControlClient::new(stolen.clone()).register(registration("edge-1", 2, 1)).await;
            reason_of(&refused.unwrap_err()).map(str::to_owned)
        })
        .await;
        assert_eq!(refused, "banned");
    }
    for session in &mut others {
        assert!(session.next().await.is_some_and(|message| message.is_ok()), "nobody else is touched");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_controllers_certificate_opens_nothing_within_a_second() {
    let cluster = Cluster::secure(3).await;
    let pki = cluster.pki.as_ref().unwrap();
    let leader = cluster.leader().await;
    let victim = (0..3).find(|seat| *seat != leader).unwrap();
    let id = cluster.seats[victim].id().unwrap();
    let mut open = Vec::new();
    for seat in (0..3).filter(|seat| *seat != victim).map(|seat| &cluster.seats[seat]) {
        let stolen = channel(&cluster, pki.security(&format!("controller/{id}")), seat.peer).await.unwrap();
        RaftPeerClient::new(stolen.clone()).identify(IdentifyRequest {}).await.unwrap();
        open.push(stolen);
    }
    let mut operator = cluster.admin_of(leader).await;
    let change = ChangeRequest { change: Some(Change::Remove(id.get())), wait: true };
    let mut progress = operator.change(change).await.unwrap();
    while progress.next().await.unwrap().is_some() {}
    let began = Instant::now();
    for stolen in open {
        let reason = eventually("the removed controller is refused by name", async || {
            let refused = RaftPeerClient::new(stolen.clone()).identify(IdentifyRequest {}).await.err()?;
            reason_of(&refused).map(str::to_owned)
        })
        .await;
        assert_eq!(reason, "retired");
    }
    assert!(began.elapsed() < ENDS_WITHIN, "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_removes_a_controller_through_itself_hears_the_end_of_it_and_is_served_by_the_others() {
    let cluster = Cluster::secure(3).await;
    let pki = cluster.pki.as_ref().unwrap();
    let leader = cluster.leader().await;
    let (id, other) = (cluster.seats[leader].id().unwrap(), (leader + 1) % 3);
    // The leader hands over first, so that another one removes it, and tells it over a connection that ends with it.
    let endpoints = [leader, other].map(|seat| cluster.at(cluster.seats[seat].admin));
    let mut operator = AdminClient::connect(&endpoints, None, pki.security("admin/alice")).await.unwrap();
    let change = ChangeRequest { change: Some(Change::Remove(id.get())), wait: true };
    let mut progress = operator.change(change).await.unwrap();
    let mut done = false;
    while let Some(next) = progress.next().await.unwrap() {
        done = next.done;
    }
    assert!(done);
    let next = operator.transfer(None).await.unwrap();
    assert_ne!(next, Some(id), "the removed one is asked no more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_joins_under_the_id_of_its_certificate_and_no_other() {
    let mut cluster = Cluster::secure(1).await;
    let second = cluster.newcomer("controller-2").await;
    let mut operator = cluster.admin_of(0).await;
    let add = |cluster: &Cluster, seat: usize| {
        let peer = cluster.at(cluster.seats[seat].peer).to_string();
        ChangeRequest { change: Some(Change::Add(pilothouse::proto::admin::AddMember { peer })), wait: true }
    };
    let mut progress = operator.change(add(&cluster, second)).await.unwrap();
    let mut last = None;
    while let Some(next) = progress.next().await.unwrap() {
        last = Some(next);
    }
    assert_eq!(last.unwrap().member, 2);
    cluster.serves(second).await;
    // An id that was ever used is none, whoever has a certificate for it.
    let impostor = cluster.impostor("controller-3", 1).await;
    let refused = match operator.change(add(&cluster, impostor)).await {
        Err(refused) => refused,
        Ok(mut progress) => loop {
            match progress.next().await {
                Err(refused) => break refused,
                Ok(next) => assert!(next.is_some(), "it was added"),
            }
        },
    };
    assert!(refused.to_string().contains("id 1") || refused.to_string().contains("controller 1"), "{refused}");
}

/// A connection that has begun to speak HTTP/2 and says no more.
async fn begun(cluster: &Cluster, security: &Security, to: SocketAddr) -> Stream {
    let mut stream = security.dial(&cluster.at(to)).await.unwrap().stream;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    stream.read_u8().await.unwrap();
    stream
}

/// Whether the other side ends it long before it would for its silence.
async fn ended(stream: &mut Stream) -> bool {
    ended_within(stream, Duration::from_secs(3)).await
}

async fn ended_within(stream: &mut Stream, time: Duration) -> bool {
    let mut rest = Vec::new();
    tokio::time::timeout(time, stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_of_whoever_was_banned_or_removed_are_closed_also_idle_ones() {
    let cluster = Cluster::secure(3).await;
    let pki = cluster.pki.as_ref().unwrap();
    let leader = cluster.leader().await;
    let victim = cluster.seats[(0..3).find(|seat| *seat != leader).unwrap()].id().unwrap();
    let seat = &cluster.seats[leader];
    let mut banned = begun(&cluster, &pki.security("router/edge-1"), seat.router).await;
    let mut removed = begun(&cluster, &pki.security(&format!("controller/{victim}")), seat.admin).await;
    let mut operator = cluster.admin_of(leader).await;
    operator.ban(&RouterId::new("edge-1").unwrap()).await.unwrap();
    assert!(ended(&mut banned).await, "the banned router's");
    let change = ChangeRequest { change: Some(Change::Remove(victim.get())), wait: true };
    let mut progress = operator.change(change).await.unwrap();
    while progress.next().await.unwrap().is_some() {}
    assert!(ended(&mut removed).await, "the removed controller's");
    // One that comes back is not kept either, though it says nothing that could be refused; nor the second time, when
    // nothing has changed for a while.
    for _ in 0..2 {
        let mut banned = begun(&cluster, &pki.security("router/edge-1"), seat.router).await;
        let mut removed = begun(&cluster, &pki.security(&format!("controller/{victim}")), seat.peer).await;
        let kept_at_most = Duration::from_secs(8);
        assert!(ended_within(&mut banned, kept_at_most).await && ended_within(&mut removed, kept_at_most).await);
    }
}

/// Also somebody who was never a member may knock at this port.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_controller_takes_the_peer_port_from_the_others() {
    const PER_IDENTITY_MAX: usize = 64;
    let cluster = Cluster::secure(1).await;
    let stranger = cluster.pki.as_ref().unwrap().security("controller/9");
    let mut open = Vec::new();
    for _ in 0..=PER_IDENTITY_MAX {
        open.push(begun(&cluster, &stranger, cluster.seats[0].peer).await);
    }
    assert!(ended(&mut open[0]).await, "the oldest makes room for its own");
    assert!(!ended(&mut open[1]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_connection_without_a_certificate_makes_room_on_the_routers_port() {
    let cluster = Cluster::secure(1).await;
    let nobody = newcomer(cluster.pki.as_ref().unwrap());
    let mut open = Vec::new();
    for _ in 0..=ANONYMOUS_CONNECTIONS_MAX {
        open.push(begun(&cluster, &nobody, cluster.seats[0].router).await);
    }
    assert!(ended(&mut open[0]).await);
}
