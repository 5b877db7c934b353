"""Certificates and keys of the NTS-KE server: loaded, checked, and loaded again when their files change.

A pair that cannot be used is told with its path and the reason. While the daemon runs, the certificates it has stay in
use until all of the new ones are good: sessions that have begun keep theirs in any case.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

from ntpd_fast._tls import Credentials, TlsError, validity
from ntpd_fast.system.errors import why
from ntpd_fast.system.files import read_bounded
from ntpd_fast.system.messages import Log, Severity

PEM_SIZE_MAX = 1024 * 1024
EXPIRY_WARNING_S = 7 * 86400.0

Pair = tuple[str, str]
"""Paths of a certificate (with its chain) and of its key."""
_Fingerprint = tuple[tuple[int, int, int] | None, ...]


class CertificateError(Exception):
    """A pair that cannot be used; the text names the file and the reason."""


class CertificateStore:
    """The pairs of `ntsservercert` and `ntsserverkey`, in order."""

    def __init__(self, pairs: Sequence[Pair], log: Log) -> None:
        self._pairs = tuple(pairs)
        self._log = log
        self._seen: _Fingerprint = ()
        self.credentials: Credentials

    def load(self, now_s: float) -> None:
        """Load everything. Raises CertificateError, and TlsError when the library itself cannot be used.

        now_s: Unix time, for the warning about certificates that are not valid now.
        """
        seen = self._fingerprint()
        credentials = Credentials()
        for certificate_path, key_path in self._pairs:
            certificate, key = _read(certificate_path), _read(key_path)
            try:
                credentials.add_key_pair(certificate, key)
            except TlsError as error:
                raise CertificateError(f"{certificate_path} with {key_path} : {error}") from error
            self._check_times(certificate_path, certificate, now_s)
        self.credentials = credentials
        self._seen = seen

    def reload_if_changed(self, now_s: float, *, force: bool = False) -> bool:
        """Load again when a file is not the one that was loaded; whether there are new credentials.

        A failure is told once for every change of the files; what was in use stays.
        """
        seen = self._fingerprint()
        if seen == self._seen and not force:
            return False
        self._seen = seen
        try:
            self.load(now_s)
        except (CertificateError, TlsError) as error:
            self._log(Severity.ERROR, f"Could not reload NTS server certificates, the old ones stay : {error}")
            return False
        self._log(Severity.INFO, "Reloaded NTS server certificates")
        return True

    def replace(self, pairs: Sequence[Pair], now_s: float) -> bool:
        """Load other pairs in place of these; whether there are new credentials.

        A failure is told; the old ones stay.
        """
        if tuple(pairs) == self._pairs:
            return self.reload_if_changed(now_s)
        others = CertificateStore(pairs, self._log)
        try:
            others.load(now_s)
        except (CertificateError, TlsError) as error:
            self._log(Severity.ERROR, f"Could not load NTS server certificates, the old ones stay : {error}")
            return False
        self._pairs, self._seen, self.credentials = others._pairs, others._seen, others.credentials
        self._log(Severity.INFO, "Loaded other NTS server certificates")
        return True

    def _fingerprint(self) -> _Fingerprint:
        return tuple(_file_version(path) for pair in self._pairs for path in pair)

    def _check_times(self, path: str, pem: bytes, now_s: float) -> None:
        try:
            begins_s, ends_s = validity(pem)
        except TlsError as error:
            # it was taken for a key pair, so it can be served; only the warning is lost
            self._log(Severity.WARNING, f"Could not read the validity of {path} : {error}")
            return
        if now_s < begins_s:
            self._log(Severity.WARNING, f"NTS server certificate {path} is not valid yet")
        elif now_s > ends_s:
            self._log(Severity.WARNING, f"NTS server certificate {path} has expired")
        elif now_s + EXPIRY_WARNING_S > ends_s:
            when = time.strftime("%Y-%m-%d", time.gmtime(ends_s))
            self._log(Severity.WARNING, f"NTS server certificate {path} expires on {when}")


def _file_version(path: str) -> tuple[int, int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _read(path: str) -> bytes:
    try:
        data, _ = read_bounded(path, PEM_SIZE_MAX)
    except OSError as error:
        raise CertificateError(f"{path} : {why(error)}") from error
    except ValueError as error:
        raise CertificateError(f"{path} : {error}") from error
    return data
