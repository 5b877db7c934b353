"""Check for the system packages the build needs and say how to install what is missing.

Exit status 1 when something is missing, one line for each: what, why, and the package by distribution.
"""

import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

# header, libraries to link, what it is for, Debian package, EL/Fedora package
NEEDED = [
    ("nettle/cmac.h", "nettle", "authentication of packets", "nettle-dev", "nettle-devel"),
    ("gnutls/gnutls.h", "gnutls", "NTS key exchange", "libgnutls28-dev", "gnutls-devel"),
]


def compiles(compiler: str, header: str, library: str) -> bool:
    with tempfile.TemporaryDirectory() as where:
        source = Path(where, "probe.c")
        source.write_text(f"#include <stddef.h>\n#include <{header}>\nint main(void) {{ return 0; }}\n")
        done = subprocess.run(
            [compiler, str(source), f"-l{library}", "-o", str(Path(where, "probe"))],
            capture_output=True,
            check=False,
        )
        return done.returncode == 0


def main() -> int:
    missing = []
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        missing.append(("a C compiler", "building the extensions", "gcc", "gcc"))
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        missing.append(("Python.h", "building the extensions", "python3-dev", "python3-devel"))
    if compiler is not None:
        for header, library, purpose, debian, fedora in NEEDED:
            if not compiles(compiler, header, library):
                missing.append((header, purpose, debian, fedora))
    for what, purpose, debian, fedora in missing:
        print(
            f"missing: {what} ({purpose}); install it with 'apt-get install {debian}'"
            f" or 'dnf install {fedora}', or run 'make deps' as root",
            file=sys.stderr,
        )
    return 1 if missing else 0


sys.exit(main())
