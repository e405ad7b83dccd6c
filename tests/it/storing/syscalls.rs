//! What the kernel was asked for, as strace saw it: between the begin and the acknowledgement of each append and each
//! vote lies an fdatasync that succeeded; and for a vote, after it, the durable replacement of its mark.
//!
//! strace is no part of a toolchain: without it this test says so and proves nothing, unless `REQUIRE_STRACE` is set,
//! as the gate sets it.

use super::writer::command;

#[test]
fn no_append_and_no_vote_is_acknowledged_before_its_fdatasync() {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("trace");
    let trace_to = trace.display().to_string();
    let calls = "trace=write,fdatasync,fsync,?rename,?renameat,?renameat2";
    let under = ["strace", "-f", "-e", calls, "-o", &trace_to];
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
    let (mut replaced, mut marked, mut marks) = (false, false, 0);
    for line in std::fs::read_to_string(&trace).unwrap().lines() {
        if line.contains("fdatasync") && line.trim_end().ends_with("= 0") {
            synced = true;
        } else if line.contains("/voted\"") && line.trim_end().ends_with("= 0") {
            assert!(synced, "a vote was marked before it was durable");
            (replaced, marks) = (true, marks + 1);
        } else if line.contains("fsync(") && line.trim_end().ends_with("= 0") {
            marked |= replaced;
        } else if let Some(what) = said(line, "begin ") {
            (begun, synced, replaced, marked) = (Some(what), false, false, false);
        } else if let Some(what) = said(line, "ack ") {
            assert_eq!(begun.take().as_deref(), Some(what.as_str()), "{line}");
            assert!(synced, "the acknowledgement of the {what} came before its fdatasync");
            assert_eq!(marked, what == "vote", "the acknowledgement of the {what} and its mark");
            proved += 1;
        }
    }
    assert_eq!(proved, 40, "20 appends and 20 votes were seen");
    assert_eq!(marks, 20, "one mark for each vote, none for an append");
    println!("{proved} acknowledgements, each after its fdatasync");
}

/// What a line of the trace says on stderr after this word.
fn said(line: &str, word: &str) -> Option<String> {
    let text = line.split_once("write(2, \"")?.1.strip_prefix(word)?;
    Some(text.split(['\\', '"']).next().unwrap_or_default().to_owned())
}
