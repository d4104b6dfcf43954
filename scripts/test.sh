#!/bin/sh
# Run go test with the given arguments and end with one line that counts the tests:
# "N passed, N failed, N skipped". In CI a skipped test for want of a server is a
# failure, which the tests themselves see to.
set -u

out=$(mktemp)
trap 'rm -f "$out"' EXIT
PATH="$PATH:/usr/sbin" go test -json "$@" >"$out"
status=$?
awk '
	/"Action":"output"/ && (/--- FAIL|panic:|FAIL\\t|DATA RACE|_test.go:[0-9]+:/) { show[++n] = $0 }
	/"Action":"(pass|fail|skip)"/ && /"Test":/ {
		if (/"Action":"pass"/) pass++
		else if (/"Action":"fail"/) fail++
		else skip++
	}
	/"Action":"(pass|fail)"/ && !/"Test":/ { if (match($0, /"Package":"[^"]*"/)) print (/"pass"/ ? "ok   " : "FAIL ") substr($0, RSTART + 11, RLENGTH - 12) }
	END { printf "%d passed, %d failed, %d skipped\n", pass, fail, skip }
' "$out"
if [ $status -ne 0 ]; then
	# What failed, in the words of the tests.
	sed -n 's/.*"Action":"output".*"Output":"\(.*\)"}$/\1/p' "$out" | sed 's/\\n$//; s/\\t/\t/g; s/\\"/"/g; s/\\u003c/</g; s/\\u003e/>/g' |
		grep -v -E '^(=== |--- PASS|PASS|ok )' | tail -n 200
	grep -v '^{' "$out" | tail -n 50
fi
exit $status
