"""The network of a guide: the reader's machine, others beside it, and time servers in the rest of the world.

    server 192.0.2.1  ──  client 192.0.2.2          on eth0
       └── 198.51.100.11 … .14: ntp1 … ntp4.example.net, behind wan0

Each is a machine with systemd (`machine.py`) in which the packages are really installed. What no test machine has
(package repositories, firewalld, network cards) is stood in for by the programs of `standins/`.
"""

import contextlib
import subprocess
from pathlib import Path

from tests.system.guides import Block, blocks, mismatch
from tests.system.machine import ENVIRONMENT, Machine
from tests.system.packages import NO_CLOCK, prepare

STANDINS = Path(__file__).with_name("standins")
SERVICES = ("ntpd-fast", "ntpd-fast-restricted", "chronyd", "chronyd-restricted")
ADDRESSES = {"server": "192.0.2.1", "client": "192.0.2.2"}
WORLD = tuple(f"198.51.100.{number}" for number in range(11, 15))
HOSTS = "".join(
    f"{address} {names}\n"
    for address, names in (
        (ADDRESSES["server"], "ntp.example.com time.example.com"),
        (ADDRESSES["client"], "client.example.com"),
        *((address, f"ntp{number}.example.net 2.pool.ntp.org") for number, address in enumerate(WORLD, 1)),
    )
)
WORLD_CONF = """\
local stratum 1
allow
bindcmdaddress /
cmdport 0
pidfile /run/world.pid
workers 0
"""
# A namespace of its own, so that port 123 is free for the reader's daemon.
START_WORLD = f"""\
ip netns add world
ip link add wan0 type veth peer name eth0 netns world
ip addr add 198.51.100.1/24 dev wan0
ip link set wan0 up
ip netns exec world sh -c 'ip link set lo up; ip link set eth0 up
    for address in {" ".join(WORLD)}; do ip addr add $address/24 dev eth0; done'
ip netns exec world /usr/sbin/ntpd-fast -x -u root -f /etc/world.conf
"""
READER = "reader"


class Site:
    """The machines of one guide; `close` ends them."""

    def __init__(self, directory: Path, packages: dict[str, Path]) -> None:
        self._directory = directory
        self._packages = packages
        self._machines: dict[str, Machine] = {}
        self._undo = contextlib.ExitStack()

    def machine(self, name: str = "server") -> Machine:
        """The machine of this name, made when it is first asked for."""
        if name not in self._machines:
            assert name in ADDRESSES, f"no machine is called {name}"
            self._machines[name] = self._make(name)
        return self._machines[name]

    def _make(self, name: str) -> Machine:
        directory = self._directory / f"{self._directory.name}-{name}"
        directory.mkdir()
        machine = self._undo.enter_context(Machine(directory))
        prepare(machine)
        for package, path in self._packages.items():
            machine.put(f"/var/tmp/{package}.rpm", path.read_bytes())
        for path in STANDINS.iterdir():
            machine.write(f"/usr/local/bin/{path.name}", path.read_text())
        machine.shell("chmod 755 /usr/local/bin/*")
        machine.write("/etc/hosts", f"127.0.0.1 localhost\n::1 localhost\n{HOSTS}")
        # nobody answers questions about other names: not even a wait for that
        machine.write("/etc/resolv.conf", "")
        machine.run("useradd", "-m", READER)
        for service in SERVICES:
            program = service.removesuffix("-restricted")
            leave = f"ExecStart=\nExecStart=/usr/sbin/{program} -n -U -x $OPTIONS\n"
            machine.write(f"/etc/systemd/system/{service}.service.d/test.conf", NO_CLOCK + leave)
        self._wire(machine, name)
        return machine

    def _wire(self, machine: Machine, name: str) -> None:
        first = next(iter(self._machines.values()), None)
        if first is None:
            machine.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "lan")
        else:
            outside = ["nsenter", "-n", "-t", str(first.init), "ip", "link", "set", "lan", "netns", str(machine.init)]
            subprocess.run(outside, env=ENVIRONMENT, check=True)
            machine.run("ip", "link", "set", "lan", "name", "eth0")
        machine.run("ip", "addr", "add", f"{ADDRESSES[name]}/24", "dev", "eth0")
        machine.run("ip", "link", "set", "eth0", "up")
        if first is None:
            machine.run("ip", "link", "set", "lan", "up")

    def install(self, *names: str, host: str = "server") -> None:
        """Packages, as dnf would."""
        machine = self.machine(host)
        machine.run("dnf", "install", *names)

    def start_world(self) -> None:
        """Let ntp1 to ntp4.example.net answer; the package has to be there."""
        self.machine().write("/etc/world.conf", WORLD_CONF)
        self.machine().shell(START_WORLD)

    def close(self) -> None:
        self._undo.close()

    def follow(self, guide: Path) -> int:
        """Do what a guide says, from its first line to its last; how many commands were run."""
        count = 0
        for block in blocks(guide):
            place = f"{guide.name}:{block.line}"
            host = next((word for word in block.words if word in ADDRESSES), "server")
            for preparation in block.preparations:
                self._prepare(preparation, host)
            if block.language in ("conf", "file"):
                self._write(block, host, place)
            elif block.language == "console":
                for command in block.commands:
                    complaint = self.type(command.text, command.expected, as_root=command.as_root, host=host,
                                          fails="fails" in block.words)
                    assert not complaint, f"{guide.name}:{command.line}: {command.text}\n{complaint}"
                    count += 1
        return count

    def _prepare(self, preparation: str, host: str) -> None:
        word, *rest = preparation.split()
        if word == "install":
            self.install(*rest, host=host)
        elif word == "world":
            self.start_world()
        elif word == "copy":
            origin, path = rest
            self.machine(host).write(path, self.machine(origin).read(path))
        else:
            self.machine(host).shell(preparation)

    def _write(self, block: Block, host: str, place: str) -> None:
        path = next((word for word in block.words if word.startswith("/")), "/tmp/guide.conf")
        machine = self.machine(host)
        machine.write(path, "".join(f"{line}\n" for line in block.lines))
        if block.language == "conf":
            done = machine.try_run("/usr/sbin/ntpd-fast", "-p", "-f", path)
            assert (done.returncode, done.stderr) == (0, ""), f"{place}: {done.stderr}"

    def type(self, text: str, expected: list[str], *, as_root: bool, host: str = "server", fails: bool = False) -> str:
        """Type a command; what is wrong with it, empty when nothing is."""
        user = [] if as_root else ["setpriv", f"--reuid={READER}", f"--regid={READER}", "--init-groups"]
        done = self.machine(host).try_run(*user, "bash", "-c", text)
        output = done.stdout + done.stderr
        if (done.returncode != 0) != fails:
            return f"status {done.returncode}:\n{output}\n{self.machine(host).journal('-n', '30')}"
        return mismatch(expected, output) if expected else ""
