#!/usr/bin/env bash
# Fuzzes each target for so many seconds, or those that are named: scripts/fuzz.sh SECONDS [TARGET…]
# Builds cargo-fuzz once. What it makes, and what targets find, is outside the checkout. docs/fuzzing.md says more.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds="${1:?how many seconds for each target}"
shift
cache="${TIPSTAFF_STACK_CACHE:-$HOME/.cache/tipstaff-stack}"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}"
version=0.13.2
root="$cache/cargo-fuzz-$version"

if [ "$(uname)" != Linux ]; then
    echo "fuzz: this runs on Linux alone" >&2
    exit 1
fi
if ! command -v c++ >/dev/null; then
    echo "fuzz: a C++ compiler is missing, which builds libFuzzer: install one (Debian's package is build-essential)" >&2
    exit 1
fi
if [ ! -x "$root/bin/cargo-fuzz" ]; then
    echo "building cargo-fuzz $version (a few minutes, once)" >&2
    CARGO_TARGET_DIR="$root/target" cargo install cargo-fuzz --quiet --locked --version "$version" --root "$root"
    rm -rf "$root/target"
fi

all=$(cd fuzz/fuzz_targets && printf '%s\n' *.rs | sed 's/\.rs$//')
[ $# -gt 0 ] || set -- $all
for target in "$@"; do
    if [ ! -e "fuzz/fuzz_targets/$target.rs" ]; then
        echo "fuzz: there is no target $target; there are" $all >&2
        exit 1
    fi
done

# The versions that Tipstaff has.
cp Cargo.lock fuzz/Cargo.lock
# No sanitizer: they need a nightly compiler, and all of Tipstaff is safe Rust. What is counted is coverage, by a pass of LLVM
# that stable compilers have. Each program takes long to link, so only those are built that run.
target_triple=$(rustc -vV | sed -n 's/^host: //p')
for target in "$@"; do
    (cd fuzz && "$root/bin/cargo-fuzz" build "$target" --fuzz-dir . --sanitizer none --codegen-units 16 \
        --target "$target_triple" --target-dir "$CARGO_TARGET_DIR" 2>"$CARGO_TARGET_DIR/fuzz-build.log") || {
        cat "$CARGO_TARGET_DIR/fuzz-build.log" >&2
        exit 1
    }
done

found=0
for target in "$@"; do
    corpus="$cache/fuzz/corpus/$target"
    artifacts="$cache/fuzz/artifacts/$target"
    log="$cache/fuzz/$target.log"
    mkdir -p "$corpus" "$artifacts"
    seeds=("fuzz/corpus/$target")
    [ ! -d "fuzz/regressions/$target" ] || seeds+=("fuzz/regressions/$target")
    if "$CARGO_TARGET_DIR/$target_triple/release/$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 \
        -print_final_stats=1 -artifact_prefix="$artifacts/" "$corpus" "${seeds[@]}" >"$log" 2>&1; then
        runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        covered=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
        printf '%-12s %10s inputs, %6s edges, nothing found\n' "$target" "$runs" "$covered"
    else
        found=1
        input=$(sed -n "s/.*Test unit written to //p" "$log" | tail -n 1)
        printf '%-12s FOUND %s\n' "$target" "${input:-nothing that was kept: $log}"
        grep -m 3 -E "panicked at|ERROR: libFuzzer|^assertion" "$log" | sed 's/^/    /' || true
    fi
done
if [ "$found" = 1 ]; then
    echo "fuzz: mend what was found, and keep the input in fuzz/regressions/TARGET/ under a name that says what it was" >&2
    exit 1
fi
