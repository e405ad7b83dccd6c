//! `router enroll`, the built binary, against clusters that speak TLS: what is on disk afterwards, and who hears a secret.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use pilothouse::domain::endpoint::Endpoint;
use pilothouse::domain::principal::RoleKind;
use pilothouse::proto::admin::{CreateTokenRequest, ListRoutersRequest};
use pilothouse::proto::enrolment::enrolment_server::{Enrolment, EnrolmentServer};
use pilothouse::proto::enrolment::{
    EnrollRequest, EnrollResponse, RenewRequest, RenewResponse, TrustRequest, TrustResponse,
};
use pilothouse::router::generations::{Generations, HostDisk, inspect};
use pilothouse::rpc::join_token::JoinToken;
use pilothouse::tls::Door;
use pilothouse::tls::authority::describe;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::{Request, Response, Status};

use super::super::cluster::{Cluster, eventually};
use super::fingerprint;
use crate::cli::{Answer, pilothouse};
use crate::support::pki::Pki;
use crate::support::process::Process;

/// A host that is to become a router.
struct Host(TempDir);

impl Host {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn data_dir(&self) -> PathBuf {
        self.at("data")
    }

    fn config(&self) -> PathBuf {
        self.at("router.toml")
    }

    /// `router enroll` with a token in a file; whatever it answers, no secret is in it.
    async fn enroll(&self, token: &JoinToken, more: &[&str]) -> Answer {
        let text = token.to_string();
        let file = self.at("token");
        fs::write(&file, format!("{text}\n")).unwrap();
        let (data, file) = (self.data_dir().display().to_string(), file.display().to_string());
        let fixed = ["router", "enroll", "--data-dir", &data, "--token-file", &file];
        let arguments: Vec<String> = fixed.iter().chain(more).map(|&argument| argument.to_owned()).collect();
        let answer = run(arguments).await;
        for output in [&answer.out, &answer.err] {
            assert!(!output.contains(&text[5..40]) && !output.contains("PRIVATE KEY"), "{output}");
        }
        answer
    }

    fn names(&self, directory: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.at(directory)) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.at(name)).unwrap().permissions().mode() & 0o777
    }

    /// How many controllers the list names that a start would use.
    fn listed(&self) -> Option<usize> {
        let inspection = inspect(&self.data_dir()).ok()?;
        inspection.in_use().map(|held| held.list.controllers().len())
    }
}

