"""The load generator against the distribution's chronyd: each kind of request for a moment at a low rate."""

import ipaddress
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from loadtest._numbers import from_nonce
from loadtest.cli import main
from loadtest.client import Load, client
from loadtest.nts import answer_holds, exchange_keys
from loadtest.scenarios import (
    KEYS,
    NTS_LINES,
    Scenario,
    certificate_files,
    key_file,
    plain,
    sealed,
    sealed_load,
    signed,
)
from loadtest.servers import Kind, chronyd, ntpd_fast, running

INTERLEAVED = Load(clients=20, first=ipaddress.ip_address("127.3.0.1"), interleaved=True)
RATE = 1000.0
DURATION_S = 0.3

CASES = (
    Scenario("basic", "", (), plain(Load())),
    Scenario("sockets", "", (), plain(Load(sockets=20))),
    Scenario("version 1", "", (), plain(Load(version=1))),
    Scenario("symmetric", "", (), plain(Load(mode=1))),
    Scenario("segments", "", (), plain(Load(segments=4))),
    *(Scenario(kind, "", (), signed(kind), lines=("keyfile {directory}/keys",), files=key_file) for kind in KEYS),
    Scenario(
        "nts",
        "",
        (),
        sealed(Load()),
        lines=NTS_LINES,
        files=certificate_files,
    ),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.key)
def test_chronyd_answers_every_kind_of_request(case: Scenario) -> None:
    with running(chronyd(), "127.0.0.1", case.lines, case.files()) as server:
        load, verify = case.load(server)
        with client(server.target, load) as sender:
            result = sender.run(DURATION_S, rate=RATE, sleep=True, timeout_s=0.5)
            assert not result.wrong
            assert result.counters["answered"] > RATE * DURATION_S / 2
            assert result.loss < 0.01
            # chronyd reads the clock before it sends; the kernel stamps the answer at our socket after that
            assert result.tx_error.minimum > 0
            assert result.tx_error.percentile(50) < 1e6
            if verify:
                assert result.samples
                assert all(verify(sender.request(sequence), datagram) for sequence, datagram in result.samples)


def test_chronyd_gives_interleaved_clients_its_kernel_timestamps() -> None:
    with running(chronyd(), "127.0.0.1") as server, client(server.target, INTERLEAVED) as sender:
        result = sender.run(0.5, rate=RATE, sleep=True, timeout_s=0.5)
    assert not result.wrong
    assert result.counters["eligible_interleaved"] == result.counters["eligible_answered"] > 100
    assert result.loss < 0.01


def test_clients_of_two_workers_always_meet_the_same_one() -> None:
    """From whichever port they ask: another worker would not have their timestamps."""
    load = Load(clients=20, first=ipaddress.ip_address("127.3.0.1"), interleaved=True, sockets=7)
    with running(ntpd_fast(2), "127.0.0.1") as server, client(server.target, load) as sender:
        result = sender.run(1.0, rate=RATE, sleep=True, timeout_s=0.5)
    assert not result.wrong
    assert result.counters["eligible_interleaved"] == result.counters["eligible_answered"] > 200


@pytest.mark.parametrize("kind", [chronyd(), ntpd_fast()], ids=lambda kind: kind.name)
def test_interleaved_answers_are_authenticated(kind: Kind, capsys: pytest.CaptureFixture[str]) -> None:
    with running(kind, "127.0.0.1", NTS_LINES, certificate_files()) as server:
        session = exchange_keys(server.key_exchange)
        with client(server.target, sealed_load(INTERLEAVED, session)) as sender:
            result = sender.run(1.5, rate=RATE, sleep=True, timeout_s=0.5)
            assert not result.wrong
            assert result.counters["eligible_interleaved"] == result.counters["eligible_answered"] > 300
            assert result.loss < 0.01
            interleaved = 0
            for sequence, datagram in result.samples:
                request = sender.request(sequence)
                assert answer_holds(session, request, datagram)
                # a template says neither; the answer to what was made of it names the receive nonce
                interleaved += from_nonce(int.from_bytes(datagram[24:32], sys.byteorder), sender.seed) == (sequence, 1)
                assert not answer_holds(session, request, datagram[:24] + b"\0" + datagram[25:])
            assert interleaved >= 2
        ports = str(server.target.port), "--nts", str(server.key_exchange.port)
        how = ("--interleaved", "--clients", "5", "--rate", "500", "--duration", "0.5", "--timeout", "5")
        assert main(["run", "127.0.0.1", *ports, *how]) == 0
        assert "eligible_interleaved" in capsys.readouterr().out
        assert main(["run", "127.0.0.1", *ports, "--rate", "500", "--duration", "0.2", "--timeout", "5"]) == 0


def test_chronyd_over_ipv6() -> None:
    with running(chronyd(), "::1") as server, client(server.target, Load()) as sender:
        result = sender.run(DURATION_S, rate=RATE, sleep=True, timeout_s=0.5)
    assert not result.wrong
    assert result.counters["answered"] > RATE * DURATION_S / 2


def test_a_comparison_of_chronyd_with_itself_runs(tmp_path: Path) -> None:
    """Two chronyd cost about the same: the comparison's own noise and bias, on a machine that may be busy."""
    command = " ".join(chronyd().command)
    # whether an ordinary user may have a network of his own is the machine's policy
    network = () if os.geteuid() == 0 else ("--host-network",)
    file = tmp_path / "compare.json"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "loadtest", "compare", "interleaved-10k/s", "--rounds", "1"),
            *("--server", f"first={command}", "--server", f"second={command}", "--json", str(file)),
            *network,
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (scenario,) = json.loads(file.read_text())["scenarios"]
    assert not scenario["problems"]
    for server in ("first", "second"):
        assert scenario["rounds"][server]
        for metrics in scenario["rounds"][server]:
            assert 1 < metrics["cpu_us"] < 200
            assert metrics["interleaved_share"] > 0.99
    assert 0.3 < scenario["ratios"]["cpu_us"] < 3
    assert "How it was measured" in done.stdout
