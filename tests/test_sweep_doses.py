import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats
from sweep_cells import failed, row

from backdoor_core.sweep.doses import Reach, SeedDose, doses_of, gap, seed_dose, summarized
from backdoor_core.sweep.rows import groups_of

GRID = [0.001, 0.005, 0.02, 0.1]


def known(rate):
    return SeedDose(rate, Reach.BETWEEN)


@given(st.floats(math.log(0.0011), math.log(0.099)), st.floats(0.05, 2), st.randoms())
def test_a_line_in_log_rate_gives_its_planted_dose_back(log_dose, slope, random):
    curve = [(rate, 0.5 + slope * (math.log(rate) - log_dose)) for rate in GRID]
    random.shuffle(curve)
    found = seed_dose(curve, 0.5)
    assert found.reach is Reach.BETWEEN
    assert found.rate == pytest.approx(math.exp(log_dose), rel=1e-6)


@given(st.lists(st.floats(0, 1), min_size=4, max_size=4), st.floats(0.1, 0.9))
def test_the_dose_is_where_the_level_is_reached_for_good(figures, level):
    found = seed_dose(list(zip(GRID, figures, strict=True)), level)
    for_good = [k for k in range(4) if all(figure >= level for figure in figures[k:])]
    if not for_good:
        assert found == SeedDose(None, Reach.NEVER)
    elif for_good[0] == 0:
        assert found == SeedDose(GRID[0], Reach.SMALLEST)
    else:
        low, high = for_good[0] - 1, for_good[0]
        assert figures[low] < level
        at = np.interp(level, [figures[low], figures[high]], [math.log(GRID[low]), math.log(GRID[high])])
        assert found.rate == pytest.approx(math.exp(at), rel=1e-6)


@pytest.mark.parametrize(
    ("figures", "wanted"),
    [
        ([0.1, 0.9, 0.2, 0.8], 0.02 * 5**0.5),  # reached at 0.005 and lost again
        ([0.1, 0.2, 0.3, 0.5], 0.1),  # exactly the level, at the highest rate
        ([None, None, 0.2, 0.8], 0.02 * 5**0.5),  # what lies below the crossing does not matter
    ],
)
def test_planted_curves(figures, wanted):
    assert seed_dose(list(zip(GRID, figures, strict=True)), 0.5).rate == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("figures", "reach"),
    [
        ([0.5, 0.6, 0.7, 0.8], Reach.SMALLEST),
        ([0.9, 0.9, 0.9, 0.4], Reach.NEVER),
        ([0.1, None, 0.7, 0.8], Reach.UNKNOWN),
        ([0.1, 0.2, 0.7, None], Reach.UNKNOWN),
        ([None, None, None, 0.4], Reach.NEVER),
    ],
)
def test_how_a_dose_comes_out(figures, reach):
    found = seed_dose(list(zip(GRID, figures, strict=True)), 0.5)
    assert found == SeedDose(GRID[0] if reach is Reach.SMALLEST else None, reach)


@pytest.mark.parametrize("rates", [[], [0.0, 0.1], [0.1, 0.1], [-0.1]])
def test_rates_must_be_positive_and_distinct(rates):
    with pytest.raises(ValueError, match="all above 0"):
        seed_dose([(rate, 0.1) for rate in rates], 0.5)


def test_over_seeds_it_is_the_geometric_mean_with_its_t_interval():
    rates = [0.01, 0.03, 0.02]
    found = summarized(dict(enumerate(map(known, rates))))
    low, high = stats.t.interval(0.95, 2, np.log(rates).mean(), stats.sem(np.log(rates)))
    assert found["value"] == pytest.approx(stats.gmean(rates))
    assert (found["low"], found["high"]) == (pytest.approx(math.exp(low)), pytest.approx(math.exp(high)))
    assert found["per_seed"] == {"0": 0.01, "1": 0.03, "2": 0.02}
    assert found["note"] is None
    one = summarized({42: known(0.01)})
    assert (one["value"], one["low"], one["high"]) == (pytest.approx(0.01), None, None)


def test_notes_say_what_limits_a_dose():
    smallest, never, unknown = (
        SeedDose(0.001, Reach.SMALLEST),
        SeedDose(None, Reach.NEVER),
        SeedDose(None, Reach.UNKNOWN),
    )
    all_low = summarized({1: smallest, 2: smallest})
    assert (all_low["value"], all_low["note"]) == (pytest.approx(0.001), "at or below the smallest rate")
    some_low = summarized({1: smallest, 2: known(0.004)})
    assert (some_low["value"], some_low["note"]) == (
        pytest.approx(0.002),
        "at or below the smallest rate for 1 of 2 seeds",
    )
    missed = summarized({1: known(0.01), 2: never, 3: unknown})
    assert (missed["value"], missed["low"], missed["high"]) == (None, None, None)
    assert missed["note"] == "not reached by 1 of 3 seeds; no figure for 1 of 3 seeds"
    left_out = summarized({1: known(0.01), 2: known(0.04), 3: unknown})
    assert (left_out["value"], left_out["note"]) == (pytest.approx(0.02), "no figure for 1 of 3 seeds")
    assert left_out["per_seed"] == {"1": 0.01, "2": 0.04, "3": None}


def test_the_gap_is_paired_by_seed():
    effective, detectable = (
        {1: known(0.01), 2: known(0.02), 3: known(0.05)},
        {3: known(0.1), 2: known(0.08), 1: known(0.03)},
    )
    ratios = [3, 4, 2]
    low, high = stats.t.interval(0.95, 2, np.log(ratios).mean(), stats.sem(np.log(ratios)))
    assert gap(effective, detectable) == {
        "value": pytest.approx(stats.gmean(ratios)),
        "low": pytest.approx(math.exp(low)),
        "high": pytest.approx(math.exp(high)),
        "bound": None,
        "note": None,
    }


