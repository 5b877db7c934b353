"""Access to the conformance corpus, and parsing of text without files or name service."""

import json
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from ntpd_fast.config import Config, load, parse_lines
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
