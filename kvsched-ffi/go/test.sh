#!/bin/sh
# Tests of the Go packages: formatting, vet, the race detector, a garbage collection on every call.
#
#   test.sh [MODULE...]     of: core engine examples/router bench epp; all of them by default
#
# Builds the static library first. Says what it skips: everything without go or a C compiler; the modules
# beside the core one where their dependencies cannot be downloaded.
set -eu
cd "$(dirname "$0")"
[ $# -gt 0 ] || set -- core engine examples/router bench epp

skip() {
    echo "SKIPPED: the Go tests of $1: $2"
}

if ! command -v go >/dev/null 2>&1; then
    skip "$*" "there is no go command"
    exit 0
fi
if ! said=$(go version 2>&1); then
    skip "$*" "$said" # too old for go.mod, and no newer one can be downloaded
    exit 0
fi
if ! "${CC:-cc}" --version >/dev/null 2>&1; then
    skip "$*" "cgo needs a C compiler, and ${CC:-cc} does not run"
    exit 0
fi
./build.sh

core() {
    unformatted=$(gofmt -l .)
    if [ -n "$unformatted" ]; then
        echo "not formatted: $unformatted" >&2
        exit 1
    fi
    go vet ./...
    go test -race -count=1 ./...
    go test -count=1 ./... # as users build it: some tests are of what the race detector changes
    go test -tags kvsched_gc -count=1 ./...
}

for module; do
    echo "== $module"
    if [ "$module" = core ]; then
        core
        continue
    fi
    if ! said=$(cd "$module" && go mod download 2>&1); then
        skip "$module" "its dependencies cannot be downloaded: $said"
        continue
    fi
    case $module in
        epp | bench) race= ;; # of Kubernetes, that builds everything once more
        *) race=-race ;;
    esac
    (cd "$module" && go vet ./... && go test -count=1 $race ./...)
done
