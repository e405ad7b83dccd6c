//! The operators' commands against a scripted controller: what they ask, and how each kind of answer ends.

use std::pin::Pin;
use std::process::Output;
use std::sync::{Arc, Mutex};

use futures::Stream;
use pilothouse::proto::admin::admin_server::{Admin, AdminServer};
use pilothouse::proto::admin::change_request::Change;
use pilothouse::proto::admin::{
    AllowRouterRequest, AllowRouterResponse, Blocker, ChangeProgress, ChangeRequest, CreateTokenRequest,
    CreateTokenResponse, Event, EventsRequest, EventsResponse, FinalizeUpgradeRequest, ForgetRouterRequest,
    ForgetRouterResponse, ListRoutersRequest, ListRoutersResponse, MemberStatus, NotAsked, RouterStatus, StatusRequest,
    StatusResponse, TransferRequest, TransferResponse, UpgradeProgress, UpgradeRequest, UpgradeResponse, VoterSet,
};
use pilothouse::proto::router::ReportedEvent;
use pilothouse::rpc::status::refusal;
use serde_json::{Value, json};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Code, Request, Response, Status};

/// Answers from a script, and remembers what it was asked.
#[derive(Clone, Default)]
struct Scripted {
    status: StatusResponse,
    refuse: bool,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    fn note(&self, asked: impl std::fmt::Debug) {
        self.asked.lock().unwrap().push(format!("{asked:?}"));
    }
}

#[tonic::async_trait]
impl Admin for Scripted {
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(self.status.clone()))
    }

    type ChangeStream = Pin<Box<dyn Stream<Item = Result<ChangeProgress, Status>> + Send>>;

    async fn change(&self, request: Request<ChangeRequest>) -> Result<Response<Self::ChangeStream>, Status> {
        let request = request.into_inner();
        self.note((&request.change, request.wait));
        let step = ChangeProgress { message: "learner 4 is 120 entries behind".into(), ..ChangeProgress::default() };
        let last = match (self.refuse, request.change) {
            (true, _) => Err(refusal(
                Code::FailedPrecondition,
                "would_lose_quorum",
                "controller 2 is down, so a majority would be lost",
                "start controller 2 first",
            )),
            (false, Some(Change::Add(_))) => {
                Ok(ChangeProgress { done: true, member: 4, failure_tolerance: 1, ..ChangeProgress::default() })
            }
            (false, _) => {
                Ok(ChangeProgress { done: true, member: 2, failure_tolerance: 0, ..ChangeProgress::default() })
            }
        };
        Ok(Response::new(Box::pin(futures::stream::iter([Ok(step), last]))))
    }

    type EventsStream = Pin<Box<dyn Stream<Item = Result<EventsResponse, Status>> + Send>>;

    async fn events(&self, request: Request<EventsRequest>) -> Result<Response<Self::EventsStream>, Status> {
        self.note(request.get_ref());
        let asked = self.asked.lock().unwrap().iter().filter(|asked| asked.contains("follow: true")).count();
        if asked > 2 {
            return Err(refusal(Code::PermissionDenied, "wrong_role", "this RPC is for admin certificates", "use one"));
        }
        let event = |source: &str, severity: &str, number| Event {
            source: source.into(),
            reported_by: 1,
            told: Some(ReportedEvent {
                number,
                at_ms: number,
                severity: severity.into(),
                code: "not_saved".into(),
                message: "the disk is full".into(),
                ..ReportedEvent::default()
            }),
            ..Event::default()
        };
        let events = vec![event("router edge-1", "error", 2), event("controller 1", "info", 1)];
        let not_asked = vec![NotAsked { controller: 2, why: "it does not answer".into() }];
        let told = EventsResponse { events, not_asked, dropped: 0 };
        Ok(Response::new(Box::pin(futures::stream::iter([Ok(told)]))))
    }

    async fn transfer(&self, request: Request<TransferRequest>) -> Result<Response<TransferResponse>, Status> {
        let to = request.into_inner().to;
        Ok(Response::new(TransferResponse { leader: if to == 0 { 3 } else { to } }))
    }

    async fn list_routers(
        &self,
        request: Request<ListRoutersRequest>,
    ) -> Result<Response<ListRoutersResponse>, Status> {
        let ListRoutersRequest { after, only, .. } = request.into_inner();
        let router = |id: &str| RouterStatus { id: id.into(), registered: true, ..RouterStatus::default() };
        let (ids, more): (&[&str], bool) = match (only.as_str(), after.as_str()) {
            ("", "") => (&["edge-1", "edge-2"], true),
            ("", "edge-2") => (&["edge-3"], false),
            ("edge-3", "") => (&["edge-3"], false),
            _ => (&[], false),
        };
        let routers = ids.iter().map(|id| router(id)).collect();
        Ok(Response::new(ListRoutersResponse { routers, more, unreachable: vec![2] }))
    }

    async fn upgrade(&self, request: Request<UpgradeRequest>) -> Result<Response<UpgradeResponse>, Status> {
        self.note(request.into_inner());
        let blocker = Blocker {
            reason: "down".into(),
            controller: 3,
            message: "controller 3 does not answer".into(),
            hint: "start it".into(),
        };
        let blockers = if self.refuse { vec![blocker] } else { Vec::new() };
        let report =
            UpgradeResponse { feature_level: 2, target: 3, leader: 1, answered_by: 1, blockers, ..Default::default() };
        Ok(Response::new(report))
    }

    type FinalizeUpgradeStream = Pin<Box<dyn Stream<Item = Result<UpgradeProgress, Status>> + Send>>;

    async fn finalize_upgrade(
        &self,
        request: Request<FinalizeUpgradeRequest>,
    ) -> Result<Response<Self::FinalizeUpgradeStream>, Status> {
        self.note(request.into_inner());
        let step = UpgradeProgress { message: "waiting: controller 3 does not answer".into(), ..Default::default() };
        let last = match self.refuse {
            true => {
                Err(refusal(Code::FailedPrecondition, "upgrade_blocked", "controller 3 does not answer", "start it"))
            }
            false => Ok(UpgradeProgress { done: true, feature_level: 3, ..Default::default() }),
        };
        Ok(Response::new(Box::pin(futures::stream::iter([Ok(step), last]))))
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        self.note(request.into_inner());
        Ok(Response::new(CreateTokenResponse { token: "pht1_secret".into(), expires_ms: 7 }))
    }

    async fn allow_router(
        &self,
        request: Request<AllowRouterRequest>,
    ) -> Result<Response<AllowRouterResponse>, Status> {
        Ok(Response::new(AllowRouterResponse { existed: request.into_inner().id == "edge-4" }))
    }

    async fn forget_router(
        &self,
        request: Request<ForgetRouterRequest>,
    ) -> Result<Response<ForgetRouterResponse>, Status> {
        Ok(Response::new(ForgetRouterResponse { existed: request.into_inner().id == "edge-3" }))
    }
}

