"""Patterns of include, and the files of confdir and sourcedir."""

from pathlib import Path

import pytest

from ntpd_fast.config import ConfigError, paths
from ntpd_fast.config.paths import expand, files_in
from tests.unit.config.conftest import Write


@pytest.fixture
def tree(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("d/a.conf", "d/B.conf", "d/.hid.conf", "d/[x].conf", "d/c.txt", "d/1.conf", "e/a.conf", "f"):
        write(name, "")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("d/*.conf", ["d/1.conf", "d/B.conf", "d/[x].conf", "d/a.conf"]),
        ("d/?.conf", ["d/1.conf", "d/B.conf", "d/a.conf"]),
        ("d/[!a].conf", ["d/1.conf", "d/B.conf"]),
        ("d/[^a].conf", ["d/1.conf", "d/B.conf"]),
        ("d/[a-z].conf", ["d/a.conf"]),
        ("d/[[:upper:]].conf", ["d/B.conf"]),
        ("d/[[:alpha:]].conf", ["d/B.conf", "d/a.conf"]),
        ("d/[[:digit:][:lower:]].conf", ["d/1.conf", "d/a.conf"]),
        (r"d/\[x\].conf", ["d/[x].conf"]),
        ("d/.*.conf", ["d/.hid.conf"]),
        ("./d//*.txt", ["./d//c.txt"]),
        ("*/a.conf", ["d/a.conf", "e/a.conf"]),
        ("*/*.txt", ["d/c.txt"]),
        ("f/*", []),
        ("empty/*", []),
        ("nodir*/x.conf", []),
        ("d/[", []),
    ],
)
def test_expand(pattern: str, found: list[str]) -> None:
    assert expand(pattern) == found


@pytest.mark.usefixtures("tree")
def test_expand_of_an_absolute_pattern(tmp_path: Path) -> None:
    assert expand(f"{tmp_path}/e/*") == [f"{tmp_path}/e/a.conf"]


@pytest.mark.usefixtures("tree")
def test_fixed_directory_must_be_there() -> None:
    with pytest.raises(ConfigError, match=r"^Could not search for files matching nodir/\*$"):
        expand("nodir/*")


@pytest.mark.usefixtures("tree")
def test_search_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "SCANNED_NAMES_MAX", 6)
    assert len(expand("d/*")) == 5
    monkeypatch.setattr(paths, "SCANNED_NAMES_MAX", 5)
    with pytest.raises(ConfigError, match="Could not search for files matching d/"):
        expand("d/*")


@pytest.mark.usefixtures("tree")
def test_first_directory_wins_and_names_are_sorted_over_all() -> None:
    assert files_in(["e", "d/", "missing", "f"], ".conf") == [
        "d//1.conf",
        "d//B.conf",
        "d//[x].conf",
        "e/a.conf",
    ]
    assert files_in([], ".conf") == []
