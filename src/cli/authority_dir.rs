//! The directory of an authority and the directories that it fills: the names of their files, and who gets which.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::cli::failure::Failure;
use crate::domain::principal::{RoleKind, TrustDomain};
use crate::tls::authority::{
    Issuer, IssuerError, Leaf, PrivateKey, Request, Validity, joined, make_request, plural, read_certificates,
    read_key, write_certificates, write_pair,
};
use crate::tls::config::names::{CERTIFICATE, KEY, ROUTER_ISSUER, ROUTER_ISSUER_KEY};

/// Only its owner.
const DIR_MODE: u32 = 0o700;

/// Where the issuers are.
pub(super) struct AuthorityDir<'a>(pub(super) &'a Path);

impl AuthorityDir<'_> {
    /// A role's issuer.
    pub(super) fn certificate(&self, kind: RoleKind) -> PathBuf {
        self.0.join(format!("issuer-{}.pem", plural(kind)))
    }

    /// Its key.
    pub(super) fn key(&self, kind: RoleKind) -> PathBuf {
        self.0.join(format!("issuer-{}-key.pem", plural(kind)))
    }

    /// The anchors that are trusted for a role.
    pub(super) fn bundle(&self, kind: RoleKind) -> PathBuf {
        self.0.join(bundle_name(kind))
    }

    /// Makes the first issuers. Nothing that is there is written over.
    pub(super) fn found(&self, domain: &TrustDomain, valid: Validity) -> Result<Vec<Issuer>, Failure> {
        let files =
            RoleKind::ALL.into_iter().flat_map(|kind| [self.certificate(kind), self.key(kind), self.bundle(kind)]);
        refuse_existing(
            &files.collect::<Vec<_>>(),
            "an authority is never overwritten: replace an issuer with `pilothouse pki renew --issuer`, or give another directory",
        )?;
        make_authority(self.0)?;
        let made = RoleKind::ALL.into_iter().map(|kind| {
            let issuer = Issuer::create(domain, kind, valid).map_err(Failure::of)?;
            self.put_issuer(&issuer)?;
            write_certificates(&self.bundle(kind), &issuer.certificate_pem()).map_err(Failure::of)?;
            Ok(issuer)
        });
        made.collect()
    }

    /// Opens the current issuer of a role.
    pub(super) fn issuer(&self, kind: RoleKind) -> Result<Issuer, Failure> {
        let path = self.certificate(kind);
        let doing = format!("cannot use the issuer {}", path.display());
        let certificate = read_certificates(&path).map_err(Failure::of);
        let read =
            certificate.and_then(|certificate| Ok((certificate, read_key(&self.key(kind)).map_err(Failure::of)?)));
        let (certificate, key) = read
            .map_err(|why| why.doing(doing.clone()).hint("--dir is the directory that `pilothouse pki init` made"))?;
        match Issuer::open(&certificate, &key) {
            Ok(issuer) if issuer.kind() == kind => Ok(issuer),
            Ok(other) => Err(Failure::new(format!("it is the issuer of {}", plural(other.kind())))
                .doing(doing)
                .hint("put the files of this directory back as `pilothouse pki init` made them")),
            // The key of a new issuer gets its place before its certificate, and the bundle has it before both.
            Err(why @ IssuerError::Mismatch) => Err(Failure::of(why).doing(doing).hint(format!(
                "if its replacement was cut off, the last certificate in {} is the one of this key: copy that there",
                bundle_name(kind)
            ))),
            Err(why) => Err(Failure::of(why).doing(doing)),
        }
    }

    /// Writes a role's issuer, the new one or the first.
    pub(super) fn put_issuer(&self, issuer: &Issuer) -> Result<(), Failure> {
        let kind = issuer.kind();
        write_pair(&self.key(kind), &issuer.key_pem(), &self.certificate(kind), &issuer.certificate_pem())
            .map_err(Failure::of)
    }

    /// The anchors that are trusted for a role.
    pub(super) fn anchors(&self, kind: RoleKind) -> Result<String, Failure> {
        let path = self.bundle(kind);
        // What was put there by hand may be anything: certificates are taken from it and nothing else.
        let text = read_certificates(&path).map_err(Failure::of)?;
        let anchors =
            joined(&[&text]).map_err(|why| Failure::of(why).doing(format!("cannot read {}", path.display())))?;
        if anchors.is_empty() {
            return Err(Failure::new(format!("{} holds no certificate", path.display()))
                .hint(format!("copy issuer-{}.pem there", plural(kind))));
        }
        Ok(anchors)
    }

    /// Copies what an identity of a role trusts: controllers are called by everybody, the others call controllers only.
    pub(super) fn copy_trust(&self, kind: RoleKind, out: &Path) -> Result<(), Failure> {
        let trusted: &[RoleKind] = match kind {
            RoleKind::Controller => &RoleKind::ALL,
            RoleKind::Router | RoleKind::Admin => &[RoleKind::Controller],
        };
        for kind in trusted {
            write_certificates(&out.join(bundle_name(*kind)), &self.anchors(*kind)?).map_err(Failure::of)?;
        }
        Ok(())
    }

    /// Makes the directory of an identity: whom it trusts, the issuer of routers where it is to have it, and last, so that
    /// it is whole when it is there, its certificate.
    pub(super) fn fill(&self, out: &Path, kind: RoleKind, router_issuer: bool, signed: &Signed) -> Result<(), Failure> {
        make_private(out)?;
        self.copy_trust(kind, out)?;
        if router_issuer {
            self.copy_router_issuer(out)?;
        }
        signed.put(out)
    }

    /// Copies the issuer of routers, the only one that ever leaves this directory.
    pub(super) fn copy_router_issuer(&self, out: &Path) -> Result<(), Failure> {
        let issuer = self.issuer(RoleKind::Router)?;
        let (key, certificate) = (out.join(ROUTER_ISSUER_KEY), out.join(ROUTER_ISSUER));
        write_pair(&key, &issuer.key_pem(), &certificate, &issuer.certificate_pem()).map_err(Failure::of)
    }
}

