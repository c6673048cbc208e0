#!/usr/bin/env bash
# A cluster of kind with everything on it, for people with Docker: the parts that Tipstaff needs, Tipstaff, and an example.
#
#     scripts/kind.sh up|down
#
# TIPSTAFF_IMAGE names the image, which Docker has or can pull; without it, the one of this checkout is built.
set -euo pipefail
cd "$(dirname "$0")/.."

image=${TIPSTAFF_IMAGE:-ghcr.io/tipstaff/tipstaff:dev}
cluster=$(sed -n 's/^name: //p' kind-config.yaml)
namespace=tipstaff
example=examples/public.yaml
subscription=tsub/us-supreme-court-opinions

say() { echo "kind: $*" >&2; }

require() {
    for program in "$@"; do
        command -v "$program" >/dev/null || { say "$program is missing: install it and run this again"; exit 1; }
    done
}

kubectl() { command kubectl --context "kind-$cluster" --namespace "$namespace" "$@"; }
helm() { command helm --kube-context "kind-$cluster" --namespace "$namespace" "$@"; }

up() {
    require docker kind kubectl helm
    if [ -z "${TIPSTAFF_IMAGE:-}" ]; then
        IMAGE="$image" scripts/image.sh
    else
        docker image inspect "$image" >/dev/null 2>&1 || docker pull "$image"
    fi
    kind get clusters 2>/dev/null | grep -qx "$cluster" || kind create cluster --config kind-config.yaml --wait 2m
    kind load docker-image "$image" --name "$cluster"

    kubectl create namespace "$namespace" --dry-run=client --output yaml | kubectl apply -f -
    kubectl label --overwrite namespace "$namespace" pod-security.kubernetes.io/enforce=restricted
    say "installing Kafka, PostgreSQL and MinIO; their images are pulled the first time"
    helm upgrade --install deps charts/dev-deps --wait --timeout 10m
    say "installing Tipstaff"
    helm upgrade --install tipstaff charts/tipstaff --values charts/dev-deps/tipstaff-values.yaml \
        --set "image.repository=${image%:*}" --set "image.tag=${image##*:}" --wait --timeout 5m

    kubectl apply -f "$example"
    say "waiting for the first run of $subscription"
    kubectl wait --for=condition=Succeeding "$subscription" --timeout=5m || {
        kubectl describe "$subscription"
        say "the first run did not succeed: docs/status.md says what its reason means"
        exit 1
    }
    kubectl get tipstaff
    say "go on with: kubectl --context kind-$cluster --namespace $namespace get tipstaff --watch"
}

down() {
    require kind
    kind delete cluster --name "$cluster"
}

case ${1:-} in
up | down) "$1" ;;
*)
    echo "usage: $0 up|down" >&2
    exit 2
    ;;
esac
