"""Temperature compensation: both models, the sensor's failures, what reaches the clock and the log."""

from __future__ import annotations

from pathlib import Path

import pytest

from ntpd_fast.clock.tempcomp import (
    TEMPCOMP_LOG_TITLE,
    Points,
    Quadratic,
    TemperatureCompensation,
    format_record,
    model_of,
    read_temperature,
)
from ntpd_fast.config.errors import ConfigError
from ntpd_fast.config.model import TempComp
from tests.sim.machine import Machine
from tests.sim.world import World


def test_the_quadratic_model() -> None:
    model = Quadratic(26000.0, 0.5, 0.000183, 1e-6)
    assert model.compensation_ppm(26000.0) == 0.5
    assert model.compensation_ppm(27000.0) == pytest.approx(0.5 + 0.183 + 1.0)
    assert model.compensation_ppm(25000.0) == pytest.approx(0.5 - 0.183 + 1.0)


@pytest.mark.parametrize(
    ("temperature", "ppm"),
    [(20000, 1.0), (20500, 0.82), (21000, 0.64), (21500, 0.5), (22000, 0.36), (19000, 1.36), (23000, 0.08)],
)
def test_points_are_joined_by_lines_that_go_on_beyond_them(temperature: float, ppm: float) -> None:
    model = Points([(20000, 1.0), (21000, 0.64), (22000, 0.36)])
    assert model.compensation_ppm(temperature) == pytest.approx(ppm)


def test_the_directive_says_which_model(tmp_path: Path) -> None:
    assert model_of(TempComp("f", 1.0, None, 10.0, 1.0, 2.0, 0.0)).compensation_ppm(11.0) == 3.0
    points = tmp_path / "points"
    points.write_text("1 2\n2 4\n")
    assert model_of(TempComp("f", 1.0, str(points))).compensation_ppm(1.5) == 3.0
    points.write_text("1 2\n")
    with pytest.raises(ConfigError):
        model_of(TempComp("f", 1.0, str(points)))


@pytest.mark.parametrize(
    ("content", "temperature"),
    [("26500\n", 26500.0), ("-3.5 C", -3.5), ("", None), ("warm", None), ("nan", None), ("inf", None)],
)
def test_sensors_are_read(tmp_path: Path, content: str, temperature: float | None) -> None:
    path = tmp_path / "sensor"
    path.write_text(content)
    assert read_temperature(str(path)) == temperature
    assert read_temperature(str(tmp_path / "none")) is None


def test_the_clock_follows_the_temperature_and_failures_are_told_once() -> None:
    world = World(1)
    machine = Machine(world)
    clock = machine.boot()
    reading: float | None = 2.0
    lines: list[str] = []
    compensation = TemperatureCompensation(
        clock,
        Quadratic(0.0, 0.0, 1.0, 0.0),
        path="/sensor",
        interval_s=30.0,
        log=machine.log,
        write_line=lines.append,
        read=lambda path: reading,
    )
    compensation.start()
    assert machine.clock.rate == pytest.approx(2e-6, abs=1e-10)
    reading = 3.0
    world.run(29.0)
    assert machine.clock.rate == pytest.approx(2e-6, abs=1e-10)
    world.run(2.0)
    assert machine.clock.rate == pytest.approx(3e-6, abs=1e-10)
    assert clock.absolute_frequency_ppm == pytest.approx(0.0, abs=1e-9)
    reading = None
    world.run(90.0)
    reading = 11.0
    world.run(90.0)
    assert machine.clock.rate == pytest.approx(3e-6, abs=1e-10)
    assert compensation.failures == 6
    assert machine.lines() == [
        "Could not read temperature from /sensor",
        "Temperature compensation of 11.000 ppm exceeds sanity limit of 10.0",
    ]
    reading = 1.0
    world.run(30.0)
    assert machine.clock.rate == pytest.approx(1e-6, abs=1e-10)
    assert len(lines) == 3
    compensation.close()
    reading = 9.0
    world.run(60.0)
    assert machine.clock.rate == pytest.approx(1e-6, abs=1e-10)


def test_log_lines_have_the_columns_of_their_title() -> None:
    line = format_record(1_700_000_000 * 10**9, 26500.0, -0.125)
    assert line == "2023-11-14 22:13:20  2.6500e+04 -1.2500e-01"
    assert len(line) == len(TEMPCOMP_LOG_TITLE)
