#!/usr/bin/env bash
# Builds and runs the example on the embedded default. With no terminal attached it ends by itself, once a change has been
# delivered.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-${TIPSTAFF_STACK_CACHE:-$HOME/.cache/tipstaff-stack}/target}"

echo "building tipstaff (some minutes the first time)" >&2
cargo build --workspace --bin tipstaff
arguments=()
[ -t 1 ] || arguments+=(--until-changed)
exec "$CARGO_TARGET_DIR/debug/tipstaff" demo "${arguments[@]}"
