//! Where everything of a demo is: names, ports, folders, and the configuration texts. Pure; it opens and binds nothing.

use std::path::{Path, PathBuf};

use crate::cli::config_layers::quoted;

use crate::domain::endpoint::{Endpoint, Scheme};

/// Most controllers: beyond it, and with one more for the tour, their ports would meet the routers'.
pub(crate) const CONTROLLERS_MAX: u16 = 45;
/// Most routers: beyond it their ports could pass 32767, where the system hands out ports of its own.
pub(crate) const ROUTERS_MAX: u16 = 200;
/// The base port is below this, so that no port of the demo is one that the system hands out to clients.
pub(crate) const BASE_PORT_END: u16 = 32_000;
/// Lowest base port: ports below belong to the system.
pub(crate) const BASE_PORT_MIN: u16 = 1_024;
/// Distance between the ports of two controllers.
const CONTROLLER_STRIDE: u16 = 10;
/// Distance from the base port to where the routers' ports begin.
const ROUTERS_OFFSET: u16 = 500;

/// Folders of a demo beside those of its children.
pub(crate) mod names {
    /// The issuers of all certificates.
    pub(crate) const AUTHORITY: &str = "ca";
    /// The same while they are made.
    pub(crate) const UNFINISHED_AUTHORITY: &str = "ca.new";
    /// What whoever asks controllers needs.
    pub(crate) const ADMIN: &str = "admin";
    /// A router without guards, which the incident is replayed with; its id too.
    pub(crate) const UNGUARDED: &str = "router-1.3.1";
}

/// The plan of a demo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    /// The folder of all folders; absolute.
    pub(crate) folder: PathBuf,
    /// Where the ports begin.
    pub(crate) base_port: u16,
    /// How many controllers found the cluster.
    pub(crate) controllers: u16,
    /// How many routers there are.
    pub(crate) routers: u16,
    /// Whether everybody speaks TLS; else it is plain text.
    pub(crate) secure: bool,
}

/// What a child process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Unit {
    /// A controller, by number from 1.
    Controller(u16),
    /// A router, by number from 1.
    Router(u16),
}

impl std::fmt::Display for Unit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Controller(number) => write!(f, "controller-{number}"),
            Self::Router(number) => write!(f, "router-{number}"),
        }
    }
}

impl Unit {
    /// The subcommand that runs it.
    pub(crate) const fn command(self) -> &'static str {
        match self {
            Self::Controller(_) => "controller",
            Self::Router(_) => "router",
        }
    }
}

/// The ports of a controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ports {
    pub(crate) peer: u16,
    pub(crate) router: u16,
    pub(crate) admin: u16,
    pub(crate) http: u16,
}

/// How a controller becomes a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It founds the cluster, with all others of the layout.
    Founds,
    /// It waits to be added.
    Joins,
}

/// What the tour varies in a router's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RouterChoice {
    /// Numbers of the controllers that are its seeds.
    pub(crate) seeds: Vec<u16>,
    /// How many sessions it keeps.
    pub(crate) sessions: usize,
}

impl Layout {
    /// The controllers that found the cluster.
    pub(crate) fn founders(&self) -> impl Iterator<Item = u16> + use<> {
        1..=self.controllers
    }

    /// Every child that runs from the start, controllers first.
    pub(crate) fn units(&self) -> Vec<Unit> {
        let routers = (1..=self.routers).map(Unit::Router);
        self.founders().map(Unit::Controller).chain(routers).collect()
    }

    /// The ports of controller `number`.
    pub(crate) const fn ports(&self, number: u16) -> Ports {
        let first = self.base_port + CONTROLLER_STRIDE * number;
        Ports { peer: first, router: first + 1, admin: first + 2, http: first + 3 }
    }

    /// The HTTP port of router `number`.
    pub(crate) const fn router_http(&self, number: u16) -> u16 {
        self.base_port + ROUTERS_OFFSET + number
    }

