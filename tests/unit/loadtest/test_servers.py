"""Starting the servers that are compared, with programs that fail in every way a server can."""

import socket
import sys
import time
from pathlib import Path

import pytest

from loadtest import servers
from loadtest.network import free_port
from loadtest.servers import Kind, ServerError, configuration, running

# a server that answers every datagram with 48 bytes, on the port its configuration names
ANSWERING = """
import socket, sys
port = next(int(l.split()[1]) for l in open(sys.argv[1]) if l.startswith("port "))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("127.0.0.1", port))
while True:
    s.sendto(bytes(48), s.recvfrom(100)[1])
"""


def script(text: str) -> Kind:
    return Kind("scripted", (sys.executable, "-c", text, "{conf}"))


def test_a_server_is_started_with_its_files_and_stopped() -> None:
    with running(script(ANSWERING), "127.0.0.1", ("# {directory} {nts_port}",), {"keys": b"1 MD5 x\n"}) as server:
        directory = server.directory
        assert (directory / "keys").read_bytes() == b"1 MD5 x\n"
        assert (directory / "keys").stat().st_mode & 0o777 == 0o600
        assert f"# {directory} {server.nts_port}" in (directory / "conf").read_text()
        assert server.cpu().busy_ns
        assert server.memory_bytes()[0] > 0
        assert server.key_exchange.port == server.nts_port != 0
    assert not directory.exists()
    assert not Path(f"/proc/{server.pid}").exists()


def test_a_server_that_ends_at_once_is_told_with_its_log() -> None:
    with (
        pytest.raises(ServerError, match="no such luck"),
        running(script("raise SystemExit('no such luck')"), "127.0.0.1"),
    ):
        pass


def test_a_server_that_does_not_answer_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "START_TIMEOUT_S", 0.3)
    with (
        pytest.raises(ServerError, match="does not answer"),
        running(script("import time; time.sleep(60)"), "127.0.0.1"),
    ):
        pass


def test_a_server_that_ends_under_load_is_told() -> None:
    text = ANSWERING.replace("while True:", "for _ in range(2):")

    def use() -> None:
        with running(script(text), "127.0.0.1") as server:
            servers.answers(server.target, 0.2)
            time.sleep(0.2)

    with pytest.raises(ServerError, match="ended under load"):
        use()


def test_a_server_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "STOP_TIMEOUT_S", 0.3)
    text = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + ANSWERING
    with running(script(text), "127.0.0.1") as server:
        pass
    assert not Path(f"/proc/{server.pid}").exists()


def test_a_program_that_is_not_there_is_told() -> None:
    kind = Kind("none", ("/nonexistent/ntpd", "{conf}"))
    with pytest.raises(ServerError, match="none"), running(kind, "127.0.0.1"):
        pass


def test_a_server_is_named_on_the_command_line() -> None:
    assert Kind.parse("mine=/usr/bin/ntpd -x -f '{conf}'") == Kind("mine", ("/usr/bin/ntpd", "-x", "-f", "{conf}"))


@pytest.mark.parametrize("text", ["chronyd", "=x {conf}", "mine=ntpd", "mine="])
def test_a_server_without_name_or_configuration_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Kind.parse(text)


def test_the_configuration_touches_nothing_outside_its_directory(tmp_path: Path) -> None:
    text = configuration(tmp_path, "::1", 11123, 14460, ("ntsport {nts_port}",))
    assert "ntsport 14460" in text
    for line in text.splitlines():
        assert not any(word.startswith("/") and not word.startswith(str(tmp_path)) for word in line.split()[1:2])


def test_a_free_port_can_be_bound_in_both_families() -> None:
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        port = free_port(kind)
        for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family, kind) as sock:
                sock.bind((address, port))
