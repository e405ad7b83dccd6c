//! What the kernel was asked for, as strace saw it: between the begin and the acknowledgement of each append and each
//! vote lies an fdatasync that succeeded.
//!
//! strace is no part of a toolchain: without it this test says so and proves nothing, unless `REQUIRE_STRACE` is set,
//! as the gate sets it.

use super::writer::command;

#[test]
fn no_append_and_no_vote_is_acknowledged_before_its_fdatasync() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let trace_to = trace.display().to_string();
    let under = ["strace", "-f", "-e", "trace=write,fdatasync", "-o", &trace_to];
    let ended = command(&under, "a few", &folder.path().join("data")).output();
    match ended {
        Ok(ended) if ended.status.success() => {}
        Ok(ended) => panic!("{}", String::from_utf8_lossy(&ended.stderr)),
        Err(absent) => {
            assert!(std::env::var_os("REQUIRE_STRACE").is_none(), "strace is required here: {absent}");
            println!("strace cannot be run ({absent}): nothing was proved; install it, as the gate demands");
            return;
        }
    }
    let (mut begun, mut synced, mut proved) = (None, false, 0);
    for line in std::fs::read_to_string(&trace).unwrap().lines() {
        if line.contains("fdatasync") && line.trim_end().ends_with("= 0") {
            synced = true;
        } else if let Some(what) = said(line, "begin ") {
            (begun, synced) = (Some(what), false);
        } else if let Some(what) = said(line, "ack ") {
            assert_eq!(begun.take().as_deref(), Some(what.as_str()), "{line}");
            assert!(synced, "the acknowledgement of the {what} came before its fdatasync");
            proved += 1;
        }
    }
    assert_eq!(proved, 40, "20 appends and 20 votes were seen");
    println!("{proved} acknowledgements, each after its fdatasync");
}

/// What a line of the trace says on stderr after this word.
fn said(line: &str, word: &str) -> Option<String> {
    let text = line.split_once("write(2, \"")?.1.strip_prefix(word)?;
    Some(text.split(['\\', '"']).next().unwrap_or_default().to_owned())
}
