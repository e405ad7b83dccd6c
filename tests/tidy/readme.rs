//! What the README claims: its limits are the constants, its promises are tests that exist.

use super::source::{self, document};

/// The rows of the first table after a marker, each as its cells.
fn table(text: &str, marker: &str) -> Vec<Vec<String>> {
    let (_, rest) = text.split_once(marker).unwrap_or_else(|| panic!("README.md has no {marker}"));
    let rows = rest.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let cells = |row: &str| row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    rows.skip(2).map(cells).collect()
}

/// Texts in backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// A number with its unit, as a bare number: bytes, milliseconds, or a count.
fn amount(text: &str) -> Option<u64> {
    let (number, unit) = text.split_once(' ').unwrap_or((text, ""));
    let number: u64 = number.replace(',', "").parse().ok()?;
    match unit {
        "" | "bytes" | "ms" | "entries" => Some(number),
        "KiB" => number.checked_mul(1024),
        "MiB" => number.checked_mul(1024 * 1024),
        "s" => number.checked_mul(1000),
        "min" => number.checked_mul(60_000),
        _ => None,
    }
}

/// The value of a constant as it is written: a product, or a `Duration`.
fn value(expression: &str) -> Option<u64> {
    let inner = |prefix: &str| expression.strip_prefix(prefix)?.strip_suffix(')');
    if let Some(seconds) = inner("Duration::from_secs(") {
        return value(seconds)?.checked_mul(1000);
    }
    if let Some(millis) = inner("Duration::from_millis(") {
        return value(millis);
    }
    expression.split('*').map(|factor| factor.trim().replace('_', "").parse::<u64>().ok()).product()
}

/// What a constant is, which is declared once under a path, or why that is not known.
fn constant(path: &str, name: &str) -> Result<u64, String> {
    let declaration = format!("const {name}: ");
    let sources = source::all();
    let under = sources.iter().filter(|file| file.path.starts_with(path));
    let mut declared = under.filter_map(|file| Some(file.code.split_once(&declaration)?.1));
    let rest = declared.next().ok_or_else(|| format!("no {name} under {path}"))?;
    if declared.next().is_some() {
        return Err(format!("{name} is declared more than once under {path}"));
    }
    let expression = rest.split_once('=').and_then(|(_, rest)| rest.split_once(';')).map(|(value, _)| value.trim());
    expression.and_then(value).ok_or_else(|| format!("{name} under {path} is not a plain number"))
}

#[test]
fn the_limits_of_the_readme_are_the_constants() {
    let rows = table(&document("README.md"), "## Limits");
    assert!(rows.len() >= 12, "only {} limits are listed", rows.len());
    for row in rows {
        let [what, stated, place] = row.as_slice() else { panic!("three columns: {row:?}") };
        let (name, path) = match quoted(place).as_slice() {
            [name, path] => ((*name).to_owned(), (*path).to_owned()),
            other => panic!("`CONSTANT` in `file` expected: {other:?}"),
        };
        let stated = amount(stated).unwrap_or_else(|| panic!("{what}: {stated:?} is not an amount"));
        assert_eq!(constant(&path, &name), Ok(stated), "{what}");
    }
}

#[test]
fn every_promise_of_the_readme_names_tests_that_exist() {
    let rows = table(&document("README.md"), "## Promises");
    let numbers: Vec<String> = (1..=12).map(|number| format!("P{number}")).collect();
    assert_eq!(rows.iter().map(|row| row[0].split(' ').next().unwrap().to_owned()).collect::<Vec<_>>(), numbers);
    let sources = source::all();
    let exists = |test: &str| {
        let (path, name) = test.split_once("::").unwrap_or(("", test));
        let declaration = format!("fn {name}(");
        sources.iter().any(|file| file.path.contains(path) && file.code.contains(&declaration))
    };
    for row in rows {
        let tests = quoted(row.last().unwrap());
        assert!(!tests.is_empty(), "{} names no test", row[0]);
        for test in tests {
            assert!(exists(test), "{}: there is no test {test}", row[0]);
        }
    }
}

#[test]
fn amounts_and_constants_are_read_as_they_are_meant() {
    assert_eq!(amount("192 KiB"), Some(196_608));
    assert_eq!(amount("1,000,000"), Some(1_000_000));
    assert_eq!(amount("5 s"), Some(5_000));
    assert_eq!(amount("many"), None);
    assert_eq!(value("192 * 1024"), Some(196_608));
    assert_eq!(value("1_000_000"), Some(1_000_000));
    assert_eq!(value("Duration::from_secs(5)"), Some(5_000));
    assert_eq!(value("LIST_BYTES_MAX + 1"), None);
}
