"""The units as systemd's own tools judge them. `make test-rpm` starts them."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# exposure as `systemd-analyze security` computes it, times ten
EXPOSURE_MAX = {
    "ntpd-fast.service": 23,
    "ntpd-fast-restricted.service": 19,
    "ntpd-fast-serve.service": 19,
    "ntpd-fast-wait.service": 20,
}
DEBIAN = "'make deps' installs it"


def units_of(directory: Path) -> list[Path]:
    """Our units and chrony's variants of them."""
    found = []
    for path in sorted((ROOT / "systemd").iterdir()):
        found.append(directory / path.name)
        shutil.copy(path, found[-1])
    for ours, theirs in (
        ("ntpd-fast", "chronyd"), ("ntpd-fast-restricted", "chronyd-restricted"), ("ntpd-fast-wait", "chrony-wait"),
    ):
        done = subprocess.run(
            ["sed", "-E", "-f", str(ROOT / "packaging/chrony-names.sed"), str(ROOT / f"systemd/{ours}.service")],
            capture_output=True, check=True,
        )
        found.append(directory / f"{theirs}.service")
        found[-1].write_bytes(done.stdout)
    return found


def test_units_are_valid(tmp_path):
    assert shutil.which("systemd-analyze"), DEBIAN
    units = units_of(tmp_path)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True, timeout=60, check=False
    )
    # the programs are not installed on this machine: nothing else may be said
    complaints = [line for line in done.stderr.splitlines() if "is not executable: No such file" not in line]
    assert complaints == []
    assert len(done.stderr.splitlines()) <= len(units)


@pytest.mark.parametrize("name", sorted(EXPOSURE_MAX))
def test_units_expose_little(name):
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", f"--threshold={EXPOSURE_MAX[name]}",
         str(ROOT / "systemd" / name)],
        capture_output=True, text=True, timeout=60, check=False,
    )
    assert done.returncode == 0, done.stdout.splitlines()[-1]
    assert f"Overall exposure level for {name}" in done.stdout
