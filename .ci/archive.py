#!/usr/bin/env python3
"""Checks what an unpacked release archive says of its binary: the bill of materials against CycloneDX's own schema,
against cargo and against the binary; the licences against the bill; and that nobody's folders are in the binary."""

import json
import os
import pathlib
import re
import subprocess
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

# Fewer crates than this name a file of theirs in the binary only if the search for them is broken.
CRATES_IN_BINARY_MIN = 40


def cargo_tree(kinds):
    """Every crate of `cargo tree`, one a line."""
    command = ["cargo", "tree", "--locked", "--edges", kinds, "--prefix", "none", "--no-dedupe", "--format", "{p} {l}"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    lines = {re.sub(r" \((?:proc-macro|/.*?)\)", "", line) for line in printed.splitlines()}
    return {tuple(line.split(" ", 2)) for line in lines}


def schema_faults(text):
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    return [f"the bill of materials breaks the schema: {fault}"] if fault else []


def bill_faults(bill):
    """The bill against cargo's own list."""
    entries = [bill["metadata"]["component"], *bill["components"]]
    listed = {(entry["name"], f"v{entry['version']}", entry["licenses"][0]["expression"]) for entry in entries}
    expected = {(name, version, re.sub(r"\s*/\s*", " OR ", licence)) for name, version, licence in cargo_tree("normal")}
    yield from (f"the bill of materials lacks {crate}" for crate in sorted(expected - listed))
    yield from (f"the bill of materials has {crate}, and cargo does not" for crate in sorted(listed - expected))
    if len(listed) != len(entries):
        yield "the bill of materials names a crate twice"
    for entry in entries:
        purl = PackageURL.from_string(entry["purl"])
        if (purl.type, purl.name, purl.version) != ("cargo", entry["name"], entry["version"]):
            yield f"{entry['purl']} is not the address of {entry['name']} {entry['version']}"
    required = {(entry["name"], f"v{entry['version']}") for entry in entries if entry["scope"] == "required"}
    linked = {crate[:2] for crate in cargo_tree("normal,no-proc-macro")}
    yield from (f"{crate} is in the binary or not, the bill says the opposite" for crate in sorted(required ^ linked))


def binary_faults(binary, bill):
    """The bill against the files that the binary's panics name; and whose folders those are in."""
    required = {f"{entry['name']}-{entry['version']}" for entry in bill["components"] if entry["scope"] == "required"}
    named = {crate.decode() for crate in re.findall(rb"/crates/([A-Za-z0-9_-]+-\d+\.[0-9A-Za-z.+-]+)/", binary)}
    if len(named) < CRATES_IN_BINARY_MIN:
        yield f"only {len(named)} crates name a file in the binary: were the flags of docker/packages/flags.sh left out?"
    yield from (f"{crate} is in the binary, and the bill of materials lacks it" for crate in sorted(named - required))
    if b"src/controller/" not in binary:
        yield "no panic of the binary would name a file of ours"
    homes = [os.getcwd(), os.environ.get("CARGO_HOME") or os.path.expanduser("~/.cargo")]
    yield from (f"the binary names {folder}" for folder in homes if folder.encode() in binary)


def licence_faults(texts, bill):
    for entry in bill["components"]:
        crate = f"{entry['name']} {entry['version']}"
        # Once in the list, and once above each of its texts.
        if entry["scope"] == "required" and not (f"\n{crate}  " in texts and f"\n{crate} (" in texts):
            yield f"the licences lack {crate}"


def main():
    top = pathlib.Path(sys.argv[1])
    text = (top / "pilothouse.cdx.json").read_text("utf-8")
    bill = json.loads(text)
    faults = schema_faults(text)
    faults += bill_faults(bill)
    faults += binary_faults((top / "pilothouse").read_bytes(), bill)
    faults += licence_faults((top / "licences/THIRD-PARTY.txt").read_text("utf-8"), bill)
    for fault in faults:
        print(f"archive: {fault}", file=sys.stderr)
    print(f"archive: {len(bill['components'])} crates, {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
