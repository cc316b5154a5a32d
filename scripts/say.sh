#!/bin/sh
# say.sh WHAT COMMAND...: run the command, and print every 15 s that WHAT still runs: nothing is silent for long.
set -eu

what=$1
shift
start=$(date +%s)
next=15
"$@" &
command=$!
trap 'kill "$command" 2>/dev/null' INT TERM
while kill -0 "$command" 2>/dev/null; do
	sleep 0.2
	elapsed=$(($(date +%s) - start))
	if [ "$elapsed" -ge "$next" ]; then
		echo "$what: still running after $elapsed s"
		next=$((elapsed + 15))
	fi
done
wait "$command"
