#!/usr/bin/env bash
# Takes one guard after the other out of a copy of the checkout, builds the program that has it, and lets the short chaos run show
# what breaks: the invariants that the patch names, and no others. docs/chaos.md tells what came of it.
#
#     scripts/chaos-guards.sh [GUARD...]    the names of patches in tests/chaos/guards, without .patch; all unless given
#
# CHAOS_SEED chooses the faults: those of 133 strike everything soon. The normal target directory is read, and not written to.
set -euo pipefail
cd "$(dirname "$0")/.."
here="$(pwd -P)"
built="${CARGO_TARGET_DIR:-${TIPSTAFF_STACK_CACHE:-$HOME/.cache/tipstaff-stack}/target}"
work="$(mktemp -d "${TMPDIR:-/tmp}/tipstaff-guards-XXXXXX")"
trap 'rm -rf "$work"' EXIT
export CARGO_TARGET_DIR="$work/target"
# Of a checkout around it git knows nothing.
export GIT_CEILING_DIRECTORIES="$work"

guards=("$@")
[ $# -gt 0 ] || mapfile -t guards < <(cd tests/chaos/guards && ls ./*.patch | sed -E 's|^\./(.*)\.patch$|\1|')

mkdir -p "$work/checkout" "$CARGO_TARGET_DIR/debug"
git ls-files -z --cached --others --exclude-standard | tar -c --format=posix --null --files-from=- | tar -x -C "$work/checkout"
# What was built of the same sources need not be built again. Programs and tests, whose names have no dot, are large and not needed.
(cd "$built/debug" && { printf '%s\n' .fingerprint build && find deps -name '*.*'; } | tar -c --format=posix --files-from=-) |
    tar -x -C "$CARGO_TARGET_DIR/debug"
cd "$work/checkout"

# Runs what was built without a guard, and says what came of it.
try() {
    local guard="$1" broken="$2" log="${TMPDIR:-/tmp}/tipstaff-guard-$1.log" said first
    if "$work/$guard/chaos" --short --seed "${CHAOS_SEED:-133}" --broken "$broken" >"$log" 2>&1; then
        said="caught"
        rm -rf "$(sed -n 's/^logs are kept in //p' "$log")"
    else
        said="NOT CAUGHT as what it is (expected $broken)"
        touch "$work/failed"
    fi
    first="$(grep -m 1 "^VIOLATION of invariant ${broken%%,*}" "$log" || echo "nothing of that invariant was found")"
    echo "$guard: $said; $(grep '^invariants found broken' "$log" || tail -n 1 "$log"); $first; all of it is in $log"
}

for guard in "${guards[@]}"; do
    patch="$here/tests/chaos/guards/$guard.patch"
    program="$(sed -n 's/^Program: //p' "$patch")"
    git apply "$patch"
    cargo build --quiet --locked --workspace --bin "$program"
    mkdir "$work/$guard"
    (cd "$built/debug" && cp tipstaff-operator tipstaff-worker chaos "$work/$guard")
    cp "$CARGO_TARGET_DIR/debug/$program" "$work/$guard"
    git apply --reverse "$patch"
    # Cargo goes by times: what is as it was must be newer than what was built without the guard.
    git apply --numstat "$patch" | cut -f 3 | xargs touch
    # The next one is built while this one runs.
    wait
    # The invariant, and those that may break with it.
    try "$guard" "$(sed -n 's/^Breaks: //p' "$patch")" &
done
wait
[ ! -e "$work/failed" ]