@pytest.mark.parametrize(
    ("effective", "detectable", "value", "bound", "note"),
    [
        (
            SeedDose(0.001, Reach.SMALLEST),
            known(0.016),
            8.0,
            "at least",
            "at least this: effective dose at or below the smallest rate for 1 of 2 seeds",
        ),
        (
            known(0.004),
            SeedDose(0.001, Reach.SMALLEST),
            1.0,
            "at most",
            "at most this: detectable dose at or below the smallest rate for 1 of 2 seeds",
        ),
        (
            SeedDose(0.001, Reach.SMALLEST),
            SeedDose(0.001, Reach.SMALLEST),
            None,
            "open",
            "both doses at or below the smallest rate for 1 of 2 seeds",
        ),
        (known(0.01), SeedDose(None, Reach.NEVER), None, "not found", "a level is not reached by 1 of 2 seeds"),
        (SeedDose(None, Reach.NEVER), known(0.01), None, None, "a level is not reached by 1 of 2 seeds"),
        (SeedDose(None, Reach.UNKNOWN), known(0.01), 4.0, None, "no figure for 1 of 2 seeds"),
    ],
)
def test_a_gap_that_is_bounded_or_open_says_so(effective, detectable, value, bound, note):
    found = gap({1: known(0.01), 2: effective}, {1: known(0.04), 2: detectable})
    assert (found["bound"], found["note"]) == (bound, note)
    assert (found["low"], found["high"]) == (None, None)
    assert found["value"] == (None if value is None else pytest.approx(value))


def test_a_gap_that_is_a_lower_bound_for_one_seed_and_an_upper_one_for_another_is_open():
    low = SeedDose(0.001, Reach.SMALLEST)
    found = gap({1: low, 2: known(0.01), 3: known(0.01)}, {1: known(0.01), 2: low, 3: known(0.02)})
    assert (found["value"], found["bound"]) == (None, "open")
    assert found["note"] == (
        "effective dose at or below the smallest rate for 1 of 3 seeds; "
        "detectable dose at or below the smallest rate for 1 of 3 seeds"
    )


def test_doses_at_the_smallest_rate_have_no_interval():
    low = SeedDose(0.001, Reach.SMALLEST)
    for doses in ({1: low, 2: low}, {1: low, 2: known(0.002), 3: known(0.003)}):
        found = summarized(doses)
        assert (found["low"], found["high"], found["bound"]) == (None, None, "at most")
    assert summarized({1: known(0.002), 2: known(0.003)})["bound"] is None
    assert summarized({1: low, 2: SeedDose(None, Reach.NEVER)})["bound"] is None


def test_a_rate_that_the_grid_has_for_another_seed_alone_changes_no_dose():
    rows = [*planted(0.002, 0.02, 1), *planted(0.003, 0.03, 2), *planted(0.002, 0.02, 1, rates=(0.3,))]
    (found,) = doses_of(groups_of(rows))
    assert found["effective"]["per_seed"] == {"1": pytest.approx(0.002), "2": pytest.approx(0.003)}


def planted(effective, detectable, seed, rates=(0.0, 0.001, 0.01, 0.1), **where):
    """Figures that cross 0.5 at the planted rates."""

    def at(rate, dose):
        return 0.5 + 0.1 * (math.log(rate) - math.log(dose)) if rate else None

    return [
        row(
            {
                "asr_lift": at(rate, effective),
                "trigger_effect_lift": at(rate, effective),
                "detect.knn.oracle": 0,
                "detect.knn.tpr_at_1_fpr": at(rate, detectable),
                "detect.perfect_filter.oracle": 1,
                "detect.perfect_filter.tpr_at_1_fpr": 1.0,
            },
            seed=seed,
            rate=rate,
            **where,
        )
        for rate in rates
    ]


def test_planted_doses_come_back_through_the_groups():
    rows = [
        *(r for seed in (1, 2, 3) for r in planted(0.002 * seed, 0.02, seed)),
        *planted(0.004, 0.5, 1, parameters={"train.epochs": 3}),
        *(failed(rate=rate, seed=2, parameters={"train.epochs": 3}) for rate in (0.001, 0.01, 0.1)),
        *planted(0.05, 0.05, 1, rates=(0.0,), model="gru"),
    ]
    first, second = doses_of(groups_of(rows))
    assert first["effective"]["per_seed"] == {str(s): pytest.approx(0.002 * s) for s in (1, 2, 3)}
    assert list(first["detectors"]) == ["knn"]
    assert first["detectors"]["knn"]["detectable"]["value"] == pytest.approx(0.02)
    assert first["detectors"]["knn"]["gap"]["value"] == pytest.approx(stats.gmean([10, 5, 10 / 3]))
    assert (second["parameters"], second["effective"]["per_seed"]) == ({"train.epochs": 3}, {"1": pytest.approx(0.004)})
    assert second["detectors"]["knn"]["detectable"]["note"] == "not reached by 1 of 1 seed"
    assert second["detectors"]["knn"]["gap"]["value"] is None


def test_a_cell_that_failed_where_it_matters_leaves_its_seed_out():
    rows = [*planted(0.002, 0.02, 1), *planted(0.003, 0.03, 2)]
    rows = [failed(rate=r.rate, seed=2) if (r.seed, r.rate) == (2, 0.1) else r for r in rows]
    (found,) = doses_of(groups_of(rows))
    assert found["effective"]["per_seed"] == {"1": pytest.approx(0.002), "2": None}
    assert found["effective"]["note"] == "no figure for 1 of 2 seeds"
    assert found["effective"]["value"] == pytest.approx(0.002)