/// A scripted controller that serves until it is dropped.
struct Controller {
    endpoint: String,
    asked: Arc<Mutex<Vec<String>>>,
}

async fn controller(script: Scripted) -> Controller {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::clone(&script.asked);
    let server = tonic::transport::Server::builder().add_service(AdminServer::new(script));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    Controller { endpoint, asked }
}

struct Answer {
    code: i32,
    out: String,
    err: String,
}

impl Controller {
    async fn run(&self, arguments: &[&str]) -> Answer {
        let mut command = tokio::process::Command::new(env!("CARGO_BIN_EXE_pilothouse"));
        command.args(arguments).env("PILOTHOUSE_ENDPOINT", &self.endpoint).env("PILOTHOUSE_INSECURE", "yes");
        let Output { status, stdout, stderr } = command.output().await.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Answer { code: status.code().unwrap(), out: text(stdout), err: text(stderr) }
    }
}

fn with_leader(leader: u64) -> Scripted {
    let member = |id: u64| MemberStatus {
        id,
        name: format!("controller-{id}"),
        role: "voter".into(),
        state: "up".into(),
        ..MemberStatus::default()
    };
    let status = StatusResponse {
        cluster_id: vec![7; 16],
        epoch: 1,
        list_index: 5,
        leader,
        answered_by: 2,
        failure_tolerance: 1,
        members: vec![member(1), member(2), member(3)],
        voter_sets: vec![VoterSet { ids: vec![1, 2, 3] }],
        ..StatusResponse::default()
    };
    Scripted { status, ..Scripted::default() }
}

fn parsed(answer: &Answer) -> Value {
    serde_json::from_str(&answer.out).unwrap_or_else(|error| panic!("{error}: {}", answer.out))
}

#[tokio::test]
async fn status_gives_programs_the_leader_as_a_number_at_the_top() {
    let controller = controller(with_leader(3)).await;
    let answer = controller.run(&["cluster", "status", "-o", "json"]).await;
    assert_eq!((answer.code, answer.err.as_str()), (0, ""));
    let status = parsed(&answer);
    assert_eq!(status["leader"], json!(3));
    assert_eq!(status["voters"], json!([1, 2, 3]));
    assert_eq!(status["failure_tolerance"], json!(1));
    assert_eq!(status["members"][2]["leader"], json!(true));
}

