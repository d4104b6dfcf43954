#!/bin/sh
# Install what the tests need: Postfix for smtp-source and smtp-sink, Exim and Postfix
# as servers to hand mail to, swaks as another client, z3 and
# cvc5 as other provers, dkimverify as another verifier. Works as root or with sudo.
set -eu

missing=""
for pair in smtp-source:postfix smtp-sink:postfix swaks:swaks z3:z3 cvc5:cvc5 dkimverify:python3-dkim; do
	command -v "${pair%%:*}" >/dev/null 2>&1 || [ -x "/usr/sbin/${pair%%:*}" ] || missing="$missing ${pair##*:}"
done
# swaks speaks TLS through this module, which its package only recommends.
perl -MNet::SSLeay -e 1 >/dev/null 2>&1 || missing="$missing libnet-ssleay-perl"
# dkimverify takes this for Ed25519, which its package only suggests.
/usr/bin/python3 -c "import nacl.signing" >/dev/null 2>&1 || missing="$missing python3-nacl"
exim=bin/exim/usr/sbin/exim4
[ -n "$missing" ] || [ ! -x "$exim" ] || exit 0
command -v apt-get >/dev/null 2>&1 || {
	echo "needs: please install:$missing (the tests that use them skip without)" >&2
	exit 0
}
sudo=""
[ "$(id -u)" = 0 ] || sudo=sudo
export DEBIAN_FRONTEND=noninteractive
$sudo apt-get update -q
# shellcheck disable=SC2086
[ -z "$missing" ] || $sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing

# Exim and Postfix exclude each other as packages: Exim is unpacked beside it, with
# the libraries that it needs installed.
if [ ! -x "$exim" ]; then
	libraries=$(apt-cache depends exim4-daemon-light | sed -n 's/^ *Depends: \(lib[^ ]*\)$/\1/p')
	# shellcheck disable=SC2086
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $libraries
	id Debian-exim >/dev/null 2>&1 || $sudo useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin Debian-exim
	work=$(mktemp -d)
	chmod 755 "$work"
	(cd "$work" && apt-get download -q exim4-daemon-light)
	mkdir -p bin/exim
	dpkg -x "$work"/exim4-daemon-light_*.deb bin/exim
	rm -rf "$work"
fi
