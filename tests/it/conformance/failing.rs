//! Every case of `pilothouse conformance router` fails a router that is wrong in what the case is about, and says so.

use std::path::PathBuf;
use std::time::Duration;

use futures::future::join_all;
use pilothouse::conformance::{Case, Finding, Outcome, Report, Settings, Told, run};
use pilothouse::tls::Security;

use super::wrong::{Fault, Lie, Wrong};

/// Longest wait for a step: longer than a wrong router needs to notice silence.
const STEP: Duration = Duration::from_secs(4);
/// Longest wait for the router to appear.
const APPEAR: Duration = Duration::from_secs(20);
/// Those whose offers have to be refused.
const OFFERED: [Case; 10] = [
    Case::EmptyList,
    Case::NoEndpoints,
    Case::OlderVersion,
    Case::SameVersionOtherContent,
    Case::ForeignCluster,
    Case::DuplicateIds,
    Case::Oversized,
    Case::Truncated,
    Case::UnknownEncoding,
    Case::LateOldLeader,
];

async fn report(cases: &[Case], fault: Fault) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let restart: PathBuf = folder.path().join("restart");
    let settings = Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        advertise: None,
        security: Security::Plain { off_loopback: false },
        controller_id: 1,
        cases: cases.to_vec(),
        timeout: STEP,
        appear: APPEAR,
        restart: Some(format!("touch {}", restart.display())),
    };
    let mut router = None;
    let report = run(&settings, |told| {
        if let Told::Waiting(endpoint) = told {
            router = Some(tokio::spawn(Wrong::with(fault, restart.clone()).run(endpoint.to_string())));
        }
    });
    let report = report.await.unwrap();
    router.unwrap().abort();
    report
}

fn of<'a>(report: &'a Report, case: &str) -> &'a Finding {
    report.findings.iter().find(|finding| finding.case == case).unwrap_or_else(|| panic!("no {case}: {report:?}"))
}

/// Each of these fails that case, in these words, and the good list before it is taken.
async fn fail(wrong: &[(Case, Fault, &str)]) {
    let played = wrong.iter().map(|(case, fault, words)| async move {
        let report = report(&[*case], *fault).await;
        assert_eq!(of(&report, "good-list").outcome, Outcome::Pass, "{fault:?}: {report:?}");
        let finding = of(&report, case.name());
        assert_eq!(finding.outcome, Outcome::Fail, "{fault:?}: {finding:?}");
        assert!(finding.seen.contains(words), "{fault:?}: {finding:?}");
    });
    join_all(played).await;
}

#[tokio::test]
async fn without_a_fault_it_passes_every_case() {
    let report = report(&Case::ALL, Fault::None).await;
    assert!(report.conforms() && report.findings.len() == 17, "{report:#?}");
    assert!(report.findings.iter().all(|finding| finding.outcome == Outcome::Pass), "{report:#?}");
}

#[tokio::test]
async fn one_that_takes_no_good_list_or_another_one_fails_before_all_cases() {
    let wrong = [
        (Fault::RefusesFrom(1), "it did not acknowledge good list 1.110: Nack \"bad_mood\""),
        (Fault::SilentFrom(1), "it did not acknowledge good list 1.110: no answer"),
        (Fault::AcksOther(Lie::Refused), "good list 1.110 was offered, it acknowledged 1.9999"),
        (Fault::AcksOther(Lie::OtherContent), "good list 1.110 was offered, it acknowledged 1.110"),
        (Fault::AcksOther(Lie::Nothing), "good list 1.110 was offered, it acknowledged no version"),
    ];
    join_all(wrong.map(|(fault, words)| async move {
        let report = report(&[Case::EmptyList], fault).await;
        let good = of(&report, "good-list");
        assert!(good.outcome == Outcome::Fail && good.seen.contains(words), "{fault:?}: {good:?}");
        assert_eq!(of(&report, "empty-list").outcome, Outcome::Skipped, "{fault:?}");
    }))
    .await;
}

#[tokio::test]
async fn one_that_acknowledges_what_it_must_refuse_fails_each_case_that_offers_something() {
    let report = report(&OFFERED, Fault::AcksAll).await;
    for case in OFFERED {
        let finding = of(&report, case.name());
        assert!(finding.outcome == Outcome::Fail && finding.seen.contains(": Ack"), "{finding:?}");
    }
}

#[tokio::test]
async fn one_that_says_later_that_it_holds_what_it_refused_fails_each_case_that_offers_something() {
    for (fault, words) in [
        (Fault::HeartbeatSays as fn(Lie) -> Fault, "its heartbeat says it holds 1."),
        (Fault::HelloSays, "its next hello says it holds 1."),
    ] {
        // Each by a router of its own: what lies once lies on.
        join_all(OFFERED.map(|case| async move {
            let same_version = case == Case::SameVersionOtherContent;
            let fault = fault(if same_version { Lie::OtherContent } else { Lie::Refused });
            let report = report(&[case], fault).await;
            let finding = of(&report, case.name());
            assert!(finding.outcome == Outcome::Fail && finding.seen.contains(words), "{fault:?}: {finding:?}");
        }))
        .await;
    }
}

