#!/usr/bin/env bash
# Builds the image. With Docker, as the Dockerfile says. Without, the same files are put together from what this machine
# has, and packed as an archive that `docker load`, `podman load`, `ctr images import` and `kind load image-archive` take:
# one program with links to it, the libraries that it is linked with, root certificates, one user, no shell.
#
#     scripts/image.sh                     # docker build, or builds the release and packs it
#     scripts/image.sh PROGRAM ARCHIVE     # packs a `tipstaff` that is built
#
# IMAGE names it: ghcr.io/tipstaff/tipstaff:dev without. IMAGE_MAX_BYTES is what it may weigh unpacked: 60000000 for a
# release, since nodes pull it whenever a role wakes; a debug build is not limited without.
set -euo pipefail
cd "$(dirname "$0")/.."
name="${IMAGE:-ghcr.io/tipstaff/tipstaff:dev}"
most="${IMAGE_MAX_BYTES:-}"

version="$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)"
revision="$(git rev-parse HEAD 2>/dev/null || echo unknown)"
# The same files give the same bytes, whenever and wherever they are packed.
commit_time="$(git log -1 --format=%ct 2>/dev/null || echo 0)"
created="$(date --utc --date="@$commit_time" +%Y-%m-%dT%H:%M:%SZ)"

if [ $# = 0 ]; then
    if docker info >/dev/null 2>&1; then
        exec docker build --tag "$name" --build-arg VERSION="$version" --build-arg REVISION="$revision" \
            --build-arg CREATED="$created" .
    fi
    cache="${TIPSTAFF_STACK_CACHE:-$HOME/.cache/tipstaff-stack}"
    export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}"
    scripts/setup.sh run
    scripts/checkout.sh
    cargo build --workspace --release
    most="${most:-60000000}"
    set -- "$CARGO_TARGET_DIR/release/tipstaff" "$cache/image/tipstaff.tar"
fi
program="$1"
archive="$2"

work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
root="$work/root"

# The program.
install -D -m 755 "$program" "$root/usr/bin/tipstaff"
strip "$root/usr/bin/tipstaff"
ln -s tipstaff "$root/usr/bin/tipstaff-operator"
ln -s tipstaff "$root/usr/bin/tipstaff-worker"
install -D -m 644 LICENSE "$root/usr/share/doc/tipstaff/LICENSE"

# What it is linked with, where the program looks for it, and its licences.
for library in $(ldd "$program" | grep -o '/[^ ]*'); do
    install -D -m 755 "$(readlink -f "$library")" "$root$library"
done
for package in libc6 libgcc-s1; do
    [ ! -e "/usr/share/doc/$package/copyright" ] ||
        install -D -m 644 "$(readlink -f "/usr/share/doc/$package/copyright")" "$root/usr/share/doc/$package/copyright"
done

# What it looks up.
install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
printf 'root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n' >"$root/etc/passwd"
printf 'root:x:0:\nnonroot:x:65532:\n' >"$root/etc/group"
printf 'hosts: files dns\n' >"$root/etc/nsswitch.conf"
mkdir -p "$root/tmp" "$root/home/nonroot"
chmod 1777 "$root/tmp"

pack() {
    tar --create --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$commit_time" --format=gnu -C "$1" -f "$2" .
}
mkdir "$work/image"
pack "$root" "$work/image/layer.tar"
layer="$(sha256sum "$work/image/layer.tar" | cut -d ' ' -f 1)"

case "$(uname -m)" in
x86_64) architecture=amd64 ;;
aarch64) architecture=arm64 ;;
*) architecture="$(uname -m)" ;;
esac
cat >"$work/image/config.json" <<END
{
  "architecture": "$architecture",
  "os": "linux",
  "created": "$created",
  "config": {
    "User": "65532:65532",
    "Env": ["PATH=/usr/bin", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"],
    "Entrypoint": ["tipstaff"],
    "Labels": {
      "org.opencontainers.image.title": "Tipstaff",
      "org.opencontainers.image.description": "Watches published sources, keeps every version with its evidence, delivers what changed",
      "org.opencontainers.image.source": "https://github.com/tipstaff/tipstaff",
      "org.opencontainers.image.documentation": "https://github.com/tipstaff/tipstaff/blob/main/docs/install.md",
      "org.opencontainers.image.licenses": "Apache-2.0",
      "org.opencontainers.image.version": "$version",
      "org.opencontainers.image.revision": "$revision",
      "org.opencontainers.image.created": "$created"
    }
  },
  "rootfs": { "type": "layers", "diff_ids": ["sha256:$layer"] },
  "history": [{ "created": "$created", "created_by": "scripts/image.sh" }]
}
END
printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":["layer.tar"]}]\n' "$name" >"$work/image/manifest.json"
mkdir -p "$(dirname "$archive")"
pack "$work/image" "$archive"

size="$(stat -c %s "$work/image/layer.tar")"
echo "image: $name, $((size / 1000000)) MB unpacked, in $archive" >&2
if [ -n "$most" ] && [ "$size" -gt "$most" ]; then
    echo "image: it must not be larger than $most bytes, and has $size" >&2
    rm -f "$archive"
    exit 1
fi
