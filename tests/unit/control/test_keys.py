"""The store of symmetric keys."""

from ntpd_fast.config.keyfile import KeyType, SymmetricKey
from ntpd_fast.control.keys import Keys


def test_keys_are_read_again_on_demand(tmp_path):
    path = tmp_path / "keys"
    told = []
    first = SymmetricKey(1, KeyType.SHA1, b"0123456789")
    keys = Keys(str(path), {1: first}, lambda severity, text: told.append(text))
    assert keys.get(1) is first
    assert keys.get(2) is None
    assert keys.rows() == [(1, "SHA1", b"0123456789")]
    path.write_text("2 AES128 HEX:000102030405060708090a0b0c0d0e0f\nnonsense\n")
    path.chmod(0o600)
    keys.reload()
    assert keys.get(1) is None
    assert keys.rows() == [(2, "AES128", bytes(range(16)))]
    assert told == [f"Could not parse key at line 2 in file {path}", "Loaded 1 symmetric keys"]


def test_without_a_file_nothing_changes():
    keys = Keys(None, {}, lambda severity, text: None)
    keys.reload()
    assert keys.rows() == []
