"""Red Hat's guides "Configuring time synchronization" (RHEL 8 and 10), typed on our programs.

Each row of `STEPS` is a command or a file of a guide in its order: who would type it (`#` root, `$` anybody) on which
machine, and the lines that have to come out (in the form of `guides.py`; nothing: only that it succeeds). Files that
both guides have are written as they print them, with the machines of the test for the placeholders.
"""

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.system.site import Site

pytestmark = pytest.mark.timeout(600)


class Step(NamedTuple):
    """`what` is a command, or a path whose content `lines` are."""

    what: str
    lines: str = ""
    host: str = "server"
    fails: bool = False


SYNCHRONISED = "…\ntry: 7, refid: C6336409, correction: 0.000000024, skew: 3.442"
TRACKING = """\
Reference ID    : CB00710F …
Stratum         : 3
Ref time (UTC)  : Fri Jan 27 09:49:17 2017
System time     : 0.000006523 seconds slow of NTP time
Last offset     : -0.000006747 seconds
RMS offset      : 0.000035822 seconds
Frequency       : 3.225 ppm slow
Residual freq   : 0.000 ppm
Skew            : 0.129 ppm
Root delay      : 0.013639022 seconds
Root dispersion : 0.001100737 seconds
Update interval : 64.2 seconds
Leap status     : Normal"""
NOT_AUTHORISED = "…\n501 Not authorised"
CLIENT = """\
pool 2.pool.ntp.org iburst
driftfile /var/lib/chrony/drift
makestep 1.0 3
rtcsync
keyfile /etc/chrony.keys
ntsdumpdir /var/lib/chrony
leapsectz right/UTC
logdir /var/log/chrony
clientloglimit 10000000
allow"""

