#!/bin/sh
# All tests of the Go package: with the race detector, with a garbage collection on every call, its
# formatting and vet. Says what it skips. Builds the static library first.
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
