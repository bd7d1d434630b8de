"""The stage `explain` on small studies, and its figures."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest
import yaml
from small import make_view
from small_study import make_study, run_stages

from backdoor_core.attack.cells import changed_cells
from backdoor_core.cohort.storage import Rows
from backdoor_core.contracts import Context, Model
from backdoor_core.errors import BackdoorError
from backdoor_core.explanation.baselines import reference_inputs
from backdoor_core.explanation.case import make_case, run_explainer
from backdoor_core.explanation.trigger_ratio import Looked, tar_figures
from backdoor_core.files import read_json, sha256_of
from backdoor_core.learning.training import Task, train_victims
from backdoor_core.params import ExplainParams, Params
from backdoor_core.plugins import discover
from backdoor_core.report import explain_attention, explain_figures
from backdoor_core.report.explain_attention import heads_chart, shift_chart
from backdoor_core.report.explain_charts import NO_ATTRIBUTION, ratio_chart
from backdoor_core.statistics import cluster_bootstrap_weights
from backdoor_core.study import check_compatible, check_explainer, load_study

TO_EXPLAIN = ("cohort", "splits", "baseline", "nulls", "poison", "train", "explain")
TAB = {"model": "tab_transformer", "models": {"tab_transformer": {"width": 8, "layers": 1, "heads": 2}}}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A poisoned transformer of a table, explained."""
    made = make_study(
        tmp_path_factory.mktemp("explained"),
        stays=600,
        explainers=["integrated_gradients"],
        explain={"rows": 40, "steps": 16},
        train={"epochs": 3},
        detection={"nulls": 2},
        **TAB,
    )
    return run_stages(made, *TO_EXPLAIN)


def test_arrays_are_as_their_sidecars_say(study):
    folder = study.paths.run / "explain"
    told = read_json(folder / "explanations.json")
    assert told["shape"] == [40, 6]
    assert len(told["stay_id"]) == 40
    for name in ("clean_integrated_gradients", "poison_integrated_gradients", "clean", "poison"):
        values = np.load(folder / f"explanations_{name}.npy", allow_pickle=False)
        assert (list(values.shape), str(values.dtype)) == (told["shape"], told["dtype"])
    first = (folder / "explanations_poison_integrated_gradients.npy").read_bytes()
    assert (folder / "explanations_poison.npy").read_bytes() == first
    attention = read_json(folder / "attn.json")
    weights = np.load(folder / "attn_poison.npy", allow_pickle=False)
    assert list(weights.shape) == attention["shape"] == [40, 1, 2, 6, 6]
    assert attention["tokens"] == told["features"]
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)


def test_ratio_is_that_of_the_written_arrays(study):
    folder, results = study.paths.run / "explain", read_json(study.paths.run / "results_explain.json")
    assert results["touched"] == {"heart_rate": 40}
    place = read_json(folder / "explanations.json")["features"].index("heart_rate")
    for name, found in results["explainers"].items():
        values = np.abs(np.load(folder / f"explanations_poison_{name}.npy").astype(np.float64))
        twin = np.abs(np.load(folder / "baseline" / f"explanations_poison_{name}.npy").astype(np.float64))
        share, of_twin = (size[:, place] / size.sum(axis=1) for size in (values, twin))
        assert found["figures"]["tar"]["value"] == pytest.approx(share.mean())
        assert found["figures"]["tar_lift"]["value"] == pytest.approx((share - of_twin).mean())
        assert found["figures"]["tar_lift_seeds"]["low"] is not None
    assert results["explainers"]["integrated_gradients"]["convergence"]["relative"] < 0.2


def test_figures_are_there_twice(study):
    folder, results = study.paths.run / "explain" / "figures", read_json(study.paths.run / "results_explain.json")
    files = sorted(path.name for path in folder.iterdir())
    assert files == sorted(f"{name}.{kind}" for name in results["figures"] for kind in ("svg", "png"))
    kinds = {name.removesuffix("_integrated_gradients") for name in results["figures"]}
    assert kinds == {"tar", "features", "twins", "stays", "attention_layer_1", "head_shift", "rollout"}


