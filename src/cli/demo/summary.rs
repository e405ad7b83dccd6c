//! What a demo prints once: where everything listens, what to try next, and what the tour amounted to. Pure.

use std::path::Path;

use super::REVIVED_AFTER;
use super::layout::{Layout, Unit};
use super::view::Offers;
use crate::cli::console::Tone;
use crate::cli::render::table::Table;
use crate::tls::config;

/// Where everything listens.
pub(crate) fn listeners(layout: &Layout) -> String {
    let mut table = Table::new(&["NAME", "PEER", "ROUTER", "ADMIN", "HTTP", "FOLDER"]);
    for unit in layout.units() {
        let folder = layout.folder_of(unit).display().to_string();
        let ports = match unit {
            Unit::Controller(number) => {
                let ports = layout.ports(number);
                [ports.peer, ports.router, ports.admin, ports.http].map(|port| port.to_string())
            }
            Unit::Router(number) => ["-".into(), "-".into(), "-".into(), layout.router_http(number).to_string()],
        };
        table.row(Tone::Plain, [&[unit.to_string()], &ports[..], &[folder]].concat());
    }
    let how = if layout.secure {
        format!("mutual TLS from the authority in {}; routers' HTTP is plain text", layout.authority().display())
    } else {
        "plain text".to_owned()
    };
    format!("{}\nall ports on 127.0.0.1, {how}\n", table.render(false))
}

/// What to try next; `program` as the user called it.
pub(crate) fn suggestions(layout: &Layout, program: &str) -> String {
    let client = shown(&layout.client_config_path());
    let http = layout.endpoint(layout.ports(1).http);
    let trust = shown(&layout.admin_tls().join(config::names::CA_CONTROLLERS));
    let trust = if layout.secure { format!("--cacert {trust} ") } else { String::new() };
    let first = Unit::Controller(1);
    let mut lines = vec![
        ("who is there", format!("{program} cluster status --config {client}")),
        ("which routers hold which list", format!("{program} routers list --config {client}")),
        ("whether a controller is ready", format!("curl {trust}{http}/readyz")),
        ("end a controller", format!("kill -9 $(cat {})", shown(&layout.pid_file_of(first)))),
    ];
    if layout.routers > 0 {
        let status = format!("curl http://127.0.0.1:{}/api/v1/status", layout.router_http(1));
        lines.insert(2, ("what a router says", status));
        lines.push(("read along", format!("tail -f {}", shown(&layout.log_of(Unit::Router(1))))));
    }
    let width = lines.iter().map(|(what, _)| what.len()).max().unwrap_or_default();
    let lines: String = lines.iter().map(|(what, how)| format!("  {what:width$}  {how}\n")).collect();
    let again = REVIVED_AFTER.as_secs();
    format!(
        "Try, in another terminal:\n{lines}\nWhat ends is started again after {again} s. Ctrl-C stops everything.\n\n"
    )
}

/// What became of every list that was offered.
pub(crate) fn offers(total: &Offers, router_runs: usize) -> String {
    let reasons: Vec<String> = total.refused.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    format!(
        "lists offered to routers in {router_runs} runs: {}; adopted {}, already held {}, refused {}{reasons}\n",
        total.offered(),
        total.adopted,
        total.unchanged + total.merged,
        total.refused(),
    )
}

fn shown(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn layout(folder: &str) -> Layout {
        Layout { folder: PathBuf::from(folder), base_port: 20_000, controllers: 3, routers: 2, secure: true }
    }

    #[test]
    fn every_child_stands_in_the_table_with_its_ports_and_folder() {
        let table = listeners(&layout("/d"));
        let row = |name: &str| table.lines().find(|line| line.trim_start().starts_with(name)).unwrap_or_default();
        let cells = |name: &str| row(name).split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(cells("controller-3"), ["controller-3", "20030", "20031", "20032", "20033", "/d/controller-3"]);
        assert_eq!(cells("router-2"), ["router-2", "-", "-", "-", "20502", "/d/router-2"]);
    }

    #[test]
    fn a_suggestion_can_be_pasted_into_a_shell() {
        let text = suggestions(&layout("/it's here"), "pilothouse");
        assert!(text.contains("cluster status --config '/it'\\''s here/admin/client.toml'"), "{text}");
        assert!(text.contains("here/admin/tls/ca-controllers.pem' https://127.0.0.1:20013/"), "{text}");
        assert!(text.contains("kill -9 $(cat '/it'\\''s here/controller-1/pid')"), "{text}");
    }

    #[test]
    fn offers_are_counted_by_what_became_of_them() {
        let total = Offers { adopted: 3, merged: 0, unchanged: 2, refused: [("empty".to_owned(), 1)].into() };
        let text = offers(&total, 4);
        assert!(text.contains("in 4 runs: 6; adopted 3, already held 2, refused 1 (empty 1)"), "{text}");
    }
}
