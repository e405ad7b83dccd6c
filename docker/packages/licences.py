#!/usr/bin/env python3
"""Prints the licence texts of every crate that is linked into the binary, from the crates' own sources.

A crate that comes without any text gets the standard one of a licence that it can be taken under, with its authors; when
there is none of those either, nothing is printed and the run fails."""

import pathlib
import re
import sys

import crates

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
# Standard texts, in order of preference: the first needs no names of authors.
STANDARD = {"Apache-2.0": ROOT / "LICENSE", "MIT": HERE / "licences/MIT.txt"}
NAMED = re.compile(r"(licen[sc]es?|unlicense|copying|copyright|notice)([-._].*)?", re.IGNORECASE)
# What is named like a licence and is none: `license.rs` is code.
NO_TEXT = {".rs", ".toml", ".json", ".py", ".sh", ".html", ".yml"}
RULE = "=" * 100


def own_texts(folder):
    """The licence files of a crate by their path in it, those of what it carries along (`third_party/…`) among them."""
    files = (path for path in sorted(folder.rglob("*")) if NAMED.fullmatch(path.name) and path.suffix not in NO_TEXT)
    return {path.relative_to(folder).as_posix(): tidy(path.read_text("utf-8", "replace")) for path in files if path.is_file()}


def tidy(text):
    """The same text for the same licence: line ends and blank edges differ from crate to crate."""
    lines = [line.rstrip() for line in text.expandtabs().splitlines()]
    return "\n".join(lines).strip("\n")


def standard_text(package):
    """The standard text of a licence that satisfies the crate's expression, or None."""
    choices = re.split(r"\s+OR\s+|\s*/\s*", package["license"] or "")
    for licence, path in STANDARD.items():
        if licence in choices:
            authors = ", ".join(re.sub(r"\s*<.*?>", "", author) for author in package["authors"])
            text = tidy(path.read_text("utf-8"))
            if licence == "Apache-2.0":
                return licence, text
            return (licence, f"Copyright (c) {authors}\n\n{text}") if authors else None
    return None


def texts(package):
    """Name and text of everything that comes with a crate, or of what stands for it."""
    found = own_texts(pathlib.Path(package["manifest_path"]).parent)
    if found:
        return list(found.items())
    standard = standard_text(package)
    return [(f"{standard[0]}, standard text: the crate has none of its own", standard[1])] if standard else []


def document(packages):
    """The whole file, and what has no text."""
    bearers, missing = {}, []
    for package in packages:
        found = texts(package)
        if not found:
            missing.append(f"{package['name']} {package['version']} is under {package['license']!r} and has no text of it")
        for name, text in found:
            bearers.setdefault(text, []).append(f"{package['name']} {package['version']} ({name})")
    parts = ["The binary `pilothouse` contains these crates, each under its own licence. The texts follow.\n"]
    for package in packages:
        parts.append(f"{package['name']} {package['version']}  {package['license']}  {package['repository'] or ''}".rstrip())
    for text, names in bearers.items():
        parts.append(f"\n{RULE}\n" + "\n".join(names) + f"\n{RULE}\n\n{text}")
    return "\n".join(parts) + "\n", missing


def main():
    packages = [package for package in crates.taken() if package["linked"] and package["source"]]
    whole, missing = document(packages)
    for line in missing:
        print(f"error: {line}", file=sys.stderr)
    if missing:
        sys.exit("hint: add the text of that licence to docker/packages/licences and to STANDARD in licences.py")
    sys.stdout.write(whole)


if __name__ == "__main__":
    main()
