"""The symmetric keys as the daemon uses them: one store for the associations, rows for the data plane's table."""

from __future__ import annotations

from collections.abc import Mapping

from ntpd_fast.config.keyfile import SymmetricKey, read_keyfile
from ntpd_fast.system.messages import Log, Severity


class Keys:
    """`path`: the key file, None: there is none. Starts with the `keys` that were read with root's rights."""

    def __init__(self, path: str | None, keys: Mapping[int, SymmetricKey], log: Log) -> None:
        self._path = path
        self._keys = dict(keys)
        self._log = log

    def get(self, key_id: int, /) -> SymmetricKey | None:
        """The key with that id, if there is one."""
        return self._keys.get(key_id)

    def rows(self) -> list[tuple[int, str, bytes]]:
        """Id, type and value of each."""
        return [(key.key_id, str(key.type), key.value) for key in self._keys.values()]

    def replace(self, path: str | None, keys: Mapping[int, SymmetricKey]) -> None:
        """Use another file from now on, with what was read from it."""
        self._path = path
        self._keys = dict(keys)
        if path is not None:
            self._log(Severity.INFO, f"Loaded {len(self._keys)} symmetric keys")

    def reload(self) -> None:
        """Read the file again; what cannot be used is told, and gone."""
        if self._path is None:
            return
        keyfile = read_keyfile(self._path)
        for warning in keyfile.warnings:
            self._log(Severity.WARNING, warning)
        self._keys = dict(keyfile.keys)
        self._log(Severity.INFO, f"Loaded {len(self._keys)} symmetric keys")
