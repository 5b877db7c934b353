"""What -p shows (tests/interop compares it with chrony's)."""

import io
from pathlib import Path

import pytest

from ntpd_fast.config import ConfigError
from ntpd_fast.config.printer import print_file, print_lines
from tests.unit.config.conftest import Write, hosts


def test_includes_are_expanded_and_words_kept(write: Write, tmp_path: Path) -> None:
    write("conf.d/a.conf", "\tMakeStep   1\t3 \n# no\n")
    write("in.conf", b"logdir /\xf6\n")
    path = write(
        "main.conf", f"# c\nPORT 01\ninclude {tmp_path}/in.conf\nconfdir {tmp_path}/conf.d\nsourcedir /x\nlinux_hz 1\n"
    )
    out = io.BytesIO()
    config = print_file(str(path), out, resolver=hosts)
    assert out.getvalue() == b"PORT 01\nlogdir /\xf6\nMakeStep 1 3\nsourcedir /x\nlinux_hz 1\n"
    assert config.port == 1
    assert out.getvalue().decode("utf-8", "surrogateescape") == "".join(line.text + "\n" for line in config.lines)


@pytest.mark.parametrize(("bad", "shown"), [("port x", b"port x\n"), ("include /no", b""), ("confdir", b"")])
def test_bad_line_is_the_last_one_shown(bad: str, shown: bytes, write: Write) -> None:
    out = io.BytesIO()
    with pytest.raises(ConfigError):
        print_file(str(write("main.conf", f"port 1\n{bad}\nport 2\n")), out, resolver=hosts)
    assert out.getvalue() == b"port 1\n" + shown
    out = io.BytesIO()
    with pytest.raises(ConfigError):
        print_lines(["port 1", bad, "port 2"], out, resolver=hosts)
    assert out.getvalue() == b"port 1\n" + shown


def test_strict() -> None:
    out = io.BytesIO()
    print_lines(["workers 1"], out, resolver=hosts)
    with pytest.raises(ConfigError, match=r"^Invalid directive workers at line 1$"):
        print_lines(["workers 1"], out, resolver=hosts, strict=True)
    assert out.getvalue() == b"workers 1\n" * 2
