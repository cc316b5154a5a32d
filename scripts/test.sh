#!/bin/sh
# test.sh [ARG...]: go test of everything, with the arguments before the packages. It prints a line a package, the name of
# each test that fails, every 15 s how many have run, then what failed, and how many tests were skipped for want of what: a
# test that nobody runs proves nothing. The last lines are the messages of the failed tests, the most frequent first. All of
# the output stays in .tools/test.log.
set -eu

cd "$(dirname "$0")/.."
log=.tools/test.log
{ go test -v -count=1 -timeout 40m "$@" ./... 2>&1 || echo "go test: exit status $?"; } >"$log" &
running=$!
trap 'kill "$running" 2>/dev/null; exit 1' INT TERM
tail -n +1 -s 0.5 -f --pid="$running" "$log" | grep --line-buffered -E '^(ok|FAIL|panic:|go test:)|^ *--- FAIL: ' &
shown=$!

count() { grep -cE "^ *--- $1: " "$log" || true; }
start=$(date +%s)
next=15
while kill -0 "$running" 2>/dev/null; do
	sleep 0.5
	elapsed=$(($(date +%s) - start))
	if [ "$elapsed" -ge "$next" ]; then
		echo "test: after $elapsed s: $(count PASS) passed, $(count FAIL) failed, $(count SKIP) skipped"
		next=$((elapsed + 15))
	fi
done
wait "$running" || true
wait "$shown" || true

untested() { sed -n 's/.*SKIPPED, NOT TESTED: *//p' "$log"; }
if [ "$(untested | wc -l)" != 0 ]; then
	echo "test: SKIPPED, NOT TESTED here, $(untested | wc -l) tests, for these reasons (make vm has ipvlan and IPVS):"
	untested | sed 's/:.*//' | sort | uniq -c
fi
echo "test: $(count PASS) passed, $(count FAIL) failed, $(count SKIP) skipped"
if grep -qE '^(FAIL|panic:|go test:)' "$log"; then
	# What each failed test of a package has printed, then what was printed outside of tests: what did not build.
	awk '
		/^=== [A-Z]+ / { test = $3; next }
		/^ *--- FAIL: / { failed[$3] }
		/^(panic|fatal error): / { failed[test] }
		/^(ok|FAIL|\?)[ \t]/ {
			for (t in failed) printf "%s:\n%s", t, said[t]
			if ($1 == "FAIL" && !("" in failed)) printf "%s", said[""]
			split("", failed); split("", said); test = ""
			if ($1 != "FAIL") next
		}
		{ said[test] = said[test] $0 "\n" }
		END { printf "%s", said[""] }
	' "$log" >"$log.failed"
	cat "$log.failed" >&2
	echo "test: the messages of what failed, the most frequent first:"
	sed -n 's/^ *[A-Za-z0-9_]*\.go:[0-9]*: //p' "$log.failed" | cut -c 1-160 | sort | uniq -c | sort -rn | head -n 15
	exit 1
fi
