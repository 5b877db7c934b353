#!/bin/sh
# Build the RPMs of the tree as it stands into build/rpm/RPMS: packaging/rpm/build.sh [rpmbuild options].
# Gathers the sources first; the wheels that come along are fetched once for each list of them. Where nothing has
# changed since the last time, what is there stays. With "--without bundled" the libraries are the distribution's.
# RPM_TOP is a directory in place of build/rpm.
set -eu
# what is built is the tree that is packed, with the Python of the package
unset PYTHONPATH PYTHONHOME
cd "$(dirname "$0")/../.."
spec=packaging/rpm/ntpd-fast.spec
top=${RPM_TOP:-$PWD/build/rpm}
python=${RPM_PYTHON:-/usr/bin/python3}
version=$(sed -n 's/^Version: *//p' $spec)

for tool in rpmbuild tar "$python"; do
    command -v "$tool" >/dev/null || {
        echo "$tool is missing; 'make deps' installs what building the package needs" >&2
        exit 1
    }
done
mkdir -p "$top/SOURCES" "$top/wheels"

# the files of the tree without its tests: what git knows or would take, or all but what is built without git
files() {
    if [ -e .git ]; then
        git -c safe.directory='*' ls-files -z --cached --others --exclude-standard
    else
        find . '(' -name build -o -name __pycache__ -o -name '.?*' -o -name '*.so' ')' -prune -o -type f -print0
    fi
}
files | grep -zvE '^(\./)?(tests|loadtest/tests)/' | xargs -0 ls -d 2>/dev/null |
    tar -cf "$top/SOURCES/new.tar" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner \
        --transform "s,^\(\./\)*,ntpd-fast-$version/," -T -

case " $* " in *" --without bundled "*) bundled= ;; *) bundled=yes ;; esac
stamp=$top/wheels/$("$python" -c 'import platform; print(platform.python_version(), platform.machine(), sep="-")').txt
if [ -z "$bundled" ]; then
    stamp=/dev/null
elif ! cmp -s packaging/rpm/bundled.txt "$stamp"; then
    rm -rf "$top/bundled"
    "$python" -m pip wheel --disable-pip-version-check --quiet --no-deps --wheel-dir "$top/bundled" \
        -r packaging/rpm/bundled.txt
    cp packaging/rpm/bundled.txt "$stamp"
fi
[ -z "$bundled" ] || tar -cf "$top/SOURCES/ntpd-fast-bundled-$version.tar" --owner=0 --group=0 -C "$top" bundled

made_from=$({ cat "$top/SOURCES/new.tar" "$stamp"; echo "$stamp" "$@"; } | sha256sum)
if [ "$(cat "$top/made-from" 2>/dev/null)" = "$made_from" ]; then
    echo "build/rpm/RPMS is of this tree already"
    exit
fi
rm -rf "$top/RPMS" "$top/made-from"
gzip -nc "$top/SOURCES/new.tar" >"$top/SOURCES/ntpd-fast-$version.tar.gz"
# Away from Fedora the names of the build requirements are other ones: packaging/deps.sh knows them.
[ -e /etc/redhat-release ] && nodeps= || nodeps=--nodeps
rpmbuild -bb $nodeps --define "_topdir $top" "$@" $spec
echo "$made_from" >"$top/made-from"
