"""Build of the extensions: one row a module that needs more than the defaults.

`make debug` sets NTPD_FAST_DEBUG=1: annotated C, bounds checks, line tracing.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("NTPD_FAST_DEBUG") == "1"

PACKAGES = ["ntpd_fast", "loadtest"]

# C libraries beyond libc, by module.
LIBRARIES: dict[str, list[str]] = {
    "_aead": ["nettle"],
    "_auth": ["nettle"],
    "_nts": ["nettle"],
    "_tls": ["gnutls"],
}

WARNINGS = [
    "-Wall",
    "-Wextra",
    "-Werror=implicit-function-declaration",
    # what Cython's own generated code trips over, and nothing else:
    "-Wno-unused-parameter",
    "-Wno-missing-field-initializers",
    "-Wno-cast-function-type",
    "-Wno-unused-function",
]


def extensions() -> list[Extension]:
    """Every `_*.pyx` of a package is one extension module."""
    found = []
    for path in [path for package in PACKAGES for path in sorted(Path(package).glob("_*.pyx"))]:
        found.append(
            Extension(
                f"{path.parent}.{path.stem}",
                [str(path)],
                libraries=LIBRARIES.get(path.stem, []),
                extra_compile_args=[*WARNINGS, "-O0" if DEBUG else "-O2", "-g"],
                define_macros=[("_GNU_SOURCE", "1")] + ([("CYTHON_TRACE_NOGIL", "1")] if DEBUG else []),
            )
        )
    return found


setup(
    ext_modules=cythonize(
        extensions(),
        annotate=DEBUG or os.environ.get("NTPD_FAST_ANNOTATE") == "1",
        compiler_directives={
            "language_level": 3,
            "boundscheck": DEBUG,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": DEBUG,
            "linetrace": DEBUG,
            "embedsignature": True,
        },
        nthreads=2,
    )
)