# Chapter of RHEL 10's guide (chapter of RHEL 8's): its steps.
STEPS: dict[str, list[Step]] = {
    "2.1 2.6 2.7 managing, checking, clients (13.2.1 13.2.2)": [
        Step("/etc/chrony.conf", CLIENT),
        Step("# systemctl start chronyd"),
        Step("# systemctl enable chronyd"),
        Step("$ systemctl status chronyd", "● chronyd.service …\n…\n     Active: active (running) …\n…"),
        Step("# chronyc waitsync 60", SYNCHRONISED),
        Step("$ chronyc tracking", TRACKING),
        Step("$ chronyc sources", "MS Name/IP address         Stratum Poll Reach LastRx Last sample\n===\n…"),
        Step("$ chronyc sources -v", "…\n^* …\n…"),
        Step("$ chronyc sourcestats",
             "Name/IP Address            NP  NR  Span  Frequency  Freq Skew  Offset  Std Dev\n===\n…"),
        Step("$ chronyc sourcestats -v", "…"),
        Step("# chronyc clients",
             "Hostname                      NTP   Drop Int IntL Last     Cmd   Drop Int  Last\n===\n…"),
        Step("# chronyc -n clients", "Hostname …\n===\n…"),
        Step("# chronyc ntpdata", "…\nInterleaved     : No\nAuthenticated   : No\nTX timestamping : Kernel\n"
                                  "RX timestamping : Kernel\n…"),
        Step("# printf 'tracking\\nhelp\\nquit\\n' | chronyc", "…"),
        Step("# systemctl restart chronyd"),
        Step("# systemctl stop chronyd"),
        Step("# systemctl disable chronyd"),
    ],
    "2.3 disabling the dispatcher script (13.2.4)": [
        Step("/etc/chrony.conf", "server ntp1.example.net"),
        Step("# systemctl start chronyd"),
        Step("# mkdir -p /etc/NetworkManager/dispatcher.d"),
        Step("# ln -f -s /dev/null /etc/NetworkManager/dispatcher.d/20-chrony-onoffline"),
        # what NetworkManager then runs is the link, in place of the script of the same name
        Step("# test -x /usr/lib/NetworkManager/dispatcher.d/20-chrony-onoffline"),
        Step("# ip link set wan0 down; /usr/lib/NetworkManager/dispatcher.d/20-ntpd-fast-onoffline wan0 down"),
        Step("# chronyc activity", "200 OK\n1 sources online\n0 sources offline\n…"),
        Step("# /usr/lib/NetworkManager/dispatcher.d/20-chrony-onoffline wan0 down; chronyc activity",
             "200 OK\n0 sources online\n1 sources offline\n…"),
    ],
    "2.4 isolated network, 2.2 setting the clock (13.2.5 13.2.3)": [
        Step("# touch /etc/chrony.keys"),
        Step("/etc/chrony.conf", "driftfile /var/lib/chrony/drift\ncommandkey 1\nkeyfile /etc/chrony.keys\n"
                                 "initstepslew 10 client.example.com\nlocal stratum 8\nmanual\nallow 192.0.2.0/24"),
        Step("# systemctl start chronyd"),
        Step("# journalctl -u chronyd -o cat -g commandkey", "commandkey directive is no longer supported"),
        Step("# chronyc -n tracking", "Reference ID    : 7F7F0101 ()\nStratum         : 8\n…"),
        Step('# chronyc settime "$(date +%H:%M:%S)"', "200 OK\nClock was 0.02 seconds fast.  …"),
        Step("# chronyc manual list", "210 n_samples = 1\n…"),
        Step("/etc/chrony.conf", "server ntp.example.com iburst\ndriftfile /var/lib/chrony/drift\n"
                                 "logdir /var/log/chrony\nlog measurements statistics tracking\n"
                                 "keyfile /etc/chrony.keys\ncommandkey 24\nlocal stratum 10\n"
                                 "initstepslew 20 ntp.example.com\nallow 192.0.2.1", host="client"),
        Step("# systemctl start chronyd", host="client"),
        Step("# chronyc waitsync 60", SYNCHRONISED, host="client"),
        Step("# chronyc -n tracking", "Reference ID    : C0000201 (192.0.2.1)\nStratum         : 9\n…", host="client"),
        Step("# ls /var/log/chrony", "measurements.log\nstatistics.log\ntracking.log", host="client"),
    ],
    "2.5 remote monitoring (13.2.6)": [
        Step("/etc/chrony.conf", "local stratum 8\nallow\nbindcmdaddress 0.0.0.0\nbindcmdaddress ::\n"
                                 "cmdallow 192.0.2.0/24\ncmdallow 2001:db8::/64"),
        Step("# firewall-cmd --permanent --add-port=323/udp", "success"),
        Step("# firewall-cmd --permanent --zone=public --add-port=323/udp", "success"),
        Step("# firewall-cmd --reload", "success"),
        Step("# systemctl start chronyd"),
        *(
            Step(f"$ chronyc -h 192.0.2.1 {command}", host="client")
            for command in ("activity", "manual list", "sources", "sourcestats", "tracking")
        ),
        *(
            Step(f"$ chronyc -h 192.0.2.1 {command}", NOT_AUTHORISED, host="client", fails=True)
            for command in ("makestep", "clients", "offline", "allow 10.0.0.0/8", "shutdown")
        ),
        # what is not configured here it may say to anybody
        Step("$ chronyc -h 192.0.2.1 smoothing", "505 Facility not enabled in daemon", host="client", fails=True),
        Step("$ chronyc -h 192.0.2.1 rtcdata", "513 RTC driver not running", host="client", fails=True),
        Step("$ chronyc -h 192.0.2.1 waitsync 1", "…", host="client", fails=True),
        Step("$ chronyc makestep", NOT_AUTHORISED, fails=True),
        Step("# chronyc sources", "MS Name …\n==="),
    ],
    "3 hardware timestamping (13.3)": [
        Step("# ethtool -T enp1s0"),
        Step("/etc/chrony.conf", "hwtimestamp enp1s0\nhwtimestamp eno*\nclientloglimit 100000000\nallow\n"
                                 "server ntp1.example.net local minpoll 0 maxpoll 0 xleave"),
        Step("# systemctl restart chronyd"),
        Step("# journalctl -u chronyd -o cat -g hwtimestamp", "hwtimestamp directive has no effect yet"),
        Step("# journalctl -u chronyd -o cat -g 'word local'", "Ignored word local in server directive …"),
        Step("# chronyc waitsync 60", SYNCHRONISED),
        Step("# chronyc ntpdata", "…\nInterleaved     : Yes\n…\nTX timestamping : Kernel\nRX timestamping : Kernel\n…"),
        Step("# chronyc sourcestats", "Name/IP …\n===\n…"),
        Step("/etc/chrony.conf", "bindaddress 192.0.2.1\nhwtimestamp eth0\nlocal stratum 1\nallow"),
        Step("# systemctl restart chronyd"),
        Step("# chronyd -Q -t 10 'server 192.0.2.1 iburst maxsamples 1'",
             "…\n2021-09-15T13:45:28Z System clock wrong by 0.002205 seconds (ignored)\n…"),
    ],
    "4 Network Time Security (13.4)": [
        Step("# mkdir -p /etc/pki/tls/private /etc/pki/tls/certs"),
        Step("# openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj /CN=ntp.example.com"
             " -addext subjectAltName=DNS:ntp.example.com,DNS:time.example.com"
             " -keyout /etc/pki/tls/private/ntp.example.com.key -out /etc/pki/tls/certs/ntp.example.com.crt"),
        Step("# cat /etc/pki/tls/certs/ntp.example.com.crt >>/etc/ssl/certs/ca-certificates.crt"),
        Step("/etc/chrony.conf", "local stratum 1\nallow\nntsdumpdir /var/lib/chrony\n"
                                 "ntsserverkey /etc/pki/tls/private/ntp.example.com.key\n"
                                 "ntsservercert /etc/pki/tls/certs/ntp.example.com.crt\n"
                                 "server time.example.com iburst nts minpoll 1 maxpoll 1"),
        Step("# chown root:chrony /etc/pki/tls/private/ntp.example.com.key /etc/pki/tls/certs/ntp.example.com.crt"),
        Step("# chmod 644 /etc/pki/tls/private/ntp.example.com.key /etc/pki/tls/certs/ntp.example.com.crt"),
        Step("# firewall-cmd --permanent --add-port={323/udp,4460/tcp}", "success"),
        Step("# firewall-cmd --reload", "success"),
        Step("# systemctl restart chronyd"),
        Step("$ chronyd -Q -t 30 'server ntp.example.com iburst nts maxsamples 1'",
             "2021-09-15T13:45:26Z chronyd version 4.6.1 starting …\n"
             "2021-09-15T13:45:26Z Disabled control of system clock\n"
             "2021-09-15T13:45:28Z System clock wrong by 0.002205 seconds (ignored)\n"
             "2021-09-15T13:45:28Z chronyd exiting"),
        Step("# until chronyc -c -N authdata | grep -q ,NTS,1,; do sleep 0.2; done"),
        Step("# chronyc -N authdata",
             "Name/IP address             Mode KeyID Type KLen Last Atmp  NAK Cook CLen\n===\n"
             "time.example.com             NTS     1   15  256  33m    0    0    8  100"),
        Step("# chronyc -N sources", "MS Name/IP address         Stratum Poll Reach LastRx Last sample\n===\n"
                                     "^? time.example.com …"),
        Step("# chronyc serverstats",
             "NTP packets received       : 7\nNTP packets dropped        : 0\nCommand packets received   : 22\n"
             "Command packets dropped    : 0\nClient log records dropped : 0\nNTS-KE connections accepted: 1\n"
             "NTS-KE connections dropped : 0\nAuthenticated NTP packets  : 7\n…"),
    ],
}
AT_A_TIME = 3


