"""The keys of an NTS association, exported from the TLS session of its key exchange (RFC 8915 §5.1)."""

from __future__ import annotations

from typing import Protocol

from ntpd_fast._aead import key_size
from ntpd_fast.nts.records import AES_128_GCM_SIV, AES_SIV_CMAC_256, NTPV4

_LABEL = b"EXPORTER-network-time-security"
_C2S, _S2C = 0, 1


class Exporter(Protocol):
    """The part of a TLS session that exports keys."""

    def export(self, label: bytes, context: bytes, length: int) -> bytes: ...


def export_keys(session: Exporter, algorithm: int, *, compliant: bool = True) -> tuple[bytes, bytes]:
    """(C2S, S2C) for an AEAD algorithm.

    compliant=False: keys of AES-128-GCM-SIV as chrony 4.4 to 4.6 exported them, with the context of AES-SIV-CMAC-256
    (nts.md §3). It makes no difference to other algorithms.
    """
    context_algorithm = AES_SIV_CMAC_256 if algorithm == AES_128_GCM_SIV and not compliant else algorithm
    context = NTPV4.to_bytes(2) + context_algorithm.to_bytes(2)
    size = key_size(algorithm)
    return (
        session.export(_LABEL, context + bytes([_C2S]), size),
        session.export(_LABEL, context + bytes([_S2C]), size),
    )