/// A certificate, and its key unless somebody else has it.
pub(super) struct Signed {
    /// The key, where it was made here.
    pub(super) key: Option<PrivateKey>,
    /// The certificate, and its issuer's.
    pub(super) chain: String,
}

impl Signed {
    /// For a key that is made here.
    pub(super) fn with_new_key(issuer: &Issuer, leaf: &Leaf) -> Result<Self, Failure> {
        let made = make_request(&leaf.principal).map_err(Failure::of)?;
        let request = Request::from_der(&made.request_der).map_err(Failure::of)?;
        Ok(Self { key: Some(made.key), chain: issuer.sign(&request, leaf).map_err(Failure::of)? })
    }

    /// Writes both.
    pub(super) fn put(&self, out: &Path) -> Result<(), Failure> {
        let certificate = out.join(CERTIFICATE);
        match &self.key {
            Some(key) => write_pair(&out.join(KEY), key, &certificate, &self.chain).map_err(Failure::of),
            None => write_certificates(&certificate, &self.chain).map_err(Failure::of),
        }
    }
}

fn bundle_name(kind: RoleKind) -> String {
    format!("ca-{}.pem", plural(kind))
}

/// Nothing that is there is written over.
pub(super) fn refuse_existing(paths: &[PathBuf], hint: &str) -> Result<(), Failure> {
    match paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        Some(path) => Err(Failure::new(format!("{} is there already", path.display())).hint(hint)),
        None => Ok(()),
    }
}

/// Makes a directory that only its owner can open.
pub(super) fn make_private(dir: &Path) -> Result<(), Failure> {
    let made = fs::DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir);
    made.map_err(|why| Failure::from(why).doing(format!("cannot make the directory {}", dir.display())))
}

/// Makes the directory of an authority, or takes an empty one. One that has something in it stays as it is.
pub(super) fn make_authority(dir: &Path) -> Result<(), Failure> {
    make_private(dir)?;
    let inspected = || -> io::Result<bool> {
        if dir.metadata()?.mode() & 0o077 == 0 {
            return Ok(true);
        }
        let empty = fs::read_dir(dir)?.next().is_none();
        if empty {
            fs::set_permissions(dir, fs::Permissions::from_mode(DIR_MODE))?;
        }
        Ok(empty)
    };
    match inspected().map_err(|why| Failure::from(why).doing(format!("cannot use the directory {}", dir.display())))? {
        true => Ok(()),
        false => Err(Failure::new(format!("{} is open to others, and something is in it", dir.display()))
            .hint("give a directory of its own, or `chmod 700` this one")),
    }
}