    /// Every port that the demo needs, with `extra` controllers that may join later.
    pub(crate) fn all_ports(&self, extra: u16) -> Vec<u16> {
        let controllers = (1..=self.controllers + extra).map(|number| self.ports(number));
        let routers = (1..=self.routers).map(|number| self.router_http(number));
        controllers.flat_map(|ports| [ports.peer, ports.router, ports.admin, ports.http]).chain(routers).collect()
    }

    /// The folder of a child.
    pub(crate) fn folder_of(&self, unit: Unit) -> PathBuf {
        self.folder.join(unit.to_string())
    }

    /// Where a child's configuration is.
    pub(crate) fn config_of(&self, unit: Unit) -> PathBuf {
        self.folder_of(unit).join("config.toml")
    }

    /// Where a child keeps its data.
    pub(crate) fn data_of(&self, unit: Unit) -> PathBuf {
        self.folder_of(unit).join("data")
    }

    /// Where a child's process id is while it runs.
    pub(crate) fn pid_file_of(&self, unit: Unit) -> PathBuf {
        self.folder_of(unit).join("pid")
    }

    /// Where a child's log is.
    pub(crate) fn log_of(&self, unit: Unit) -> PathBuf {
        self.folder_of(unit).join("log")
    }

    /// Where a child's certificate is.
    pub(crate) fn tls_of(&self, unit: Unit) -> PathBuf {
        self.folder_of(unit).join("tls")
    }

    /// Where the issuers of all certificates are.
    pub(crate) fn authority(&self) -> PathBuf {
        self.folder.join(names::AUTHORITY)
    }

    /// Where they are while they are made.
    pub(crate) fn unfinished_authority(&self) -> PathBuf {
        self.folder.join(names::UNFINISHED_AUTHORITY)
    }

    /// Where the certificate of whoever asks controllers is.
    pub(crate) fn admin_tls(&self) -> PathBuf {
        self.folder.join(names::ADMIN).join("tls")
    }

    /// Where the configuration of whoever asks controllers is.
    pub(crate) fn client_config_path(&self) -> PathBuf {
        self.folder.join(names::ADMIN).join("client.toml")
    }

    /// How addresses of controllers are written.
    pub(crate) const fn scheme(&self) -> Scheme {
        if self.secure { Scheme::Tls } else { Scheme::Plain }
    }

    /// A port of a controller on this host, as others name it.
    pub(crate) fn endpoint(&self, port: u16) -> Endpoint {
        let text = format!("{}://127.0.0.1:{port}", self.scheme().as_str());
        text.parse().expect("a loopback address with a port above 0 is an endpoint")
    }

    /// The `[tls]` table of whoever has a certificate there.
    fn tls_table(&self, dir: &Path) -> String {
        if self.secure {
            format!("[tls]\ndir = {}\n", quoted(dir.to_string_lossy()))
        } else {
            "[tls]\ninsecure = true\n".to_owned()
        }
    }

    /// The configuration of whoever asks these controllers.
    pub(crate) fn client_config(&self, controllers: impl IntoIterator<Item = u16>) -> String {
        let admin = |number| format!("    \"{}\",\n", self.endpoint(self.ports(number).admin));
        let endpoints: String = controllers.into_iter().map(admin).collect();
        let tls = self.tls_table(&self.admin_tls());
        format!("# Written by `pilothouse demo`, for --config.\nendpoints = [\n{endpoints}]\n\n{tls}")
    }

    /// The configuration of controller `number`.
    pub(crate) fn controller_config(&self, number: u16, entry: Entry) -> String {
        let unit = Unit::Controller(number);
        let ports = self.ports(number);
        let membership = match entry {
            Entry::Joins => "join = true\n".to_owned(),
            Entry::Founds => {
                let member = |n: u16| {
                    let (name, peer) = (Unit::Controller(n), self.endpoint(self.ports(n).peer));
                    format!("    {{ id = {n}, name = \"{name}\", peer = \"{peer}\" }},\n")
                };
                let members: String = self.founders().map(member).collect();
                format!("id = {number}\ninitial_members = [\n{members}]\n")
            }
        };
        format!(
            "# Written by `pilothouse demo`.\nname = \"{unit}\"\ndata_dir = {data}\n{membership}\n[listen]\n\
             peer = \"127.0.0.1:{}\"\nrouter = \"127.0.0.1:{}\"\nadmin = \"127.0.0.1:{}\"\nhttp = \"127.0.0.1:{}\"\n\n{tls}",
            ports.peer,
            ports.router,
            ports.admin,
            ports.http,
            data = quoted(self.data_of(unit).to_string_lossy()),
            tls = self.tls_table(&self.tls_of(unit)),
        )
    }

