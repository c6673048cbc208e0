#!/bin/sh
# Makes a machine ready for `make run` or `make test`: installs what is missing (Debian and its like), or says what is.
#
#     scripts/setup.sh run|test
#
# Safe to run again at any time; does nothing when nothing is missing.
set -eu

purpose=${1:-}
case $purpose in
run | test) ;;
*)
    echo "usage: $0 run|test" >&2
    exit 2
    ;;
esac

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)

# One line each: what must be there (a command, or a test of its own), and the Debian package that brings it.
requirements() {
    cat <<'END'
cc build-essential
make build-essential
cmake cmake
perl perl
pkg-config pkg-config
git git
curl curl
certificates ca-certificates
postgres postgresql
END
    if [ "$purpose" = test ]; then
        cat <<'END'
setpriv util-linux
ip iproute2
iptables iptables
containerd containerd
runc runc
cni containernetworking-plugins
java default-jdk-headless
mvn maven
END
    fi
}

has() {
    case $1 in
    certificates) [ -e /etc/ssl/certs/ca-certificates.crt ] || [ -e /etc/ssl/cert.pem ] ;;
    # Debian keeps the server's programs off PATH.
    postgres) command -v postgres >/dev/null || ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 ;;
    # Others have none of these, and do without: parts that die with their tests, and nodes.
    setpriv | ip | iptables | containerd | runc) [ "$(uname)" != Linux ] || on_path_of_root "$1" ;;
    # Where Debian puts the plugins, and where those who bring them along do.
    cni) [ "$(uname)" != Linux ] || [ -x /usr/lib/cni/ptp ] || [ -x /opt/cni/bin/ptp ] ;;
    # macOS has a `java` that only says where to get one.
    java) [ -x "${JAVA_HOME:-/nonexistent}/bin/java" ] || java -version >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null ;;
    esac
}

# Other users' PATH may be without the folders of programs for administrators.
on_path_of_root() {
    (PATH=$PATH:/usr/sbin:/sbin && command -v "$1" >/dev/null)
}

missing_commands() {
    requirements | while read -r what _; do
        has "$what" || echo "$what"
    done
}

missing_packages() {
    requirements | while read -r what package; do
        has "$what" || echo "$package"
    done | sort -u
}

# Whether version $1 is at least $2; both are numbers separated by dots.
at_least() {
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -t. -k1,1n -k2,2n -k3,3n | head -n 1)" = "$2" ]
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo "$@"
    fi
}

install_packages() {
    packages=$(missing_packages | tr '\n' ' ')
    [ -n "$packages" ] || return 0
    command -v apt-get >/dev/null || return 0
    if [ "$(id -u)" != 0 ] && ! command -v sudo >/dev/null; then
        return 0
    fi
    echo "setup: installing $packages" >&2
    as_root apt-get update -qq
    # shellcheck disable=SC2086 # a list of packages
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $packages >&2
}

problems=''
problem() {
    problems="$problems
  - $1"
}

check_commands() {
    for command in $(missing_commands); do
        package=$(requirements | sed -n "s/^$command //p")
        problem "$command is missing: install it (Debian's package is $package) and run this again"
    done
}

check_rust() {
    wanted=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' "$root/rust-toolchain.toml")
    if command -v rustup >/dev/null; then
        # It fetches the toolchain of rust-toolchain.toml unless it is there.
        if ! (cd "$root" && cargo --version) >/dev/null 2>&1; then
            problem "Rust $wanted cannot be used: run \`rustup toolchain install $wanted\`"
        fi
    elif ! command -v cargo >/dev/null; then
        problem "Rust is missing: install rustup, as https://rustup.rs says; it brings Rust $wanted"
    else
        found=$(cargo --version | cut -d ' ' -f 2)
        at_least "${found%%-*}" "$wanted" ||
            problem "Rust $found is too old: $wanted or later is needed; https://rustup.rs brings it"
    fi
}

# Kafka needs it.
JAVA_WANTED=17

check_java() {
    java="${JAVA_HOME:+$JAVA_HOME/bin/}java"
    found=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p' | head -n 1)
    [ "${found:-0}" -ge "$JAVA_WANTED" ] ||
        problem "Java ${found:-of an unknown version} is too old: $JAVA_WANTED or later is needed, on PATH or as JAVA_HOME"
}

check_go() {
    wanted=$(sed -n 's/^go //p' "$root"/tests/stack/build/*/go.mod | sort -t. -k1,1n -k2,2n -k3,3n | tail -n 1)
    if ! command -v go >/dev/null; then
        problem "Go is missing: install $wanted or later, as https://go.dev/doc/install says"
        return
    fi
    found=$(go env GOVERSION | sed 's/^go//; s/[^0-9.].*//')
    at_least "$found" "$wanted" ||
        problem "Go $found is too old: install $wanted or later, as https://go.dev/doc/install says"
}

install_packages
check_commands
check_rust
if [ "$purpose" = test ]; then
    check_go
    if has java; then check_java; fi
fi

if [ -n "$problems" ]; then
    echo "setup: this machine is not ready for \`make $purpose\`:$problems" >&2
    exit 1
fi
echo "setup: all that \`make $purpose\` needs is here"
