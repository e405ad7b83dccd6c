//! `words.txt`: identifiers, endpoints, negotiation and delays, as people write them.

use std::collections::BTreeSet;
use std::time::Duration;

use super::transcript::{self, Question};
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{ClusterId, ControllerId, ControllerName, RouterId};
use crate::domain::negotiation::{Dialect, ProtocolRange, negotiate};
use crate::domain::retry::{Backoff, delay};

#[test]
fn transcript_of_words() {
    transcript::check("words.txt", answer);
}

fn answer(question: &Question) -> String {
    // `long=N` stands for N characters, which would be tedious to write and to read.
    let long = question.get("long").map(|_| "x".repeat(usize::try_from(question.number("long", 0)).unwrap()));
    let text = long.clone().or(question.lines.first().map(|line| line.trim_matches('"').to_owned()));
    let text = text.unwrap_or_else(|| question.plain().next().unwrap_or_default().to_owned());
    match question.name.as_str() {
        "router" => say(RouterId::new(text)),
        "controller" => say(ControllerName::new(text)),
        "controller-id" => say(text.parse::<ControllerId>()),
        "cluster" => say(text.parse::<ClusterId>()),
        "endpoint" => say((if long.is_some() { format!("http://{text}:1") } else { text }).parse::<Endpoint>()),
        "protocols" => range(question.number("min", 0), question.number("max", 0))
            .map_or_else(|| "no range\n".to_owned(), |range| format!("{range}\n")),
        "negotiate" => {
            let dialect = |side: &str| {
                let (min, max) = question.get(side).unwrap().split_once('-').unwrap();
                let names = |key: &str| {
                    let names = question.get(&format!("{side}-{key}")).into_iter().flat_map(|names| names.split(','));
                    names.map(ToOwned::to_owned).collect::<BTreeSet<_>>()
                };
                Dialect {
                    protocols: range(min.parse().unwrap(), max.parse().unwrap()).unwrap(),
                    capabilities: names("can"),
                    needs: names("needs"),
                }
            };
            match negotiate(&dialect("cluster"), &dialect("router")) {
                Ok(agreed) => format!("protocol {}, capabilities {:?}\n", agreed.protocol, agreed.capabilities),
                Err(incompatible) => {
                    format!("refused ({}): {incompatible}; {}\n", incompatible.code(), incompatible.hint())
                }
            }
        }
        "delay" => {
            let [base, cap] = ["base-ms", "cap-ms"].map(|key| Duration::from_millis(question.number(key, 0)));
            let attempt = u32::try_from(question.number("attempt", 0)).unwrap();
            let bounds = [0, u32::MAX].map(|random| delay(Backoff { base, cap }, attempt, random));
            format!("{:?} to {:?}\n", bounds[0], bounds[1])
        }
        other => panic!("{other}?"),
    }
}

fn range(min: u64, max: u64) -> Option<ProtocolRange> {
    ProtocolRange::from_wire(min.try_into().unwrap(), max.try_into().unwrap())
}

fn say<T: std::fmt::Display, E: std::fmt::Display>(parsed: Result<T, E>) -> String {
    match parsed {
        Ok(value) => format!("{value}\n"),
        Err(reason) => format!("refused: {reason}\n"),
    }
}
