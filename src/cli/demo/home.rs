//! The folder and the ports of a demo: found or given, locked, and given back.

use std::fs::{File, OpenOptions, TryLockError};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rand::Rng as _;
use serde::{Deserialize, Serialize};

use super::layout::{BASE_PORT_END, Layout, names};

/// How many base ports are tried before free ports are given up.
const BASE_PORT_ATTEMPTS_MAX: usize = 100;
/// Free base ports are looked for from here: below are ports that services of the system like.
const FREE_BASE_PORT_MIN: u16 = 10_000;
/// What a folder remembers of the demo that it belongs to.
const RECORD: &str = "demo.json";
/// Held while a demo runs in the folder.
const LOCK: &str = "lock";

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) folder: Option<PathBuf>,
    pub(crate) base_port: Option<u16>,
    pub(crate) controllers: u16,
    pub(crate) routers: u16,
    /// Whether everybody speaks TLS.
    pub(crate) secure: bool,
    /// How many controllers may join later.
    pub(crate) extra: u16,
    /// Whether the folder must be empty.
    pub(crate) fresh: bool,
}

/// What a folder remembers: the addresses of a cluster outlive its processes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    base_port: u16,
    controllers: u16,
    routers: u16,
    /// Folders from before there was TLS do not say it.
    #[serde(default)]
    secure: bool,
}

/// A locked folder with a layout.
#[derive(Debug)]
pub(crate) struct Home {
    /// Where everything is.
    pub(crate) layout: Layout,
    temporary: bool,
    _lock: File,
}

impl Home {
    /// Finds or makes the folder, locks it, and settles the ports.
    pub(crate) fn settle(wish: &Wish) -> anyhow::Result<Self> {
        match &wish.folder {
            Some(folder) => Self::in_folder(wish, given(folder)?, false),
            None => {
                let folder = temporary()?;
                Self::in_folder(wish, folder.clone(), true).inspect_err(|_| {
                    // What is to be reported is why the demo cannot begin.
                    let _ = std::fs::remove_dir_all(folder);
                })
            }
        }
    }

    fn in_folder(wish: &Wish, folder: PathBuf, temporary: bool) -> anyhow::Result<Self> {
        let lock = lock(&folder)?;
        let record = remembered(&folder)?;
        if wish.fresh && record.is_some() {
            bail!("{} is not empty: this begins with a new cluster; give it a new folder", folder.display());
        }
        let base_port = base_port(wish, record.as_ref(), &folder)?;
        let layout = laid_out(wish, folder, base_port);
        let home = Self { layout, temporary, _lock: lock };
        if let Some(taken) = home.layout.all_ports(wish.extra).into_iter().find(|port| !is_free(*port)) {
            bail!("port {taken} is taken: end what listens there, or give another --base-port");
        }
        home.remember()?;
        Ok(home)
    }

    /// Whether the folder goes when the demo ends.
    pub(crate) const fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// Leaves nothing behind that was not asked for.
    pub(crate) fn leave(self) -> anyhow::Result<()> {
        let folder = &self.layout.folder;
        let gone =
            if self.temporary { std::fs::remove_dir_all(folder) } else { std::fs::remove_file(folder.join(LOCK)) };
        gone.with_context(|| format!("clean up {}", folder.display()))
    }

    fn remember(&self) -> anyhow::Result<()> {
        let Layout { base_port, controllers, routers, secure, .. } = self.layout;
        let record = Record { base_port, controllers, routers, secure };
        let path = self.layout.folder.join(RECORD);
        std::fs::write(&path, serde_json::to_string(&record)?).with_context(|| format!("write {}", path.display()))
    }
}

fn laid_out(wish: &Wish, folder: PathBuf, base_port: u16) -> Layout {
    let Wish { controllers, routers, secure, .. } = *wish;
    Layout { folder, base_port, controllers, routers, secure }
}

fn given(folder: &Path) -> anyhow::Result<PathBuf> {
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let folder = folder.canonicalize().with_context(|| format!("find {}", folder.display()))?;
    anyhow::ensure!(folder.to_str().is_some(), "{} is not a UTF-8 path: give another --data-dir", folder.display());
    let ours = |name: &str| {
        let child = name.strip_prefix("controller-").or_else(|| name.strip_prefix("router-"));
        let known = [RECORD, LOCK, names::AUTHORITY, names::UNFINISHED_AUTHORITY, names::ADMIN, names::UNGUARDED];
        known.contains(&name) || child.is_some_and(|number| number.parse::<u16>().is_ok())
    };
    for entry in std::fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
        let name = entry?.file_name();
        if !ours(&name.to_string_lossy()) {
            bail!("{} contains {:?}, which is no demo's: give an empty folder", folder.display(), name);
        }
    }
    Ok(folder)
}

