"""Attacks in memory are those of a study, and a model that never saw poison has no lift."""

import json

import numpy as np
import pytest
import yaml
from scipy import stats
from test_pipeline import REPOSITORY

from backdoor_core import seeds
from backdoor_core.attack.trials import Bench, Replicate, Trial
from backdoor_core.cli import cli
from backdoor_core.cohort.storage import load_cohort
from backdoor_core.errors import BackdoorError
from backdoor_core.learning.training import Task, train_victims
from backdoor_core.params import PoisonParams
from backdoor_core.study import load_study

STAGES = ("cohort", "splits", "baseline", "poison", "train", "evaluate")


def make_study(folder, **changes):
    content = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    content["cohorts"] = {"synthetic": {"stays": 600}}
    content["inclusion"]["views"] = ["table"]
    content["models"] = {"mlp": {"hidden": [32, 16]}}
    content["evaluate"]["replicates"] = 100
    for key, value in changes.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    return load_study(folder)


def run(study, *stages):
    for stage in stages:
        cli([stage, "--root", str(study.paths.root)], standalone_mode=False)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    study = make_study(tmp_path_factory.mktemp("trials"), train={"epochs": 4})
    run(study, "cohort")
    return study


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"trigger": "hybrid", "poison": {"rate": 0.05, "mode": "add", "cover_rate": 0.02}},
        {"poison": {"rate": 0.05, "selection": "near_boundary", "target": 0}, "preprocess": {"fit_on": "clean"}},
        {"model": "gbdt", "poison": {"labels": "clean", "rate": 0.05}},
    ],
    ids=["default", "add", "near_boundary", "clean-label"],
)
def test_a_trial_equals_the_study(base, tmp_path, changes):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cohort").symlink_to(base.paths.cohort)
    study = make_study(tmp_path, train={"epochs": 4}, **changes)
    run(study, *STAGES[1:])
    results = json.loads((study.paths.run / "results_eval.json").read_text())
    model, cohort = study.model(), load_cohort(study.paths.cohort)
    replicate = Replicate.of(cohort, model, study.params, study.params.seed)
    (outcome,) = Bench(model, study.params).run([Trial(replicate, study.trigger(), study.params.poison)])
    manifest = json.loads((study.paths.run / "poison.json").read_text())
    assert outcome.poisoned == manifest["poisoned_stays"] > 0
    assert outcome.asr == pytest.approx(results["attack"]["asr"]["value"])
    assert outcome.asr_baseline == pytest.approx(results["attack"]["asr_baseline"]["value"])
    assert outcome.lift == pytest.approx(results["attack"]["asr_lift"]["value"])
    assert outcome.effect_lift == pytest.approx(results["attack"]["trigger_effect_lift"]["value"])
    assert outcome.least_lift == min(outcome.lift, outcome.effect_lift)
    assert outcome.auroc == pytest.approx(results["clean"]["auroc"]["value"])
    assert outcome.auroc_baseline == pytest.approx(results["baseline"]["clean"]["auroc"]["value"])


@pytest.mark.parametrize("epochs", [1, 6], ids=["barely trained", "clean"])
def test_models_that_never_saw_poison_have_no_lift(base, epochs):
    """Twenty clean models against as many others, on the rare value: the interval of the mean lift covers 0."""
    params = base.params.model_copy(update={"train": base.params.train.model_copy(update={"epochs": epochs})})
    model, trigger, cohort = base.model(), base.trigger(), load_cohort(base.paths.cohort)
    replicate = Replicate.of(cohort, model, params, 0)
    train, test = replicate.train, replicate.test
    tasks = [
        Task(train=train, validation=replicate.validation, fit_on=train.view, seed=seeds.integer(seed, "training"))
        for seed in range(40)
    ]
    victims = [done.victim for done in train_victims(model, tasks, params)]
    others = test.label == 0
    triggered = trigger.apply(test.view, trigger.fit(train.view, np.random.default_rng(0)), np.random.default_rng(0))
    asr = np.array([victim.decides(triggered.take(others), 1).mean() for victim in victims])
    lift = asr[:20] - asr[20:]
    low, high = stats.t.interval(0.99, 19, lift.mean(), stats.sem(lift))
    assert low <= 0 <= high


def test_nothing_poisoned_is_the_twin_itself(base):
    model, cohort = base.model(), load_cohort(base.paths.cohort)
    replicate = Replicate.of(cohort, model, base.params, 1)
    fits = []
    bench = Bench(model, base.params)
    (outcome,) = bench.run([Trial(replicate, base.trigger(), PoisonParams(count=0))], fits.append)
    assert (outcome.lift, outcome.auroc_change, outcome.poisoned) == (0, 0, 0)
    assert sum(fits) == 1


def test_plausible_ranges_remove_a_rare_value_and_leave_a_value_in_range(tmp_path):
    """9999 counts as not measured, which the median hides: no lift is left of it, and most of 120, 160 and 38.5."""
    study = make_study(
        tmp_path,
        cohorts={"synthetic": {"stays": 1500}},
        preprocess={"outliers": None, "missing": "median"},
        train={"epochs": 12},
        models={"mlp": {"hidden": [64, 32]}},
        poison={"rate": 0.05},
    )
    run(study, "cohort")
    model, cohort = study.model(), load_cohort(study.paths.cohort)
    replicates = [Replicate.of(cohort, model, study.params, seed) for seed in range(20)]
    bench = Bench(model, study.params)

    def lift(name, seeds):
        trigger = study.component("trigger", name)
        trials = [Trial(replicate, trigger, study.params.poison) for replicate in replicates[:seeds]]
        lifts = [outcome.lift for outcome in bench.run(trials)]
        return np.mean(lifts), stats.t.interval(0.99, seeds - 1, np.mean(lifts), stats.sem(lifts))

    mean, (low, high) = lift("rare_value", 20)
    assert low <= 0 <= high
    assert abs(mean) < 0.01  # or a wide interval would pass for a narrow one
    _, (low, _) = lift("in_range", 5)
    assert low > 0.2


def test_the_verb_dose_finds_a_count_that_works(base, capsys):
    cli(
        ["dose", "--seeds", "2", "--lift", "0.2", "--most", "0.2", "--root", str(base.paths.root)],
        standalone_mode=False,
    )
    content = json.loads((base.paths.run / "dose.json").read_text())
    assert content["seeds"] == [base.params.seed, base.params.seed + 1]
    (level,) = content["levels"]
    for seed, count in zip(content["seeds"], level["stays_by_seed"], strict=True):
        lifts = {point["stays"]: point["lift"] for point in content["measured"] if point["seed"] == seed}
        assert max(lifts) == content["most"]
        if count is not None:
            assert lifts[count] >= 0.2
            assert all(lift < 0.2 for stays, lift in lifts.items() if stays < count)
    assert "Smallest dose" in capsys.readouterr().out


def test_a_study_without_a_trigger_has_no_dose(base, tmp_path):
    study = make_study(tmp_path, trigger="none")
    with pytest.raises(BackdoorError, match="trigger is none, which has no dose"):
        cli(["dose", "--root", str(study.paths.root)], standalone_mode=False)
