"""How servers take turns: who is measured when, and what becomes of one that fails. The servers are played."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from loadtest import compare
from loadtest.cpu import MeasurementError
from loadtest.report import ScenarioReport
from loadtest.scenarios import ONE, Scenario, plain
from loadtest.servers import Kind, ServerError

FIRST, SECOND = Kind("first", ("first", "{conf}")), Kind("second", ("second", "{conf}"))
CORES = compare.Cores(0, 1, frozenset({0, 1}))


class Stage:
    """Plays the servers; `fails` maps a moment (`start second`, `measure first 2`, `stop first`) to its error."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **fails: Exception) -> None:
        self.told: list[str] = []
        self.fails = {moment.replace("_", " "): error for moment, error in fails.items()}
        monkeypatch.setattr(compare, "ready", self.ready)

    def tell(self, moment: str) -> None:
        self.told.append(moment)
        if moment in self.fails:
            raise self.fails[moment]

    @contextmanager
    def ready(self, kind: Kind, scenario: Scenario, cores: compare.Cores) -> Iterator[Any]:
        self.tell(f"start {kind.name}")
        yield SimpleNamespace(server=kind, scenario=scenario)
        self.tell(f"stop {kind.name}")

    def measure(self, bench: Any) -> dict[str, float]:
        turn = sum(moment.startswith(f"measure {bench.server.name}") for moment in self.told) + 1
        self.tell(f"measure {bench.server.name} {turn}")
        return {"cpu_us": float(turn)}

    def play(self, number: int = 0, turns: int = 2) -> ScenarioReport:
        scenario = Scenario("played", "played", (self.measure,), plain(ONE), turns=turns)
        report = ScenarioReport("played", "played")
        compare.one_round(report, scenario, (FIRST, SECOND), CORES, number)
        return report


def test_all_servers_run_and_take_turns_in_alternating_order(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    report = stage.play()
    assert stage.told == [
        "start first",
        "start second",
        "measure first 1",
        "measure second 1",
        "measure second 2",
        "measure first 2",
        "stop first",
        "stop second",
    ]
    assert report.problems == {}
    assert report.values("first", "cpu_us") == report.values("second", "cpu_us") == [1.0, 2.0]


def test_the_next_round_begins_with_the_other_server(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch)
    stage.play(number=1, turns=1)
    assert stage.told[2:4] == ["measure second 1", "measure first 1"]


def test_a_server_that_does_not_start_leaves_the_other_its_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    report = Stage(monkeypatch, start_first=ServerError("no")).play()
    assert report.problems == {"first": "ServerError: no"}
    assert report.values("second", "cpu_us") == [1.0, 2.0]
    assert report.values("first", "cpu_us") == []


def test_a_server_that_fails_is_not_measured_again_and_the_first_reason_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, measure_first_1=MeasurementError("wrong"), stop_first=ServerError("ended"))
    report = stage.play(turns=3)
    assert report.problems == {"first": "MeasurementError: wrong"}
    assert "measure first 2" not in stage.told
    assert report.values("second", "cpu_us") == [1.0, 2.0, 3.0]
    assert stage.told[-2:] == ["stop first", "stop second"]


def test_a_server_that_ended_under_load_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    report = Stage(monkeypatch, stop_second=ServerError("ended")).play()
    assert report.problems == {"second": "ServerError: ended"}


def test_a_bug_of_the_measurement_is_not_a_servers_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(monkeypatch, measure_first_1=ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        stage.play()
    assert stage.told[-2:] == ["stop first", "stop second"]
