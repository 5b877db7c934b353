"""Which certificate authorities the NTS client trusts: the system's, and those of `ntstrustedcerts`, by set.

Set 0 holds the system's authorities (unless `nosystemcert`) and everything without a set number. What is loaded stays
until a file changes: it is looked at before every key exchange, so certificates can be replaced without a restart.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from ntpd_fast._tls import Credentials, TlsError
from ntpd_fast.config.model import TrustedCerts
from ntpd_fast.system.files import read_bounded
from ntpd_fast.system.messages import Log, Severity

PEM_SIZE_MAX = 16 * 1024 * 1024
DIRECTORY_FILES_MAX = 1024
SYSTEM_RELOAD_S = 86400.0
"""The system's store has no file we could look at on every system; reading it takes some 20 ms."""

_Fingerprint = tuple[tuple[str, int, int, int], ...]


class TrustStore:
    """Credentials by certificate set."""

    def __init__(
        self,
        trusted: Sequence[TrustedCerts],
        log: Log,
        *,
        system: bool = True,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        """`system`: no `nosystemcert`."""
        self._trusted = tuple(trusted)
        self._log = log
        self._system = system
        self._monotonic_s = monotonic_s
        self._loaded: dict[int, tuple[_Fingerprint, float, Credentials]] = {}

    def follow(self, trusted: Sequence[TrustedCerts], *, system: bool) -> None:
        """Trust these from the next key exchange on; arguments as of the constructor."""
        self._trusted = tuple(trusted)
        if system != self._system:
            self._system = system
            self._loaded.clear()

    def credentials(self, certset: int) -> Credentials:
        """What is trusted under a set. TlsError when the library cannot be used or nothing at all is trusted.

        Files that cannot be read are told and left out.
        """
        files, problems = self._files(certset)
        loaded = self._loaded.get(certset)
        now = self._monotonic_s()
        if loaded is not None and loaded[0] == files:
            since = loaded[1]
            if certset != 0 or not self._system or now - since < SYSTEM_RELOAD_S:
                return loaded[2]
        for problem in problems:
            self._log(Severity.WARNING, f"Could not read trusted certificates : {problem}")
        credentials = self._load(certset, files)
        self._loaded[certset] = files, now, credentials
        return credentials

    def _load(self, certset: int, files: _Fingerprint) -> Credentials:
        credentials = Credentials()
        count = 0
        if certset == 0 and self._system:
            count += credentials.add_system_trust()
        for path, *_ in files:
            try:
                data, _ = read_bounded(path, PEM_SIZE_MAX)
                found = credentials.add_trust(data)
            except (OSError, ValueError, TlsError) as error:
                reason = (isinstance(error, OSError) and error.strerror) or str(error)
                self._log(Severity.WARNING, f"Could not load trusted certificates from {path} : {reason}")
                continue
            if not found:
                self._log(Severity.WARNING, f"No trusted certificates in {path}")
            count += found
        if not count:
            raise TlsError(f"no certificates are trusted in set {certset}")
        return credentials

    def _files(self, certset: int) -> tuple[_Fingerprint, list[str]]:
        """The files of a set, each with what tells a change; and what could not be looked at."""
        found = []
        problems = []
        for entry in self._trusted:
            if entry.set_id != certset:
                continue
            try:
                paths = [entry.path]
                if os.path.isdir(entry.path):
                    names = sorted(os.listdir(entry.path))[:DIRECTORY_FILES_MAX]
                    paths = [os.path.join(entry.path, name) for name in names]
                    paths = [path for path in paths if os.path.isfile(path)]
                for path in paths:
                    status = os.stat(path)
                    found.append((path, status.st_ino, status.st_size, status.st_mtime_ns))
            except OSError as error:
                problems.append(f"{entry.path} : {error.strerror}")
        return tuple(found), problems