#[tokio::test]
async fn one_that_does_not_answer_or_come_back_or_keep_its_list_fails() {
    fail(&[
        (Case::EmptyList, Fault::AnswersNothing, "an empty list: no answer within 4 s"),
        (Case::EmptyList, Fault::GoneAt(2), "it did not acknowledge good list 1.120"),
        (Case::EmptyList, Fault::GoneAt(3), "it did not come back within 4 s"),
        (Case::EmptyList, Fault::GoneWhenHungUp, "it did not come back within 4 s"),
        (Case::EmptyList, Fault::RefusesFrom(2), "it did not acknowledge good list 1.120"),
        (Case::EmptyList, Fault::HeartbeatSays(Lie::Nothing), "its heartbeat says it holds nothing"),
        (Case::EmptyList, Fault::HeartbeatSays(Lie::OtherContent), "with other content instead of 1."),
        (Case::EmptyList, Fault::HeartbeatSays(Lie::OtherCluster), "its heartbeat says it holds 1."),
        (Case::EmptyList, Fault::HelloSays(Lie::Nothing), "its next hello says it holds nothing"),
        (Case::EmptyList, Fault::HelloSays(Lie::OtherContent), "with other content instead of 1."),
        (Case::LateOldLeader, Fault::RefusesFrom(3), "it did not acknowledge good list 1.130"),
    ])
    .await;
}

#[tokio::test]
async fn one_that_starts_again_without_its_list_or_not_at_all_fails() {
    let case = Case::OlderAfterRestart;
    fail(&[
        (case, Fault::GoneAfterRestart, "it did not come back from its restart within 4 s"),
        (case, Fault::HelloSays(Lie::Nothing), "its next hello says it holds nothing"),
        (case, Fault::HelloSays(Lie::Refused), "its next hello says it holds 1.9999"),
        (case, Fault::AcksAll, "an older version: Ack"),
    ])
    .await;
}

#[tokio::test]
async fn one_that_does_not_bear_endless_lists_fails() {
    let case = Case::EndlessUpdates;
    fail(&[
        (case, Fault::LeavesAt(3), "it ended the session after"),
        (case, Fault::RefusesFrom(3), "it refused the newest: bad_mood"),
        (case, Fault::SilentFrom(3), "it went silent"),
        (case, Fault::SilentFrom(10), "it went silent"),
        (case, Fault::KeepsFrom(3), "its heartbeat says it holds"),
    ])
    .await;
}

#[tokio::test]
async fn one_that_follows_an_outsider_or_does_not_follow_its_list_fails() {
    let case = Case::RemovesAllKnown;
    fail(&[
        (case, Fault::RefusesFrom(3), "it did not acknowledge good list 1.130"),
        (case, Fault::StaysAtItsSeed, "it did not go to http://127.0.0.1:"),
        (case, Fault::AcksAll, "an outsider's list: Ack"),
        (case, Fault::HeartbeatSays(Lie::Refused), "it holds the outsider's list"),
        (case, Fault::RefusesFrom(5), "it did not acknowledge good list 1.150"),
        (case, Fault::HelloSays(Lie::Nothing), "its next hello says it holds nothing"),
    ])
    .await;
}

#[tokio::test]
async fn one_that_dead_controllers_strand_fails() {
    let case = Case::DeadControllers;
    fail(&[
        (case, Fault::RefusesFrom(3), "it did not acknowledge good list 1.130"),
        (case, Fault::LeavesItsSeed, "it did not come back within 4 s"),
        (case, Fault::KeepsFrom(3), "its next hello says it holds"),
        (case, Fault::RefusesFrom(4), "it did not acknowledge good list 1.140"),
        (case, Fault::KeepsFrom(4), "its heartbeat says it holds"),
    ])
    .await;
}

#[tokio::test]
async fn one_that_stays_after_a_bad_welcome_or_never_comes_back_fails() {
    let case = Case::BadWelcome;
    fail(&[
        (case, Fault::GoneWhenHungUp, "it did not come back within 4 s"),
        (case, Fault::StaysAfterBadWelcome, "it kept the session for 4 s"),
        (case, Fault::AcksAfterBadWelcome, "it acknowledged a list after a welcome"),
        (case, Fault::GoneAfterBadWelcome, "it did not come back within 4 s"),
        (case, Fault::HelloSays(Lie::Nothing), "its next hello says it holds nothing"),
    ])
    .await;
}

#[tokio::test]
async fn one_that_bears_silence_or_never_comes_back_from_it_fails() {
    let case = Case::Silence;
    fail(&[
        (case, Fault::GoneWhenHungUp, "it did not come back within 4 s"),
        (case, Fault::StaysInSilence, "it stayed for 4 s of silence"),
        (case, Fault::GoneAfterSilence, "it did not come back within 4 s"),
        (case, Fault::HelloSays(Lie::Nothing), "its next hello says it holds nothing"),
    ])
    .await;
}
