//! `router enroll`: from a join token to a certificate, a configuration and a first list. What each of them takes is
//! `router::enrolling`'s to know.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::new_config::{absolute, beside, refuse_existing, write_new};
use crate::cli::arguments::{Output, RouterEnroll};
use crate::cli::config_layers::quoted;
use crate::cli::console::Console;
use crate::cli::exit::ExitStatus;
use crate::cli::failure::Failure;
use crate::cli::render::json;
use crate::cli::render::pki::instant;
use crate::domain::endpoint::{Endpoint, Scheme};
use crate::domain::principal::{Principal, RoleKind};
use crate::router::config::{RouterConfig, RouterFile, SEEDS_MAX};
use crate::router::enrolling::first_list::first_list;
use crate::router::enrolling::{EnrollError, enroll as ask, principal};
use crate::router::status::HeldStatus;
use crate::rpc::join_token::{JOIN_TOKEN_CHARS_MAX, JoinToken};
use crate::tls::TlsFile;
use crate::tls::authority::{Made, describe, read_certificates};
use crate::tls::identity::{self, Identity};

/// What was made, as `-o json` prints it. Field names are stable.
#[derive(Debug, Serialize)]
struct Enrolled {
    router: String,
    identity: String,
    /// Until when the certificate is good.
    until: String,
    tls_dir: PathBuf,
    data_dir: PathBuf,
    config: PathBuf,
    /// `EPOCH.INDEX`.
    list_version: String,
    /// Ids of the controllers in that list.
    controllers: Vec<u64>,
}

/// Where everything goes.
struct Places {
    data_dir: PathBuf,
    tls_dir: PathBuf,
    config: PathBuf,
}

pub(super) async fn enroll(asked: &RouterEnroll, console: Console) -> Result<ExitStatus, Failure> {
    if asked.if_needed && enrolled_before(asked, console)? {
        return Ok(ExitStatus::Done);
    }
    let token = token(asked)?;
    let principal = principal(&token).map_err(Failure::of)?;
    let places = places(asked)?;
    // Whatever is wrong with it is known before the token is used.
    router_file(&token, &places, &[]).validate().map_err(Failure::of)?;
    let within = Duration::from_secs(asked.timeout.get().into());
    let seeds = match identity::prepare(&places.tls_dir, &principal).map_err(Failure::of)? {
        Identity::Asking(made) => {
            refuse_existing(&places.config)?;
            certified(&token, &places, &made, within, console).await?
        }
        Identity::Complete => {
            still_good(&identity::certificate(&places.tls_dir))?;
            console.note(&format!(
                "{} is there already: only the list is asked for, and the token stays as it is",
                identity::certificate(&places.tls_dir).display()
            ));
            Vec::new()
        }
    };
    let file = router_file(&token, &places, &seeds);
    if seeds.is_empty() && places.config.exists() {
        console.note(&format!("{} is there already, and stays as it is", places.config.display()));
    } else {
        write_new(&places.config, &text(&file)?)?;
    }
    let config = file.validate().map_err(Failure::of)?;
    let held = listed(config, &places, within).await?;
    report(&token, &principal, places, held, asked.output.output, console)?;
    Ok(ExitStatus::Done)
}

/// Whether a router's certificate is there. One that has ended counts too: its router has a list that it can start from.
fn enrolled_before(asked: &RouterEnroll, console: Console) -> Result<bool, Failure> {
    let Places { tls_dir, config, .. } = places(asked)?;
    let path = identity::certificate(&tls_dir);
    let owner = match identity::holder(&tls_dir).map_err(Failure::of)? {
        None => return Ok(false),
        Some(Some(owner)) if owner.role.kind() == RoleKind::Router => owner,
        Some(_) => {
            return Err(Failure::new(format!("{} is there already, and is no router's", path.display()))
                .hint("choose another directory with --tls-dir"));
        }
    };
    let until = until(&path)?;
    let end = if until > now() { "good until" } else { "and was good until" };
    console.note(&format!("{} is there already: {owner}, {end} {}; nothing is asked", path.display(), instant(until)));
    if !config.exists() {
        console.note(&format!("{} is missing: write it, or leave it out if variables say the same", config.display()));
    }
    if until <= now() {
        console.note("controllers refuse it: enroll this router again, with another --tls-dir and a new token");
    }
    Ok(true)
}

