//! `controller join`: key, request and configuration of a controller that is to be added, and what to do then.

use std::path::{Path, PathBuf};

use super::new_config::{absolute, beside, refuse_existing, write_new};
use crate::cli::arguments::ControllerJoin;
use crate::cli::config_layers::quoted;
use crate::cli::console::Console;
use crate::cli::exit::ExitStatus;
use crate::cli::failure::Failure;
use crate::controller::config::{ControllerConfig, ControllerFile, ListenFile};
use crate::domain::principal::{Principal, Role};
use crate::tls::ControllerTlsFile;
use crate::tls::authority::write_certificates;
use crate::tls::config::names;
use crate::tls::identity::{self, Identity};

/// The request, beside the key that it is for.
const REQUEST: &str = "request.pem";

pub(super) fn join(asked: &ControllerJoin, console: Console) -> Result<ExitStatus, Failure> {
    let tls_dir = absolute(&asked.tls_dir)?;
    let config_out = asked.config_out.as_ref().map_or_else(|| beside(&tls_dir, "controller.toml"), |f| absolute(f))?;
    let file = controller_file(asked, &tls_dir)?;
    let config = file.clone().validate().map_err(|why| {
        Failure::of(why)
            .hint("--peer, --router, --admin and --http are addresses of this host, as in --peer 10.0.0.4:7001")
    })?;
    refuse_existing(&config_out)?;
    let principal = Principal { domain: asked.trust_domain.clone(), role: Role::Controller(asked.id) };
    let made = match identity::prepare(&tls_dir, &principal).map_err(Failure::of)? {
        Identity::Asking(made) => made,
        Identity::Complete => {
            let certificate = identity::certificate(&tls_dir);
            return Err(Failure::new(format!("{} is there already: {principal} has it", certificate.display()))
                .hint("start it with `pilothouse controller run`, or choose another directory with --tls-dir"));
        }
    };
    let request = tls_dir.join(REQUEST);
    write_certificates(&request, &made.request_pem).map_err(Failure::of)?;
    write_new(&config_out, &text(&file))?;
    console.data(&steps(asked, &config, &request, &config_out))?;
    if config.listen.peer.ip().is_loopback() {
        console.note("it listens on this host alone: other hosts reach it when listen, or --peer, --router and --admin, say where");
    }
    Ok(ExitStatus::Done)
}

fn controller_file(asked: &ControllerJoin, tls_dir: &Path) -> Result<ControllerFile, Failure> {
    Ok(ControllerFile {
        name: Some(asked.name.to_string()),
        data_dir: Some(absolute(&asked.data_dir)?),
        join: Some(true),
        listen: ListenFile {
            peer: asked.peer.clone(),
            router: asked.router.clone(),
            admin: asked.admin.clone(),
            http: asked.http.clone(),
        },
        tls: ControllerTlsFile {
            dir: Some(tls_dir.to_owned()),
            trust_domain: Some(asked.trust_domain.to_string()),
            ..ControllerTlsFile::default()
        },
        ..ControllerFile::default()
    })
}

/// What `controller_file` wrote, as TOML.
fn text(file: &ControllerFile) -> String {
    let path = |path: &Option<PathBuf>| path.as_deref().and_then(Path::to_str).map(quoted).unwrap_or_default();
    let ListenFile { peer, router, admin, http } = &file.listen;
    let listen = [("peer", peer), ("router", router), ("admin", admin), ("http", http)];
    let listen: String = listen
        .into_iter()
        .filter_map(|(kind, address)| address.as_ref().map(|address| format!("{kind} = {}\n", quoted(address))))
        .collect();
    format!(
        "# Written by `pilothouse controller join`. `pilothouse controller example-config` explains every key.\n\n\
         name = {}\ndata_dir = {}\n# Waits blank until `pilothouse cluster add`.\njoin = true\n\n[listen]\n{listen}\n\
         [tls]\n# Its certificate says which id it gets.\ndir = {}\ntrust_domain = {}\n",
        quoted(file.name.as_deref().unwrap_or_default()),
        path(&file.data_dir),
        path(&file.tls.dir),
        quoted(file.tls.trust_domain.as_deref().unwrap_or_default())
    )
}

/// What is left to do, in order, each as it is typed.
fn steps(asked: &ControllerJoin, config: &ControllerConfig, request: &Path, config_out: &Path) -> String {
    let (id, dir) = (asked.id, request.parent().unwrap_or(request));
    let peer =
        config.advertise.peer.first().map_or_else(|| format!("https://{}", config.listen.peer), |to| to.to_string());
    let [certificate, controllers, routers, admins] =
        [names::CERTIFICATE, names::CA_CONTROLLERS, names::CA_ROUTERS, names::CA_ADMINS];
    format!(
        "controller {id} has a key and a request in {}; the key stays here\n\n\
         1. where the authority is (CA), with a copy of request.pem:\n   \
         pilothouse pki issue --dir CA controller {id} --csr request.pem --out OUT\n   \
         (--with-router-issuer lets it enrol routers; --dns and --ip name it for browsers of its HTTP port)\n\
         2. copy from OUT to {}:\n   {certificate} {controllers} {routers} {admins}\n   \
         ({} and {} too, if they are there)\n\
         3. here:\n   pilothouse controller run --config {}\n\
         4. an operator of the cluster:\n   pilothouse cluster add --peer {peer}\n   \
         (id {id} must never have been used: `pilothouse cluster status` shows the next free one)\n",
        dir.display(),
        dir.display(),
        names::ROUTER_ISSUER,
        names::ROUTER_ISSUER_KEY,
        config_out.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::config_layers::{Layers, load};

    #[test]
    fn the_written_configuration_is_read_as_it_was_meant() {
        let folder = tempfile::tempdir().unwrap();
        let asked = ControllerJoin {
            id: "4".parse().unwrap(),
            name: "controller-4".parse().unwrap(),
            trust_domain: "example.org".parse().unwrap(),
            data_dir: folder.path().join("d"),
            tls_dir: folder.path().join("t"),
            peer: Some("10.0.0.4:7001".into()),
            router: None,
            admin: None,
            http: None,
            config_out: None,
        };
        let file = controller_file(&asked, &asked.tls_dir).unwrap();
        let path = folder.path().join("c.toml");
        write_new(&path, &text(&file)).unwrap();
        let read = load::<ControllerFile>(&Layers { file: Some(path.clone()), ..Layers::default() }).unwrap().written;
        let meant = file.validate().unwrap();
        assert_eq!(read.validate().unwrap(), meant);
        let steps = steps(&asked, &meant, &asked.tls_dir.join(REQUEST), &path);
        assert!(steps.contains("cluster add --peer https://10.0.0.4:7001\n"), "{steps}");
    }
}
