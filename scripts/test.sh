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
	# What failed, in the words of the tests that failed, the end of each.
	awk '
		function field(name,   m) {
			if (!match($0, "\"" name "\":\"[^\"]*\"")) return ""
			m = substr($0, RSTART, RLENGTH)
			return substr(m, length(name) + 5, length(m) - length(name) - 5)
		}
		/"Action":"output"/ {
			key = field("Package") " " field("Test")
			text = $0
			sub(/.*"Output":"/, "", text)
			sub(/"}$/, "", text)
			said[key, ++lines[key]] = text
		}
		/"Action":"fail"/ {
			key = field("Package") " " field("Test")
			print "\\n=== failed: " key
			for (k = lines[key] > 80 ? lines[key] - 79 : 1; k <= lines[key]; k++) print said[key, k]
		}
	' "$out" | sed 's/\\n/\n/g; s/\\t/\t/g; s/\\"/"/g; s/\\u003c/</g; s/\\u003e/>/g' | grep -v '^$' | cut -c1-500
	grep -v '^{' "$out" | tail -n 50
fi
exit $status
