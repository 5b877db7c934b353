"""The program `ntpd-fast`: loads the daemon as fast as it can be loaded, and runs it."""

from __future__ import annotations

import gc
import importlib
import sys


def main() -> int:
    """Run the daemon; its exit status."""
    # What is loaded stays: looking for garbage in it meanwhile would only take time.
    gc.disable()
    daemon = importlib.import_module("ntpd_fast.cli.daemon")
    gc.freeze()
    gc.enable()
    status: int = daemon.main()
    return status


if __name__ == "__main__":
    sys.exit(main())
