//! Garbage on every port of real processes: whoever sends it is sent away, and nobody else notices.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::support::fleet::Fleet;
use crate::support::http;
use crate::support::probe::{Probe, client, registration};

/// Longest gap in acknowledgements while garbage arrives, on a loaded machine.
const DISTURBED_MAX: Duration = Duration::from_secs(1);
/// How long is waited for an answer to garbage; none is fine too.
const ANSWER_WAIT: Duration = Duration::from_millis(300);

/// What somebody sends who means something else, or nothing good.
fn garbage() -> Vec<Vec<u8>> {
    let noise = (0..64 * 1024).map(|_| rand::random::<u8>()).collect();
    // A client hello that promises 512 bytes and stops after 5.
    let half_hello = vec![0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03];
    let http1 =
        b"POST /pilothouse.router.v1.RouterControl/Session HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nnonsense!"
            .to_vec();
    let long_header = [b"GET / HTTP/1.1\r\nX: ".to_vec(), vec![b'a'; 1024 * 1024]].concat();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    // A frame that promises 16 MiB, and frames of unknown kinds.
    let large_frame = [preface.clone(), vec![0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1], vec![0; 4096]].concat();
    let odd_frames = [preface.clone(), [0, 0, 1, 0xee, 0xff, 0x7f, 0xff, 0xff, 0xff, 7].repeat(500)].concat();
    vec![noise, half_hello, http1, long_header, preface, large_frame, odd_frames, vec![0; 1024 * 1024], Vec::new()]
}

/// Sends it, waits a moment for whatever comes, and goes away rudely.
async fn throw(port: u16, bytes: &[u8]) {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await.unwrap();
    // A peer that hangs up in the middle is what is wanted.
    let _ = timeout(ANSWER_WAIT, stream.write_all(bytes)).await;
    let _ = timeout(ANSWER_WAIT, stream.read(&mut [0; 4096])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_every_port_disturbs_nobody() {
    let mut fleet = Fleet::found(3).await;
    fleet.router("edge-1");
    fleet.routers_are_current().await;
    let before = fleet.status().await;
    let probe = Probe::start("probe", &fleet.router_ports());
    let mark = probe.mark().await;

    let leader = fleet.leader().await;
    let ports = fleet.controllers[leader].0;
    let router = fleet.routers[0].0;
    let garbage = garbage();
    let throws = [ports.peer, ports.router, ports.admin, ports.http, router].map(|port| {
        let garbage = &garbage;
        async move {
            for bytes in garbage {
                throw(port, bytes).await;
            }
        }
    });
    futures::future::join_all(throws).await;

    // What is well-formed and too much is answered with a reason.
    let wire = client(ports.router);
    let mut large = registration("edge-large");
    large.labels.insert("note".into(), "x".repeat(5 * 1024 * 1024));
    let refused = wire.clone().register(large).await.unwrap_err();
    assert!(!refused.message().is_empty(), "{refused:?}");
    for id in [String::new(), "x".repeat(10 * 1024), "edge 1".into()] {
        let refused = wire.clone().register(registration(&id)).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused:?}");
    }

    let gap = probe.longest_gap(mark);
    println!("the longest gap while garbage arrived was {gap:?}");
    assert!(gap < DISTURBED_MAX, "{gap:?}");
    let after = fleet.settled(3).await;
    for key in ["cluster_id", "term", "leader", "list_version"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    for (_, unit) in fleet.controllers.iter_mut() {
        assert!(unit.process().is_running());
    }
    assert!(fleet.routers[0].1.process().is_running());
    assert_eq!(http::get(router, "/readyz").await.unwrap().0, 200);
    fleet.routers_are_current().await;
}
