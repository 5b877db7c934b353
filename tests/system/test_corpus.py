"""Every file of the corpus with which chronyd starts: the daemon runs with it, too, and ends well.

Only what would collide with other daemons of this machine is replaced: ports, pid file, command sockets, and the
directory for files.
"""

import json
import shutil
from pathlib import Path

import pytest

from tests.pki import Authority
from tests.system.harness import ROOT

CORPUS = ROOT / "tests" / "data" / "conf_corpus"
EXPECTED = json.loads((CORPUS / "expect.json").read_text())
STARTED = [entry["file"] for entry in EXPECTED["good"] if (entry["start"] or {}).get("dev") == "ok"]
WORK = "/tmp/chrony-corpus"


@pytest.fixture(scope="module")
def certificate():
    return Authority().issue("localhost")


def prepare(directory: Path, name: str, certificate) -> None:
    """The file with what belongs to it, under the daemon's own directory."""
    work = directory / "work"
    work.mkdir()
    certificate.write(work, "nts-cert")
    (work / "nts-cert.crt").rename(work / "nts-cert.pem")
    (work / "nts-cert.key").rename(work / "nts-key.pem")
    shutil.copytree(CORPUS / "fixtures", directory / "fixtures")
    for path in [directory / "fixtures", *(directory / "fixtures").rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)
    (directory / name).write_bytes((CORPUS / name).read_bytes().replace(WORK.encode(), str(work).encode()))


@pytest.mark.parametrize("name", STARTED)
def test_runs(make_daemon, certificate, name):
    daemon = make_daemon()
    prepare(daemon.directory, name, certificate)
    ours = daemon.config.read_text() + "ntsport 0\nptpport 0\n"
    daemon.config.write_text(f"include {name}\n{ours}")
    daemon.start()
    assert daemon.stop() == 0
    texts = daemon.log_texts()
    assert texts[-1] == "ntpd-fast exiting"
    assert not [text for text in texts if "Fatal" in text or "Unexpected" in text or "killed" in text]


def test_most_of_the_corpus_is_started():
    assert len(STARTED) >= 45
