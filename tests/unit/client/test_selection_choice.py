"""Which of the good sources is selected, and which of the others are combined with it."""

from __future__ import annotations

import pytest

from ntpd_fast.client.selection import SelectionOptions
from ntpd_fast.client.source import SelectOption
from tests.unit.client.selecting import INTERVAL_S, Bench, S


def test_preferred_source_pushes_the_others_aside() -> None:
    bench = Bench()
    bench.add(distance_s=1e-4)
    bench.add(distance_s=1e-2, options=SelectOption.PREFER)
    assert bench.select() == "P*"


def test_preferred_falseticker_does_not_count() -> None:
    bench = Bench()
    bench.add()
    bench.add()
    bench.add(1.0, options=SelectOption.PREFER)
    assert bench.select() == "*+x"


def test_waits_for_an_update_of_a_better_source() -> None:
    bench = Bench()
    first = bench.add()
    bench.select()
    second = bench.add()
    second.updates = 0
    first.configured_options = SelectOption.NOSELECT
    bench.selector.apply_auth_mode()
    bench.selector.select(bench.now_ns)
    assert bench.letters == "NU"
    bench.feed(second, bench.t)
    assert bench.select(second) == "N*"


def test_far_source_is_not_combined() -> None:
    bench = Bench()
    bench.add(distance_s=1e-3)
    far = bench.add(distance_s=10e-3)
    assert bench.select() == "*D"
    assert far.distant == 32


def test_source_with_another_frequency_is_not_combined() -> None:
    bench = Bench()
    bench.add(distance_s=0.1)
    bench.add(distance_s=0.1, frequency=1e-4)
    assert bench.select() == "*D"


def test_distant_source_comes_back_after_a_while() -> None:
    bench = Bench()
    near = bench.add(distance_s=1e-3)
    far = bench.add(distance_s=10e-3)
    assert bench.select() == "*D"
    for _ in range(64):
        bench.t += INTERVAL_S
        bench.feed(far, bench.t, distance_s=1e-3)
    letters = ""
    for _ in range(32):
        bench.t += INTERVAL_S
        bench.feed(near, bench.t)
        letters += bench.select(near)[1]
    assert letters == "D" * 31 + "+"


def test_young_distant_source_comes_back_at_once() -> None:
    bench = Bench()
    bench.add(distance_s=1e-3, n=5)
    far = bench.add(distance_s=10e-3, n=5)
    bench.select()
    assert far.distant == 1


def test_combining_weighs_by_distance_and_frequency_error() -> None:
    bench = Bench()
    first = bench.add(1e-4, distance_s=1e-3, noise_s=1e-6)
    second = bench.add(3e-4, distance_s=2e-3, noise_s=1e-6)
    bench.select()
    bench.t += INTERVAL_S
    bench.feed(first, bench.t, 1e-4)
    assert bench.select(first) == "*+"
    update = bench.reference.updates[-1]
    assert update.combined == 2
    one, two = first.stats.tracking_data(), second.stats.tracking_data()
    elapsed = (one.ref_time_ns - two.ref_time_ns) / S
    offset_two = two.offset_s + elapsed * two.frequency
    weights = [1 / first.distance_s, 1 / second.distance_s]
    mean = (weights[0] * one.offset_s + weights[1] * offset_two) / sum(weights)
    assert update.tracking.offset_s == pytest.approx(mean)
    assert update.tracking.ref_time_ns == one.ref_time_ns
    assert update.tracking.skew == pytest.approx((one.skew**-2 + two.skew**-2) ** -0.5)
    inverse = [one.frequency_sd**-2, two.frequency_sd**-2]
    assert update.tracking.frequency_sd == pytest.approx(sum(inverse) ** -0.5)
    assert update.tracking.frequency == pytest.approx(
        (inverse[0] * one.frequency + inverse[1] * two.frequency) / sum(inverse)
    )
    # the sources' disagreement is part of the error
    assert update.tracking.offset_sd_s >= 2e-4 * (weights[1] / sum(weights)) ** 0.5 * 0.9


def test_combining_switched_off() -> None:
    bench = Bench(SelectionOptions(combine_limit=0.0))
    bench.add()
    bench.add()
    assert bench.select() in ("*D", "D*")
    assert bench.reference.updates[-1].combined == 1


def test_lower_stratum_and_shorter_distance_win() -> None:
    bench = Bench()
    bench.add(stratum=3)
    bench.add(stratum=2)
    assert bench.select()[1] == "*"
    bench = Bench()
    bench.add(stratum=3)
    bench.add(stratum=2, distance_s=4e-3)
    assert bench.select()[0] == "*"


def test_selected_source_is_kept_until_another_is_clearly_better() -> None:
    bench = Bench()
    first = bench.add(distance_s=1e-2)
    bench.select()
    better = bench.add(distance_s=5e-3)
    letters = ""
    while "*" not in letters[-1:]:
        bench.t += INTERVAL_S
        bench.feed(first, bench.t, distance_s=1e-2)
        bench.feed(better, bench.t, distance_s=5e-3)
        bench.select(first)
        letters += bench.select(better)[1]
        assert len(letters) < 20
    # a factor of about two each time one of them is updated, up to ten
    assert 1 <= len(letters) - 1 <= 4
    assert better.score == 1.0
    assert bench.texts == ["Selected source 192.0.2.1", "Selected source 192.0.2.2"]


def test_equal_sources_do_not_take_turns() -> None:
    bench = Bench()
    sources = [bench.add(noise_s=1e-5) for _ in range(4)]
    bench.select()
    for _ in range(100):
        bench.t += INTERVAL_S
        for source in sources:
            bench.feed(source, bench.t, noise_s=1e-5)
            bench.select(source)
    assert len(bench.texts) == 1
