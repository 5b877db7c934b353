"""The command line: bounds, refusals, exit status, and what it prints of a run."""

import json
import socket
import threading
from pathlib import Path

import pytest

from loadtest.cli import main
from loadtest.requests import Key, mac
from tests.unit.loadtest.scripted import answer, scripted

SHORT = ["--duration", "0.1", "--rate", "200", "--timeout", "5"]


def test_a_run_reports_what_it_saw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "run.json"
    with scripted(lambda request, _: [answer(request)]) as where:
        assert main(["run", str(where.address), str(where.port), *SHORT, "--json", str(file)]) == 0
    printed = capsys.readouterr().out
    assert "TX timestamp error" in printed
    content = json.loads(file.read_text())
    assert content["counters"]["answered"] == content["counters"]["sent"] > 0
    assert content["latency_ns"]["count"] == content["counters"]["answered"]
    assert list(tmp_path.iterdir()) == [file]


def test_wrong_answers_make_the_exit_status() -> None:
    with scripted(lambda request, _: [answer(request), answer(request)]) as where:
        assert main(["run", str(where.address), str(where.port), *SHORT]) == 1


def test_silence_makes_the_exit_status() -> None:
    with scripted(lambda *_: []) as where:
        assert main(["run", str(where.address), str(where.port), *SHORT, "--timeout", "0.01"]) == 1


@pytest.mark.parametrize(("server_key", "status"), [(b"k" * 16, 0), (b"x" * 16, 1)])
def test_authentication_of_answers_is_checked(server_key: bytes, status: int) -> None:
    key = Key(7, "AES128", server_key)

    def script(request: bytes, _: int) -> list[bytes]:
        plain = answer(request)
        return [plain + mac(key, plain)]

    with scripted(script) as where:
        asked = ["run", str(where.address), str(where.port), *SHORT, "--key", f"7:AES128:{(b'k' * 16).hex()}"]
        assert main(asked) == status


def test_strangers_are_not_put_under_load(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "192.0.2.1", "123", *SHORT]) == 2
    assert "--allow-target" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["run", "127.0.0.1", "--duration", "601"],
        ["run", "127.0.0.1", "--rate", "3e6"],
        ["run", "127.0.0.1", "--key", "1:MD5"],
        ["run", "127.0.0.1", "--allow-target", "nowhere"],
        ["compare", "--rounds", "51"],
        ["compare", "--server", "chronyd"],
    ],
)
def test_a_wrong_command_line_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "127.0.0.1", "0"],
        ["run", "127.0.0.1", "123", "--segments", "3"],
        ["run", "127.0.0.1", "123", "--rate", "0"],
        ["run", "127.0.0.1", "123", "--nts", "0"],
        ["run", "127.0.0.1", "123", "--nts", "4460", "--ntp-version", "3"],
        ["run", "127.0.0.1", "123", "--nts", "4460", "--key", "1:MD5:00"],
        ["run", "127.0.0.1", "123", "--interleaved", "--key", "1:MD5:00"],
        ["compare", "no-such-scenario"],
    ],
)
def test_what_cannot_be_done_is_told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.startswith("ntpd-fast-loadtest: ")


def test_a_failed_key_exchange_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def refuse() -> None:
            listening.accept()[0].close()

        refusing = threading.Thread(target=refuse)
        refusing.start()
        assert main(["run", "127.0.0.1", "123", "--nts", str(listening.getsockname()[1])]) == 2
        refusing.join()
    assert capsys.readouterr().err.startswith("ntpd-fast-loadtest: TLS: ")


def test_scenarios_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["compare", "--list"]) == 0
    assert "million-interleaved" in capsys.readouterr().out
