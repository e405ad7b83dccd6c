#!/usr/bin/env bash
# When what is packed was last changed: sourced by whatever packs. SOURCE_DATE_EPOCH, or the time of the commit.

if [[ -z ${SOURCE_DATE_EPOCH:-} ]]; then
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) || {
        echo "error: it is not known when these sources were committed" >&2
        echo "hint: set SOURCE_DATE_EPOCH to the time of the release, in seconds since 1970" >&2
        exit 1
    }
fi
export SOURCE_DATE_EPOCH