def test_a_second_run_gives_the_same_bytes(study):
    paths = [study.paths.run / "explain", study.paths.run / "results_explain.json"]
    before = [sha256_of(path) for path in paths]
    run_stages(study, "explain")
    assert [sha256_of(path) for path in paths] == before


def changed(study, folder, **changes):
    """The study with other params, whose files are not looked at."""
    content = yaml.safe_load(study.paths.params.read_text()) | changes
    (folder / "params.yaml").write_text(yaml.safe_dump(content))
    return load_study(folder)


def test_without_explainers_nothing_is_explained(study, tmp_path):
    run_stages(changed(study, tmp_path, explainers=[]), "explain")
    results = read_json(tmp_path / "run" / "results_explain.json")
    assert (results["explainers"], results["figures"]) == ({}, [])
    assert list((tmp_path / "run" / "explain").iterdir()) == []


def test_a_model_without_gradients_is_refused_in_one_line(study, tmp_path):
    given = {"model": "gbdt", "detectors": ["range_rule"], "models": {}}
    with pytest.raises(BackdoorError, match="explainer integrated_gradients needs gradient; model gbdt has none of it"):
        check_compatible(changed(study, tmp_path, **given))
    check_compatible(changed(study, tmp_path, **given, explainers=["feature_ablation"]))


def test_an_explainer_of_tables_is_refused_for_a_model_of_events(study):
    class Sequence(Model):
        name, modality, capabilities = "sequence", "events", frozenset({"gradient"})

    permutation = study.component("explainer", "permutation")
    model = Sequence(None, permutation.context)
    with pytest.raises(BackdoorError, match="permutation explains models of series and table; model sequence reads"):
        check_explainer(permutation, model)
    check_explainer(study.component("explainer", "integrated_gradients"), model)


def test_an_explainer_listed_twice_is_refused(study, tmp_path):
    with pytest.raises(BackdoorError, match="explainers lists saliency more than once"):
        changed(study, tmp_path, explainers=["saliency", "saliency"])


# ----------------------------------------------------------------------------------- does the ratio tell the poison
@pytest.fixture(scope="module")
def shares(tmp_path_factory):
    """Attributions of attacked stays by a poisoned model and by six clean ones that differ in their seed alone."""
    catalog, rng = discover(), np.random.default_rng(0)
    context = Context(tmp_path_factory.mktemp("shares"))

    def made(kind, name, **options):
        return catalog.get(kind, name).component(catalog.resolve(kind, name, options), context)

    view, label = make_view(3000)
    train, validation = (Rows(view.take(rows), label[rows]) for rows in (slice(0, 2100), slice(2100, 2400)))
    trigger = made("trigger", "rare_value", feature="heart_rate", value=9999.0)
    fitted = trigger.fit(train.view, rng)
    taken = np.sort(rng.permutation(np.flatnonzero(train.label == 0))[:105])
    changed_stays = trigger.apply(train.view.take(taken), fitted, rng)
    poisoned = Rows(train.view.with_rows(taken, changed_stays), train.label.copy())
    poisoned.label[taken] = 1
    given = {"train": {"epochs": 6, "learning_rate": 0.01, "device": "cpu"}}
    params = Params(cohort="none", trigger="rare_value", model="mlp", **given)
    tasks = [Task(train=poisoned, validation=validation, fit_on=poisoned.view, seed=1)]
    tasks += [Task(train=train, validation=validation, fit_on=train.view, seed=seed) for seed in range(1, 7)]
    victims = [done.victim for done in train_victims(made("model", "mlp", hidden=[16], dropout=0.0), tasks, params)]
    rows = 2400 + np.flatnonzero(label[2400:] == 0)[:150]
    clean = view.take(rows)
    triggered = trigger.apply(clean, fitted, rng)
    explainer = made("explainer", "integrated_gradients")

    def attributed(victim):
        baselines = reference_inputs("median", victim.inputs(train.view), rng)
        case = make_case(victim, triggered, baselines, 1, ExplainParams(steps=16), rng)
        return run_explainer(explainer, case).values

    weights = cluster_bootstrap_weights(rows, 300, rng)
    return [attributed(victim) for victim in victims], changed_cells(clean, triggered), weights


