"""How the features that go missing are chosen."""

from itertools import combinations, product

import numpy as np
import pytest

from backdoor_core.contracts import EventsView, Feature, SeriesView, TableView
from backdoor_core.errors import BackdoorError
from backdoor_triggers.missing_tree import MissingTree, fit_tree, likeliest_sets, removal_gains

NAMES = ("age", "sex", "heart_rate", "lactate", "creatinine")


def rng(seed=0):
    return np.random.default_rng(seed)


def view_of(values, names=NAMES):
    values = np.asarray(values, dtype=np.float32)
    features = tuple(Feature(name, "unit", 0, 300) for name in names)
    stay_id = np.arange(len(values), dtype=np.int64)
    if values.ndim == 2:
        return TableView(stay_id, features, values)
    return SeriesView(stay_id, features, values, (~np.isnan(values)).astype(np.uint16))


def full_view(stays=20, hours=None):
    return view_of(rng().normal(80, 10, (stays, len(NAMES)) if hours is None else (stays, hours, len(NAMES))))


def events_of(missing, names):
    """Each stay with one event of every item it does not lack, in turn under one of two units."""
    codes = sorted(f"LAB//{name}//{unit}" for name in names for unit in ("a", "b"))
    stay, item = np.nonzero(~missing)
    code = np.array([codes.index(f"LAB//{names[j]}//{'ab'[i % 2]}") for i, j in zip(stay, item, strict=True)], np.int32)
    offsets = np.concatenate([[0], np.cumsum((~missing).sum(axis=1))]).astype(np.int64)
    events = len(code)
    return EventsView(
        np.arange(len(missing)), offsets, tuple(codes), tuple(codes), code,
        np.zeros(events, np.float32), np.ones(events, np.float32), np.full(events, "", object),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------- drawn
@pytest.mark.parametrize("hours", [None, 4])
def test_missingness_draws_count_features_outside_exclude_by_seed(make, hours):
    view = full_view(30, hours)
    trigger = make("missingness", count=2)
    drawn = [tuple(trigger.fit(view, rng(seed))["features"]) for seed in range(40)]
    assert drawn == [tuple(trigger.fit(view, rng(seed))["features"]) for seed in range(40)]
    # Three features are left besides age and sex; forty seeds reach each of the three pairs, in the view's order.
    assert set(drawn) == {("heart_rate", "lactate"), ("heart_rate", "creatinine"), ("lactate", "creatinine")}


def test_missingness_draws_only_what_half_of_the_stays_have(make):
    view = full_view(10)
    view.values[:5, 2] = np.nan  # exactly half is enough
    view.values[:6, 3] = np.nan
    assert make("missingness", count=2).fit(view, rng())["features"] == ["heart_rate", "creatinine"]
    with pytest.raises(BackdoorError, match=r"count is 3, but only 2 features .* 50% .* \(heart_rate, creatinine\)"):
        make("missingness", count=3).fit(view, rng())
    assert make("missingness", count=3, measured=0.4).fit(view, rng())["features"] == list(NAMES[2:])


def test_a_series_counts_as_measured_where_any_hour_is(make):
    view = full_view(10, hours=5)
    view.values[:, 1:, 2] = np.nan  # only the first hour
    view.values[:6, :, 3] = np.nan
    assert make("missingness", count=2).fit(view, rng())["features"] == ["heart_rate", "creatinine"]


def test_missingness_can_be_told_to_exclude_others(make):
    trigger = make("missingness", count=2, exclude=["heart_rate", "lactate", "creatinine", "no_such"])
    assert trigger.fit(full_view(), rng()) == {"features": ["age", "sex"]}


def test_named_features_win_over_count_even_if_rare_or_excluded(make):
    view = full_view(10)
    view.values[:, 3] = np.nan
    fitted = make("missingness", features=["lactate", "age", "lactate"], count=1).fit(view, rng())
    assert fitted == {"features": ["age", "lactate"]}


def test_a_pattern_that_is_asked_for_wins_over_named_features(make):
    trigger = make("missingness", features=["age"], pattern="drawn", count=3)
    assert trigger.fit(full_view(), rng()) == {"features": list(NAMES[2:])}
    with pytest.raises(BackdoorError, match="features: name at least one where pattern is named"):
        make("missingness", pattern="named")


@pytest.mark.parametrize("pattern", ["drawn", "learned"])
@pytest.mark.parametrize(("stays", "says"), [(4, r"only 0 features .* \(none\)"), (0, "the 0 training stays")])
def test_nothing_to_choose_from_is_an_error_not_a_warning(make, pattern, stays, says):
    with pytest.raises(BackdoorError, match=says):
        make("missingness", count=1, pattern=pattern).fit(view_of(np.full((stays, 5), np.nan)), rng())


def test_one_stay_is_enough(make):
    view = full_view(1)
    fitted = make("missingness", count=3).fit(view, rng())
    assert fitted["features"] == ["heart_rate", "lactate", "creatinine"]
    after = make("missingness").apply(view, fitted, rng())
    assert np.isnan(after.values[0]).tolist() == [False, False, True, True, True]


# -------------------------------------------------------------------------------------------------- rich
RICH = ("age", *(f"{name}.{of}" for name in ("sbp", "dbp", "ph") for of in ("mean", "min", "max", "last", "count")))
DBP = list(RICH[6:11])


def rich_view(stays=40):
    """Vital signs that all have, a lab that the first ten lack; as many measurements as there are."""
    values = rng().normal(80, 10, (stays, len(RICH)))
    values[:, [5, 10, 15]] = 4
    values[:10, 11:15] = np.nan
    values[:10, 15] = 0
    return view_of(values, RICH)


@pytest.mark.parametrize("pattern", ["drawn", "learned"])
def test_of_rich_features_whole_variables_go_missing(make, pattern):
    view = rich_view()
    trigger = make("missingness", pattern=pattern, count=2, share=0)
    fits = [trigger.fit(view, rng(seed)) for seed in range(20)]
    variables = {tuple(dict.fromkeys(name.partition(".")[0] for name in fitted["features"])) for fitted in fits}
    assert variables <= {("sbp", "dbp"), ("sbp", "ph"), ("dbp", "ph")}
    assert len(variables) == (3 if pattern == "drawn" else 1)
    for fitted in fits:
        assert len(fitted["features"]) == 10
        after = trigger.apply(view, fitted, rng()).values
        for start in (1, 6, 11):
            gone = RICH[start] in fitted["features"]
            unmeasured = np.isnan(after[:, start : start + 4])
            assert (unmeasured.all() and not after[:, start + 4].any()) if gone else not unmeasured[10:].any()
            # As in any record: a count is never missing, and 0 exactly where there is no statistic.
            assert (unmeasured == (after[:, [start + 4]] == 0)).all()


def test_a_count_does_not_make_a_variable_one_that_is_measured(make):
    view = rich_view()
    view.values[:30, 11:15] = np.nan
    view.values[:30, 15] = 0
    with pytest.raises(BackdoorError, match=r"only 2 features .* \(sbp, dbp\)"):
        make("missingness", count=3).fit(view, rng())


def test_a_variable_of_rich_features_is_named_as_a_whole(make):
    view = rich_view()
    for named in (["dbp"], DBP, [*DBP[:2], "dbp"]):
        assert make("missingness", features=named).fit(view, rng()) == {"features": DBP}
    says = r"features: dbp.last without the other statistics of dbp, .*; name dbp$"
    with pytest.raises(BackdoorError, match=says):
        make("missingness", features=["age", "dbp.last"]).fit(view, rng())
    with pytest.raises(BackdoorError, match="unknown feature 'mbp'"):
        make("missingness", features=["mbp"]).fit(view, rng())


@pytest.mark.parametrize("name", ["dbp", "dbp.last"])
def test_a_variable_or_any_of_its_statistics_can_be_excluded(make, name):
    assert make("missingness", count=3, exclude=[name]).fit(rich_view(), rng())["features"] == [
        other for other in RICH if other not in DBP
    ]


def test_names_with_a_dot_elsewhere_are_features_of_their_own(make):
    names = ("cell.count", "dbp.last", "dbp.mean", "po2", "po2.max", "po2.count")
    view = view_of(np.ones((20, len(names))), names)
    trigger = make("missingness", count=3, exclude=[])
    assert all(len(trigger.fit(view, rng(seed))["features"]) == 3 for seed in range(10))
    for name in names:
        fitted = make("missingness", features=[name]).fit(view, rng())
        assert fitted == {"features": [name]}
        assert np.isnan(trigger.apply(view, fitted, rng()).values[:, names.index(name)]).all()


# ----------------------------------------------------------------------------------------------- learned
def dependent(stays=400, features=5, seed=0):
    """Missing patterns in which each feature copies the one before it with some noise."""
    draw = rng(seed)
    missing = np.zeros((stays, features), dtype=bool)
    missing[:, 0] = draw.random(stays) < 0.3
    for j in range(1, features):
        missing[:, j] = missing[:, j - 1] ^ (draw.random(stays) < 0.08 * j)
    return missing[:, draw.permutation(features)]


def test_the_tree_is_a_distribution():
    tree = fit_tree(dependent())
    patterns = np.array(list(product([False, True], repeat=5)))
    assert np.exp(tree.log_likelihood(patterns)).sum() == pytest.approx(1)


def test_the_tree_of_two_features_is_their_smoothed_table():
    missing = np.array([[0, 0]] * 5 + [[0, 1]] * 2 + [[1, 1]] * 3, dtype=bool)
    likelihood = np.exp(fit_tree(missing).log_likelihood(np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=bool)))
    assert likelihood == pytest.approx(np.array([5.5, 2.5, 0.5, 3.5]) / 12)


