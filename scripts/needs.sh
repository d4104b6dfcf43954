#!/bin/sh
# Install what the tests need: Postfix for smtp-source and smtp-sink, Exim, OpenSMTPD
# and Postfix as servers to hand mail to and to take it from, swaks as another client, z3 and
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
opensmtpd=bin/opensmtpd/usr/sbin/smtpd
[ -n "$missing" ] || [ ! -x "$exim" ] || [ ! -x "$opensmtpd" ] || exit 0
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

# Exim and OpenSMTPD exclude Postfix as packages: they are unpacked beside it, with the
# libraries that they need installed.
#   unpack PACKAGE DIR USER...
unpack() {
	package=$1
	dir=$2
	shift 2
	libraries=$(apt-cache depends "$package" | sed -n 's/^ *Depends: \(lib[^ ]*\)$/\1/p')
	# shellcheck disable=SC2086
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $libraries
	for user; do
		id "$user" >/dev/null 2>&1 || $sudo useradd --system --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin "$user"
	done
	work=$(mktemp -d)
	chmod 755 "$work"
	(cd "$work" && apt-get download -q "$package")
	mkdir -p "$dir"
	dpkg -x "$work/$package"_*.deb "$dir"
	rm -rf "$work"
}
[ -x "$exim" ] || unpack exim4-daemon-light bin/exim Debian-exim
[ -x "$opensmtpd" ] || unpack opensmtpd bin/opensmtpd opensmtpd opensmtpq
