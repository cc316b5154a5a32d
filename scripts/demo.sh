#!/bin/sh
# demo.sh [ARG...]: run the demonstration on the binaries in bin/ and .tools/ (`make demo` builds them first).
set -eu

cd "$(dirname "$0")/.."
exec go run ./integration/demo "$@"
