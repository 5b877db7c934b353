"""The drift file: its format, what hostile contents do (nothing), and its replacement."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ntpd_fast.clock.driftfile import Drift, DriftFile, DriftFileError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "drift"


def test_what_is_written_is_read(path: Path) -> None:
    file = DriftFile(str(path))
    assert file.load() is None
    file.save(Drift(-12.345678, 0.015))
    assert path.read_text() == "          -12.345678             0.015000\n"
    assert file.load() == Drift(-12.345678, 0.015)
    assert path.stat().st_mode & 0o777 == 0o644 & ~umask()
    file.save(Drift(1.0, 2.0))
    assert file.load() == Drift(1.0, 2.0)
    assert os.listdir(path.parent) == ["drift"]


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"12.5",
        b"12.5 ",
        b"abc def",
        b"nan 1",
        b"1 nan",
        b"inf 1",
        b"1 -1",
        b"1e300 1",
        b"1 1e300",
        b"2000000 1",
        b"\x00" * 4000,
        b"\xff\xfe1 2",
        b"9" * 5000 + b" 1",
    ],
)
def test_nonsense_is_told_and_not_used(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(DriftFileError, match="Could not read valid frequency and skew from driftfile"):
        DriftFile(str(path)).load()


def test_chronys_format_with_a_second_line_is_read(path: Path) -> None:
    path.write_text("            3.500000             0.020000\nanything\n")
    assert DriftFile(str(path)).load() == Drift(3.5, 0.02)


def test_files_that_cannot_be_used_are_told(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for unusable in tmp_path, tmp_path / "pipe":
        with pytest.raises(DriftFileError, match=r"Could not .* (not a plain file|Is a directory)"):
            DriftFile(str(unusable)).load()
    with pytest.raises(DriftFileError, match=r"Could not write .* : No such file or directory"):
        DriftFile(str(tmp_path / "missing" / "drift")).save(Drift(1.0, 1.0))


def test_a_link_in_the_way_is_not_followed(path: Path, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    Path(f"{path}.tmp").symlink_to(victim)
    DriftFile(str(path)).save(Drift(1.0, 1.0))
    assert victim.read_text() == "precious"
    assert DriftFile(str(path)).load() == Drift(1.0, 1.0)
