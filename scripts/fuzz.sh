#!/bin/sh
# Run every fuzzer of the module for a bounded effort: a count such as 20000x, or a
# time such as 5m, each.
set -eu

effort=${1:-20000x}
status=0
inputs() {
	count=$(echo "$log" | sed -n 's/.*execs: \([0-9]*\).*/\1/p' | tail -n 1)
	if [ -n "$count" ]; then echo "$count inputs"; else echo "the corpus, no more in that time"; fi
}
for file in $(grep -rl '^func Fuzz' --include='*_test.go' internal cmd); do
	for name in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
		printf 'fuzz %-28s ' "$name"
		if log=$(go test "./$(dirname "$file")" -run '^$' -fuzz "^$name\$" -fuzztime "$effort" -fuzzminimizetime 1x 2>&1); then
			inputs
		elif ! echo "$log" | grep -q 'Failing input' && echo "$log" | grep -q '^    context deadline exceeded$'; then
			# The end of the time, taken for a failure by the go command before 1.27
			# (golang/go issue 75804). No input failed: a failing one is written down.
			inputs
		else
			echo failed
			echo "$log" | tail -n 30
			status=1
		fi
	done
done
exit $status
