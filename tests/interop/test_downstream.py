"""Debian's chronyd as a client of the whole daemon: what it says of our answers, in all modes, keys and families."""

import re
from pathlib import Path

import pytest

from tests.daemon import running
from tests.interop import chronyd
from tests.interop.test_upstream import KEYS
from tests.processes import wait_until

# columns of `chronyc -c ntpdata`
OFFSET = 18
TESTS = slice(23, 26)
INTERLEAVED = 26
AUTHENTICATED = 27


@pytest.mark.parametrize(
    ("options", "address", "workers"),
    [
        ("", "127.0.0.1", 0),
        ("xleave", "127.0.0.1", 1),
        ("xleave", "::1", 1),
        ("key 2", "::1", 1),
        ("key 3 xleave", "127.0.0.1", 1),
    ],
)
def test_chronyd_follows_us(options: str, address: str, workers: int, tmp_path: Path) -> None:
    keyfile = tmp_path / "keys"
    keyfile.write_text(KEYS)
    keyfile.chmod(0o600)
    (tmp_path / "client").mkdir(mode=0o700)
    ours = [f"workers {workers}", f"keyfile {keyfile}", "local stratum 3"]
    with running(ours, options=("-n",) if workers else ("-d",), local=False) as daemon:
        source = f"server {address} port {daemon.port} iburst minpoll 0 maxpoll 0 {options}"
        with chronyd.running(tmp_path / "client", source, f"keyfile {keyfile}") as client:
            interleaved = "Yes" if "xleave" in options else "No"

            def report() -> list[str]:
                return client.command("ntpdata").strip().split(",")

            wait_until(
                lambda: report()[TESTS] == ["111", "111", "1111"] and report()[INTERLEAVED] == interleaved,
                "a good answer in the mode that was asked for",
            )
            fields = report()
            assert fields[AUTHENTICATED] == ("Yes" if "key" in options else "No")
            assert abs(float(fields[OFFSET])) < 1e-3
            wait_until(lambda: client.command("tracking").split(",")[2] == "4", "it is synchronised by us")
            assert re.search(rf"^\^,\*,{re.escape(address)},3,", client.command("-n", "sources"), re.MULTILINE)
