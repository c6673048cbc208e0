#!/usr/bin/env bash
# Checks the dependencies' licences and sources, or what is named. Builds cargo-deny once, outside the checkout.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- licenses bans sources
version=0.20.2
root="${TIPSTAFF_STACK_CACHE:-$HOME/.cache/tipstaff-stack}/cargo-deny-$version"
if [ ! -x "$root/bin/cargo-deny" ]; then
    echo "building cargo-deny $version (a few minutes, once)" >&2
    CARGO_TARGET_DIR="$root/target" cargo install cargo-deny --quiet --locked --version "$version" --root "$root"
    rm -rf "$root/target"
fi
PATH="$root/bin:$PATH" cargo deny --log-level error check "$@"
