"""Sources that may not be selected, votes among them, what is told of each."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ntpd_fast.client.selection import SelectionOptions
from ntpd_fast.client.source import SelectOption, SourceKind, SourceState
from ntpd_fast.clock.driver import Leap
from ntpd_fast.config.model import AuthSelectMode
from tests.unit.client.selecting import INTERVAL_S, PLAIN, Bench


def test_a_single_source_is_selected_and_sets_the_clock() -> None:
    bench = Bench()
    source = bench.add(1e-3)
    assert bench.select() == "*"
    (update,) = bench.reference.updates
    assert update.tracking == source.stats.tracking_data()
    assert (update.stratum, update.refid, update.address, update.combined) == (2, 1, source.address, 1)
    assert bench.texts == ["Selected source 192.0.2.1"]


def test_nothing_happens_twice_with_the_same_sample() -> None:
    bench = Bench()
    source = bench.add()
    bench.select()
    assert bench.selector.selected is source
    bench.selector.select(bench.now_ns)
    assert bench.letters == "*"
    assert len(bench.reference.updates) == 1


def test_noselect() -> None:
    bench = Bench()
    bench.add(options=SelectOption.NOSELECT)
    bench.add()
    assert bench.select() == "N*"


@pytest.mark.parametrize(
    ("n", "max_samples", "letter"), [(0, 64, "M"), (2, 64, "M"), (3, 64, "*"), (1, 1, "*"), (2, 2, "*")]
)
def test_missing_samples(n: int, max_samples: int, letter: str) -> None:
    bench = Bench()
    bench.add(n=n, max_samples=max_samples)
    assert bench.select() == letter


def test_unsynchronised() -> None:
    bench = Bench()
    bench.add(leap=Leap.UNSYNCHRONISED)
    assert bench.select() == "s"


@pytest.mark.parametrize(("stratum", "letter"), [(1, "r"), (2, "*"), (4, "*"), (5, "r")])
def test_stratum_limits(stratum: int, letter: str) -> None:
    bench = Bench(SelectionOptions(min_stratum=2, max_stratum=4))
    bench.add(stratum=stratum)
    assert bench.select() == letter


@pytest.mark.parametrize(("distance", "letter"), [(2.9, "*"), (3.1, "d")])
def test_distance_limit(distance: float, letter: str) -> None:
    bench = Bench()
    bench.add(distance_s=distance)
    assert bench.select() == letter


@pytest.mark.parametrize(("noise", "letter"), [(1e-3, "*"), (0.3, "~")])
def test_jitter_limit(noise: float, letter: str) -> None:
    bench = Bench(SelectionOptions(max_jitter_s=0.1))
    bench.add(noise_s=noise)
    assert bench.select() == letter


def test_distance_grows_when_a_source_has_been_quiet_for_long() -> None:
    bench = Bench(SelectionOptions(max_distance_s=0.01, max_clock_error=1e-4))
    bench.add(distance_s=5e-3, n=3)
    assert bench.select() == "*"
    bench.t += 200
    bench.selector.select(bench.now_ns)
    # (2·216 − 248) s · 1e-4 are more than what was left
    assert bench.letters == "d"


def test_stale_once_its_samples_are_older_than_all_of_the_others() -> None:
    bench = Bench()
    old = bench.add(n=4)
    bench.add(n=4)
    bench.select()
    for _ in range(8):
        old.update_reachability(False)
    assert bench.select()[0] in "*+"
    bench.t += 2000
    fresh = bench.selector.sources[1]
    for i in range(70):
        bench.feed(fresh, bench.t - (70 - i) * INTERVAL_S)
    assert bench.select(fresh) == "S*"


def test_stale_by_the_number_of_unanswered_polls() -> None:
    bench = Bench()
    quiet = bench.add(max_unreach=10)
    bench.add()
    for _ in range(17):
        quiet.update_reachability(False)
    assert bench.select()[0] in "*+"
    for _ in range(3):
        quiet.update_reachability(False)
    assert bench.select()[0] == "S"


def test_unreachable_alone_is_stale_and_counted() -> None:
    bench = Bench()
    source = bench.add()
    bench.select()
    for _ in range(8):
        source.update_reachability(False)
    bench.selector.select(bench.now_ns)
    assert bench.letters == "S"
    assert bench.texts[-1] == "Can't synchronise: no selectable sources (1 unreachable sources)"
    bench.selector.select(bench.now_ns)
    assert len(bench.texts) == 2
    assert bench.reference.lost == 0


def test_waits_for_sources_that_are_one_answer_behind_at_start() -> None:
    bench = Bench()
    ahead = bench.add(n=3)
    behind = bench.add(n=2)
    assert bench.select(ahead) == "wM"
    bench.feed(behind, bench.t)
    assert bench.select(behind) in ("*+", "+*")


def test_does_not_wait_for_sources_that_fell_back() -> None:
    bench = Bench()
    bench.add(n=5)
    bench.add(n=2)
    assert bench.select() == "*M"


def test_does_not_wait_once_something_is_selected() -> None:
    bench = Bench()
    first = bench.add(n=3)
    assert bench.select(first) == "*"
    bench.add(n=2)
    bench.feed(first, bench.t)
    assert bench.select(first) == "*M"


def test_falseticker_is_found_and_told_once() -> None:
    bench = Bench()
    for _ in range(3):
        bench.add()
    liar = bench.add(1.0)
    letters = bench.select()
    assert letters[3] == "x"
    assert sorted(letters[:3]) == ["*", "+", "+"]
    bench.select(liar)
    assert bench.texts.count("Detected falseticker 192.0.2.4") == 1


@pytest.mark.parametrize(
    ("liars", "text"),
    [
        ([1.0, 2.0], None),
        ([1.0, 2.0, 3.0], "Can't synchronise: no majority (only 2 of 5 sources agree)"),
        ([1.0, 2.0, 3.0, 4.0], "Can't synchronise: no majority (no agreement among 5 sources)"),
    ],
)
def test_majority_of_five(liars: list[float], text: str | None) -> None:
    bench = Bench()
    for _ in range(5 - len(liars)):
        bench.add()
    for offset in liars:
        bench.add(offset)
    letters = bench.select()
    if text is None:
        assert letters == "*++xx"
    else:
        assert letters == "xxxxx"
        assert bench.texts == [text]
        assert bench.reference.updates == []


def test_losing_the_majority_loses_the_synchronisation() -> None:
    bench = Bench()
    good = bench.add()
    bench.select()
    bench.add(1.0)
    assert bench.select(good) == "xx"
    assert bench.reference.lost == 1
    assert bench.texts[-1] == "Can't synchronise: no majority (no agreement among 2 sources)"
    bench.select(good)
    assert bench.reference.lost == 1


def test_one_trusted_source_outvotes_the_others() -> None:
    bench = Bench()
    bench.add(1.0)
    bench.add(1.0)
    bench.add(0.0, options=SelectOption.TRUST)
    assert bench.select() == "xx*"


def test_source_outside_the_trusted_interval_is_not_trusted() -> None:
    bench = Bench()
    bench.add(0.0, distance_s=5e-3)
    bench.add(0.0, options=SelectOption.TRUST, distance_s=1e-3)
    # it contains the trusted interval but also says much else
    assert bench.select() == "T*"


def test_source_inside_the_trusted_interval_takes_part() -> None:
    bench = Bench()
    bench.add(0.0, options=SelectOption.TRUST, distance_s=2e-3)
    bench.add(0.0, distance_s=1e-3)
    assert bench.select() in ("+*", "*+")


def test_trusted_majority_message() -> None:
    bench = Bench()
    bench.add(0.0, options=SelectOption.TRUST)
    bench.add(1.0, options=SelectOption.TRUST)
    assert bench.select() == "xx"
    assert bench.texts == ["Can't synchronise: no majority (no agreement among 2 trusted sources)"]


def test_waits_for_enough_sources() -> None:
    bench = Bench(SelectionOptions(min_sources=3))
    bench.add()
    bench.add()
    assert bench.select() == "WW"
    assert bench.texts == ["Can't synchronise: not enough selectable sources"]
    bench.add()
    assert bench.select() == "*++"


def test_waits_for_a_required_source() -> None:
    bench = Bench()
    bench.add()
    required = bench.add(n=0, options=SelectOption.REQUIRE)
    for _ in range(8):
        required.update_reachability(False)
    assert bench.select() == "WM"
    assert bench.texts == ["Can't synchronise: no required source in selectable sources"]


@pytest.mark.parametrize(
    ("leaps", "vote"),
    [
        ([Leap.INSERT, Leap.INSERT, Leap.NORMAL], Leap.INSERT),
        ([Leap.INSERT, Leap.NORMAL], Leap.NORMAL),
        ([Leap.DELETE, Leap.DELETE, Leap.INSERT], Leap.DELETE),
        ([Leap.INSERT, Leap.DELETE], Leap.NORMAL),
    ],
)
def test_leap_vote(leaps: list[Leap], vote: Leap) -> None:
    bench = Bench()
    for leap in leaps:
        bench.add(leap=leap)
    bench.select()
    assert bench.reference.updates[-1].leap is vote


def test_only_trusted_sources_vote_on_leaps() -> None:
    bench = Bench()
    bench.add(leap=Leap.INSERT, options=SelectOption.TRUST, distance_s=2e-3)
    bench.add()
    bench.add()
    bench.select()
    assert bench.reference.updates[-1].leap is Leap.INSERT
N, T, R = SelectOption.NOSELECT, SelectOption.TRUST, SelectOption.REQUIRE


@pytest.mark.parametrize(
    ("mode", "authenticated", "plain", "refclock"),
    [
        (AuthSelectMode.IGNORE, PLAIN, PLAIN, PLAIN),
        (AuthSelectMode.MIX, T | R, PLAIN, T | R),
        (AuthSelectMode.PREFER, PLAIN, N, PLAIN),
        (AuthSelectMode.REQUIRE, PLAIN, N, PLAIN),
    ],
)
def test_authselectmode(
    mode: AuthSelectMode, authenticated: SelectOption, plain: SelectOption, refclock: SelectOption
) -> None:
    bench = Bench(SelectionOptions(auth_mode=mode))
    one = bench.add(authenticated=True)
    two = bench.add()
    three = bench.add(kind=SourceKind.REFCLOCK)
    bench.select()
    assert (one.options, two.options, three.options) == (authenticated, plain, refclock)


@pytest.mark.parametrize(
    ("mode", "alone"),
    [
        (AuthSelectMode.MIX, PLAIN),
        (AuthSelectMode.PREFER, PLAIN),
        (AuthSelectMode.REQUIRE, N),
    ],
)
def test_authselectmode_without_authenticated_sources(mode: AuthSelectMode, alone: SelectOption) -> None:
    bench = Bench(SelectionOptions(auth_mode=mode))
    source = bench.add()
    ignored = bench.add(authenticated=True, options=N)
    bench.select()
    assert source.options == alone
    assert ignored.options == N


def test_orphans_follow_the_smallest_reference_id() -> None:
    bench = Bench(SelectionOptions(orphan_stratum=10))
    leader, other = bench.add(stratum=10), bench.add(stratum=10)
    leader.local_refid = other.local_refid = 3
    assert bench.select() == "*O"
    leader.local_refid = 1
    bench.selector.select(bench.now_ns)
    assert bench.letters == "OO"


def test_orphans_are_not_followed_beside_a_real_source() -> None:
    bench = Bench(SelectionOptions(orphan_stratum=10))
    orphan = bench.add(stratum=10)
    orphan.local_refid = 99
    bench.add(stratum=3)
    assert bench.select() == "O*"


def test_deeper_orphans_are_ignored() -> None:
    bench = Bench(SelectionOptions(orphan_stratum=10))
    bench.add(stratum=11).local_refid = 99
    assert bench.select() == "O"


def test_unreachable_orphan_does_not_lead() -> None:
    bench = Bench(SelectionOptions(orphan_stratum=10))
    leader, other = bench.add(stratum=10), bench.add(stratum=10)
    leader.local_refid = other.local_refid = 9
    assert bench.select() == "*O"
    for _ in range(8):
        leader.update_reachability(False)
    bench.feed(other, bench.t)
    assert bench.select(other)[1] == "*"


@pytest.mark.parametrize(
    ("options", "changes", "text"),
    [
        (
            SelectionOptions(),
            {"distance_s": 7.0},
            "Root distance of 192.0.2.1 exceeds maxdistance of 3.000 seconds",
        ),
        (
            SelectionOptions(max_jitter_s=0.1),
            {"noise_s": 0.5},
            "Jitter of 192.0.2.1 exceeds maxjitter of 0.100 seconds",
        ),
        (SelectionOptions(min_stratum=3), {}, "Stratum of 192.0.2.1 below minstratum of 3"),
        (SelectionOptions(max_stratum=1), {}, "Stratum of 192.0.2.1 above maxstratum of 1"),
    ],
)
def test_lasting_bad_state_is_told_after_four_updates(
    options: SelectionOptions, changes: dict[str, float], text: str
) -> None:
    bench = Bench(options)
    source = bench.add(**changes)  # type: ignore[arg-type]
    for _ in range(3):
        bench.select(source)
    assert text not in bench.texts
    assert bench.bad == []
    bench.select(source)
    assert bench.texts.count(text) == 1
    assert bench.bad == [source]
    for _ in range(8):
        bench.select(source)
    assert bench.texts.count(text) == 1
    assert len(bench.bad) == 3


def test_lasting_falseticker_wants_to_be_replaced() -> None:
    bench = Bench()
    for _ in range(3):
        bench.add()
    liar = bench.add(1.0)
    for _ in range(4):
        bench.select(liar)
    assert bench.bad == [liar]


def test_quiet_selection_says_nothing() -> None:
    bench = Bench()
    bench.selector.quiet = True
    bench.add()
    bench.select()
    assert bench.texts == []


def test_removing_and_resetting_sources() -> None:
    bench = Bench()
    first, second = bench.add(), bench.add()
    bench.select()
    assert bench.selector.selected is first
    bench.selector.reset_source(first, bench.now_ns)
    assert first.state is SourceState.BAD_STATS
    bench.feed(second, bench.t)
    bench.select(second)
    assert bench.selector.selected is second
    bench.selector.remove(second, bench.now_ns)
    assert bench.selector.selected is None
    bench.selector.remove(first, bench.now_ns)
    assert list(bench.selector.sources) == []
    # only the reset one was left, which has not answered yet
    assert bench.texts[-1] == "Can't synchronise: no selectable sources (1 unreachable sources)"


def test_reselect_takes_the_best_at_the_next_sample() -> None:
    bench = Bench()
    worse = bench.add(distance_s=1.5e-3)
    bench.select()
    better = bench.add(distance_s=1e-3)
    bench.select(worse)
    assert bench.selector.selected is worse
    bench.selector.reselect(bench.now_ns)
    bench.feed(better, bench.t)
    bench.select(better)
    assert bench.selector.selected is better


def test_report() -> None:
    bench = Bench()
    source = bench.add(authenticated=True, options=SelectOption.PREFER)
    bench.select()
    report = bench.selector.report(source)
    assert report.state is SourceState.SELECTED
    assert report.authenticated
    assert report.options == SelectOption.PREFER
    assert report.score == 1.0
    assert report.offset_lo_s < 0.0 < report.offset_hi_s
    assert report.last_sample_ago_s == pytest.approx(INTERVAL_S)


def test_report_of_a_source_that_never_answered() -> None:
    bench = Bench()
    source = bench.add(n=0, leap=Leap.UNSYNCHRONISED)
    bench.selector.select(bench.now_ns)
    report = bench.selector.report(source)
    assert (report.state, report.leap, report.score) == (SourceState.BAD_STATS, Leap.UNSYNCHRONISED, 1.0)
LETTERS = {state.value for state in SourceState}


@given(
    st.lists(
        st.tuples(
            st.floats(-1.0, 1.0),
            st.floats(1e-4, 4.0),
            st.integers(0, 15),
            st.integers(0, 5),
            st.integers(0, 15),
            st.booleans(),
        ),
        max_size=8,
    ),
    st.integers(1, 3),
)
def test_any_sources_end_in_a_state(
    described: list[tuple[float, float, int, int, int, bool]], min_sources: int
) -> None:
    bench = Bench(SelectionOptions(min_sources=min_sources, orphan_stratum=12))
    for offset, distance, stratum, n, options, authenticated in described:
        source = bench.add(
            offset,
            distance_s=distance,
            stratum=stratum,
            n=n,
            options=SelectOption(options),
            authenticated=authenticated,
        )
        source.local_refid = 4
    letters = bench.select()
    assert set(letters) <= LETTERS
    assert letters.count("*") <= 1
    selected = bench.selector.selected
    if selected is not None and "*" in letters:
        assert selected.state is SourceState.SELECTED
    if bench.reference.updates:
        assert bench.reference.updates[-1].combined == letters.count("*") + letters.count("+") or "U" in letters


def test_changed_limits_take_effect() -> None:
    bench = Bench()
    bench.selector.set_reselect_distance(0.5)
    bench.selector.set_orphan_stratum(7)
    assert bench.selector.options == replace(SelectionOptions(), reselect_distance_s=0.5, orphan_stratum=7)
