//! What is in a data directory, for `pilothouse router list`: reads, and changes nothing; works while a router runs.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::record::Record;
use super::{
    CURRENT, Disk, FLOOR, Generation, HostDisk, OpenError, PREVIOUS, RESERVE, Reserved, Trust, Unusable, read_record,
    rejected, same_cluster, trust_of,
};
use crate::domain::controller_list::{ControllerList, ListVersion};
use crate::domain::ids::{ClusterId, ControllerId};

/// What is in a data directory.
#[derive(Debug, Clone, Serialize)]
pub struct Inspection {
    /// Which.
    pub data_dir: PathBuf,
    /// The cluster that the router belongs to.
    pub cluster: Option<ClusterId>,
    /// Nothing older than this is adopted.
    pub floor: Option<ListVersion>,
    /// Controllers that were removed from the cluster and are not spoken to.
    pub retired: Vec<ControllerId>,
    /// `list.current`, then `list.previous`.
    pub lists: Vec<FileView<ListView>>,
    /// The trusted cluster and the floor.
    pub floor_file: FileView<()>,
    /// Controllers that were held since the last contact with a member of the newest list.
    pub reserve: FileView<Vec<Reserved>>,
    /// Names of files that were set aside.
    pub set_aside: Vec<String>,
}

/// A file and what it holds.
#[derive(Debug, Clone, Serialize)]
pub struct FileView<T> {
    /// Its name.
    pub name: &'static str,
    /// What it holds.
    #[serde(flatten)]
    pub state: FileState<T>,
}

/// What a file holds.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "state", content = "content", rename_all = "snake_case")]
pub enum FileState<T> {
    /// There is no such file.
    Absent,
    /// It is usable.
    Valid(T),
    /// It is not, and would be set aside at the next start.
    Unusable(String),
}

/// A saved list.
#[derive(Debug, Clone, Serialize)]
pub struct ListView {
    /// The list.
    pub list: ControllerList,
    /// Digest of its bytes, in hexadecimal.
    pub digest: String,
    /// When it was adopted: milliseconds since 1970.
    pub adopted_ms: u64,
}

impl Inspection {
    /// The list that a router would start with.
    #[must_use]
    pub fn in_use(&self) -> Option<&ListView> {
        self.lists.iter().find_map(|file| match &file.state {
            FileState::Valid(list) => Some(list),
            FileState::Absent | FileState::Unusable(_) => None,
        })
    }
}

/// Reads a data directory without locking or changing it.
///
/// # Errors
/// [`OpenError::Create`] when there is no such directory.
pub fn inspect(dir: &Path) -> Result<Inspection, OpenError> {
    let disk = HostDisk;
    let mut names = disk.names(dir).map_err(|source| OpenError::Create { path: dir.into(), source })?;
    names.retain(|name| rejected::is_set_aside(name));
    names.sort_unstable();
    let trust = read_record::<Trust>(&disk, &dir.join(FLOOR));
    let floor_file = FileView { name: FLOOR, state: state(&trust, |_| ()) };
    let mut trusted = trust.as_ref().ok().and_then(Option::as_ref).and_then(|trust| trust.cluster);
    let mut list = |file: &str| -> Result<Option<Generation>, Unusable> {
        let list = read::<Generation>(dir, file)?;
        list.as_ref().map_or(Ok(()), |list| same_cluster(trusted, list))?;
        trusted = trusted.or(list.as_ref().map(|list| list.held.list.identity().cluster));
        Ok(list)
    };
    let (current, previous) = (list(CURRENT), list(PREVIOUS));
    let valid = |list: &Result<Option<Generation>, Unusable>| list.as_ref().ok().cloned().flatten();
    let (newest, older) = (valid(&current), valid(&previous));
    let trust = trust_of(trust.ok().flatten(), newest.as_ref(), older.as_ref());
    Ok(Inspection {
        data_dir: dir.into(),
        cluster: trust.cluster,
        floor: trust.floor.map(|floor| floor.version),
        retired: trust.retired.into_iter().collect(),
        lists: [(CURRENT, current), (PREVIOUS, previous)]
            .into_iter()
            .map(|(name, list)| FileView { name, state: state(&list, view) })
            .collect(),
        floor_file,
        reserve: FileView { name: RESERVE, state: state(&read::<Vec<Reserved>>(dir, RESERVE), Clone::clone) },
        set_aside: names,
    })
}

fn read<R: Record>(dir: &Path, file: &str) -> Result<Option<R>, Unusable> {
    read_record(&HostDisk, &dir.join(file))
}

fn state<R, T>(read: &Result<Option<R>, Unusable>, view: impl FnOnce(&R) -> T) -> FileState<T> {
    match read {
        Ok(None) => FileState::Absent,
        Ok(Some(record)) => FileState::Valid(view(record)),
        Err(why) => FileState::Unusable(why.to_string()),
    }
}

fn view(generation: &Generation) -> ListView {
    let digest = generation.held.digest.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    ListView { list: ControllerList::clone(&generation.held.list), digest, adopted_ms: generation.adopted_ms }
}