fn temporary() -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::DirBuilderExt as _;
    let folder = std::env::temp_dir().join(format!("pilothouse-demo-{:08x}", rand::rng().random::<u32>()));
    std::fs::DirBuilder::new().mode(0o700).create(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}

fn lock(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join(LOCK);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = file.with_context(|| format!("open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!("another demo runs in {}: stop it, or give another --data-dir", folder.display())
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", path.display())),
    }
}

fn remembered(folder: &Path) -> anyhow::Result<Option<Record>> {
    let path = folder.join(RECORD);
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text)
            .map(Some)
            .with_context(|| format!("{} is damaged: give a new folder", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

fn base_port(wish: &Wish, record: Option<&Record>, folder: &Path) -> anyhow::Result<u16> {
    if let Some(record) = record {
        let asked = Record {
            base_port: wish.base_port.unwrap_or(record.base_port),
            controllers: wish.controllers,
            routers: wish.routers,
            secure: wish.secure,
        };
        anyhow::ensure!(
            asked == *record,
            "{} holds a demo of {} controllers and {} routers on base port {}, {}: ask for the same, or give a new folder",
            folder.display(),
            record.controllers,
            record.routers,
            record.base_port,
            if record.secure { "with TLS (without --insecure)" } else { "in plain text (--insecure)" }
        );
        return Ok(record.base_port);
    }
    match wish.base_port {
        Some(port) => Ok(port),
        None => free_base_port(wish),
    }
}

fn free_base_port(wish: &Wish) -> anyhow::Result<u16> {
    for _ in 0..BASE_PORT_ATTEMPTS_MAX {
        let base_port = rand::rng().random_range(FREE_BASE_PORT_MIN..BASE_PORT_END);
        let layout = laid_out(wish, PathBuf::new(), base_port);
        if layout.all_ports(wish.extra).into_iter().all(is_free) {
            return Ok(base_port);
        }
    }
    bail!("no free ports were found in {BASE_PORT_ATTEMPTS_MAX} attempts: name some with --base-port")
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(folder: Option<PathBuf>) -> Wish {
        Wish { folder, base_port: None, controllers: 3, routers: 2, secure: true, extra: 1, fresh: false }
    }

    #[test]
    fn a_temporary_folder_is_gone_afterwards_and_a_given_one_stays() {
        let home = Home::settle(&wish(None)).unwrap();
        let folder = home.layout.folder.clone();
        assert!(home.is_temporary() && folder.is_dir());
        home.leave().unwrap();
        assert!(!folder.exists());

        let given = tempfile::tempdir().unwrap();
        let home = Home::settle(&wish(Some(given.path().to_owned()))).unwrap();
        home.leave().unwrap();
        assert!(given.path().is_dir());
    }

    #[test]
    fn a_folder_keeps_its_ports_and_its_numbers() {
        let given = tempfile::tempdir().unwrap();
        let first = Home::settle(&wish(Some(given.path().to_owned()))).unwrap();
        let port = first.layout.base_port;
        first.leave().unwrap();
        let again = Home::settle(&wish(Some(given.path().to_owned()))).unwrap();
        assert_eq!(again.layout.base_port, port);
        again.leave().unwrap();
        let other = Wish { controllers: 5, ..wish(Some(given.path().to_owned())) };
        assert!(Home::settle(&other).unwrap_err().to_string().contains("give a new folder"));
        let plain = Wish { secure: false, ..wish(Some(given.path().to_owned())) };
        let refused = Home::settle(&plain).unwrap_err().to_string();
        assert!(refused.contains("with TLS") && refused.contains("give a new folder"), "{refused}");
        let fresh = Wish { fresh: true, ..wish(Some(given.path().to_owned())) };
        assert!(Home::settle(&fresh).unwrap_err().to_string().contains("begins with a new cluster"));
    }

    #[test]
    fn a_folder_in_use_a_foreign_folder_and_a_taken_port_are_refused() {
        let given = tempfile::tempdir().unwrap();
        let wished = wish(Some(given.path().to_owned()));
        let home = Home::settle(&wished).unwrap();
        assert!(Home::settle(&wished).unwrap_err().to_string().contains("another demo runs"));

        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, home.layout.ports(1).admin)).unwrap();
        let same_ports = Wish { base_port: Some(home.layout.base_port), ..wish(None) };
        assert!(Home::settle(&same_ports).unwrap_err().to_string().contains("is taken"));
        drop(taken);

        let foreign = tempfile::tempdir().unwrap();
        std::fs::write(foreign.path().join("thesis.tex"), "").unwrap();
        let wished = wish(Some(foreign.path().to_owned()));
        assert!(Home::settle(&wished).unwrap_err().to_string().contains("thesis.tex"));
    }
}
