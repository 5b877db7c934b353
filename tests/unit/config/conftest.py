"""Access to the conformance corpus, and parsing of text without files or name service."""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from ntpd_fast.config import Config, ConfigError, load, parse_lines
from ntpd_fast.config.model import IPAddress

CORPUS = Path(__file__).parents[2] / "data" / "conf_corpus"
EXPECTED: dict[str, list[dict[str, Any]]] = {
    key: value
    for key, value in json.loads((CORPUS / "expect.json").read_text(encoding="utf-8")).items()
    if key != "versions"
}


def hosts(name: str) -> IPAddress | None:
    """A name service that knows one host."""
    return IPv4Address("127.0.0.1") if name == "localhost" else None


def parse(*lines: str, strict: bool = False) -> Config:
    return parse_lines(lines, resolver=hosts, strict=strict)


NOBODY = 65534


@pytest.fixture
def public_path() -> Iterator[Path]:
    """A directory that every user may enter, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def error_as_nobody(path: str) -> str:
    """What `load` says in a process without privileges ("" where it says nothing)."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        answer = "the child failed"
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            load(path, resolver=hosts)
            answer = ""
        except ConfigError as error:
            answer = str(error)
        finally:
            os.write(writer, answer.encode())
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        answer = pipe.read().decode()
    os.waitpid(child, 0)
    return answer


Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a file below the test's directory and gives its path."""

    def write_file(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def load_text(write: Write, content: str | bytes, *, strict: bool = False) -> Config:
    return load(str(write("test.conf", content)), resolver=hosts, strict=strict)
