"""What real chronyc asked and printed, ntpc-fast asks and prints: every recorded run, to the letter."""

import pytest

from ntpd_fast.cli.ntpc import getdate
from ntpd_fast.cli.ntpc.options import parse
from ntpd_fast.monitor.codec.commands import Status
from tests.cmdmon_vectors import runs, synthetic
from tests.unit.cli.ntpc.scripted import Run, ScriptedConnection

# Runs where we differ on purpose: ours reads what the older or newer daemon answers.
# serverstats and ntpdata of 4.3 instead of `508`; local falls back to the request 4.3 knows.
_BETTER = {"v194", "v195", "v196"}
# The request 4.3 sends to 4.8, which ours never sends first.
_OLDER = {"v193"}
CLIENT_RUNS = [run for run in runs() if run["client_version"] != "raw"]


@pytest.fixture(autouse=True)
def _utc(timezone):
    timezone("UTC")


@pytest.mark.parametrize("run", [r for r in CLIENT_RUNS if r["id"] not in _BETTER | _OLDER], ids=lambda r: r["id"])
def test_recorded_run(run, monkeypatch):
    connection = ScriptedConnection(run["exchanges"], run["server_version"])
    freeze_settime(run, monkeypatch)
    check(run, connection)


@pytest.mark.parametrize("run", synthetic(), ids=lambda r: r["id"])
def test_synthetic_run(run):
    check(run, ScriptedConnection(run["exchanges"], "4.8"))


def check(run, connection):
    options = parse(run["argv"])
    ours = Run(connection, options)
    exit_code = ours.lines(options)
    assert ours.stdout == run["stdout"]
    assert ours.stderr == run["stderr"]
    assert exit_code == run["exit_code"]
    assert connection.finished()


def freeze_settime(run, monkeypatch):
    """`settime 16:30:00` means the day of the recording."""
    for exchange in run["exchanges"]:
        if exchange["request"]["command_name"] == "SETTIME":
            now_s = exchange["request"]["data"]["ts"]["sec"]
            monkeypatch.setattr(getdate.time, "time", lambda now_s=now_s: now_s)


@pytest.mark.parametrize("run", [r for r in CLIENT_RUNS if r["id"] in _BETTER], ids=lambda r: r["id"])
def test_other_versions_of_the_daemon_are_understood(run):
    exchanges = [e for e in run["exchanges"] if e["reply"]["status"] != Status.INVALID]
    if run["id"] == "v196":
        local_43 = next(
            r for r in runs() if r.get("argv") == ["-n", "local", "stratum", "12", "orphan", "distance", "0.5"]
        )
        exchanges = local_43["exchanges"]
        run = {**run, "argv": local_43["argv"]}
    options = parse(run["argv"])
    ours = Run(ScriptedConnection(exchanges, "4.3"), options)
    assert ours.lines(options) == 0
    expected = {"v194": "NTP packets received", "v195": "Remote address", "v196": "200 OK"}[run["id"]]
    assert ours.stdout.startswith(expected)
    assert "kernel" not in ours.stdout


def test_the_recordings_are_there():
    assert len(CLIENT_RUNS) > 230
    assert len(synthetic()) > 90