#[tokio::test]
async fn without_a_leader_status_still_shows_the_cluster_and_ends_with_1() {
    let controller = controller(with_leader(0)).await;
    let answer = controller.run(&["cluster", "status", "-o", "json"]).await;
    assert_eq!(answer.code, 1);
    assert_eq!(parsed(&answer)["leader"], Value::Null);
    assert!(answer.err.contains("no leader") && answer.err.contains("\nhint: "), "{}", answer.err);
    let table = controller.run(&["cluster", "status"]).await;
    assert!(table.code == 1 && table.out.contains("controller-3"), "{}", table.out);
}

#[tokio::test]
async fn a_change_shows_its_progress_on_stderr_and_its_outcome_on_stdout() {
    let controller = controller(with_leader(1)).await;
    let answer = controller.run(&["cluster", "add", "--peer", "http://127.0.0.1:9", "--wait", "-o", "json"]).await;
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert_eq!(parsed(&answer), json!({ "change": "add", "member": 4, "failure_tolerance": 1 }));
    assert!(answer.err.contains("learner 4 is 120 entries behind"), "{}", answer.err);

    let answer = controller.run(&["cluster", "remove", "2"]).await;
    assert!(answer.out.starts_with("controller 2 was removed"), "{}", answer.out);
    assert!(answer.err.contains("stops when one more voter fails"), "{}", answer.err);
    let changes = [&["promote", "2"][..], &["demote", "2"], &["readdress", "2", "--admin", "http://127.0.0.1:9"]];
    for change in changes {
        let answer = controller.run(&[&["cluster"], change].concat()).await;
        assert_eq!(answer.code, 0, "{change:?}: {}", answer.err);
    }
    let asked = controller.asked.lock().unwrap().join("\n");
    for expected in [
        "(Some(Add(AddMember { peer: \"http://127.0.0.1:9\" })), true)",
        "(Some(Remove(2)), false)",
        "(Some(Promote(2)), false)",
        "(Some(Demote(2)), false)",
        "(Some(Readdress(Readdress { id: 2, peer: [], router: [], admin: [\"http://127.0.0.1:9\"] })), false)",
    ] {
        assert!(asked.contains(expected), "{expected} is not in\n{asked}");
    }
}

#[tokio::test]
async fn a_refusal_says_why_and_what_to_do_and_ends_with_1() {
    let controller = controller(Scripted { refuse: true, ..with_leader(1) }).await;
    let answer = controller.run(&["cluster", "demote", "2"]).await;
    assert_eq!((answer.code, answer.out.as_str()), (1, ""));
    assert!(
        answer
            .err
            .ends_with("error: controller 2 is down, so a majority would be lost\nhint: start controller 2 first\n"),
        "{}",
        answer.err
    );
}

#[tokio::test]
async fn leadership_is_handed_to_whom_was_named_or_to_whoever_fits() {
    let controller = controller(with_leader(1)).await;
    assert_eq!(controller.run(&["cluster", "transfer", "--to", "2"]).await.out, "controller 2 leads now\n");
    let answer = controller.run(&["cluster", "transfer", "-o", "json"]).await;
    assert_eq!(parsed(&answer), json!({ "leader": 3 }));
}

#[tokio::test]
async fn routers_are_gathered_over_all_pages_and_gaps_are_named() {
    let controller = controller(with_leader(1)).await;
    let answer = controller.run(&["routers", "list", "-o", "json"]).await;
    let list = parsed(&answer);
    let ids: Vec<_> = list["routers"].as_array().unwrap().iter().map(|router| router["id"].clone()).collect();
    assert_eq!(ids, ["edge-1", "edge-2", "edge-3"]);
    assert_eq!(list["unreachable"], json!([2]));
    assert!(answer.err.contains("controllers 2 are not known"), "{}", answer.err);

    assert_eq!(parsed(&controller.run(&["routers", "show", "edge-3", "-o", "json"]).await)["id"], "edge-3");
    assert_eq!(controller.run(&["routers", "forget", "edge-3"]).await.code, 0);
    let banned = controller.run(&["routers", "forget", "edge-9", "--ban"]).await;
    assert_eq!(banned.code, 0, "a router that is not known can be banned");
    assert!(banned.out.contains("pilothouse routers allow edge-9"), "{}", banned.out);
    assert_eq!(controller.run(&["routers", "allow", "edge-4"]).await.code, 0);
    assert_eq!(controller.run(&["routers", "allow", "edge-9"]).await.code, 1);
    for command in ["show", "forget"] {
        let answer = controller.run(&["routers", command, "edge-9"]).await;
        assert_eq!((answer.code, answer.out.as_str()), (1, ""));
        assert!(answer.err.contains("no router edge-9 is known"), "{}", answer.err);
    }
}