/// Gets a certificate and puts it beside its key. Returns where else routers reach the cluster.
async fn certified(
    token: &JoinToken,
    places: &Places,
    made: &Made,
    within: Duration,
    console: Console,
) -> Result<Vec<Endpoint>, Failure> {
    let granted = ask(token, &made.request_der, within, rand::random).await.map_err(refused)?;
    identity::complete(&places.tls_dir, &granted.certificate, &granted.ca_controllers).map_err(Failure::of)?;
    console.note(&format!("{} gave a certificate to router {}", granted.from, token.router));
    Ok(token.controllers.iter().cloned().chain(granted.controllers).collect())
}

async fn listed(config: RouterConfig, places: &Places, within: Duration) -> Result<HeldStatus, Failure> {
    let router = config.id.clone();
    first_list(config, within).await.map_err(|why| {
        Failure::of(why).doing(format!("router {router} has its certificate, and no list yet")).hint(format!(
            "repeat this command, which asks for the list alone; or start the router, which goes on asking: \
             pilothouse router run --config {}",
            places.config.display()
        ))
    })
}

fn token(asked: &RouterEnroll) -> Result<JoinToken, Failure> {
    let text = match (&asked.token, &asked.token_file) {
        (Some(token), _) if token.0 != "-" => token.0.clone(),
        (_, Some(path)) => {
            let file = File::open(path).and_then(read);
            file.map_err(|why| Failure::from(why).doing(format!("cannot read the token in {}", path.display())))?
        }
        _ => read(std::io::stdin()).map_err(|why| Failure::from(why).doing("cannot read the token on stdin"))?,
    };
    // Its words never quote the token.
    text.parse().map_err(|why| Failure::usage(format!("the token {why}")))
}

/// One character more than allowed, to see that there are more; and a line break.
fn read(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(JOIN_TOKEN_CHARS_MAX as u64 + 2).read_to_string(&mut text)?;
    Ok(text)
}

fn places(asked: &RouterEnroll) -> Result<Places, Failure> {
    let data_dir = absolute(&asked.data_dir)?;
    let tls_dir = asked.tls_dir.as_ref().map_or_else(|| beside(&data_dir, "tls"), |dir| absolute(dir))?;
    if tls_dir == data_dir {
        return Err(Failure::usage("the data directory is the router's own").hint("give --tls-dir another directory"));
    }
    let config = asked.config_out.as_ref().map_or_else(|| beside(&tls_dir, "router.toml"), |file| absolute(file))?;
    Ok(Places { data_dir, tls_dir, config })
}

fn router_file(token: &JoinToken, places: &Places, seeds: &[Endpoint]) -> RouterFile {
    let mut named: Vec<String> = Vec::new();
    for seed in token.controllers.iter().chain(seeds).filter(|seed| seed.scheme() == Scheme::Tls) {
        let seed = seed.to_string();
        if named.len() < SEEDS_MAX && !named.contains(&seed) {
            named.push(seed);
        }
    }
    RouterFile {
        id: Some(token.router.to_string()),
        data_dir: Some(places.data_dir.clone()),
        seeds: named,
        renew_certificate: Some(true),
        tls: TlsFile { dir: Some(places.tls_dir.clone()), ..TlsFile::default() },
        ..RouterFile::default()
    }
}

/// What `router_file` wrote, as TOML.
fn text(file: &RouterFile) -> Result<String, Failure> {
    let path = |path: &Option<PathBuf>| path.as_deref().and_then(Path::to_str).map(quoted).unwrap_or_default();
    let seeds: String = file.seeds.iter().map(|seed| format!("    {},\n", quoted(seed))).collect();
    let id = quoted(file.id.as_deref().unwrap_or_default());
    Ok(format!(
        "# Written by `pilothouse router enroll`. `pilothouse router example-config` explains every key.\n\n\
         id = {id}\ndata_dir = {}\n# Tried when nobody in the saved list answers.\nseeds = [\n{seeds}]\n\
         # Controllers give it the next certificate, for the same key, before half of its time is over.\n\
         renew_certificate = {}\n\n\
         [tls]\n# Read again as soon as it changes.\ndir = {}\n",
        path(&file.data_dir),
        file.renew_certificate.unwrap_or_default(),
        path(&file.tls.dir)
    ))
}

