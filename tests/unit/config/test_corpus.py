"""Every file of the conformance corpus: verdicts and texts of the newest chrony, but for what we forgive."""

from pathlib import Path
from typing import Any

import pytest

from ntpd_fast.config import ConfigError, load
from tests.unit.config.conftest import CORPUS, EXPECTED, hosts

# Accepted by our own decision, with what we say about it.
FORGIVEN = {
    "bad/007-rhel10-doc-local.conf": [
        "Ignored word local in server directive at line 2 in file 007-rhel10-doc-local.conf: it is no option there"
    ],
    "bad/078-rhel10-doc-hwtimestamp-glob.conf": [],
    "disputed/burst-64.conf": [],
}
OWN_WARNINGS = {
    "48-number-forms.conf": ["Ignored value in logchange directive at line 14 in file 48-number-forms.conf"]
}


def _enter(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    path = CORPUS / name
    monkeypatch.chdir(path.parent)
    return path.name


@pytest.mark.parametrize("entry", EXPECTED["good"], ids=lambda entry: entry["file"])
def test_accepts_valid_file(entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(_enter(entry["file"], monkeypatch), resolver=hosts)
    assert list(config.warnings) == OWN_WARNINGS.get(entry["file"], entry["warnings_dev"])


@pytest.mark.parametrize(
    "entry",
    [entry for entry in EXPECTED["bad"] if entry["stage"] == "parse" and entry["file"] not in FORGIVEN],
    ids=lambda entry: entry["file"],
)
def test_refuses_bad_file_with_the_text(entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError) as error:
        load(_enter(entry["file"], monkeypatch), resolver=hosts)
    assert str(error.value) == entry["fatal"]["dev"]


@pytest.mark.parametrize("name", FORGIVEN)
def test_forgives_what_documentation_promises(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load(_enter(name, monkeypatch), resolver=hosts)
    assert list(config.warnings) == FORGIVEN[name]


@pytest.mark.parametrize("name", FORGIVEN)
def test_strict_forgives_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = _enter(name, monkeypatch)
    with pytest.raises(ConfigError, match=f"line 2 in file {file}"):
        load(file, resolver=hosts, strict=True)


@pytest.mark.parametrize(
    "entry",
    [entry for entry in EXPECTED["bad"] if entry["stage"] == "start"],
    ids=lambda entry: entry["file"],
)
def test_start_errors_are_not_found_by_parsing(entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    load(_enter(entry["file"], monkeypatch), resolver=hosts)


def test_corpus_is_whole() -> None:
    """Editors and git like to touch carriage returns, byte order marks and missing newlines."""
    lexical = (CORPUS / "01-lexical.conf").read_bytes()
    assert all(char in lexical for char in (b"\r", b"\v", b"\f"))
    assert not lexical.endswith(b"\n")
    assert b"\n\xef\xbb\xbfserver" in (CORPUS / "bad/100-bom.conf").read_bytes()
    named = {entry["file"] for entries in EXPECTED.values() for entry in entries}
    files = (path.relative_to(CORPUS) for path in Path(CORPUS).rglob("*.conf"))
    present = {str(path) for path in files if "fixtures" not in path.parts}
    assert named == present