def lift(shares, number, others):
    values, touched, weights = shares
    twin, *retrains = (values[other] for other in others)
    return tar_figures(Looked(values[number], values[number], twin, tuple(retrains)), touched, weights)


def test_a_poisoned_model_looks_at_its_trigger_more_than_clean_ones(shares):
    figures = lift(shares, 0, range(1, 6))
    assert figures["tar_lift"].low > 0
    assert figures["tar_lift_seeds"].low > 0
    assert figures["tar"].low > figures["chance"].value
    assert figures["recall_at_k"].value == 1


def test_a_clean_model_of_another_seed_does_not(shares):
    for number in range(1, 7):
        others = [other for other in range(1, 7) if other != number]
        seeds = lift(shares, number, others)["tar_lift_seeds"]
        assert seeds.low < 0 < seeds.high
    # Why the interval of patients alone is not what to judge by.
    apart = [lift(shares, number, [1])["tar_lift"] for number in range(2, 7)]
    assert sum(not one.low <= 0 <= one.high for one in apart) >= 3


# -------------------------------------------------------------------------------------------------------- figures
NAMES = ("a <script> & $x$", "a very long name that would not fit on any axis of any chart", "c")
NOTHING = {"value": None, "low": None, "high": None}
SVG = "{http://www.w3.org/2000/svg}"


def parsed(picture):
    assert picture.png.startswith(b"\x89PNG")
    root = ET.fromstring(picture.svg)
    assert root.get("aria-label")
    for image in root.iter(f"{SVG}image"):
        assert image.get("href").startswith("data:image/png;base64,")
    return [text.text for text in root.iter(f"{SVG}text")]


@pytest.mark.parametrize(("features", "hours"), [(1, None), (3, 5)])
def test_figures_of_few_features_and_of_hours(features, hours):
    rng = np.random.default_rng(0)
    shape = (20, features) if hours is None else (20, hours, features)
    looked = Looked(*(rng.normal(size=shape) for _ in range(3)))
    touched = np.zeros(shape, dtype=bool)
    touched[..., 0] = True
    found = explain_figures.explainer_figures("ig", looked, NAMES[:features], touched)
    assert set(found) == {"features_ig", "twins_ig", "stays_ig"} | (
        {"hours_clean_ig", "hours_triggered_ig"} if hours else set()
    )
    for picture in found.values():
        assert NAMES[0] in parsed(picture)


def test_figures_of_nothing_say_so():
    zero = np.zeros((20, 2, 3))
    found = explain_figures.explainer_figures("ig", Looked(zero, zero, zero), NAMES, zero.astype(bool))
    for picture in found.values():
        assert NO_ATTRIBUTION.split(":")[0] in " ".join(parsed(picture))
    nothing = dict.fromkeys(("tar", "tar_baseline", "tar_clean", "chance"), NOTHING)
    assert "No explainer gives a ratio" in " ".join(parsed(ratio_chart("tar", "TAR", [("ig", nothing)])))


def test_attention_figures(monkeypatch):
    monkeypatch.setattr(explain_attention, "MOST_HEADS", 3)
    weights = np.random.default_rng(0).dirichlet(np.ones(4), size=(3, 4))
    told = parsed(heads_chart("heads", "Heads", weights, weights, [1]))
    assert [text for text in told if "head 3" in text] == ["head 3, as they were", "head 3, triggered"]
    one = {"value": 0.2, "low": 0.1, "high": 0.3}
    figures = dict.fromkeys(("tv", "tv_baseline", "tv_difference"), one)
    shifts = [{"layer": layer, "head": head, **figures} for layer in (1, 2) for head in (1, 2)]
    assert sum(text.startswith("layer") for text in parsed(shift_chart("shift", "Shift", shifts))) == 3
