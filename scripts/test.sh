#!/usr/bin/env bash
# Runs all checks, starts the real stack, runs all tests against it, and ends it.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${TIPSTAFF_STACK_CACHE:-$HOME/.cache/tipstaff-stack}/target}"
mkdir -p "$CARGO_TARGET_DIR"
exec 9>>"$CARGO_TARGET_DIR/in-use"
scripts/room.sh

make --no-print-directory lint
# Tests start the programs as processes: they are built first, in the one profile that tests use.
cargo build --workspace --all-targets
stack() { "$CARGO_TARGET_DIR/debug/stack" --name "test-$$" "$@"; }
trap 'stack down >/dev/null' EXIT
# Before the tests, which would wait for it, and be slowed down by it.
stack build
stack up
eval "$(stack env)"
cargo test --workspace --no-fail-fast
