"""The key file: forms of keys, one warning for each bad line, bounds, secrecy."""

import os
from pathlib import Path

import pytest

from ntpd_fast.config import keyfile
from ntpd_fast.config.keyfile import KeyFile, KeyType, SymmetricKey, read_keyfile
from tests.unit.config.conftest import CORPUS, Write


def read(write: Write, content: str | bytes, mode: int = 0o600) -> KeyFile:
    path = write("keys", content)
    path.chmod(mode)
    return read_keyfile(str(path))


def test_corpus() -> None:
    path = CORPUS / "fixtures/chrony.keys"
    keys = read_keyfile(str(path)).keys
    assert keys == {
        10: SymmetricKey(10, KeyType.MD5, b"correcthorse"),
        20: SymmetricKey(20, KeyType.SHA1, bytes.fromhex("00112233445566778899aabbccddeeff00112233")),
        30: SymmetricKey(30, KeyType.AES128, bytes.fromhex("00112233445566778899aabbccddeeff")),
        31: SymmetricKey(31, KeyType.AES256, bytes.fromhex("00112233445566778899aabbccddeeff" * 2)),
        40: SymmetricKey(40, KeyType.MD5, b"plainmd5password"),
    }


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("1 abc", SymmetricKey(1, KeyType.MD5, b"abc")),
        ("+1 ASCII:abc", SymmetricKey(1, KeyType.MD5, b"abc")),
        ("01 ascii:abc", SymmetricKey(1, KeyType.MD5, b"ascii:abc")),
        ("1 hex:00", SymmetricKey(1, KeyType.MD5, b"hex:00")),
        ("1 HEX:00fF", SymmetricKey(1, KeyType.MD5, b"\0\xff")),
        ("1 MD5", SymmetricKey(1, KeyType.MD5, b"MD5")),
        ("  4294967295\tSHA512   x  \r", SymmetricKey(4294967295, KeyType.SHA512, b"x")),
        ("1 AES128 ASCII:0123456789abcdef", SymmetricKey(1, KeyType.AES128, b"0123456789abcdef")),
        ("1 AES256 " + "x" * 32, SymmetricKey(1, KeyType.AES256, b"x" * 32)),
        ("1 SHA256 " + "x" * 2000, SymmetricKey(1, KeyType.SHA256, b"x" * 2000)),
    ],
)
def test_key(line: str, key: SymmetricKey, write: Write) -> None:
    for text in (line, line + "\n", f"# c\n! c\n; c\n % c\n\n{line}\n"):
        assert read(write, text) == KeyFile({key.key_id: key}, ())


@pytest.mark.parametrize(
    ("line", "warning"),
    [
        ("1", "Could not parse key"),
        ("x MD5 abc", "Could not parse key"),
        ("1 MD5 a b", "Could not parse key"),
        ("1 abc # x", "Could not parse key"),
        ("0 abc", "Could not parse key"),
        ("-1 abc", "Could not parse key"),
        ("4294967296 abc", "Could not parse key"),
        ("1 " + "x" * 2046, "Could not parse key"),
        ("1 md5 abc", "Invalid type in key 1"),
        ("1 SHA224 abc", "Invalid type in key 1"),
        ("1 AES192 abc", "Invalid type in key 1"),
        ("1 TIGER abc", "Unsupported hash function in key 1"),
        ("1 WHIRLPOOL abc", "Unsupported hash function in key 1"),
        ("1 HEX:", "Could not decode key 1"),
        ("1 HEX:0", "Could not decode key 1"),
        ("1 HEX:xx", "Could not decode key 1"),
        ("1 SHA1 HEX:0 ", "Could not decode key 1"),
        ("1 ASCII:", "Could not decode key 1"),
        ("1 AES128 HEX:00", "Invalid length of AES128 key 1 (expected 128 bits)"),
        ("1 AES256 abc", "Invalid length of AES256 key 1 (expected 256 bits)"),
        ("9 abc", "Detected duplicate key 9"),
    ],
)
def test_bad_line_costs_only_its_own_key(line: str, warning: str, write: Write, tmp_path: Path) -> None:
    good = {9: SymmetricKey(9, KeyType.MD5, b"first"), 8: SymmetricKey(8, KeyType.MD5, b"last")}
    assert read(write, f"9 first\n{line}\n8 last\n") == KeyFile(good, (f"{warning} at line 2 in file {tmp_path}/keys",))


def test_what_is_supported_is_the_callers_business(write: Write) -> None:
    path = str(write("keys", "1 SHA3-256 abc\n2 AES128 HEX:00112233445566778899aabbccddeeff\n"))
    os.chmod(path, 0o600)
    assert read_keyfile(path).keys.keys() == {1, 2}
    files = read_keyfile(path, [KeyType.MD5])
    assert files.warnings == (
        f"Unsupported hash function in key 1 at line 1 in file {path}",
        f"Unsupported cipher in key 2 at line 2 in file {path}",
    )


def test_permissions_are_told(write: Write, tmp_path: Path) -> None:
    path = tmp_path / "keys"
    readable, writable = f"World-readable permissions on {path}", f"World-writable permissions on {path}"
    assert read(write, "", 0o640).warnings == ()
    assert read(write, "", 0o644).warnings == (readable,)
    assert read(write, "", 0o602).warnings == (writable,)
    assert read(write, "", 0o666).warnings == (readable, writable)


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in ("/no/such/keys", str(tmp_path), "a\0b"):
        assert read_keyfile(path) == KeyFile({}, (f"Could not open keyfile {path}",))


def test_nothing_is_kept_open(tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))
    read_keyfile(str(tmp_path))
    assert set(os.listdir("/proc/self/fd")) == before


def test_fifo_does_not_hold_us_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "keys", 0o600)
    assert read_keyfile(str(tmp_path / "keys")).keys == {}


def test_keys_are_never_shown(write: Write) -> None:
    content = "1 MD5 secret\n2 AES128 secret\n3 FOO secret\n1 secret\nx secret\nHEX:secret\n4 HEX:secret\n"
    result = read(write, content)
    assert "secret" not in repr(result)
    assert len(result.warnings) == 6


def test_short_keys_are_known() -> None:
    assert SymmetricKey(1, KeyType.MD5, b"x" * 9).is_short
    assert not SymmetricKey(1, KeyType.MD5, b"x" * 10).is_short


def test_number_of_keys_at_the_bound(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(keyfile, "KEYS_MAX", 3)
    assert len(read(write, "1 a\n2 b\n3 c\n").keys) == 3
    result = read(write, "1 a\n2 b\n3 c\n4 d\n5 e\n")
    assert result.keys.keys() == {1, 2, 3}
    assert result.warnings == (f"Ignored what {tmp_path}/keys holds beyond 3 keys",)


def test_size_at_the_bound(write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(keyfile, "FILE_SIZE_MAX", 12)
    assert read(write, "1 aaa\n2 bbb\n").warnings == ()
    for content in ("1 aaa\n2 bbb\n3", "1 aaa\n2 bbb\n\n", "1 aaa\n2 bbbb\n"):
        result = read(write, content)
        assert result.warnings == (f"Ignored what {tmp_path}/keys holds beyond 12 bytes",)
        assert 1 in result.keys
        assert all(len(key.value) == 3 for key in result.keys.values())


def test_number_of_warnings_is_bounded(write: Write, tmp_path: Path) -> None:
    result = read(write, "nothing\n" * 1000 + "1 abc\n")
    assert 1 in result.keys
    assert len(result.warnings) == 101
    assert result.warnings[-1] == f"More problems of {tmp_path}/keys are not shown"
