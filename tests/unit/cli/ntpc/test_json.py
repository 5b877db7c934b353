"""JSON: one valid document a command, stable names that are all documented, null where there is no value."""

import json
import re
from pathlib import Path

import pytest

from ntpd_fast.cli.ntpc import manual
from ntpd_fast.cli.ntpc.options import parse
from ntpd_fast.cli.ntpc.reports import clients, ntpdata, server, sources, tracking
from tests.cmdmon_vectors import runs, synthetic
from tests.unit.cli.ntpc.scripted import Run, ScriptedConnection
from tests.unit.cli.ntpc.test_session import FakeConnection

_DOCUMENT = (Path(__file__).parents[4] / "docs" / "ntpc-fast-json.md").read_text()

REPORTS = {
    "tracking": tracking.TRACKING,
    "sources": sources.SOURCES,
    "sourcestats": sources.SOURCESTATS,
    "selectdata": sources.SELECTDATA,
    "authdata": sources.AUTHDATA,
    "ntpdata": ntpdata.NTPDATA,
    "clients": clients.CLIENTS,
    "serverstats": server.counter_report(17),
    "faults": server.FAULTS,
    "activity": server.ACTIVITY,
    "smoothing": server.SMOOTHING,
    "rtcdata": server.RTCDATA,
    "manual list": manual.MANUAL_LIST,
    "settime": manual.SETTIME,
    "waitsync": tracking.WAITSYNC,
}


def run_json(run):
    options = parse(["--json", *[word for word in run["argv"] if word != "-c"]])
    ours = Run(ScriptedConnection(run["exchanges"], run.get("server_version", "4.8")), options)
    exit_status = ours.lines(options)
    documents = [json.loads(line) for line in ours.stdout.splitlines()]
    return exit_status, documents, ours.stderr


def one(identifier):
    run = next(r for r in synthetic() if r["id"] == identifier)
    exit_status, documents, _ = run_json(run)
    assert exit_status == run["exit_code"]
    assert len(documents) == 1
    return documents[0]


@pytest.mark.parametrize("title", REPORTS)
def test_every_field_is_documented_in_its_section(title):
    section = re.search(rf"^## {title}\b.*?(?=^## |\Z)", _DOCUMENT, re.M | re.S)
    assert section is not None
    documented = re.findall(r"`(\w+)`", "\n".join(re.findall(r"^\| (`.*?) \|", section.group(), re.M)))
    assert sorted(documented) == sorted(name for name, _ in REPORTS[title].fields)


@pytest.mark.parametrize("run", [r for r in synthetic() if "-e" not in r["argv"]], ids=lambda r: r["id"])
def test_every_recorded_report_is_one_document_a_command(run):
    exit_status, documents, _ = run_json(run)
    assert exit_status == run["exit_code"]
    assert len(documents) == (len(run["exchanges"]) if "-m" in run["argv"] else 1)


@pytest.mark.parametrize("report", REPORTS.values(), ids=REPORTS)
def test_names_are_plain_and_unique(report):
    names = [name for name, _ in report.fields]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in names)


def test_tracking():
    document = one("s_tracking_refclock")
    assert document["reference_id"] == {"hex": "47505300", "text": "GPS"}
    assert document["reference_address"] is None
    assert document["reference_time"] == "2017-01-27T09:49:17.000000005Z"
    assert document["leap_status"] == "insert_second"
    assert document["system_time_correction_s"] == 6.5e-06


def test_tables_are_lists_and_never_is_null():
    rows = one("s_sources_format")
    assert rows[0]["state"] == "selected"
    assert rows[2] == {**rows[2], "mode": "refclock", "name": "PHC0", "address": None}
    assert None in [row["last_sample_ago_s"] for row in rows]


def test_clients_have_intervals_in_seconds():
    rows = one("s_clients")
    assert rows[0]["ntp_interval_s"] == 0.125
    assert rows[1]["ntp_interval_s"] is None


def test_a_failure_is_a_status_and_no_half_table():
    assert one("s_clients_inactive") == {"status": 519, "message": "Client logging is not active in the daemon"}
    assert one("s_tracking_notauth") == {"status": 501, "message": "Not authorised"}


def test_plain_commands_answer_with_their_status():
    assert one("s_status_00") == {"status": 200, "message": "OK"}
    assert one("s_status_09") == {"status": 209, "message": "Access denied"}


def test_a_wait_that_failed_shows_its_tries():
    rows = one("s_waitsync_fail")
    assert [row["try"] for row in rows] == [1, 2]


def test_an_empty_table_is_an_empty_list():
    run = next(r for r in runs() if r["id"] == "x002")
    assert run_json(run)[1] == [[]]


def test_an_argument_that_cannot_be_read_is_no_document():
    options = parse(["--json", "offline", "x/y"])
    ours = Run(FakeConnection(), options)
    assert ours.lines(options) == 1
    assert (ours.stdout, ours.stderr) == ("", "Invalid syntax for mask/address\n")
