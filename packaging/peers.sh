#!/bin/sh
# Put ntpsec's ntpd into build/peers/ntpsec, for the interoperability tests. Debian's package cannot be installed beside
# chrony's, so it is only unpacked; nothing of it is ever started outside the tests, which take from it the right to set
# the clock. Needs apt-get's lists, not root.
set -eu
cd "$(dirname "$0")/.."
command -v apt-get >/dev/null || { echo "peers.sh: only Debian's packages are known here" >&2; exit 1; }
work=build/peers/ntpsec.new
rm -rf "$work"
mkdir -p "$work/packages"
(cd "$work/packages" && apt-get download -q ntpsec libbsd0 libmd0 2>&1) || {
    echo "peers.sh: could not download ntpsec; does 'apt-get update' (make deps) help?" >&2
    exit 1
}
for package in "$work"/packages/*.deb; do
    dpkg-deb -x "$package" "$work"
done
rm -rf "$work/packages" build/peers/ntpsec
mv "$work" build/peers/ntpsec
