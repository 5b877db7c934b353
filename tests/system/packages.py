"""The packages, built from the tree and installed in a machine of their own (`machine.py`)."""

import shutil
import subprocess
from pathlib import Path

from tests.system.machine import ENVIRONMENT, Machine

ROOT = Path(__file__).parents[2]
DATABASE = "/var/lib/test-rpmdb"
RPM = ("rpm", "--dbpath", DATABASE)
STOCK_CHRONYC = "/usr/local/bin/stock-chronyc"
# Debian's chrony, as far as it would be in the way; its chronyc is a witness.
WITHOUT_CHRONY = f"""\
cp /usr/bin/chronyc {STOCK_CHRONYC}
dpkg -L chrony | grep -v /doc/ | while read -r file; do
    [ -d "$file" ] || rm -f "$file"
done
rm -rf /etc/chrony /var/lib/chrony /etc/systemd/system/chronyd.service
"""
# The machine has no right to set the clock, so the unit must not insist on it.
NO_CLOCK = """\
[Unit]
ConditionCapability=
[Service]
AmbientCapabilities=
AmbientCapabilities=CAP_NET_BIND_SERVICE
CapabilityBoundingSet=
CapabilityBoundingSet=CAP_NET_BIND_SERVICE
"""


def build() -> dict[str, Path]:
    """The packages by name, built from the tree as it stands."""
    for tool in ("rpmbuild", "rpmlint", "nsenter", "setpriv"):
        assert shutil.which(tool), f"{tool} is missing: 'make deps' installs it"
    done = subprocess.run(
        ["packaging/rpm/build.sh"], cwd=ROOT, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=580, check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    found = {}
    for path in (ROOT / "build/rpm/RPMS").rglob("*.rpm"):
        name = subprocess.run(["rpm", "-qp", "--qf", "%{NAME}", path], capture_output=True, text=True, check=True)
        found[name.stdout] = path
    return found


def prepare(machine: Machine) -> None:
    """A machine without chrony, with an empty database of packages."""
    machine.shell(WITHOUT_CHRONY)
    machine.run(*RPM, "--initdb")


def install(machine: Machine, packages: dict[str, Path], *names: str) -> str:
    """Install packages; what rpm and the scriptlets said."""
    for name in names:
        machine.put(f"/tmp/{name}.rpm", packages[name].read_bytes())
    # Dependencies are Debian packages here, which rpm does not know of.
    return machine.run(*RPM, "-i", "--nodeps", *(f"/tmp/{name}.rpm" for name in names))


def leave_the_clock_alone(machine: Machine, *units: str) -> None:
    for unit in units:
        machine.write(f"/etc/systemd/system/{unit}.d/test.conf", NO_CLOCK)
    machine.run("systemctl", "daemon-reload")