    /// The configuration of router `number` when it is not varied: all founders are seeds, two sessions.
    pub(crate) fn usual_choice(&self) -> RouterChoice {
        RouterChoice { seeds: self.founders().collect(), sessions: 2 }
    }

    /// The configuration of router `number`.
    pub(crate) fn router_config(&self, number: u16, choice: &RouterChoice) -> String {
        let unit = Unit::Router(number);
        let seed = |n: &u16| format!("\"{}\"", self.endpoint(self.ports(*n).router));
        let seeds: Vec<String> = choice.seeds.iter().map(seed).collect();
        format!(
            "# Written by `pilothouse demo`.\nid = \"{unit}\"\ndata_dir = {data}\nseeds = [{seeds}]\n\
             sessions = {sessions}\nhttp = \"127.0.0.1:{http}\"\n\n[labels]\ndemo = \"yes\"\n\n[output]\n\
             json_file = {json}\n\n{tls}",
            data = quoted(self.data_of(unit).to_string_lossy()),
            seeds = seeds.join(", "),
            sessions = choice.sessions,
            http = self.router_http(number),
            json = quoted(self.folder_of(unit).join("controllers.json").to_string_lossy()),
            tls = self.tls_table(&self.tls_of(unit)),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use figment::Figment;
    use figment::providers::{Format, Toml};

    use super::*;
    use crate::controller::config::{Bootstrap, ControllerFile};
    use crate::tls::TlsConfig;

    fn layout() -> Layout {
        let folder = PathBuf::from("/tmp/a \"quoted\" \\ folder");
        Layout { folder, base_port: 20_000, controllers: 3, routers: 2, secure: true }
    }

    #[test]
    fn ports_are_where_the_contract_says() {
        let ports = layout().ports(2);
        assert_eq!((ports.peer, ports.router, ports.admin, ports.http), (20_020, 20_021, 20_022, 20_023));
        assert_eq!(layout().router_http(1), 20_501);
    }

    #[test]
    fn no_two_ports_meet_and_none_is_one_that_the_system_hands_out() {
        let largest =
            Layout { base_port: BASE_PORT_END - 1, controllers: CONTROLLERS_MAX, routers: ROUTERS_MAX, ..layout() };
        let ports = largest.all_ports(4);
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len());
        assert!(ports.iter().all(|port| *port < 32_768), "{:?}", ports.iter().max());
    }

    #[test]
    fn a_controllers_configuration_is_valid() {
        let parse = |text: &str| Figment::from(Toml::string(text)).extract::<ControllerFile>().unwrap();
        let plain = Layout { secure: false, ..layout() };
        let insecure = parse(&plain.controller_config(2, Entry::Founds)).validate().unwrap();
        assert_eq!(insecure.tls, TlsConfig::Insecure { off_loopback: false });
        let founder = parse(&layout().controller_config(2, Entry::Founds)).validate().unwrap();
        let TlsConfig::Files(files) = &founder.tls else { panic!("plain text") };
        assert!(files.key.starts_with(layout().tls_of(Unit::Controller(2))), "{files:?}");
        assert_eq!(founder.name.as_str(), "controller-2");
        assert_eq!(founder.data_dir, layout().data_of(Unit::Controller(2)));
        assert_eq!(founder.listen.http.port(), 20_023);
        assert!(matches!(&founder.bootstrap, Bootstrap::Found { id, members } if id.get() == 2 && members.len() == 3));
        let joiner = parse(&layout().controller_config(4, Entry::Joins)).validate().unwrap();
        assert_eq!(joiner.bootstrap, Bootstrap::Join);
    }
}
