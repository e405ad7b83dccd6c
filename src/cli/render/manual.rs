//! Manual pages: one for each command, out of the same tree that parses it, so that no flag can be missing from them.
//!
//! Where clap knows nothing of it (what a process reads besides its arguments, and how it ends) the sections are here.

use clap::{Arg, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use time::Date;

use crate::cli::arguments::{ADMIN_SOCKET, Arguments};
use crate::cli::exit::ExitStatus;

/// Commands, user's part of the manual.
const SECTION: &str = "1";

/// A manual page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Its file, as in `pilothouse-cluster-status.1`.
    pub file: String,
    /// Its text, in roff.
    pub text: String,
}

/// The pages of the program and of all its commands, the program's own first; `changed` stands below each of them.
#[must_use]
pub fn pages(changed: Option<Date>) -> Vec<Page> {
    let mut program = Arguments::command().disable_help_subcommand(true);
    program.build();
    // A date is written as a quoted text: roff would take the next word for one that is empty.
    let date = changed.map_or_else(|| "\"\"".to_owned(), |changed| changed.to_string());
    let mut pages = Vec::new();
    collect(&program, None, &date, &mut pages);
    pages
}

fn collect(command: &Command, parent: Option<&Command>, date: &str, pages: &mut Vec<Page>) {
    pages.push(page(command, parent, date));
    for below in visible(command) {
        collect(below, Some(command), date, pages);
    }
}

fn page(command: &Command, parent: Option<&Command>, date: &str) -> Page {
    let man = Man::new(command.clone())
        .title(full_name(command).to_uppercase())
        .section(SECTION)
        .date(date)
        .source(concat!("Pilothouse ", env!("CARGO_PKG_VERSION")))
        .manual("Pilothouse");
    let mut text = Vec::new();
    let mut written = || {
        man.render_title(&mut text)?;
        man.render_name_section(&mut text)?;
        man.render_synopsis_section(&mut text)?;
        man.render_description_section(&mut text)?;
        if command.get_arguments().any(|argument| !argument.is_hide_set()) {
            man.render_options_section(&mut text)?;
        }
        if visible(command).next().is_some() {
            man.render_subcommands_section(&mut text)?;
        }
        closing_sections(command, parent).to_writer(&mut text)
    };
    written().expect("a Vec takes every byte");
    Page { file: man.get_filename(), text: tidied(&String::from_utf8_lossy(&text)) }
}

/// What clap does not know, in the order of man-pages(7).
fn closing_sections(command: &Command, parent: Option<&Command>) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXIT STATUS"]);
    for status in ExitStatus::ALL {
        entry(&mut roff, &status.code().to_string(), status.meaning());
    }
    roff.control("SH", ["ENVIRONMENT"]);
    for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
        if let (Some(variable), Some(flag)) = (argument.get_env(), argument.get_long()) {
            entry(&mut roff, &variable.to_string_lossy(), &format!("In place of --{flag}, which goes before it."));
        }
    }
    if has(command, "set") {
        let any = "Any key of the configuration, in capitals, with two underscores for the point: PILOTHOUSE_LOG__LEVEL is \
                   log.level. It goes before the file; flags go before it.";
        entry(&mut roff, "PILOTHOUSE_KEY", any);
    }
    entry(&mut roff, "NO_COLOR", "Nothing is coloured, unless it is empty.");
    if has(command, "endpoint") {
        roff.control("SH", ["FILES"]);
        entry(&mut roff, ADMIN_SOCKET, "The controller of this host, where neither --endpoint nor --config names one.");
    }
    roff.control("SH", ["SEE ALSO"]);
    let related = parent.into_iter().chain(visible(command));
    let mut line = Vec::new();
    for other in related {
        line.extend([roman(if line.is_empty() { "" } else { ", " }), bold(full_name(other)), roman("(1)")]);
    }
    roff.text(line);
    roff
}

/// A term and what it means.
fn entry(roff: &mut Roff, term: &str, meaning: &str) {
    roff.control("TP", []);
    roff.text([bold(term)]);
    roff.text([roman(meaning)]);
}

/// Every section that is rendered on its own opens with the same definition of an apostrophe; once is enough. And breaks
/// of a line around an empty line, above possible values, are what mandoc warns of: a space is what they mean.
fn tidied(text: &str) -> String {
    let preamble = Roff::new().render();
    preamble.clone() + &text.replace(&preamble, "").replace("\n.br\n\n.br\n", "\n.sp\n")
}

/// As in `pilothouse-cluster-status`.
fn full_name(command: &Command) -> &str {
    command.get_display_name().unwrap_or_else(|| command.get_name())
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|below| !below.is_hide_set() && below.get_name() != "help")
}

fn has(command: &Command, flag: &str) -> bool {
    command.get_arguments().any(|argument: &Arg| argument.get_long() == Some(flag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::render::golden;

    fn commands(of: &Command, found: &mut Vec<Command>) {
        found.push(of.clone());
        of.get_subcommands().for_each(|below| commands(below, found));
    }

    #[test]
    fn every_command_has_a_page_that_names_its_flags_and_variables() {
        let mut program = Arguments::command().disable_help_subcommand(true);
        program.build();
        let (mut all, mut pages) = (Vec::new(), pages(None));
        commands(&program, &mut all);
        all.retain(|command| command.get_name() != "help");
        assert!(all.len() > 40, "{} commands", all.len());
        assert_eq!(pages.len(), all.len());
        for command in all {
            let name = full_name(&command);
            let at = pages.iter().position(|page| page.file == format!("{name}.1")).expect(name);
            let page = pages.swap_remove(at);
            let has = |what: &str| assert!(page.text.contains(what), "{name} says nothing of {what}:\n{}", page.text);
            for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
                if let Some(long) = argument.get_long() {
                    has(&format!("\\fB\\-\\-{}\\fR", long.replace('-', "\\-")));
                }
                if let Some(variable) = argument.get_env() {
                    has(&format!("\\fB{}\\fR", variable.to_string_lossy()));
                }
            }
            assert_eq!(page.text.matches(".ie ").count(), 1, "{name}");
        }
    }

    #[test]
    fn what_a_page_refers_to_is_there() {
        let pages = pages(None);
        for page in &pages {
            let (_, related) = page.text.rsplit_once(".SH \"SEE ALSO\"\n").expect(&page.file);
            for other in related.trim_end().split(", ") {
                let file = other.replace("\\fB", "").replace("\\fR(1)", ".1").replace('\\', "");
                assert!(pages.iter().any(|page| page.file == file), "{} refers to {file}", page.file);
            }
        }
    }

    #[test]
    fn a_page_looks_as_it_was_read() {
        for name in ["pilothouse.1", "pilothouse-cluster-transfer.1"] {
            let page =
                pages(Date::from_ordinal_date(2026, 1).ok()).into_iter().find(|page| page.file == name).expect(name);
            // The version changes with every release, the page does not.
            golden(name, &page.text.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
        }
    }

    #[test]
    fn the_help_and_the_pages_agree_on_exit_codes() {
        let help = Arguments::command().get_after_help().expect("it has one").to_string();
        for status in ExitStatus::ALL {
            let first = status.meaning().split([';', '.']).next().expect("a word").to_lowercase();
            assert!(help.contains(&format!("{} {first}", status.code())), "{status:?}: {help}");
        }
    }
}
