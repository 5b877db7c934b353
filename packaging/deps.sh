#!/bin/sh
# Install the system packages the build and the tests need. Nothing that is installed is started:
# a machine's clock stays with whoever keeps it now. With the word "container": what `make test-container` needs, instead.
set -eu
if [ "$(id -u)" != 0 ]; then
    echo "make deps installs system packages: run it as root (sudo make deps)" >&2
    exit 1
fi
if command -v apt-get >/dev/null; then
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        trap 'rm -f "$policy"' EXIT
    fi
    apt-get update -qq
    if [ "${1:-}" = container ]; then
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            podman crun iptables debootstrap ntpsec-ntpdate
        exit
    fi
    # to build: the first line; the rest are the independent peers and tools of the tests
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        gcc make python3-dev python3-venv libc6-dev nettle-dev libgnutls28-dev libseccomp2 \
        chrony ntpsec-ntpdate ntpsec-ntpdig busybox tshark iproute2 libcap2-bin strace procps openssl \
        rpm rpmlint logrotate systemd mandoc groff man-db python3-ntp
    # a test says so when this has failed
    "$(dirname "$0")/peers.sh" || true
elif command -v dnf >/dev/null; then
    if [ "${1:-}" = container ]; then
        exec dnf install -y podman crun debootstrap
    fi
    dnf install -y gcc make python3-devel nettle-devel gnutls-devel libseccomp \
        chrony wireshark-cli iproute strace procps-ng openssl \
        rpm-build rpmlint logrotate systemd mandoc groff
else
    echo "neither apt-get nor dnf found; packaging/preflight.py lists what the build needs" >&2
    exit 1
fi
