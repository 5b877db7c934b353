"""The isolated network of the two Red Hat guides, as written there, on three hosts, read with the real chronyc.

Nothing of the configurations is changed but what the guides leave open: the newer one has `<subnet>`, `<server_fqdn>`
and `<server_ip_address>` in its text. Polls are the default ones, so it takes minutes.
"""

import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.daemon import COMMAND
from tests.hosts import Host, hosts
from tests.netns import in_network_namespace

SERVER = """\
driftfile /var/lib/chrony/drift
commandkey 1
keyfile /etc/chrony.keys
initstepslew 10 client1 client3 client6
local stratum 8
manual
allow 192.0.2.0/24
"""

CLIENT = """\
server {fqdn}
driftfile /var/lib/chrony/drift
logdir /var/log/chrony
log measurements statistics tracking
keyfile /etc/chrony.keys
commandkey 24
local stratum 10
initstepslew 20 ntp1.example.net
allow 192.0.2.123
"""

NOT_DIRECT = "".join(line for line in CLIENT.splitlines(True) if not line.startswith(("local", "allow")))
"""The same, "except that the `local` and `allow` directives should be omitted"."""

NAMES = """\
127.0.0.1 localhost
192.0.2.123 {fqdn} ntp1
192.0.2.1 client1
192.0.2.3 client3
192.0.2.6 client6
"""

ADDRESSES = {"server": "192.0.2.123/24", "client1": "192.0.2.1/24", "client3": "192.0.2.3/24"}
PATIENCE_S = 240.0


def start(host: Host) -> subprocess.Popen[bytes]:
    """As a service: no option but where to log, and the clock is left alone."""
    return host.start(*COMMAND, "-n", "-l", "/run/daemon.log")


def log_of(host: Host) -> str:
    path = host.file("/run/daemon.log")
    return path.read_text() if path.exists() else ""


def wait_for(condition: Callable[[], object], everybody: dict[str, Host], what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        logs = {name: log_of(host) + host.file("/run/output").read_text() for name, host in everybody.items()}
        assert time.monotonic() < until, f"waited in vain: {what}\n{logs}"
        time.sleep(0.5)


def tracking(host: Host) -> list[str]:
    return host.output_of("chronyc", "-c", "tracking").split(",")


def follows(host: Host) -> bool:
    return re.search(r"^\^\* ", host.output_of("chronyc", "-n", "sources"), re.MULTILINE) is not None


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("fqdn", ["ntp1.example.net", "ntp.site.example"])
def test_an_isolated_network_by_the_guides(fqdn: str, tmp_path: Path) -> None:
    """In the newer guide the server's name is the reader's own, but `initstepslew` still names the example's."""

    def inside() -> None:
        os.umask(0o022)
        with hosts(tmp_path, ADDRESSES, NAMES.format(fqdn=fqdn)) as everybody:
            server, *clients = everybody.values()
            for host, text in zip(everybody.values(), (SERVER, CLIENT, NOT_DIRECT), strict=True):
                host.file("/etc/chrony.conf").write_text(text.format(fqdn=fqdn))
                host.file("/etc/chrony.keys").write_text("1 MD5 an-old-command-key\n")
                host.file("/etc/chrony.keys").chmod(0o640)
            first = start(server)
            for client in clients:
                start(client)
            for host in everybody.values():
                wait_for(lambda host=host: host.file("/run/chrony/chronyd.sock").exists(), everybody, "up")  # type: ignore[misc]
                assert "commandkey directive is no longer supported" in log_of(host)
            wait_for(lambda: tracking(server)[:3] == ["7F7F0101", "", "8"], everybody, "the server has its own time")
            for client in clients:
                wait_for(lambda client=client: follows(client), everybody, "the client follows")  # type: ignore[misc]
                assert (tracking(client)[0], tracking(client)[2]) == ("C000027B", "9")
            unresolved = "Could not resolve address of initstepslew server ntp1.example.net"
            assert (unresolved in log_of(clients[0])) == (fqdn != "ntp1.example.net")
            for name in "measurements", "statistics", "tracking":
                assert clients[0].file(f"/var/log/chrony/{name}.log").exists()
            # the server is restarted, and gets the time from those who have kept it
            first.terminate()
            assert first.wait(20) == 0
            server.file("/run/daemon.log").unlink()
            start(server)
            wait_for(
                lambda: "System's initial offset : 0.0" in log_of(server), everybody, "the server asks its clients"
            )
            wait_for(lambda: server.file("/run/chrony/chronyd.sock").exists(), everybody, "the server is up")
            wait_for(lambda: tracking(server)[:3] == ["7F7F0101", "", "8"], everybody, "the server is back")
            # a time typed in is kept, and the server is then a primary one
            now = time.strftime("%H:%M:%S", time.gmtime())
            assert "200 OK" in server.output_of("chronyc", "settime", now)
            assert "210 n_samples = 1" in server.output_of("chronyc", "manual", "list")
            for client in clients:
                assert follows(client)

    in_network_namespace(inside, mounts=True)
