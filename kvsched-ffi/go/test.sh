#!/bin/sh
# All tests of the Go packages: formatting, vet, the race detector, a garbage collection on every call.
# Builds the static library first. Says what it skips: everything without go or a C compiler; the modules
# beside the core one (engine, examples/router, bench, epp) where their dependencies cannot be downloaded.
set -eu
cd "$(dirname "$0")"
if ! command -v go >/dev/null 2>&1; then
    echo "SKIPPED: the Go tests: there is no go command"
    exit 0
fi
if ! "${CC:-cc}" --version >/dev/null 2>&1; then
    echo "SKIPPED: the Go tests: cgo needs a C compiler, and ${CC:-cc} does not run"
    exit 0
fi
./build.sh
unformatted=$(gofmt -l .)
if [ -n "$unformatted" ]; then
    echo "not formatted: $unformatted" >&2
    exit 1
fi
go vet ./...
go test -race -count=1 ./...
go test -tags kvsched_gc -count=1 ./...

# module FLAGS...: the tests of a module with dependencies.
module() {
    folder=$1
    shift
    if ! said=$(cd "$folder" && go mod download 2>&1); then
        echo "SKIPPED: the Go tests of $folder: its dependencies cannot be downloaded: $said"
        return 0
    fi
    echo "== $folder"
    (cd "$folder" && go vet ./... && go test -count=1 "$@" ./...)
}
module engine -race
module examples/router -race
module bench
module epp # without -race: of Kubernetes, that builds everything once more
