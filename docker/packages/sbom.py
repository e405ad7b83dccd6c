#!/usr/bin/env python3
"""Prints the bill of materials of the binary: CycloneDX 1.6 as JSON, every crate of `cargo tree -e normal`.

Own code: cargo-cyclonedx 0.5 takes more than four minutes of a core to install, writes only beside Cargo.toml, puts the
folder of the build into the document, and lists crates that only the features of build scripts bring. The same commit
gives the same bytes: the time is SOURCE_DATE_EPOCH, and the serial number is drawn from the content."""

import datetime
import json
import os
import re
import sys
import uuid

import crates


def purl(name, version):
    # `+` (build metadata, as in 0.9.34+deprecated) has to be escaped; nothing else in a crate's version has.
    return f"pkg:cargo/{name}@{version.replace('+', '%2B')}"


def checksums():
    """SHA-256 of the archive of each crate, as Cargo.lock has them."""
    with open("Cargo.lock", encoding="utf-8") as file:
        entries = file.read().split("[[package]]")
    entry = r'name = "(?P<name>.*)"\nversion = "(?P<version>.*)"\nsource = ".*"\nchecksum = "(?P<sum>[0-9a-f]{64})"'
    found = (re.search(entry, text) for text in entries)
    return {(match["name"], match["version"]): match["sum"] for match in found if match}


def expression(licence):
    """As SPDX has it; `/` is the old way to write OR."""
    return re.sub(r"\s*/\s*", " OR ", licence)


def component(package, sums):
    """A crate, as CycloneDX describes one."""
    name, version = package["name"], package["version"]
    described = {
        "type": "library" if package["source"] else "application",
        "bom-ref": purl(name, version),
        "name": name,
        "version": version,
        "description": " ".join((package["description"] or "").split()),
        # Excluded: it runs while the binary is compiled, and is not in it.
        "scope": "required" if package["linked"] else "excluded",
        "licenses": [{"expression": expression(package["license"])}],
        "purl": purl(name, version),
    }
    if (name, version) in sums:
        described["hashes"] = [{"alg": "SHA-256", "content": sums[name, version]}]
    if package["repository"]:
        described["externalReferences"] = [{"type": "vcs", "url": package["repository"]}]
    return described


def bill(packages, sums, seconds):
    """The whole document."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)
    own = [component(package, sums) for package in packages if not package["source"]]
    document = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "lifecycles": [{"phase": "build"}],
            "component": own[0],
            "properties": [{"name": "cargo:target", "value": crates.target()}],
        },
        "components": [component(package, sums) for package in packages if package["source"]],
        "dependencies": [
            {
                "ref": purl(package["name"], package["version"]),
                "dependsOn": [purl(*crate) for crate in package["needs"]],
            }
            for package in packages
        ],
    }
    serial = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(document, sort_keys=True))
    return {**document, "serialNumber": f"urn:uuid:{serial}"}


def main():
    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not epoch.isdigit():
        sys.exit("error: SOURCE_DATE_EPOCH is not set\nhint: SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)")
    json.dump(bill(crates.taken(), checksums(), int(epoch)), sys.stdout, indent=2, ensure_ascii=False)
    print()


if __name__ == "__main__":
    main()
