#!/bin/sh
# Install what the tests need: Postfix for smtp-source and smtp-sink, Exim as another
# server to hand mail to, swaks as another client. Works as root or with sudo.
set -eu

missing=""
for pair in smtp-source:postfix smtp-sink:postfix swaks:swaks; do
	command -v "${pair%%:*}" >/dev/null 2>&1 || [ -x "/usr/sbin/${pair%%:*}" ] || missing="$missing ${pair##*:}"
done
[ -n "$missing" ] || exit 0
command -v apt-get >/dev/null 2>&1 || {
	echo "needs: please install:$missing (the tests that use them skip without)" >&2
	exit 0
}
sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -q
# shellcheck disable=SC2086
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing
