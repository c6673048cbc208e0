#!/usr/bin/env bash
# Lets a checkout take over the shared target directory. Cargo tells what is out of date by the sources' times and not by
# where they stand: what another checkout has built since would pass for this one's. So its sources become newer.
# Two checkouts with different sources must not build at the same time; give one a CARGO_TARGET_DIR of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
marker="$CARGO_TARGET_DIR/checkout"
here="$(pwd -P)"
if [ "$(cat "$marker" 2>/dev/null || true)" != "$here" ]; then
    git ls-files -z | xargs -0 touch -c
    mkdir -p "$CARGO_TARGET_DIR"
    printf '%s\n' "$here" >"$marker"
fi
