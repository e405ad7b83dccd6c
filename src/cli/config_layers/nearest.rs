//! The known key that somebody most likely meant.

/// Below this likeness (0 to 1) a suggestion would only confuse.
const LIKENESS_MIN: f64 = 0.75;

/// The key of `known` nearest to `written`; both are dotted. A right name in the wrong table is found too.
pub(super) fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |key: &str| {
        let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_lowercase();
        let whole = strsim::damerau_levenshtein(&written.to_lowercase(), key) as f64;
        let whole = 1.0 - whole / written.len().max(key.len()).max(1) as f64;
        // A little less than the whole key: between two tables the one that was written wins.
        let part = strsim::jaro_winkler(&last(written), &last(key)) - 0.05;
        whole.max(part)
    };
    known
        .into_iter()
        .map(|key| (likeness(key), key))
        .filter(|(likeness, _)| *likeness >= LIKENESS_MIN)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, key)| key)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    const KNOWN: [&str; 7] =
        ["name", "data_dir", "listen.peer", "listen.http", "advertise.peer", "raft.heartbeat_ms", "log.level"];

    #[test]
    fn typos_other_spellings_and_wrong_tables_are_understood() {
        for (written, meant) in [
            ("nmae", Some("name")),
            ("data-dir", Some("data_dir")),
            ("dataDir", Some("data_dir")),
            ("listen.htpp", Some("listen.http")),
            ("heartbeat_ms", Some("raft.heartbeat_ms")),
            ("raft.heartbeat", Some("raft.heartbeat_ms")),
            ("advertise.per", Some("advertise.peer")),
            ("zzz", None),
        ] {
            assert_eq!(nearest(written, KNOWN), meant, "{written}");
        }
    }
}
