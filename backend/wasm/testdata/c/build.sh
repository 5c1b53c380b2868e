#!/bin/sh
# Makes attack.wasm and deep.wasm of their sources, in the directory that is
# given, with Debian 12's clang-14, lld-14, wasi-libc and
# libclang-rt-14-dev-wasm32. The files beside this one were made so.
set -eu
cd "$(dirname "$0")"
for name in attack deep; do
	clang-14 --target=wasm32-wasi -O1 -Wall -Werror -s -o "$1/$name.wasm" "$name.c"
done
