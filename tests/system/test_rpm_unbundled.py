"""The package without libraries of its own, built and run with those of the system.

Debian's are too old for it. In their place stand, in the system's own directory of modules, the oldest versions that
the spec file admits: for the build, and in the machine the package is installed in.
"""

import re
import subprocess
from pathlib import Path

import pytest

from tests.system.machine import ENVIRONMENT, Machine
from tests.system.packages import ROOT, RPM, install
from tests.system.test_rpm import SPEC, answer, verify

pytestmark = [pytest.mark.timeout(1200), pytest.mark.slow]

TOP = ROOT / "build/rpm-unbundled"
SYSTEM_MODULES = "/usr/lib/python3/dist-packages"
BUILD = f"""\
mount -t overlay overlay -o lowerdir="$1":{SYSTEM_MODULES} {SYSTEM_MODULES}
exec packaging/rpm/build.sh --without bundled
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


def test_it_is_built_installed_and_run_with_the_oldest_libraries_it_admits(machine: Machine, tmp_path):
    libraries = tmp_path / "libraries"
    oldest = dict(NEEDED.findall(SPEC.read_text()))
    assert oldest.keys() == {"Cython", "setuptools", "cryptography", "pyroute2", "sdnotify", "uvloop"}
    output_of(
        "/usr/bin/python3", "-m", "pip", "--disable-pip-version-check", "install", "--quiet",
        "--root-user-action=ignore", "--target", libraries, *(f"{name}=={old}.*" for name, old in oldest.items()),
    )
    output_of("unshare", "-m", "sh", "-euc", BUILD, "sh", libraries, RPM_TOP=str(TOP))
    found = {output_of("rpm", "-qp", "--qf", "%{NAME}", path): path for path in (TOP / "RPMS").rglob("*.rpm")}
    assert found.keys() == {"ntpd-fast", "ntpd-fast-chrony", "ntpd-fast-loadtest"}
    wanted = output_of("rpm", "-qp", "--requires", found["ntpd-fast"])
    for name in oldest.keys() - {"Cython", "setuptools"}:
        assert f"python3-{name} >= {oldest[name]}\n" in wanted
    assert "bundled(" not in output_of("rpm", "-qp", "--provides", found["ntpd-fast"])
    assert "/vendor" not in output_of("rpm", "-qpl", found["ntpd-fast"])

    output_of("tar", "-cf", tmp_path / "libraries.tar", "-C", libraries, ".")
    machine.put("/tmp/libraries.tar", (tmp_path / "libraries.tar").read_bytes())
    machine.shell(f"tar -C {SYSTEM_MODULES} -xf /tmp/libraries.tar")
    install(machine, found, "ntpd-fast", "ntpd-fast-loadtest")
    assert verify(machine, "ntpd-fast") == ""
    machine.shell("printf 'allow\\nlocal stratum 9\\n' >>/etc/ntpd-fast.conf; /usr/sbin/ntpd-fast -x -F 2")
    assert answer(machine) == (0, 9)
    assert "7F7F0101" in machine.run("ntpc-fast", "tracking")
    assert "usage" in machine.run("ntpd-fast-loadtest", "--help").lower()
    assert machine.run("ntpc-fast", "shutdown") == "200 OK\n"
    # Python finds nothing where these are not: the libraries were the system's
    machine.shell(f"rm -r {SYSTEM_MODULES}/uvloop")
    assert "No module named 'uvloop'" in machine.try_run("/usr/sbin/ntpd-fast", "-x", "--version").stderr
    machine.run(*RPM, "-e", "ntpd-fast", "ntpd-fast-loadtest")
