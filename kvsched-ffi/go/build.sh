#!/bin/sh
# Builds the static library that the package links, and puts it with its header where the package
# looks for them: native/. Needs a Rust toolchain.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."
cargo build --release -p kvsched-ffi ${KVSCHED_CARGO_FLAGS:-}
target=$(cargo metadata --format-version 1 --no-deps | sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
mkdir -p "$here/native"
cp "$target/release/libkvsched_ffi.a" include/kvsched.h "$here/native/"
