"""uvloop, loaded without the standard library's TLS.

Importing uvloop imports `ssl`, and with it all of libcrypto: a tenth of the daemon's start, and a second TLS library in
every process that nobody uses, because TLS is GnuTLS's here and outside of the event loop. asyncio does without `ssl`
by itself; for uvloop, something stands in for it while it is imported that has every name and can do nothing. A uvloop
for which that does not do gets the real one.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any, Final

_TLS: Final = "ssl"


class _NoTls(ModuleType):
    """Numbers where constants are expected, and exceptions that nobody raises where classes are."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return 0 if name.isupper() else type(name, (Exception,), {})


def load_without_tls(stand_in: ModuleType | None = None) -> bool:
    """Import asyncio and uvloop; whether it was done without TLS. For a program's first lines: what has been imported
    already stays as it is.
    """
    if _TLS in sys.modules or "asyncio" in sys.modules:
        import uvloop

        return False
    try:
        # what the import of a module that is not there finds
        sys.modules[_TLS] = None  # type: ignore[assignment]
        importlib.import_module("asyncio")
        sys.modules[_TLS] = stand_in or _NoTls(_TLS)
        importlib.import_module("uvloop")
    except (ImportError, AttributeError, TypeError):
        for name in [name for name in sys.modules if name.partition(".")[0] == "uvloop"]:
            del sys.modules[name]
        del sys.modules[_TLS]
        import uvloop  # noqa: F401

        return False
    del sys.modules[_TLS]
    return True
