#!/usr/bin/env bash
# Sees to it that the disk has room for what `scripts/test.sh` writes, and holds what is built while it is used.
# Cargo never removes what it made of earlier sources, and parts of the stack fail on a full disk in ways of their own: MinIO
# stores nothing once about 1 GiB is left, and tests would only tell that they waited in vain.
#
#     scripts/room.sh    with the file `in-use` of the target directory open as descriptor 9
set -euo pipefail

free_gib() { df -Pk "$1" | awk 'NR == 2 { print int($4 / 1024 / 1024) }'; }
lock() { ! command -v flock >/dev/null || flock "$@" 9; }

# A build from nothing has up to 12 GiB with the stack's data; with all built already, a run of the tests fits in 4.
if [ "$(free_gib "$CARGO_TARGET_DIR")" -lt 12 ]; then
    # Whoever tests from the same directory holds this lock, and keeps what they use.
    if lock --nonblock --exclusive; then
        echo "less than 12 GiB are free: removing what was built before from $CARGO_TARGET_DIR" >&2
        rm -rf "$CARGO_TARGET_DIR/debug" "$CARGO_TARGET_DIR/release"
    fi
fi
lock --shared
for folder in "$CARGO_TARGET_DIR" "${TMPDIR:-/tmp}"; do
    if [ "$(free_gib "$folder")" -lt 4 ]; then
        echo "$0: $(free_gib "$folder") GiB are free for $folder, and the tests need 4: make room there, or let" \
            "TIPSTAFF_STACK_CACHE and TMPDIR name folders on another disk" >&2
        exit 1
    fi
done
