"""Hosts on one network: namespaces that are joined by a bridge, each with files of its own where daemons look.

To be used from within `in_network_namespace(..., mounts=True)`: that namespace is the switch. A host has its own /etc,
/run, /var/lib/chrony and /var/log/chrony, so that daemons run with the paths they have in production.
"""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.daemon import ROOT
from tests.netns import ip, make_etc

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SERVICE_USER = "_chrony"
STATE_DIRECTORIES = ("/var/lib/chrony", "/var/log/chrony")


class Host:
    """One host. Its processes end with the block that made it."""

    def __init__(self, directory: Path, holder: subprocess.Popen[bytes]) -> None:
        self.directory = directory
        self._holder = holder
        self._processes: list[subprocess.Popen[bytes]] = []

    def file(self, path: str) -> Path:
        """Where one of the host's own files is to be found from outside."""
        return self.directory / path.lstrip("/")

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a program."""
        with self.file("/run/output").open("ab") as output:
            process = subprocess.Popen(
                self._inside(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=_environment()
            )
        self._processes.append(process)
        return process

    def output_of(self, *command: str) -> str:
        """What a program prints; its status must be 0."""
        done = subprocess.run(
            self._inside(command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=_environment(), timeout=30, check=False,
        )
        assert done.returncode == 0, (command, done.stdout)
        return done.stdout.decode()

    def stop(self) -> None:
        """End what runs, in good order."""
        for process in reversed(self._processes):
            if process.poll() is None:
                process.terminate()
            process.wait(20)
        self._processes.clear()

    def _inside(self, command: tuple[str, ...]) -> list[str]:
        return ["nsenter", "--target", str(self._holder.pid), "--net", "--mount", *command]


@contextlib.contextmanager
def hosts(directory: Path, addresses: Mapping[str, str], names: str) -> Iterator[dict[str, Host]]:
    """Hosts by name with an address (with prefix length) each; `names` is what all have as /etc/hosts."""
    ip("link", "add", "switch", "type", "bridge")
    ip("link", "set", "switch", "up")
    with contextlib.ExitStack() as stack:
        found = {}
        for index, (name, address) in enumerate(addresses.items()):
            own = directory / name
            own.mkdir()
            found[name] = stack.enter_context(_host(own, f"port{index}", address, names))
        yield found


@contextlib.contextmanager
def _host(directory: Path, port: str, address: str, names: str) -> Iterator[Host]:
    make_etc(directory, {"hosts": names, "resolv.conf": ""})
    (directory / "run").mkdir(mode=0o755)
    mounts = {"/etc": "etc", "/run": "run"}
    for path in STATE_DIRECTORIES:
        own = directory / path.lstrip("/")
        own.mkdir(mode=0o750, parents=True)
        shutil.chown(own, SERVICE_USER, SERVICE_USER)
        mounts[path] = path.lstrip("/")
    # a daemon that has given up root has to get to its files
    directory.chmod(0o755)
    commands = [
        *(f"mount --bind '{directory}/{source}' {target}" for target, source in mounts.items()),
        "ip link set lo up", "echo ready", "exec cat",
    ]
    holder = subprocess.Popen(
        ["unshare", "--net", "--mount", "--propagation", "private", "sh", "-ec", "\n".join(commands)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=_environment(),
    )
    host = Host(directory, holder)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n", "no namespace for a host"
        ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", str(holder.pid))
        ip("link", "set", port, "master", "switch", "up")
        for command in (f"addr add {address} dev eth0", "link set eth0 up"):
            host.output_of("ip", *command.split())
        yield host
    finally:
        host.stop()
        assert holder.stdin is not None
        # it has nothing more to hold when its input ends
        holder.communicate(timeout=10)


def _environment() -> dict[str, str]:
    return {"PATH": PATH, "PYTHONPATH": str(ROOT), "TZ": "UTC"}
