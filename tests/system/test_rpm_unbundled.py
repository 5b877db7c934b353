"""The package without libraries of its own, built and run with those of the system.

Debian's are too old for it. In their place stand, in the system's own directory of modules, the oldest versions that
the spec file admits: for the build, and in the machine the package is installed in.
"""

import re
import subprocess
from pathlib import Path

import pytest

from tests.system.machine import ENVIRONMENT, Machine
from tests.system.packages import ROOT, RPM, install, leave_the_clock_alone
from tests.system.test_rpm import SPEC, answer, verify

pytestmark = [pytest.mark.timeout(1200), pytest.mark.slow]

TOP = ROOT / "build/rpm-unbundled"
SYSTEM_MODULES = "/usr/lib/python3/dist-packages"
BUILD = f"""\
mount -t overlay overlay -o lowerdir="$1":{SYSTEM_MODULES} {SYSTEM_MODULES}
exec packaging/rpm/build.sh --without bundled --define "dist .next"
"""
# names of the spec file and the index of Python packages are the same
NEEDED = re.compile(r"^(?:Build)?Requires: +python%\{python3_pkgversion\}-(?!devel)(\w+) >= (\S+)$", re.MULTILINE)


def output_of(*words: str | Path, **environment: str) -> str:
    done = subprocess.run(
        words, cwd=ROOT, env=ENVIRONMENT | environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=900, check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def libraries(tmp_path_factory) -> Path:
    """The oldest versions, in a directory."""
    directory = tmp_path_factory.mktemp("libraries")
    oldest = dict(NEEDED.findall(SPEC.read_text()))
    assert oldest.keys() == {"Cython", "setuptools", "cryptography", "pyroute2", "sdnotify", "uvloop"}
    output_of(
        "/usr/bin/python3", "-m", "pip", "--disable-pip-version-check", "install", "--quiet",
        "--root-user-action=ignore", "--target", directory, *(f"{name}=={old}.*" for name, old in oldest.items()),
    )
    return directory


@pytest.fixture(scope="module")
def unbundled(libraries) -> dict[str, Path]:
    """The packages by name, of a release after that of the bundled ones."""
    output_of("unshare", "-m", "sh", "-euc", BUILD, "sh", libraries, RPM_TOP=str(TOP))
    return {output_of("rpm", "-qp", "--qf", "%{NAME}", path): path for path in (TOP / "RPMS").rglob("*.rpm")}


@pytest.fixture
def site(machine: Machine, libraries) -> Machine:
    """A machine with the libraries where a distribution's would be."""
    archive = subprocess.run(
        ["tar", "-cf", "-", "--mode=u+rwX,go=rX", "-C", libraries, "."], stdout=subprocess.PIPE, check=True
    ).stdout
    machine.put("/tmp/libraries.tar", archive)
    machine.shell(f"tar -C {SYSTEM_MODULES} -xf /tmp/libraries.tar; rm /tmp/libraries.tar")
    return machine


def test_it_asks_for_the_libraries_in_place_of_bringing_them(unbundled):
    assert unbundled.keys() == {"ntpd-fast", "ntpd-fast-chrony", "ntpd-fast-loadtest"}
    wanted = output_of("rpm", "-qp", "--requires", unbundled["ntpd-fast"])
    for name, oldest in NEEDED.findall(SPEC.read_text()):
        assert (f"python3-{name} >= {oldest}\n" in wanted) == (name not in ("Cython", "setuptools"))
    assert "bundled(" not in output_of("rpm", "-qp", "--provides", unbundled["ntpd-fast"])
    assert "/vendor" not in output_of("rpm", "-qpl", unbundled["ntpd-fast"])


def test_it_runs_with_the_oldest_libraries_it_admits(site, unbundled):
    install(site, unbundled, "ntpd-fast", "ntpd-fast-loadtest")
    assert verify(site, "ntpd-fast") == ""
    site.shell("printf 'allow\\nlocal stratum 9\\n' >>/etc/ntpd-fast.conf; /usr/sbin/ntpd-fast -x -F 2")
    assert answer(site) == (0, 9)
    assert "7F7F0101" in site.run("ntpc-fast", "tracking")
    assert "usage" in site.run("ntpd-fast-loadtest", "--help").lower()
    assert site.run("ntpc-fast", "shutdown") == "200 OK\n"
    # Python finds nothing where these are not: the libraries were the system's
    site.shell(f"rm -r {SYSTEM_MODULES}/uvloop")
    asked = site.try_run("/usr/sbin/ntpd-fast", "-x", "-Q", "-t", "1", "server 127.0.0.1 port 9")
    assert "No module named 'uvloop'" in asked.stdout + asked.stderr, asked
    site.run(*RPM, "-e", "ntpd-fast", "ntpd-fast-loadtest")


def test_an_upgrade_restarts_the_service_and_keeps_what_the_admin_wrote(site, packages, unbundled):
    """From the package with libraries to the next release without."""
    install(site, packages, "ntpd-fast")
    leave_the_clock_alone(site, "ntpd-fast.service")
    written = {
        "/etc/ntpd-fast.conf": "allow\nlocal stratum 9\nkeyfile /etc/ntpd-fast.keys\n",
        "/etc/ntpd-fast.keys": "7 SHA1 HEX:0102030405060708090a0b0c0d0e0f1011121314\n",
        "/etc/sysconfig/ntpd-fast": 'OPTIONS="-x -F 2"\n',
    }
    for path, text in written.items():
        site.write(path, text)
    site.run("systemctl", "enable", "--now", "ntpd-fast")
    before = site.ask("systemctl", "show", "-P", "MainPID", "ntpd-fast")
    site.put("/tmp/next.rpm", unbundled["ntpd-fast"].read_bytes())
    assert site.run(*RPM, "-U", "--nodeps", "/tmp/next.rpm") == ""
    assert site.ask(*RPM, "-q", "--qf", "%{RELEASE}", "ntpd-fast") == "1.next"
    assert site.ask("systemctl", "is-enabled", "ntpd-fast") == "enabled"
    assert site.ask("systemctl", "show", "-P", "MainPID", "ntpd-fast") not in (before, "0")
    assert answer(site) == (0, 9)
    assert "Loaded 1 symmetric keys" in site.journal("-u", "ntpd-fast", "-n", "6")
    for path, text in written.items():
        assert site.read(path) == text
    assert site.ask("stat", "-c", "%U %G %a", "/etc/ntpd-fast.keys") == "root ntpd-fast 640"
    # of the old release nothing is left
    assert site.ask("sh", "-c", "ls -d /usr/lib*/ntpd-fast/vendor /etc/*.rpm* /etc/*/*.rpm*") == ""
    changed = {line.split()[-1]: line.split()[0] for line in verify(site, "ntpd-fast").splitlines()}
    # the configuration is made by the package, so rpm compares no content
    assert changed.keys() == written.keys() - {"/etc/ntpd-fast.conf"}
    # content, and nothing of owner, group or mode
    assert {marks.strip(".") for marks in changed.values()} == {"S.5....T"}
