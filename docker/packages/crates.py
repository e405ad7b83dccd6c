"""The crates that a build for this host takes in, as cargo resolves them: for the licences and the bill of materials."""

import json
import os
import re
import subprocess
import sys

# Cargo may have to fetch sources first; longer than this it hangs.
CARGO_SECONDS_MAX = 300


def run(*command):
    """What a command prints, or the end of this process with what it said."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CARGO_SECONDS_MAX)
    except (OSError, subprocess.TimeoutExpired) as why:
        sys.exit(f"error: {' '.join(command)}: {why}\nhint: it needs the Rust toolchain that builds the binary")
    if done.returncode:
        sys.exit(f"error: {' '.join(command)}\n{done.stderr.strip()}\nhint: `cargo fetch --locked` brings the sources")
    return done.stdout


def target():
    """What is built for: CARGO_BUILD_TARGET, or this host."""
    lines = run("rustc", "-vV").splitlines()
    return os.environ.get("CARGO_BUILD_TARGET") or next(line[6:] for line in lines if line.startswith("host: "))


def tree(kinds):
    """`cargo tree --edges KINDS`: each crate, by name and version, with those that it depends on. The tree knows which
    features a build of the binary alone turns on; the metadata does not."""
    printed = run("cargo", "tree", "--locked", "--edges", kinds, "--target", target(), "--prefix", "depth", "--format", "{p}")
    found, above = {}, []
    for line in printed.splitlines():
        # What a crate depends on is printed where it first stands, and not again.
        depth, name, version = re.match(r"(\d+)(\S+) v(\S+)", line).groups()
        found.setdefault((name, version), set())
        above[int(depth):] = [(name, version)]
        if len(above) > 1:
            found[above[-2]].add(above[-1])
    return found


def taken():
    """Cargo's description of each crate, in order of name and version, ours among them, with two additions: `linked`
    is whether its code is in the binary (otherwise it is a macro, or below one, and runs only while something is
    compiled), and `needs` names what it depends on."""
    metadata = json.loads(run("cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", target()))
    described = {(package["name"], package["version"]): package for package in metadata["packages"]}
    linked = tree("normal,no-proc-macro")
    return [
        {**described[crate], "linked": crate in linked, "needs": sorted(needs)}
        for crate, needs in sorted(tree("normal").items())
    ]
