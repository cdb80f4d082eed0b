#!/usr/bin/env bash
# Holds the manifests to the schemas of Kubernetes, unknown fields being errors,
# and to checkov. Run by make k8s-test, which installs what it needs.
set -euo pipefail
cd "$(dirname "$0")/../.."

# The oldest with the sleep of preStop, and the newest.
versions="1.30.0 1.34.0 1.37.0"

venv=.venv/checkov # of tools/checkov.txt; make makes it

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
build() { go tool -modfile=tools/go.mod kustomize build "$1"; }
for overlay in whole migrate relays-apart; do
  build "deploy/k8s/overlays/$overlay" >"$out/$overlay.yaml"
done

cp deploy/k8s/components/ingress/ingress.yaml "$out"

valid() { "$venv/bin/kubernetes-validate" --strict --no-warn --quiet -k "$1" "${@:2}"; }
for version in $versions; do
  valid "$version" "$out"/*.yaml
  echo "the schemas of Kubernetes $version: $(grep -h '^kind:' "$out"/*.yaml | wc -l) objects"
done

# A check that finds nothing has to be able to find something.
for typo in 's/readOnlyRootFilesystem/readOnlyRootFileSystem/' 's/maxUnavailable/maxUnavailble/' 's/containerPort: 8080/containerPort: http/' 's/seconds: 8/second: 8/'; do
  sed "$typo" "$out/whole.yaml" >"$out/typo"
  if cmp -s "$out/typo" "$out/whole.yaml"; then echo "check.sh: $typo changes nothing" >&2; exit 1; fi
  if valid 1.34.0 "$out/typo" >/dev/null 2>&1; then echo "check.sh: the schemas let $typo pass" >&2; exit 1; fi
done
rm "$out/typo"
echo "typos are found"

# CKV_K8S_15 wants every image pulled anew and CKV_K8S_43 wants digests: images are
# named by a tag that never moves, and whoever deploys sets it, or a digest, in
# the overlay's images.
checkov() { "$venv/bin/checkov" --framework kubernetes --quiet --compact --skip-download "$@"; }
checkov --skip-check CKV_K8S_15,CKV_K8S_43 -f "$out/relays-apart.yaml" -f "$out/migrate.yaml"
echo "checkov: nothing found"
sed 's/readOnlyRootFilesystem: true/readOnlyRootFilesystem: false/' "$out/whole.yaml" >"$out/writable.yaml"
if checkov -f "$out/writable.yaml" --check CKV_K8S_22 >/dev/null; then
  echo "check.sh: checkov lets a pod write where it likes" >&2
  exit 1
fi