def follow(chapter: str, directory: Path, packages: dict[str, Path]) -> str:
    """What is wrong with a chapter; empty when nothing is."""
    site = Site(directory, packages)
    try:
        site.install("ntpd-fast", "ntpd-fast-chrony")
        if any(step.host == "client" for step in STEPS[chapter]):
            site.install("ntpd-fast", "ntpd-fast-chrony", host="client")
        site.start_world()
        for step in STEPS[chapter]:
            if step.what.startswith("/"):
                site.machine(step.host).write(step.what, f"{step.lines}\n")
                continue
            complaint = site.type(step.what[2:], step.lines.splitlines(), as_root=step.what.startswith("#"),
                                  host=step.host, fails=step.fails)
            if complaint:
                return f"{step.what}\n{complaint}"
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        return str(error)
    finally:
        site.close()
    return ""


@pytest.fixture(scope="module")
def complaints(tmp_path_factory, packages) -> dict[str, str]:
    """They mostly wait for measurements: side by side."""
    directories = [tmp_path_factory.mktemp(f"chapter{number}") for number in range(len(STEPS))]
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        found = pool.map(lambda chapter, directory: follow(chapter, directory, packages), STEPS, directories)
        return dict(zip(STEPS, found, strict=True))


@pytest.mark.parametrize("chapter", STEPS)
def test_a_chapter_works_as_it_is_printed(complaints, chapter):
    assert complaints[chapter] == ""