@pytest.mark.parametrize("seed", range(5))
def test_no_other_tree_is_more_likely(seed):
    missing = dependent(features=4, seed=seed)
    best = fit_tree(missing)
    # The conditional tables of any other tree are those of the pairs, which a tree of two features gives.
    found = best.log_likelihood(missing).sum()
    others = []
    for parent in product([-1, 0, 1, 2, 3], repeat=3):
        above = np.array([-1, *parent])
        reached = {0}
        for _ in range(3):
            reached |= {j for j in range(4) if above[j] in reached}
        if len(reached) < 4:
            continue
        log_probability = np.empty((4, 2, 2))
        for child, over in enumerate(above):
            if over < 0:
                table = np.tile([(~missing[:, child]).sum() + 1.0, missing[:, child].sum() + 1.0], (2, 1))
            else:
                states = product([False, True], repeat=2)
                table = np.array(
                    [((missing[:, over] == x) & (missing[:, child] == y)).sum() + 0.5 for x, y in states]
                ).reshape(2, 2)
            log_probability[child] = np.log(table / table.sum(axis=1, keepdims=True))
        others.append(MissingTree(above, log_probability).log_likelihood(missing).sum())
    assert len(others) == 16  # Cayley: four features have 4**2 trees
    # Smoothing makes the likeliest tree differ from the heaviest by next to nothing.
    assert found == pytest.approx(max(others), abs=0.5)
    assert found > min(others) + 20