async fn run(arguments: Vec<String>) -> Answer {
    let run = move || pilothouse(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    tokio::task::spawn_blocking(run).await.unwrap()
}

async fn token(cluster: &Cluster, seat: usize, router: &str) -> JoinToken {
    let request = CreateTokenRequest { role: "router".into(), id: router.into(), ttl_ms: 3_600_000 };
    let made = cluster.admin_of(seat).await.create_token(request).await.unwrap();
    made.token.parse().unwrap()
}

/// Nobody listens on a port that was bound and given back.
fn dead() -> Endpoint {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    format!("https://127.0.0.1:{port}").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_token_to_a_session_and_to_a_start_without_any_controller() {
    let mut cluster = Cluster::secure(3).await;
    let follower = cluster.follower().await;
    let mut token = token(&cluster, follower, "edge-7").await;
    assert_eq!(token.controllers.len(), 3);
    // Whom it asks first is drawn: some of those are dead, and one says nothing.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = cluster.at(mute.local_addr().unwrap());
    let living = cluster.at(cluster.seats[follower].router);
    token.controllers = vec![dead(), silent, living, dead()];

    let host = Host::new();
    let answer = host.enroll(&token, &["-o", "json"]).await;
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert!(answer.err.contains("next: pilothouse router run --config"), "{}", answer.err);
    let told: serde_json::Value = serde_json::from_str(&answer.out).unwrap();
    assert_eq!((&told["router"], &told["identity"]), (&"edge-7".into(), &"spiffe://test.example/router/edge-7".into()));
    assert_eq!(told["controllers"], serde_json::json!([1, 2, 3]));
    assert_eq!(host.names("tls"), ["ca-controllers.pem", "certificate.pem", "key.pem"]);
    assert_eq!((host.mode("tls"), host.mode("tls/key.pem"), host.mode("tls/certificate.pem")), (0o700, 0o600, 0o644));
    assert_eq!(host.listed(), Some(3));
    let written = fs::read_to_string(host.config()).unwrap();
    for seat in &cluster.seats {
        assert!(written.contains(&cluster.at(seat.router).to_string()), "{written}");
    }
    // Again: it has its certificate, and the configuration stays as it is.
    let again = host.enroll(&token, &[]).await;
    assert_eq!(again.code, 0, "{}", again.err);
    assert!(again.err.contains("only the list is asked for") && again.err.contains("stays as it is"), "{}", again.err);
    assert_eq!(fs::read_to_string(host.config()).unwrap(), written);

    let mut router = Process::run("router", &host.config(), &host.at("log"));
    eventually("the router has sessions", async || {
        let page = ListRoutersRequest { only: "edge-7".into(), ..Default::default() };
        let routers = cluster.admin_of(follower).await.list_routers(page).await.ok()?.routers;
        routers.first().filter(|router| router.controllers.len() == 2).map(|_| ())
    })
    .await;
    router.kill().await;
    for seat in 0..3 {
        cluster.stop(seat).await;
    }
    let mut router = Process::run("router", &host.config(), &host.at("log-2"));
    eventually("the router starts from its list", async || {
        fs::read_to_string(host.at("log-2")).ok()?.contains("starting from the newest saved list").then_some(())
    })
    .await;
    assert!(router.is_running());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_used_token_leaves_nothing_behind_and_a_lost_answer_does_not_use_it_up() {
    let cluster = Cluster::secure(1).await;
    let token = token(&cluster, 0, "edge-7").await;
    let first = Host::new();
    assert_eq!(first.enroll(&token, &[]).await.code, 0);
    let key = fs::read_to_string(first.at("tls/key.pem")).unwrap();

    let second = Host::new();
    let answer = second.enroll(&token, &[]).await;
    assert_eq!((answer.code, answer.out.as_str()), (1, ""));
    assert!(answer.err.contains("(token_used)") && answer.err.contains("\nhint: ask an operator"), "{}", answer.err);
    assert_eq!(second.names("tls"), ["key.pem"], "its key is good for the next token");
    assert!(!second.config().exists() && second.listed().is_none());

    // As if the answer had never come.
    for lost in ["tls/certificate.pem", "tls/ca-controllers.pem", "router.toml"] {
        fs::remove_file(first.at(lost)).unwrap();
    }
    let answer = first.enroll(&token, &[]).await;
    assert_eq!(answer.code, 0, "{}", answer.err);
    assert_eq!(fs::read_to_string(first.at("tls/key.pem")).unwrap(), key);

    // Somebody else's certificate is not written over, and the token is not used.
    let other = self::token(&cluster, 0, "edge-8").await;
    let answer = first.enroll(&other, &[]).await;
    assert_eq!(answer.code, 1);
    assert!(answer.err.contains("certificate.pem is there already, and is spiffe://"), "{}", answer.err);
    // Nor is a configuration.
    let third = Host::new();
    fs::write(third.config(), "# mine").unwrap();
    let answer = third.enroll(&other, &[]).await;
    assert_eq!(answer.code, 1);
    assert!(answer.err.contains("router.toml is there already"), "{}", answer.err);
    let moved = third.at("other.toml").display().to_string();
    assert_eq!(third.enroll(&other, &["--config-out", &moved]).await.code, 0, "the token was not used");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_list_the_certificate_stays_and_the_command_can_be_repeated() {
    let cluster = Cluster::secure(1).await;
    let token = token(&cluster, 0, "edge-7").await;
    let host = Host::new();
    let locked = Generations::open(&host.data_dir(), Arc::new(HostDisk)).unwrap();
    let answer = host.enroll(&token, &[]).await;
    assert_eq!(answer.code, 1);
    let said = ["has its certificate, and no list yet", "in use by another process", "\nhint: repeat this command"];
    assert!(said.iter().all(|words| answer.err.contains(words)), "{}", answer.err);
    assert!(host.at("tls/certificate.pem").exists() && host.config().exists());
    drop(locked);
    let answer = host.enroll(&token, &[]).await;
    assert_eq!((answer.code, host.listed()), (0, Some(1)), "{}", answer.err);
}

/// What an init container runs at every start: the first time it enrols, and afterwards it needs neither token nor controller.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn if_needed_a_router_is_enrolled_once_and_later_starts_ask_nobody() {
    let mut cluster = Cluster::secure(1).await;
    let host = Host::new();
    let given = token(&cluster, 0, "edge-7").await;
    let answer = host.enroll(&given, &["--if-needed"]).await;
    assert_eq!((answer.code, host.listed()), (0, Some(1)), "{}", answer.err);
    let key = fs::read_to_string(host.at("tls/key.pem")).unwrap();

    cluster.stop(0).await;
    fs::remove_file(host.at("token")).unwrap();
    let again = |tls_dir: PathBuf| {
        let [data, token, tls] = [host.data_dir(), host.at("token"), tls_dir].map(|path| path.display().to_string());
        let fixed = ["router", "enroll", "--if-needed", "--data-dir", &data, "--token-file", &token, "--tls-dir", &tls];
        run(fixed.map(str::to_owned).into())
    };
    let answer = again(host.at("tls")).await;
    assert_eq!((answer.code, answer.out.as_str()), (0, ""), "{}", answer.err);
    let said = ["spiffe://test.example/router/edge-7", "good until", "nothing is asked"];
    assert!(said.iter().all(|words| answer.err.contains(words)), "{}", answer.err);
    assert_eq!(fs::read_to_string(host.at("tls/key.pem")).unwrap(), key);

    // Where there is none, the token is needed; and nobody else's certificate counts.
    let answer = again(host.at("tls-2")).await;
    assert_eq!(answer.code, 1);
    assert!(answer.err.contains("cannot read the token in"), "{}", answer.err);
    fs::create_dir(host.at("tls-3")).unwrap();
    fs::copy(host.at("tls/ca-controllers.pem"), host.at("tls-3/certificate.pem")).unwrap();
    let answer = again(host.at("tls-3")).await;
    assert_eq!(answer.code, 1);
    assert!(answer.err.contains("is no router's"), "{}", answer.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_list_of_another_cluster_is_no_first_list() {
    let (one, other) = (Cluster::secure(1).await, Cluster::secure(1).await);
    let host = Host::new();
    assert_eq!(host.enroll(&token(&one, 0, "edge-7").await, &[]).await.code, 0);
    let [tls, config] = [host.at("tls-2"), host.at("router-2.toml")].map(|path| path.display().to_string());
    let more = ["--tls-dir", &tls, "--config-out", &config, "--timeout", "2"];
    let answer = host.enroll(&token(&other, 0, "edge-7").await, &more).await;
    assert_eq!((answer.code, answer.out.as_str()), (1, ""));
    let said = ["no list yet", "within 2 s that this router takes", "pilothouse router trust"];
    assert!(said.iter().all(|words| answer.err.contains(words)), "{}", answer.err);
}

/// Says that these are the issuers to trust, and counts who tells it a secret.
struct Impostor {
    issuers: String,
    asked: Arc<AtomicU32>,
    told: Arc<AtomicU32>,
    /// The certificate that everybody gets.
    grants: Option<String>,
}

#[tonic::async_trait]
impl Enrolment for Impostor {
    async fn trust(&self, _: Request<TrustRequest>) -> Result<Response<TrustResponse>, Status> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(Response::new(TrustResponse { ca_controllers: self.issuers.clone(), trust_domain: "test.example".into() }))
    }

    async fn enroll(&self, _: Request<EnrollRequest>) -> Result<Response<EnrollResponse>, Status> {
        self.told.fetch_add(1, Ordering::SeqCst);
        let certificate = self.grants.clone().ok_or_else(|| Status::internal("thank you"))?;
        let ca_controllers = self.issuers.clone();
        Ok(Response::new(EnrollResponse { certificate, ca_controllers, controllers: Vec::new() }))
    }

    async fn renew(&self, _: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        Err(Status::internal("it renews nothing"))
    }
}

/// An impostor with a certificate of its own authority. Where it listens, how often it was asked, how often told.
async fn impostor(pki: &Pki, issuers: String) -> (Endpoint, Arc<AtomicU32>, Arc<AtomicU32>) {
    let (asked, told) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let at = serve(pki, Impostor { issuers, asked: asked.clone(), told: told.clone(), grants: None }).await;
    (at, asked, told)
}

async fn serve(pki: &Pki, impostor: Impostor) -> Endpoint {
    let service = EnrolmentServer::new(impostor);
    let security = pki.security("controller/1");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
    let incoming = futures::stream::unfold((listener, security), async |(listener, security)| {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok((stream, _)) = security.accept(Door::Router, stream).await {
                return Some((Ok::<_, std::io::Error>(stream), (listener, security)));
            }
        }
    });
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(Box::pin(incoming)));
    endpoint
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_router_or_another_key_is_not_taken() {
    let cluster = Cluster::secure(1).await;
    let pki = cluster.pki.as_ref().unwrap();
    let mut token = token(&cluster, 0, "edge-7").await;
    // The first is another router's, the second has this one's name, and neither is for the key that asked.
    for granted in ["router/edge-8", "router/edge-7"] {
        let grants = Some(fs::read_to_string(pki.directory(granted).join("certificate.pem")).unwrap());
        let issuers = pki.controllers();
        let at = serve(pki, Impostor { issuers, asked: Arc::default(), told: Arc::default(), grants }).await;
        token.controllers = vec![at];
        let host = Host::new();
        let answer = host.enroll(&token, &[]).await;
        assert_eq!((answer.code, answer.out.as_str()), (1, ""));
        assert!(answer.err.contains("no controller gave a certificate"), "{}", answer.err);
        assert_eq!(host.names("tls"), ["key.pem"]);
        assert!(!host.config().exists());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_impostor_hears_no_secret_whatever_it_says_of_itself() {
    let cluster = Cluster::secure(1).await;
    let pki = cluster.pki.as_ref().unwrap();
    let (mut token, stranger) = (token(&cluster, 0, "edge-7").await, Pki::new());
    let living = token.controllers.clone();
    let both = stranger.controllers() + &pki.controllers();
    for (issuers, why) in [
        (stranger.controllers(), "not the cluster that made the token"),
        (pki.controllers(), "invalid peer certificate"),
        (both, "invalid peer certificate"),
        ("nothing".to_owned(), "not the cluster that made the token"),
    ] {
        let (at, asked, told) = impostor(&stranger, issuers).await;
        token.controllers = vec![at.clone()];
        let host = Host::new();
        let answer = host.enroll(&token, &[]).await;
        assert_eq!((answer.code, answer.out.as_str()), (1, ""));
        assert!(answer.err.contains(&at.to_string()), "{}", answer.err);
        assert!(answer.err.contains(why), "{why}: {}", answer.err);
        assert_eq!((asked.load(Ordering::SeqCst), told.load(Ordering::SeqCst)), (1, 0));
        assert_eq!(host.names("tls"), ["key.pem"]);
        assert!(!host.config().exists());
    }
    // Only a token of its own would be told to it: the count counts.
    let (at, _, told) = impostor(&stranger, stranger.controllers()).await;
    let its = describe(&stranger.controllers()).unwrap();
    let its = its.iter().map(|issuer| fingerprint(&issuer.sha256)).collect();
    let fooled = JoinToken { ca_sha256: its, controllers: vec![at], ..token.clone() };
    assert_eq!(Host::new().enroll(&fooled, &[]).await.code, 1);
    assert_eq!(told.load(Ordering::SeqCst), 1);
    // It does not keep anybody from the true ones either.
    let (at, _, told) = impostor(&stranger, stranger.controllers()).await;
    token.controllers = [vec![at], living].concat();
    let host = Host::new();
    let answer = host.enroll(&token, &[]).await;
    assert_eq!((answer.code, told.load(Ordering::SeqCst)), (0, 0), "{}", answer.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_issuer_of_controllers_is_replaced_both_are_trusted_from_the_start() {
    let cluster = Cluster::secure(1).await;
    let pki = cluster.pki.as_ref().unwrap();
    let before = token(&cluster, 0, "edge-7").await;
    pki.replace_issuer(RoleKind::Controller);
    pki.trust(&pki.directory("controller/1"));
    let during = eventually("the controller trusts both", async || {
        Some(token(&cluster, 0, "edge-8").await).filter(|token| token.ca_sha256.len() == 2)
    })
    .await;
    for token in [before, during] {
        let host = Host::new();
        let answer = host.enroll(&token, &[]).await;
        assert_eq!(answer.code, 0, "{}", answer.err);
        let trusted = describe(&fs::read_to_string(host.at("tls/ca-controllers.pem")).unwrap()).unwrap();
        assert_eq!(trusted.len(), 2, "what a verified controller says of issuers counts");
    }
}

#[test]
fn what_is_no_token_is_refused_without_quoting_it() {
    let host = Host::new();
    let data = host.data_dir().display().to_string();
    for text in ["secret-but-no-token", "pht1_secret", "pht1_se cret"] {
        let answer = pilothouse(&["router", "enroll", "--data-dir", &data, "--token", text]);
        assert_eq!((answer.code, answer.out.as_str()), (2, ""));
        assert!(answer.err.contains("the token ") && !answer.err.contains(text), "{}", answer.err);
    }
    // Standard input is empty here.
    let answer = pilothouse(&["router", "enroll", "--data-dir", &data, "--token", "-"]);
    assert!(answer.code == 2 && answer.err.contains("is no join token"), "{}", answer.err);
    assert_eq!(pilothouse(&["router", "enroll", "--data-dir", &data]).code, 2);
    assert!(!Path::new(&data).exists());
}
