"""The container file, as far as it can be tried without an engine (`make test-container` builds and runs the image).

Its words are looked at, and what the image starts is started: as its user, without any capability, on a read-only root,
in a network of its own, with the configuration and the command of the file.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from ntpd_fast.clock.kernelclock import read_state
from tests.processes import wait_until
from tests.system.harness import ROOT

FILE = ROOT / "packaging/container/Containerfile"
PORT = 11123
# What the installed programs are here.
MODULES = {"ntpd-fast": "ntpd_fast.cli.start", "ntpc-fast": "ntpd_fast.cli.control"}
# A root that nobody can write to but in the one directory that is a tmpfs, as `podman run` in the file's head has it.
READ_ONLY = """\
set -e
ip link set lo up
mount --make-rprivate /
mount -t tmpfs -o mode=1777 tmpfs /run
mount --bind {conf} {target}
mount -o remount,ro,bind /
exec setpriv --reuid=65532 --regid=65532 --clear-groups --no-new-privs --bounding-set=-all --inh-caps=-all "$@"
"""


def instructions() -> list[tuple[str, str]]:
    """Words of the file in order, with continued lines joined."""
    text = "\n".join(line for line in FILE.read_text().splitlines() if not line.startswith("#"))
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in lines]


def only(word: str) -> str:
    (found,) = [rest for name, rest in instructions() if name == word]
    return found


def program(words: list[str]) -> list[str]:
    return [sys.executable, "-sP", "-m", MODULES[words[0]], *words[1:]]


def test_the_file_says_what_can_be_done():
    known = {"ARG", "FROM", "RUN", "COPY", "ENV", "USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT"}
    assert {name for name, _ in instructions()} <= known
    stages = [rest.split()[-1] for name, rest in instructions() if name == "FROM" and " AS " in rest]
    for name, rest in instructions():
        if name == "RUN":
            assert subprocess.run(["sh", "-n"], input=rest, text=True, check=False).returncode == 0, rest
        if name == "COPY" and rest.startswith("--from="):
            assert rest.split()[0].removeprefix("--from=") in stages
        elif name == "COPY":
            assert (ROOT / rest.split()[0]).exists()
    assert only("EXPOSE") == f"{PORT}/udp"
    user, group = map(int, only("USER").split(":"))
    assert user != 0
    assert group != 0


@pytest.fixture
def container(tmp_path):
    """What the image starts, in namespaces of its own; (process, function that runs words inside)."""
    assert os.geteuid() == 0, "the container is tried by root"
    conf = ROOT / "packaging/container/ntpd-fast.conf"
    target = tmp_path / "ntpd-fast.conf"
    target.touch()
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == 0 and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    words = [*program(json.loads(only("ENTRYPOINT"))[:-1]), str(target)]
    script = READ_ONLY.format(conf=shlex.quote(str(conf)), target=shlex.quote(str(target)))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "-m", "-n", "sh", "-c", script, "sh", *words],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            env={"PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), "PYTHONPATH": str(ROOT)}, cwd="/",
        )
    try:
        yield process, tmp_path / "log"
    finally:
        process.kill()
        process.wait()


def inside(process: subprocess.Popen, *words: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        ["nsenter", "-t", str(process.pid), "-m", "-n", "--", *words], cwd="/", stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_it_serves_without_any_capability(container):
    process, log = container
    health = program(json.loads(only("HEALTHCHECK").partition(" ")[2]))

    def is_healthy() -> bool:
        assert process.poll() is None, log.read_text()
        return inside(process, *health).returncode == 0

    wait_until(is_healthy, "the container to be healthy")
    question = f"from tests.system.harness import ask; a = ask('127.0.0.1', {PORT}); print(a[0] >> 6, a[1])"
    answered = inside(process, sys.executable, "-c", question)
    state = read_state()
    expected = f"{int(state.leap)} 3\n" if state.synchronised else "3 0\n"
    assert answered.stdout == expected, (answered.stderr, log.read_text())
    family = [process.pid, *map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())]
    assert len(family) == 4, "supervisor, control, two workers"
    for pid in family:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        assert status["Uid"].split() == ["65532"] * 4
        assert {status[f"Cap{kind}"] for kind in ("Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"