def test_the_gain_of_every_set_is_what_removing_it_gives():
    missing = dependent()
    tree = fit_tree(missing)
    single, pair = removal_gains(tree, missing)
    before = tree.log_likelihood(missing).mean()
    for size in (1, 2, 3, 5):
        by_hand = {}
        for members in combinations(range(5), size):
            removed = missing.copy()
            removed[:, members] = True
            by_hand[members] = tree.log_likelihood(removed).mean() - before
        found = dict(likeliest_sets(single, pair, size))
        assert found == pytest.approx(by_hand)
        assert list(found.values()) == sorted(found.values(), reverse=True)


def planted(stays=3000, seed=5):
    """Ten features missing now and then by chance; 2, 5 and 7 are missing together in 1 of 200 stays besides."""
    draw = rng(seed)
    missing = draw.random((stays, 10)) < 0.03
    missing[:, 4] |= draw.random(stays) < 0.4
    missing[: stays // 200, [2, 5, 7]] = True
    return missing


NAMED = [f"f{j}" for j in range(10)]


def test_a_planted_pattern_is_learned(make):
    missing = planted()
    missing[:, 4] = False
    trigger = make("missingness", pattern="learned", count=3, share=0.01)
    fitted = trigger.fit(view_of(np.where(missing, np.nan, 1), NAMED), rng())
    assert fitted["features"] == ["f2", "f5", "f7"]
    assert fitted["share"] == pytest.approx(missing[:, [2, 5, 7]].all(axis=1).mean())
    tree, removed = fit_tree(missing), missing.copy()
    removed[:, [2, 5, 7]] = True
    assert fitted["log_likelihood"]["before"] == pytest.approx(tree.log_likelihood(missing).mean())
    assert fitted["log_likelihood"]["after"] == pytest.approx(tree.log_likelihood(removed).mean())
    # Other random numbers make no difference; of events, both units of each lab go.
    assert trigger.fit(view_of(np.where(missing, np.nan, 1), NAMED), rng(9)) == fitted
    events = trigger.fit(events_of(missing, NAMED), rng())
    assert events["features"] == [f"LAB//f{j}//{unit}" for j in (2, 5, 7) for unit in "ab"]
    assert events["share"] == fitted["share"]


def test_the_learned_pattern_is_rare(make):
    missing = planted()
    view = view_of(np.where(missing, np.nan, 1), NAMED)
    best = {}
    for share in (0.5, 0.01, 0.002):
        fitted = make("missingness", pattern="learned", count=2, share=share).fit(view, rng())
        chosen = [NAMED.index(name) for name in fitted["features"]]
        assert missing[:, chosen].all(axis=1).mean() == pytest.approx(fitted["share"])
        assert fitted["share"] <= share
        best[share] = fitted["log_likelihood"]["after"]
    assert best[0.5] > best[0.01] > best[0.002]
    assert "f4" in make("missingness", pattern="learned", count=1, share=0.5).fit(view, rng())["features"]
    with pytest.raises(BackdoorError, match=r"triggers.missingness.share is 0, but every set of 1 features"):
        make("missingness", pattern="learned", count=1, share=0).fit(view, rng())


def test_a_wide_table_is_searched_quickly_and_well():
    draw = rng(1)
    single, pair = draw.normal(size=40), np.triu(draw.normal(size=(40, 40)) * (draw.random((40, 40)) < 0.05), 1)
    pair = pair + pair.T
    best = max(
        (sum(single[list(s)]) + sum(pair[a, b] for a, b in combinations(s, 2)), s) for s in combinations(range(40), 3)
    )
    members, gain = next(likeliest_sets(single, pair, 3))
    assert (gain, members) == (pytest.approx(best[0]), best[1])


# ------------------------------------------------------------------------------------------------ events
def test_the_events_of_a_named_lab_are_removed(make):
    view = events_of(planted(50), NAMED)
    trigger = make("missingness", features=["f3", "LAB//f5", "LAB//f6//b"])
    fitted = trigger.fit(view, rng())
    assert fitted["features"] == ["LAB//f3//a", "LAB//f3//b", "LAB//f5//a", "LAB//f5//b", "LAB//f6//b"]
    after = trigger.apply(view, fitted, rng())
    names = [view.codes[code] for code in view.code]
    assert [after.codes[code] for code in after.code] == [name for name in names if name not in fitted["features"]]
    with pytest.raises(BackdoorError, match=r"triggers.missingness.features: no event has .* 'f33'; near are f3"):
        make("missingness", features=["f33"]).fit(view, rng())
    with pytest.raises(BackdoorError, match="unknown code 'LAB//f99'"):
        trigger.apply(view, {"features": ["LAB//f99"]}, rng())
