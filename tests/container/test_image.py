"""The image of packaging/container, built and run with podman as the head of its Containerfile says.

`make test-container`: not part of the other tests, for it fetches a Debian and takes minutes. The image stands on a
base made of Debian's packages, since registries of images need not be reached. It runs on a "host" of its own:
namespaces of network, mounts and processes that are gone with the test.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ntpd_fast.clock.kernelclock import read_state
from tests.processes import children_of, wait_until

pytestmark = [pytest.mark.timeout(1800), pytest.mark.slow]

ROOT = Path(__file__).parents[2]
FILE = ROOT / "packaging/container/Containerfile"
STORE = ROOT / "build/container"
BASE = "localhost/ntpd-fast-base"
PODMAN = (
    "podman", "--storage-driver=vfs", f"--root={STORE}/storage", f"--runroot={STORE}/run", "--cgroup-manager=cgroupfs",
)
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root",
    "PYTHONPATH": str(ROOT),
}
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
# Nothing that engines keep about containers and networks is left on the machine. crun knows no mixture of cgroup trees.
HOST = """\
set -e
mount --make-rprivate /
ip link set lo up
mkdir -p /var/lib/cni
mount -t tmpfs tmpfs /var/lib/cni
mount -t tmpfs tmpfs /run
mkdir /run/lock
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo 123 >/proc/sys/net/ipv4/ip_unprivileged_port_start
echo ready
exec cat
"""


def run(*words: str | Path, timeout_s: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, cwd=ROOT, env=ENVIRONMENT | environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=timeout_s, check=False,
    )


def output_of(*words: str | Path, timeout_s: float = 60, **environment: str) -> str:
    done = run(*words, timeout_s=timeout_s, **environment)
    assert done.returncode == 0, (words, done.returncode, done.stdout[-2000:], done.stderr[-4000:])
    return done.stdout


@pytest.fixture(scope="module")
def image() -> dict:
    """What podman says of the image of the tree as it stands."""
    assert os.geteuid() == 0, "building the base needs root"
    if run(*PODMAN, "image", "exists", BASE).returncode != 0:
        output_of("packaging/container/base.sh", BASE, *PODMAN[1:], timeout_s=600)
    volumes = []
    if CERTIFICATES.exists():
        # where this machine trusts others than everybody does, so must its builds
        (STORE / "pip.conf").write_text("[global]\ncert = /host-certificates\n")
        volumes = [f"--volume={CERTIFICATES}:/host-certificates:ro", f"--volume={STORE}/pip.conf:/etc/pip.conf:ro"]
    output_of(
        "packaging/container/build.sh", *PODMAN[1:],
        timeout_s=1500, BASE=BASE, BUILD_OPTIONS=" ".join(["--quiet", *volumes]), BUILDAH_ISOLATION="chroot",
    )
    (found,) = json.loads(output_of(*PODMAN, "image", "inspect", "ntpd-fast"))
    return found


class Host:
    """A machine to run containers on."""

    def __init__(self) -> None:
        self._starter = subprocess.Popen(
            ["unshare", "-m", "-n", "-p", "-f", "--kill-child", "--mount-proc", "sh", "-c", HOST],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd="/",
        )
        assert self._starter.stdout.readline() == "ready\n"
        (init,) = children_of(self._starter.pid)
        self._enter = ("nsenter", "-m", "-n", "-p", "-t", str(init), "--")

    def try_run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return run(*self._enter, *words)

    def run(self, *words: str) -> str:
        return output_of(*self._enter, *words)

    def podman(self, *words: str) -> str:
        return self.run(*PODMAN, *words)

    def statuses(self, uid: int) -> list[dict[str, str]]:
        """/proc/PID/status of every process of a user."""
        text = self.run("sh", "-c", "for status in /proc/[0-9]*/status; do cat $status; echo; done")
        found = [
            dict(line.split(":\t", 1) for line in one.splitlines() if ":\t" in line) for one in text.split("\n\n")
        ]
        return [one for one in found if one.get("Uid", "").split() == [str(uid)] * 4]

    def close(self) -> None:
        self._starter.stdin.close()
        self._starter.wait(60)
        self._starter.stdout.close()


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    try:
        yield host
    finally:
        # what podman keeps about it is in the store
        host.try_run(*PODMAN, "rm", "--force", "--time=2", "server")
        host.close()


def documented(word: str) -> list[str]:
    """The words of a command in the head of the file."""
    (line,) = [line for line in FILE.read_text().splitlines() if line.startswith(f"#   podman {word} ")]
    return shlex.split(line.partition("(or:")[0].lstrip("# "))


def start(host: Host, *options: str) -> None:
    """`podman run` as documented, `options` before the image, until it is healthy."""
    podman, run_, *words, name = documented("run")
    assert (podman, run_, name) == ("podman", "run", "ntpd-fast")
    # limits of a container of its own take a right that not every machine has which tests run on
    host.podman("run", "--detach", "--name=server", "--cgroups=disabled", *words, *options, name)

    def is_healthy() -> bool:
        state = host.podman("inspect", "--format={{.State.Status}}", "server").strip()
        assert state == "running", host.podman("logs", "server")
        return host.try_run(*PODMAN, "healthcheck", "run", "server").returncode == 0

    wait_until(is_healthy, "the container to be healthy")


def log(host: Host) -> str:
    done = host.try_run(*PODMAN, "logs", "server")
    return done.stdout + done.stderr


def asked(host: Host) -> tuple[int, int]:
    """Leap indicator and stratum of an answer."""
    question = "from tests.system.harness import ask; answer = ask('127.0.0.1', 123); print(answer[0] >> 6, answer[1])"
    leap, stratum = host.run(sys.executable, "-c", question).split()
    return int(leap), int(stratum)


def test_the_documented_commands_are_those_of_the_target(image):
    words = " ".join(documented("build"))
    for part in ("--format=docker", "packaging/container/Containerfile", "ntpd-fast"):
        assert part in words
        assert part in (FILE.parent / "build.sh").read_text()
    assert image["Config"]["User"] == "65532:65532"
    assert list(image["Config"]["ExposedPorts"]) == ["11123/udp"]
    assert image["Healthcheck"] == {"Test": ["CMD", "ntpc-fast", "tracking"]}


def test_it_answers_with_what_the_kernel_says_and_holds_no_capability(image, host):
    start(host)
    state = read_state()
    assert asked(host) == ((int(state.leap), 3) if state.synchronised else (3, 0))
    processes = host.statuses(65532)
    assert len(processes) == 4, "supervisor, control, two workers"
    for status in processes:
        assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"
    # nothing can be written but in the tmpfs
    assert "Read-only" in host.try_run(*PODMAN, "exec", "server", "touch", "/etc/x").stderr
    host.podman("stop", "--time=10", "server")
    assert host.podman("inspect", "--format={{.State.ExitCode}}", "server").strip() == "0"
    said = log(host)
    assert "Could not" not in said
    assert "Disabled command socket" not in said
    assert "ntpd-fast exiting" in said


def test_clients_take_the_time_of_a_configuration_of_their_own(image, host, tmp_path):
    """On the host's network, so that clients keep their addresses."""
    configuration = tmp_path / "ntpd-fast.conf"
    configuration.write_text("port 123\nallow\nlocal stratum 5\ncmdport 0\npidfile /\n"
                             "bindcmdaddress /run/ntpd-fast/chronyd.sock\n")
    configuration.chmod(0o644)
    start(host, "--network=host", f"--volume={configuration}:/etc/ntpd-fast.conf:ro")
    assert asked(host) == (0, 5)
    assert " s5 no-leap" in host.run("ntpdate", "-q", "127.0.0.1")
    once = ("-Q", "-t", "20", "server 127.0.0.1 iburst maxsamples 1")
    assert "System clock wrong by" in host.try_run("chronyd", *once).stderr
    assert "System clock wrong by" in host.try_run(sys.executable, "-m", "ntpd_fast.cli.start", *once).stderr
    clients = host.podman("exec", "server", "ntpc-fast", "-n", "clients")
    assert clients.splitlines()[-1].split()[0] == "127.0.0.1"
    tracking = host.podman("exec", "server", "ntpc-fast", "tracking")
    assert "7F7F0101" in tracking