fn until(certificate: &Path) -> Result<time::OffsetDateTime, Failure> {
    let text = read_certificates(certificate).map_err(Failure::of)?;
    let leaf = describe(&text).map_err(Failure::of)?.into_iter().next();
    leaf.map(|leaf| leaf.not_after).ok_or_else(|| Failure::new(format!("{} is empty", certificate.display())))
}

fn now() -> time::OffsetDateTime {
    SystemTime::now().into()
}

fn still_good(certificate: &Path) -> Result<(), Failure> {
    let until = until(certificate)?;
    if until > now() {
        return Ok(());
    }
    Err(Failure::new(format!("{} is there already, and was good until {}", certificate.display(), instant(until)))
        .hint("move it and key.pem away, and repeat the command: a new key gets a new certificate"))
}

fn report(
    token: &JoinToken,
    principal: &Principal,
    places: Places,
    held: HeldStatus,
    output: Output,
    console: Console,
) -> Result<(), Failure> {
    let enrolled = Enrolled {
        router: token.router.to_string(),
        identity: principal.to_string(),
        until: instant(until(&identity::certificate(&places.tls_dir))?),
        list_version: held.version_text,
        controllers: held.controllers.iter().map(|id| id.get()).collect(),
        tls_dir: places.tls_dir,
        data_dir: places.data_dir,
        config: places.config,
    };
    console.data(&match output {
        Output::Json => json(&enrolled),
        Output::Table => format!(
            "{} in {}  good until {}\nlist {} with {} controllers in {}\n",
            enrolled.identity,
            enrolled.tls_dir.display(),
            enrolled.until,
            enrolled.list_version,
            enrolled.controllers.len(),
            enrolled.data_dir.display()
        ),
    })?;
    console.note(&format!("next: pilothouse router run --config {}", enrolled.config.display()));
    Ok(())
}

fn refused(error: EnrollError) -> Failure {
    match error {
        EnrollError::Refused { at, reason, message, hint } => {
            Failure::new(format!("{at} refused: {message} ({reason})")).hint(hint)
        }
        EnrollError::Nobody(attempts) => {
            let attempts: String = attempts.iter().map(|attempt| format!("\n  {attempt}")).collect();
            Failure::new(format!("no controller gave a certificate{attempts}")).hint(
                "check that a controller runs and can be reached from here; the key stays, so the same token can be used again",
            )
        }
        other => Failure::of(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::config_layers::{Layers, load};
    use crate::domain::ids::TokenId;
    use crate::rpc::join_token::Secret;

    #[test]
    fn the_written_configuration_is_read_as_it_was_meant() {
        let folder = tempfile::tempdir().unwrap();
        let odd = folder.path().join("a \"quoted\" \\ dir");
        let places = Places { data_dir: odd.join("d"), tls_dir: odd.join("t"), config: folder.path().join("r.toml") };
        let token = JoinToken {
            role: RoleKind::Router,
            router: "edge-7".parse().unwrap(),
            trust_domain: "example.org".parse().unwrap(),
            ca_sha256: vec![[9; 32]],
            controllers: ["https://c1.example:7002", "http://c9:1"].map(|text| text.parse().unwrap()).into(),
            id: TokenId::from_u128(1),
            secret: Secret::new([1; 32]),
        };
        let more: Vec<Endpoint> = (1..200).map(|n| format!("https://c{n}.example:7002").parse().unwrap()).collect();
        let file = router_file(&token, &places, &more);
        assert_eq!((file.seeds.len(), file.seeds[0].as_str()), (SEEDS_MAX, "https://c1.example:7002"));
        write_new(&places.config, &text(&file).unwrap()).unwrap();
        let layers = Layers { file: Some(places.config.clone()), ..Layers::default() };
        let read = load::<RouterFile>(&layers).unwrap().written;
        assert_eq!(read.validate().unwrap(), file.validate().unwrap());
        assert!(write_new(&places.config, "").is_err(), "nothing is overwritten");
    }
}
