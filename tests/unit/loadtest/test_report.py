"""Medians and ratios of rounds, the table, and the project's budgets over them."""

import json

import pytest

from loadtest import report
from loadtest.measure import Metrics
from loadtest.report import ScenarioReport
from loadtest.scenarios import QUICK, SCENARIOS
from tests.bench.budgets import BASELINE, BUDGETS, OURS, Budget


def rounds(*pairs: tuple[float, float]) -> ScenarioReport:
    """chronyd's and our CPU time in each round."""
    return ScenarioReport(
        "basic",
        "a title",
        {BASELINE: [{"cpu_us": a} for a, _ in pairs], OURS: [{"cpu_us": b} for _, b in pairs]},
    )


def test_the_ratio_is_the_median_of_the_rounds_ratios() -> None:
    # the second round ran on a machine twice as slow
    found = rounds((4, 3), (8, 6), (4, 4))
    assert found.ratio("cpu_us", OURS, BASELINE) == 0.75
    assert found.median(OURS, "cpu_us") == 4


def test_there_is_no_ratio_without_both_figures() -> None:
    assert ScenarioReport("basic", "", {OURS: [{"cpu_us": 3}]}).ratio("cpu_us", OURS, BASELINE) is None
    assert rounds((0, 3)).ratio("cpu_us", OURS, BASELINE) is None


def test_the_table_shows_medians_spread_ratio_and_problems() -> None:
    shown = rounds((4, 3), (8, 6), (4, 4))
    shown.problems[OURS] = "ended"
    text = report.table(shown, [BASELINE, OURS])
    assert "basic: a title" in text
    assert "4.00 (3.00–6.00)" in text
    assert "0.750" in text
    assert "FAILED: ntpd-fast: ended" in text


def test_a_scenario_without_figures_still_has_a_table() -> None:
    assert report.table(ScenarioReport("basic", "", {}, {"chronyd": "no"}), ["chronyd"]).endswith("chronyd: no")


def test_the_json_holds_every_round() -> None:
    content = json.loads(json.dumps(report.as_json([rounds((4, 3), (8, 6))], [BASELINE, OURS], 128, {"rounds": 2})))
    (scenario,) = content["scenarios"]
    assert scenario["rounds"][OURS] == [{"cpu_us": 3}, {"cpu_us": 6}]
    assert scenario["medians"][BASELINE] == {"cpu_us": 6}
    assert scenario["ratios"] == {"cpu_us": 0.75}
    assert "128 outstanding" in content["method"]
    assert content["environment"]["kernel"]


@pytest.mark.parametrize(
    ("budget", "kept"),
    [
        (Budget("basic", "cpu_us", "ratio", most=0.75), True),
        (Budget("basic", "cpu_us", "ratio", most=0.74), False),
        (Budget("basic", "cpu_us", "ratio", least=0.76), False),
        (Budget("basic", "cpu_us", "value", most=3), True),
        (Budget("basic", "cpu_us", "value", least=3.1), False),
        (Budget("basic", "no_such", "value", most=3), False),
    ],
)
def test_a_budget_is_kept_or_missed(budget: Budget, kept: bool) -> None:
    assert budget.kept(budget.figure(rounds((4, 3)))) is kept


@pytest.mark.parametrize(("bound", "figure"), [((0, 0), 1.5), ((0, 1), 1.5), ((1, 0), None), ((1, 1), None)])
def test_a_highest_rate_is_compared_with_one_that_the_generator_did_not_bound(
    bound: tuple[int, int], figure: float | None
) -> None:
    """A bound on our own only hides how much better we are."""
    turns: dict[str, list[Metrics]] = {
        BASELINE: [{"peak_per_s": 100_000, "generator_bound": bound[0]}],
        OURS: [{"peak_per_s": 150_000, "generator_bound": bound[1]}],
    }
    assert Budget("peak", "peak_per_s", "ratio", least=1.5).figure(ScenarioReport("peak", "", turns)) == figure


def test_every_budget_is_about_a_scenario_and_a_metric_that_exist() -> None:
    assert {budget.scenario for budget in BUDGETS} <= {scenario.key for scenario in SCENARIOS}
    assert {budget.metric for budget in BUDGETS} <= set(report.METRICS)
    assert {budget.of for budget in BUDGETS} == {"ratio", "value"}
    assert all((budget.most is None) != (budget.least is None) for budget in BUDGETS)
    assert set(QUICK) <= {scenario.key for scenario in SCENARIOS}
    assert len({scenario.key for scenario in SCENARIOS}) == len(SCENARIOS)


def test_the_spread_of_a_ratio_is_its_quartiles() -> None:
    report = ScenarioReport("a", "a")
    report.rounds = {
        "theirs": [{"cpu_us": 10.0}] * 5,
        "ours": [{"cpu_us": value} for value in (5.0, 6.0, 7.0, 8.0, 9.0)],
    }
    assert report.quartiles("cpu_us", "ours", "theirs") == pytest.approx((0.6, 0.8))
    report.rounds["ours"] = report.rounds["ours"][:2]
    assert report.quartiles("cpu_us", "ours", "theirs") is None
