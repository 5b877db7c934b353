"""NTS with ntpsec's ntpd, both ways, in a network namespace: it insists on ports 123 and 4460."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.interop import ntpsec
from tests.interop.ntpsec import require_ntpsec, running_ntpd
from tests.netns import in_network_namespace
from tests.pki import Authority
from tests.processes import wait_until
from tests.system.harness import Daemon


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture
def certified(authority: Authority, tmp_path: Path) -> tuple[str, str, str]:
    """Paths of a certificate for 127.0.0.1, its key, and its authority."""
    trusted = tmp_path / "ca.pem"
    trusted.write_bytes(authority.pem)
    return *authority.issue("127.0.0.1").write(tmp_path), str(trusted)


def test_ntpd_is_there() -> None:
    require_ntpsec()


def test_nothing_is_started_with_a_right_to_the_clock() -> None:
    """Neither the program started nor what it starts in turn."""
    done = subprocess.run(
        [sys.executable, "-m", ntpsec.__name__, "/bin/sh", "-c", "cat /proc/self/status; exit 0"],
        cwd=ntpsec.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    sets = {line.split()[0]: int(line.split()[1], 16) for line in done.stdout.splitlines() if line.startswith("Cap")}
    assert set(sets) == {"CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"}
    assert not any(capabilities & ~(1 << 10) for capabilities in sets.values()), sets


def test_our_client_with_ntpd_as_server(certified: tuple[str, str, str], tmp_path: Path) -> None:
    certificate, key, trusted = certified

    def in_namespace() -> tuple[list[str], dict[str, str], str]:
        # an orphan serves its own clock as stratum 5; no address of this machine is its reference id here
        server = running_ntpd(
            tmp_path,
            "tos orphan 5 orphanwait 1",
            "refclock local stratum 5",
            "nts enable",
            f"nts cert {certificate}",
            f"nts key {key}",
            f"nts cookie {tmp_path}/cookies",
        )
        client = Daemon(
            tmp_path,
            "server 127.0.0.1 nts iburst minpoll -2 maxpoll -2",
            f"ntstrustedcerts {trusted}",
            "nosystemcert",
            port=0,
        )
        with server as ntpd:
            wait_until(lambda: "loaded private key" in ntpd.log, "ntpd to exchange keys")
            client.start()
            try:
                wait_until(lambda: answers(client) >= 5, f"answers: {client.errors()} {client.chronyc('ntpdata')}")
                return client.chronyc("-c", "authdata").split(","), ntpd.query("ntsinfo"), client.errors()
            finally:
                client.close()

    authdata, counts, log = in_network_namespace(in_namespace)
    # name, mode, key id, type, length, age, attempts, NAK, cookies, their length
    assert authdata[1:5] == ["NTS", "1", "15", "256"], log
    assert authdata[6:9] == ["0", "0", "8"]
    assert int(counts["NTS KE serves good"]) == 1, counts
    assert int(counts["NTS server sends"]) >= 5
    assert int(counts["NTS server recvs w error"]) == 0


def answers(daemon: Daemon) -> int:
    """Good answers that a daemon has from its only source."""
    fields = [line.partition(":") for line in daemon.chronyc("ntpdata").splitlines()]
    return sum(int(value) for name, _, value in fields if name.strip() == "Total good RX")


def test_ntpd_as_client_of_our_server(certified: tuple[str, str, str], tmp_path: Path) -> None:
    certificate, key, trusted = certified

    def in_namespace() -> tuple[dict[str, str], dict[str, str], str]:
        server = Daemon(
            tmp_path,
            "local stratum 7",
            "allow",
            "workers 1",
            "ntsprocesses 1",
            f"ntsservercert {certificate}",
            f"ntsserverkey {key}",
            # ntpd takes 123, and is told this one in the key exchange
            port=11123,
            launcher=[sys.executable, "-m", "ntpd_fast.cli.start"],
        ).start()
        try:
            client = running_ntpd(tmp_path, f"nts ca {trusted}", "server 127.0.0.1 nts iburst minpoll 3 maxpoll 3")
            with client as ntpd:
                wait_until(lambda: int(statistics(server)["Authenticated NTP packets"]) >= 4, "requests of ntpd")
                return ntpd.query("ntsinfo"), statistics(server), ntpd.log
        finally:
            server.close()

    counts, served, log = in_network_namespace(in_namespace)
    assert int(counts["NTS KE client probes good"]) == 1, log
    assert int(counts["NTS client recvs good"]) >= 3, (counts, log)
    assert int(counts["NTS client recvs w error"]) == 0
    assert served["NTS-KE connections accepted"] == "1"
    assert served["NTS-KE connections dropped"] == "0"


def statistics(daemon: Daemon) -> dict[str, str]:
    pairs = (line.partition(":") for line in daemon.chronyc("serverstats").splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}