#[tokio::test]
async fn a_token_stands_alone_on_stdout_and_what_to_do_with_it_on_stderr() {
    let controller = controller(with_leader(1)).await;
    let create = ["token", "create", "--role", "router", "--id", "edge-7"];
    let answer = controller.run(&[&create[..], &["--ttl", "2h"]].concat()).await;
    assert_eq!((answer.code, answer.out.as_str()), (0, "pht1_secret\n"));
    assert!(
        answer.err.contains("not shown again") && answer.err.contains("pilothouse router enroll"),
        "{}",
        answer.err
    );
    assert!(!answer.err.contains("pht1_"), "a secret is printed once: {}", answer.err);
    let asked = controller.asked.lock().unwrap().join("\n");
    assert!(asked.contains("edge-7") && asked.contains("7200000"), "{asked}");

    let answer = controller.run(&[&create[..], &["-o", "json"]].concat()).await;
    let expected = json!({ "token": "pht1_secret", "role": "router", "id": "edge-7", "expires_ms": 7 });
    assert_eq!(parsed(&answer), expected);
    assert_eq!(controller.run(&[&create[..], &["--ttl", "soon"]].concat()).await.code, 2);
    assert_eq!(controller.run(&["token", "create", "--role", "owner", "--id", "edge-7"]).await.code, 2);
}

#[tokio::test]
async fn an_upgrade_is_shown_planned_and_finalized() {
    let controller = controller(with_leader(1)).await;
    let answer = controller.run(&["cluster", "upgrade", "status", "-o", "json"]).await;
    assert_eq!((answer.code, &parsed(&answer)["target"]), (0, &json!(3)), "{}", answer.err);
    assert_eq!(controller.run(&["cluster", "upgrade", "plan", "--to", "3"]).await.code, 0);
    let answer = controller.run(&["cluster", "upgrade", "finalize", "--wait", "-o", "json"]).await;
    assert_eq!((answer.code, parsed(&answer)), (0, json!({ "feature_level": 3 })), "{}", answer.err);
    assert!(answer.err.contains("waiting: controller 3 does not answer"), "{}", answer.err);
    let asked = controller.asked.lock().unwrap().join("\n");
    for expected in [
        "UpgradeRequest { level: 0, plan: false }",
        "UpgradeRequest { level: 3, plan: true }",
        "FinalizeUpgradeRequest { level: 0, wait: true }",
    ] {
        assert!(asked.contains(expected), "{expected} is not in\n{asked}");
    }
    assert_eq!(controller.run(&["cluster", "upgrade", "finalize", "--to", "0"]).await.code, 2);
}

#[tokio::test]
async fn what_is_in_the_way_of_an_upgrade_ends_a_plan_and_a_finalize_with_1() {
    let controller = controller(Scripted { refuse: true, ..with_leader(1) }).await;
    let answer = controller.run(&["cluster", "upgrade", "status"]).await;
    assert!(answer.code == 0 && answer.out.contains("in the way: controller 3 does not answer"), "{}", answer.out);
    assert_eq!(controller.run(&["cluster", "upgrade", "plan"]).await.code, 1);
    let answer = controller.run(&["cluster", "upgrade", "finalize"]).await;
    assert_eq!((answer.code, answer.out.as_str()), (1, ""));
    assert!(answer.err.ends_with("error: controller 3 does not answer\nhint: start it\n"), "{}", answer.err);
}

#[tokio::test]
async fn events_are_shown_to_people_and_programs_and_gaps_are_named() {
    let controller = controller(with_leader(1)).await;
    let table = controller.run(&["events"]).await;
    assert_eq!((table.code, table.err.as_str()), (0, "events of controller 2 are missing: it does not answer\n"));
    let lines: Vec<_> = table.out.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("TIME"), "{}", table.out);
    assert!(lines[2].contains("router edge-1 (told by 1)") && lines[2].contains("the disk is full"), "{}", table.out);

    let matters = controller.run(&["events", "--severity", "warning", "-o", "json"]).await;
    let matters = parsed(&matters);
    assert_eq!(matters["events"].as_array().unwrap().len(), 1, "{matters}");
    assert_eq!(
        (&matters["events"][0]["source"], &matters["not_asked"][0]["controller"]),
        (&json!("router edge-1"), &json!(2))
    );

    let followed = controller.run(&["events", "--follow", "-o", "json"]).await;
    let sources: Vec<Value> =
        followed.out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["source"].clone()).collect();
    assert_eq!(sources, ["controller 1", "router edge-1"], "what is told once more is not shown once more");
    let said = followed.err.matches("tells nothing any more (it ended the stream): asking again").count();
    assert_eq!(said, 2, "{}", followed.err);
    assert!(followed.code == 1 && followed.err.contains("\nhint: use one"), "{}", followed.err);
    let asked = controller.asked.lock().unwrap().clone();
    assert_eq!(asked.iter().filter(|asked| asked.contains("follow: true")).count(), 3, "{asked:?}");
}
