"""State files: whole or not at all, bounded, never something else in their place."""

import os
import stat

import pytest

from ntpd_fast.system.files import read_bounded, write_atomically


def test_a_file_has_exactly_its_mode_whatever_the_mask_and_the_file_before(tmp_path):
    path = str(tmp_path / "state")
    old_mask = os.umask(0o277)
    try:
        for mode in (0o600, 0o644):
            write_atomically(path, b"data", mode)
            assert stat.S_IMODE(os.stat(path).st_mode) == mode
    finally:
        os.umask(old_mask)
    assert (tmp_path / "state").read_bytes() == b"data"
    assert os.listdir(tmp_path) == ["state"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "state"
    path.mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(str(path), b"data", 0o600)
    assert os.listdir(tmp_path) == ["state"]
    with pytest.raises(FileNotFoundError):
        write_atomically(str(tmp_path / "none" / "state"), b"data", 0o600)


def test_the_bound_of_reading(tmp_path):
    path = tmp_path / "state"
    path.write_bytes(bytes(10))
    data, status = read_bounded(str(path), 10)
    assert data == bytes(10)
    assert status.st_size == 10
    with pytest.raises(ValueError, match="longer than 9"):
        read_bounded(str(path), 9)


def test_only_plain_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="not a plain file"):
        read_bounded(str(tmp_path / "pipe"), 10)
    with pytest.raises(ValueError, match="not a plain file"):
        read_bounded("/dev/zero", 10)
    with pytest.raises(IsADirectoryError):
        read_bounded(str(tmp_path), 10)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(IsADirectoryError):
        read_bounded(str(tmp_path), 10)
    assert os.listdir("/proc/self/fd") == before
