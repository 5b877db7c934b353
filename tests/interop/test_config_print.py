"""`-p` of the distribution's chronyd beside ours: the same lines shown, the same lines accepted."""

import io
import json
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ntpd_fast.config import ConfigError, parse_lines
from ntpd_fast.config.printer import print_file

CORPUS = Path(__file__).parents[1] / "data" / "conf_corpus"
EXPECTED = json.loads((CORPUS / "expect.json").read_text(encoding="utf-8"))
CHRONYD = shutil.which("chronyd", path="/usr/sbin:/usr/local/sbin:/usr/bin") or "chronyd"


def _known_version() -> str:
    """The version of the corpus that the installed chronyd is, or follows."""
    output = subprocess.run([CHRONYD, "-v"], capture_output=True, check=True, text=True).stdout
    numbers = re.search(r"version ([0-9.]+)", output)
    assert numbers is not None
    installed = [int(number) for number in numbers[1].split(".")]
    return max(
        (version for version in ("4.3", "4.6.1", "4.8") if [int(n) for n in version.split(".")] <= installed),
        key=lambda version: [int(n) for n in version.split(".")],
    )


VERSION = _known_version()

# The files that both refuse while they parse: chrony and we stop at the same line.
REFUSED = [
    entry["file"]
    for entry in EXPECTED["bad"]
    if entry["stage"] == "parse" and entry["expect"][VERSION] == "reject" and "rhel10" not in entry["file"]
]
ACCEPTED = [entry["file"] for entry in EXPECTED["good"] if entry["parse"][VERSION] == "accept"]


def _chronyd(*arguments: str, directory: Path = CORPUS) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(
        [CHRONYD, "-p", *arguments],
        cwd=directory,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=20,
    )


@pytest.mark.parametrize("name", ACCEPTED)
def test_same_lines_of_a_valid_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CORPUS)
    out = io.BytesIO()
    print_file(name, out)
    theirs = _chronyd("-f", name)
    assert theirs.returncode == 0
    assert out.getvalue() == theirs.stdout


@pytest.mark.parametrize("name", REFUSED)
def test_same_lines_of_a_bad_file(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = CORPUS / name
    monkeypatch.chdir(path.parent)
    out = io.BytesIO()
    with pytest.raises(ConfigError):
        print_file(path.name, out)
    theirs = _chronyd("-f", path.name, directory=path.parent)
    assert theirs.returncode == 1
    assert out.getvalue() == theirs.stdout


# Directives and options that newer versions read as the installed one does; no word here needs a name service.
STABLE = {
    "makestep": 2, "maxchange": 3, "fallbackdrift": 2, "smoothtime": 3, "tempcomp": 6, "mailonchange": 2,
    "broadcast": 3, "clientloglimit": 1, "maxdistance": 1, "maxslewrate": 1, "logchange": 1, "leapsecmode": 1,
    "authselectmode": 1, "allow": 2, "deny": 2, "cmdallow": 2, "bindaddress": 1, "bindcmdaddress": 1, "log": 2,
    "rtcsync": 0, "user": 1, "server a": 4, "pool a": 4, "refclock SHM 0": 4, "local": 3, "sourcedir": 2,
}  # fmt: skip
WORDS = [
    "0", "1", "-3", "+7", "007", "1.5", ".5", "1e3", "1e", "0x10", "0x1p1", "inf", "nan", "-inf", "infinity",
    "infi", "12x", "5iburst", "-", "+", "1.", ".", "1e+", "0x", "255", "10.1/8", "10/", "10.300", "all", "ALL",
    "/", "192.0.2.1", "192.0.2.1/24", "192.0.2.1/", "192.0.2.1/-1", "::1", "::/0", "::1/x", "1.2.3", "mix",
    "Step", "tracking", "leaponly", "/x", "iburst", "maxdelay", "offset", "maxdelayratio", "asymmetry",
    "prefer", "XLEAVE", "width", "delay", "pps", "refid", "GPS", "GPSXX", "lock", "orphan", "distance",
    "interval",
]  # fmt: skip


ACCESS = {"allow", "deny", "cmdallow"}
# A word that could be a host name would be looked up.
SUBNETS = [
    "all", "0", "+7", "007", "255", "256", "1.2.3", "10.1/8", "10/", "10.300", "0/0", "192.0.2.1", "192.0.2.1/24",
    "192.0.2.1/", "192.0.2.1/-1", "192.0.2.1/33", "192.0.2.1/8x", "::1", "::/0", "::1/x", "::1/129",
]  # fmt: skip


def _refuses(line: str) -> bool:
    try:
        parse_lines([line], resolver=lambda name: None, strict=True)
    except ConfigError:
        return True
    return False


def test_same_verdict_on_random_lines() -> None:
    rng = random.Random(7)
    different = []
    for _ in range(400):
        name = rng.choice(list(STABLE))
        vocabulary = SUBNETS if name in ACCESS else WORDS
        words = [rng.choice(vocabulary) for _ in range(rng.randint(max(STABLE[name] - 1, 0), STABLE[name] + 1))]
        line = " ".join([name, *words])
        if _refuses(line) != (_chronyd(line).returncode != 0):
            different.append(line)
    assert different == []


@pytest.mark.parametrize("length", [2046, 2047, 2048])
@pytest.mark.parametrize("newline", ["", "\n"])
def test_same_longest_line(length: int, newline: str, tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_text("#".ljust(length, "x") + newline + ("port 0\n" if newline else ""))
    theirs = _chronyd("-f", str(path))
    out = io.BytesIO()
    if theirs.returncode == 0:
        print_file(str(path), out)
        assert out.getvalue() == theirs.stdout
    else:
        with pytest.raises(ConfigError) as error:
            print_file(str(path), out)
        assert str(error.value).encode() == theirs.stderr.partition(b"Fatal error : ")[2].strip()
