#!/usr/bin/env python3
"""Checks every dependency against .cargo/deny.toml: licence, source, duplicates, and advisories that are listed for
crates that are gone. Reads `cargo metadata` from standard input. Knows nothing of the network."""

import collections
import json
import re
import sys

try:
    import tomllib
except ModuleNotFoundError:  # before Python 3.11; .ci/run installs it
    import tomli as tomllib


def permitted(expression, allowed):
    """Whether an SPDX expression can be satisfied with the allowed licences alone. `/` is the old way to write OR."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    at = 0

    def peek():
        return tokens[at] if at < len(tokens) else None

    def take():
        nonlocal at
        at += 1
        return tokens[at - 1]

    def licence():
        if peek() == "(":
            take()
            verdict = either()
            if take() != ")":
                raise ValueError(expression)
            return verdict
        name = take()
        if peek() == "WITH":
            name = f"{name} {take()} {take()}"
        return name in allowed

    def both():
        verdict = licence()
        while peek() == "AND":
            take()
            verdict = licence() and verdict
        return verdict

    def either():
        verdict = both()
        while peek() == "OR":
            take()
            verdict = both() or verdict
        return verdict

    verdict = either()
    if peek() is not None:
        raise ValueError(expression)
    return verdict


def matches(version, listed):
    return version == listed or version.startswith(listed + ".")


def check(packages, rules):
    """Yields what is wrong."""
    allowed = set(rules["licenses"]["allow"])
    registries = {f"registry+{url}" for url in rules["sources"]["allow-registry"]}
    skips = [tuple(entry["crate"].split("@")) for entry in rules["bans"]["skip"]]
    versions = collections.defaultdict(set)
    used = set()
    for package in packages:
        name, version, source = package["name"], package["version"], package["source"]
        versions[name].add(version)
        if source is None:
            continue
        if source not in registries:
            yield f"{name} {version} comes from {source}, which is not allowed"
        expression = package["license"]
        if not expression or not permitted(expression, allowed):
            yield f"{name} {version} is under {expression!r}, which is not allowed"
        for part in re.findall(r"[A-Za-z0-9.-]+(?: WITH [A-Za-z0-9.-]+)?", (expression or "").replace("/", " ")):
            used.add(part)
    for name, found in sorted(versions.items()):
        left = {v for v in found if not any(name == n and matches(v, listed) for n, listed in skips)}
        if len(left) > 1:
            yield f"{name} is there in {len(left)} versions ({', '.join(sorted(left))}): unify them, or list one with its reason"
    for name, listed in skips:
        if len(versions[name]) < 2 or not any(matches(v, listed) for v in versions[name]):
            yield f"the duplicate {name}@{listed} is gone: strike it"
    for entry in rules["advisories"]["ignore"]:
        # cargo-deny has no key for it: the reason begins with the crate's name.
        crate = entry["reason"].split(":")[0]
        if crate not in versions:
            yield f"{entry['id']} is ignored for {crate}, which is gone: strike it"
    for licence in sorted(allowed - used):
        yield f"no dependency is under {licence}: strike it"


def self_test():
    allowed = {"MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception"}
    table = [
        ("MIT", True), ("GPL-3.0-only", False), ("MIT OR GPL-3.0-only", True), ("MIT AND GPL-3.0-only", False),
        ("MIT/Apache-2.0", True), ("Apache-2.0 WITH LLVM-exception", True), ("GPL-2.0 WITH LLVM-exception", False),
        ("(MIT OR GPL-3.0-only) AND Apache-2.0", True), ("(MIT OR Apache-2.0) AND GPL-3.0-only", False),
    ]
    for expression, expected in table:
        assert permitted(expression, allowed) is expected, expression
    package = {"name": "a", "version": "1.0.0", "source": "git+https://example.org", "license": "GPL-3.0-only"}
    rules = {
        "licenses": {"allow": ["GPL-3.0-only", "MIT"]}, "sources": {"allow-registry": ["https://r"]},
        "bans": {"skip": []}, "advisories": {"ignore": [{"id": "X", "reason": "gone: and away"}]},
    }
    assert len(list(check([package, {**package, "version": "2.0.0"}], rules))) == 5


def main():
    self_test()
    with open(".cargo/deny.toml", "rb") as file:
        rules = tomllib.load(file)
    packages = json.load(sys.stdin)["packages"]
    wrong = list(check(packages, rules))
    for line in wrong:
        print(f"dependencies: {line}", file=sys.stderr)
    print(f"dependencies: {len(packages)} packages, {len(wrong)} faults")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
