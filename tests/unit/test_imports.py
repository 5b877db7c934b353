"""Imports go down only.

The layers are those of ARCHITECTURE.md. Two parts that meet in shared memory (the data plane's processes, and
everything that keeps the clock right or answers people) know nothing of each other; `control` puts them together.
"""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = "ntpd_fast"

# Each row may import the rows below it. Packages of one row do not import each other.
LAYERS = [
    {"cli"},
    {"control"},
    {"server", "monitor"},
    {"refclock"},
    {"client"},
    {"clock"},
    {"config", "nts", "system"},
]
# Never, whichever stands above the other.
APART = [("server", other) for other in ("monitor", "refclock", "client", "clock")]


def imports_of(source: str, module: str) -> set[str]:
    """Full names of what a module imports, wherever in it; `module` is its own (a package's: with `.__init__`)."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = module.rsplit(".", node.level)[0] + "." if node.level else ""
            found |= {f"{base}{node.module or ''}".rstrip(".") + f".{alias.name}" for alias in node.names}
    return found


def part_of(module: str) -> str | None:
    """The package below `ntpd_fast` a module belongs to; an extension is its own part; None: not ours."""
    names = module.split(".")
    return names[1] if names[0] == PACKAGE and len(names) > 1 else None


def layer_of(part: str) -> int:
    for row, parts in enumerate(LAYERS):
        if part in parts:
            return row
    # extensions are below everything
    return len(LAYERS)


def complaint(importer: str, imported: str) -> str | None:
    """Why `importer` must not import `imported`; None when it may."""
    if importer == imported:
        return None
    if (importer, imported) in APART or (imported, importer) in APART:
        return f"{importer} and {imported} meet in shared memory only"
    if layer_of(importer) >= layer_of(imported):
        return f"{importer} is not above {imported}"
    return None


def modules() -> list[tuple[str, Path]]:
    found = []
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        relative = path.relative_to(ROOT).with_suffix("")
        found.append((".".join(relative.parts), path))
    return found


@pytest.mark.parametrize(("module", "path"), modules(), ids=[module for module, _ in modules()])
def test_imports_go_down(module, path):
    importer = part_of(module)
    complaints = [
        f"{name}: {reason}"
        for name in sorted(imports_of(path.read_text(), module))
        if importer not in (None, "__init__", "__main__")
        and (imported := part_of(name)) is not None
        and imported != "__version__"
        and (reason := complaint(importer, imported))
    ]
    assert complaints == []


def test_every_package_has_its_layer():
    known = set().union(*LAYERS)
    packages = {path.parent.name for path in (ROOT / PACKAGE).glob("*/__init__.py")}
    assert packages <= known


def test_the_rule_sees_what_it_forbids():
    assert imports_of("from ..clock import local", "ntpd_fast.server.engine") == {"ntpd_fast.clock.local"}
    assert imports_of("def f():\n  import ntpd_fast.monitor.codec", "x") == {"ntpd_fast.monitor.codec"}
    assert imports_of("from . import shared", "ntpd_fast.server.engine") == {"ntpd_fast.server.shared"}
    assert complaint("server", "clock")
    assert complaint("clock", "server")
    assert complaint("config", "system")
    assert complaint("clock", "client")
    assert complaint("config", "config") is None
    assert complaint("server", "system") is None
    assert complaint("server", "_udp") is None
    assert complaint("cli", "_region") is None


def test_extensions_are_below_everything():
    for path in sorted((ROOT / PACKAGE).glob("*.p[yx][xd]")):
        for line in path.read_text().splitlines():
            words = line.split()
            if words[:1] in (["from"], ["import"], ["cimport"]) and words[1].startswith(PACKAGE):
                assert words[1].split(".")[1].startswith("_") or words[1] == PACKAGE, f"{path.name}: {line}"


def test_ready_waits_for_nothing_but_what_serves_the_time():
    """Half of the daemon is loaded when READY is said (`control/rest.py`): each module here would delay it."""
    script = (
        "import sys; import ntpd_fast.cli.start, ntpd_fast.cli.daemon; print('\\n'.join(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-S", "-c", script], cwd=ROOT, capture_output=True, text=True, check=True,
                          env={"PYTHONPATH": ":".join(sys.path)})  # fmt: skip
    loaded = set(done.stdout.split())
    assert "ntpd_fast.control.main" in loaded
    ours = {name for name in loaded if name.startswith(("ntpd_fast.client.", "ntpd_fast.monitor.", "ntpd_fast.nts"))}
    assert ours == {"ntpd_fast.client.logtitles", "ntpd_fast.monitor.paths", "ntpd_fast.monitor.sockets"}
    others = "asyncio concurrent.futures uvloop cryptography encodings.idna pyroute2 ssl hashlib datetime pickle"
    assert loaded & {*others.split(), "subprocess", "ntpd_fast._tls"} == set()


def test_a_daemon_without_an_nts_server_does_not_load_one():
    """Its certificates and sessions are a good part of the time that a start takes."""
    script = (
        "import sys, ntpd_fast.control.processes\n"
        "print([name for name in sys.modules if 'ntske_server' in name or 'x509' in name])\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
