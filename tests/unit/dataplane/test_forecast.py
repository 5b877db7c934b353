"""The forecast of transmit times, taught by a machine whose times are known."""

import random
from collections.abc import Callable

import pytest

from ntpd_fast._forecast import FULL_STAGE, WARM_STAGE, Forecast

WRITE = 60.0


class Machine:
    """Sends as told: a call of `count` takes `unit * count`; messages leave `first + unit * place` after it began."""

    def __init__(self, seed: int, first: float, unit: float, *, ask: float, before: float = 0.75) -> None:
        self.random = random.Random(seed)
        self.first, self.unit, self.ask, self.before = first, unit, ask, before

    def noise(self) -> float:
        """Mostly small; one call in fifty is interrupted."""
        return self.random.gauss(0, 80) + (self.random.expovariate(1 / 50_000) if self.random.random() < 0.02 else 0)

    def teach(self, forecast: Forecast, stage: int, count: int, lessons: int) -> None:
        """As the sender does: a stamp asked for now and then, at any place."""
        for call in range(lessons * 8):
            late = self.noise()
            sampled = call % 8 == 0
            took = self.unit * count + late + (self.ask if sampled else 0)
            forecast.learn_call(stage, count, WRITE * count, took, sampled=sampled)
            if sampled:
                place = self.random.randrange(count)
                left = self.first + self.unit * place + late + self.ask * self.before
                forecast.learn_departure(stage, place, left, lone=count == 1)


@pytest.mark.parametrize(("stage", "count"), [(1, 2), (WARM_STAGE, 4), (FULL_STAGE, 16)])
@pytest.mark.parametrize("unit", [700.0, 2500.0, 6000.0])
def test_every_place_of_a_call_is_learned(stage: int, count: int, unit: float) -> None:
    for seed in range(10):
        forecast = Forecast()
        machine = Machine(seed, 0.7 * unit, unit, ask=900.0)
        machine.teach(forecast, stage, count, 1000)
        first, each = forecast.call(stage, count)
        first -= WRITE * count
        assert abs(first - machine.first) < 150, f"{seed=}"
        # the time between messages follows the last calls, and one of them in fifty was interrupted
        assert abs(each - unit) < 60 + 0.05 * unit, f"{seed=}"


def test_a_lone_message_is_learned() -> None:
    forecast = Forecast()
    machine = Machine(1, 4200.0, 6000.0, ask=2000.0)
    machine.teach(forecast, 0, 1, 1000)
    first, each = forecast.call(0, 1)
    assert abs(first - WRITE - 4200) < 150
    assert each == 0


def test_the_first_lessons_count_most() -> None:
    """A server that has just been started must not be wrong for long."""
    forecast = Forecast()
    Machine(1, 6000.0, 4000.0, ask=1500.0).teach(forecast, WARM_STAGE, 4, 100)
    first, each = forecast.call(WARM_STAGE, 4)
    assert abs(first - WRITE * 4 - 6000) < 400
    assert abs(each - 4000) < 400


def test_each_stage_has_its_own_times() -> None:
    """Large calls are cheaper a message than those after a wake-up; taught in turn, neither spoils the other."""
    forecast = Forecast()
    slow, fast = Machine(1, 2500.0, 3500.0, ask=1200.0), Machine(2, 2000.0, 3000.0, ask=1200.0)
    for _ in range(400):
        slow.teach(forecast, WARM_STAGE, 4, 1)
        fast.teach(forecast, FULL_STAGE, 16, 1)
    first, each = forecast.call(WARM_STAGE, 4)
    assert abs(first + 3 * each - WRITE * 4 - 2500 - 3 * 3500) < 250
    first, each = forecast.call(FULL_STAGE, 16)
    assert abs(first + 15 * each - WRITE * 16 - 2000 - 15 * 3000) < 500


def test_asking_is_no_delay_where_all_ask() -> None:
    """Interleaved clients: a message that is to teach asks as all the others do."""
    forecast = Forecast()
    Machine(1, 3000.0, 4000.0, ask=0.0).teach(forecast, FULL_STAGE, 16, 1000)
    first, _ = forecast.call(FULL_STAGE, 16)
    assert abs(first - WRITE * 16 - 3000) < 150


@pytest.mark.parametrize("count", [1, 4])
def test_without_stamps_the_calls_teach(count: int) -> None:
    """A message leaves about half way through its own share of the call."""
    forecast = Forecast()
    for _ in range(2000):
        forecast.learn_call(WARM_STAGE, count, WRITE * count, 5000.0 * count, blind=True)
    first, each = forecast.call(WARM_STAGE, count)
    assert abs(first - WRITE * count - 2500) < 50
    assert abs(each - (5000 if count > 1 else 0)) < 50


@pytest.mark.parametrize("measured", [-1e12, 1e12])
def test_absurd_measurements_move_it_a_little_and_never_below_zero(measured: float) -> None:
    forecast = Forecast()
    machine = Machine(1, 2000.0, 2000.0, ask=800.0)
    machine.teach(forecast, WARM_STAGE, 4, 300)
    before = forecast.call(WARM_STAGE, 4)
    forecast.learn_departure(WARM_STAGE, 3, measured)
    after = forecast.call(WARM_STAGE, 4)
    assert abs(after[0] - before[0]) <= 20
    assert abs(after[1] - before[1]) <= 20
    for _ in range(10_000):
        forecast.learn_departure(WARM_STAGE, 3, -1e12)
        forecast.learn_call(WARM_STAGE, 4, 0.0, -1e12)
    assert min(forecast.call(WARM_STAGE, 4)) >= 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda forecast: forecast.call(5, 1),
        lambda forecast: forecast.call(0, 0),
        lambda forecast: forecast.learn_call(-1, 1, 0.0, 0.0),
        lambda forecast: forecast.learn_departure(0, 256, 0.0),
    ],
)
def test_what_does_not_exist_is_refused(wrong: Callable[[Forecast], object]) -> None:
    with pytest.raises(ValueError, match="no such"):
        wrong(Forecast())
