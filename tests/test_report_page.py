import html
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from backdoor_core.attack.evaluation import evaluate
from backdoor_core.attack.success import Answers
from backdoor_core.cohort.parquet import write_parquet
from backdoor_core.errors import BackdoorError
from backdoor_core.files import read_json, write_json
from backdoor_core.params import Params
from backdoor_core.plugins import discover
from backdoor_core.report import attack_charts, charts, cleansing_charts, detector_charts, plausibility_charts
from backdoor_core.report.attack_section import VERDICTS, group_name
from backdoor_core.report.detector_section import detector_entry
from backdoor_core.report.page import Findings, build_page, touched_features
from backdoor_core.report.wording import estimate
from backdoor_core.stages.report import run
from backdoor_core.statistics import cluster_bootstrap_weights
from backdoor_core.study import Paths, Study
from backdoor_core.words import decimal

HOSTILE = '<script>alert("x")</script><img src="http://example.org/x.png">'
NOTHING = {"value": None, "low": None, "high": None}
VOID = {"meta", "link", "img", "br", "hr", "input", "wbr"}


def figure(rng):
    low, value, high = np.sort(rng.random(3))
    return {"value": float(value), "low": float(low), "high": float(high)}


def figures(rng, names):
    return {name: figure(rng) for name in names.split()}


def answered(rng, predictions, label, hostile, poisoned, target=1):
    """What stage `evaluate` makes of the predictions, with a plausibility card."""
    answers = {
        side: Answers(predictions[f"{side}.clean"], predictions[f"{side}.triggered"], threshold)
        for side, threshold in (("poisoned", 0.2513), ("baseline", 0.3))
    }
    statics = {
        "sex": np.where(np.arange(300) % 2, "F", "M").astype(object),
        "first_careunit": np.where(np.arange(300) % 25, hostile, "MICU").astype(object),
    }
    weights = cluster_bootstrap_weights(np.arange(300), 100, rng)
    given = {"target": target, "poisoned_stays": poisoned, "label_name": "hospital_mortality"}
    found = evaluate(answers, label, statics, weights, **given)
    contrast = {**figures(rng, "clean triggered difference"), "note": None}
    card = {
        "modality": "table",
        "stays": 240,
        "stays_given": 240,
        "patients": 240,
        "reference_stays": 1200,
        "touched": {"cells": 240, **figures(rng, "stays removed filled outside"), "note": None},
        "percentiles": [{"feature": hostile, "cells": 240, "median": 99.0, "p2_5": 98.0, "p97_5": 100.0, "note": None}],
        "mahalanobis": contrast,
        "knn": {**contrast, "k": 5},
        "missingness": {**contrast, "components": 8},
        "correlation": {"mean": 0.01, "max": 0.2, "pair": [hostile, "sbp"], "pairs": 9, "lost": 0, "note": None},
        "classifier": {**figures(rng, "auroc control"), "folds": 5, "note": None},
    }
    row = {"feature": hostile, "cells": 240, "removed": 0, "before": 612.5, "after": 3.1, "clipped": 1.0}
    row |= {"nulled": 0.0, "removed_to": None, "moved": 3.0, "indicator": None}
    return {**found, "plausibility": card, "exposure": [row]}


def detector(rng, nothing=False, oracle=False):
    flags = "recall precision fpr flagged_share"
    names = f"auroc partial_auroc average_precision tpr_at_1_fpr tpr_at_5_fpr {flags}"

    def given(names):
        return dict.fromkeys(names.split(), NOTHING) if nothing else figures(rng, names)

    def answer():
        return {"rows": 1200, "poisoned": 0 if nothing else 9, "flagged": 1034, **given(names)}

    def group(rows):
        return {"clean_rows": rows, "fpr": figure(rng) if rows >= 20 else NOTHING}

    def side():
        bias = {"sex": {"F": group(600), "M": group(581)}, "care unit": {"MICU": group(1190), "other": group(10)}}
        calibrated = {"flagged": 7, **given(flags)}
        return {
            **answer(),
            "by_label": {"1": answer()},
            "calibrated": calibrated,
            "bias": bias,
            "details": {"n": HOSTILE},
        }

    return {"oracle": oracle, "scope": "training-set", **{run: side() for run in ("poisoned", "null")}}


REPAIRED = "asr asr_lift auroc auprc ece"


def cleansed(rng, detectors, poisoned, nothing=()):
    """What stage `cleanse` writes; the detectors in `nothing` flag nothing."""
    twin = {"asr_baseline": figure(rng)}
    undefended = {**figures(rng, REPAIRED), **twin}

    def model():
        return {**figures(rng, REPAIRED), **twin}

    filters = {"perfect": {"removed": poisoned, "poisoned_removed": poisoned, "figures": model(), "random": None}}
    for name in detectors:
        filters[name] = {"removed": 37, "poisoned_removed": min(poisoned, 7), "figures": model(), "random": model()}
        if name in nothing:
            filters[name] = {"removed": 0, "poisoned_removed": 0, "figures": undefended, "random": undefended}
    content = {"flags": "calibrated", "undefended": {"figures": undefended}, "filters": filters}
    return {**content, "repairs": {"pruning": {"figures": model(), "details": {"units": HOSTILE}, "privacy": None}}}


def make_findings(detectors=("one", "two"), poisoned=9, hostile="age", source="synthetic", nothing=False):
    """A study of 1,200 training and 300 test stays in the formats of the stages."""
    rng = np.random.default_rng(7)
    entry = {"name": "mlp", "options": {"layers": [8, 4]}, "code": "0", "distribution": "d", "version": "1"}
    lock = {
        "cohort": entry,
        "trigger": {**entry, "name": "rare_value"},
        "model": entry,
        "detectors": {},
        "repairs": {},
        "explainers": {},
    }
    training = {"epochs": 3, "best_epoch": 2, "train_loss": 0.41, "validation_loss": 0.42, "threshold": 0.2513}
    training |= {"threshold_rule": "prevalence", "parameters": 123456, "device": "cpu"}
    stay = {
        "label": {"before": 0, "after": 1},
        "touched": {hostile: {"before": 58.0, "after": None}},
    }
    label = (np.arange(300) % 5 == 0).astype(np.int8)
    kinds = [f"{side}.{kind}" for side in ("poisoned", "baseline") for kind in ("clean", "triggered")]
    predictions = {"label": label, **{kind: rng.random(300) for kind in kinds}}
    part = {"stays": 1200, "patients": 1100, "positives": 150, "prevalence": 0.125}
    return Findings(
        config={
            "params": {"detectors": list(detectors), "detection": {"nulls": 4, "fdr": 0.05, "trusted": 0}},
            "plugins": lock,
            "git": {"revision": "abc123", "dirty": False, "note": None},
            "code": {"backdoor_core": "0" * 64},
            "versions": {"numpy": "2.4.0"},
            "data": {"data/splits.json": "f" * 64},
            "device": "cpu",
            "threads": 1,
        },
        card={
            "source": source,
            "description": f"Stays. {hostile}",
            "inclusion": {"window_hours": 24, "min_age": 18, "min_los_hours": 24.0, "label": "hospital_mortality"},
            "stays": 1800,
            "patients": 1700,
            "positives": 225,
            "prevalence": 0.125,
            "attrition": [{"rule": f"all {hostile}", "stays": 2000}, {"rule": "adults", "stays": 1800}],
            "features": [
                {"name": hostile, "unit": "years", "low": 18.0, "high": 120.0, "description": hostile, "missing": 0.1}
            ],
            "notes": [hostile],
        },
        splits={"train": part, "validation": part, "test": part},
        manifest={
            "trigger": {"name": "rare_value", "options": {}, "fitted": {"features": [hostile]}},
            "target": 1,
            "labels": "flip",
            "seed": 42,
            "training_stays": 1200,
            "poisoned_stays": poisoned,
            "rate": poisoned / 1200,
            "stays": [{"stay_id": 30000000 + number, **stay} for number in range(poisoned)],
        },
        training={"poisoned": training, "baseline": {**training, "threshold": 0.3}},
        curves=dict.fromkeys(("poisoned", "baseline"), np.array([[1, 0.5, 0.6], [2, 0.4, 0.5], [3, 0.3, 0.6]])),
        evaluation=answered(rng, predictions, label, hostile, poisoned),
        detection={name: detector(rng, nothing) for name in detectors},
        cleansing=cleansed(rng, detectors, poisoned),
        audit={"audits": {}, "note": "the study chose no audit"},
        explanation={"explainers": {}, "attention": None, "figures": [], "note": "the study chose no explainer"},
        predictions=predictions,
        scores={
            "stay_id": 30000000 + np.arange(1200),
            "in_null": np.ones(1200, dtype=np.bool_),
            "poisoned": np.arange(1200) < poisoned,
            **{f"{name}.{run}.score": rng.random(1200) for name in detectors for run in ("poisoned", "null")},
        },
        pictures={},
    )


class Outline(HTMLParser):
    """Checks that tags are balanced and keeps every attribute."""

    def __init__(self):
        super().__init__()
        self.open, self.attributes, self.tags = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def outline(page):
    parser = Outline()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def assert_nothing_is_fetched(page):
    found = outline(page)
    assert not set(found.tags) & {"script", "img", "iframe", "object", "embed", "audio", "video", "base", "form"}
    for tag, name, value in found.attributes:
        assert not name.startswith("on"), (tag, name)
        if name in {"src", "srcset", "href", "xlink:href", "data", "poster", "action"}:
            drawn = tag == "image" and value.startswith("data:image/png;base64,")
            assert value.startswith("#") or value == "data:," or drawn, (tag, name, value)
        if name in {"style", "clip-path", "fill", "mask", "filter"}:
            assert not re.search(r"url\((?!#)", value), (tag, name, value)
    assert all(url.startswith("url(#") for url in re.findall(r"url\(.", page))
    assert "@import" not in page


@pytest.fixture(scope="module")
def page():
    return build_page(make_findings())


@pytest.fixture
def plain_charts(monkeypatch):
    """Charts are dear to draw and have tests of their own."""

    def chart(name, description, draw, height=2.9, width=3.9):
        return f'<svg xmlns="http://www.w3.org/2000/svg" aria-label="{html.escape(name + description)}"></svg>'

    for module in (attack_charts, charts, cleansing_charts, detector_charts, plausibility_charts):
        monkeypatch.setattr(module, "chart", chart)


def shown(figure):
    return f"[{decimal(figure['low'])}, {decimal(figure['high'])}]"


def test_page_is_wellformed_and_fetches_nothing(page):
    assert page.startswith("<!doctype html>")
    assert_nothing_is_fetched(page)


def test_the_check_for_fetches_can_fail():
    for bad in ('<img src="http://example.org/x">', '<a href="https://example.org">x</a>', "<script></script>"):
        with pytest.raises(AssertionError):
            assert_nothing_is_fetched(f"<p>{bad}</p>")


def test_equal_findings_give_equal_bytes(plain_charts):
    assert build_page(make_findings()) == build_page(make_findings())


def estimates(content):
    """Every figure with a value, wherever it stands; curves are drawn, not written."""
    if isinstance(content, list):
        return [one for part in content for one in estimates(part)]
    if not isinstance(content, dict):
        return []
    if set(content) == {"value", "low", "high"}:
        return [] if content["value"] is None or isinstance(content["value"], list) else [content]
    return [one for part in content.values() for one in estimates(part)]


def test_every_figure_stands_with_its_interval(page):
    findings = make_findings()
    every = [*estimates(findings.evaluation), *estimates(findings.detection), *estimates(findings.cleansing)]
    # Headline 11, clean 5 + 5, classes 2 x 3; of three groups, and one that is too small, attack 3 and clean 8.
    attack, groups, card = 11 + 10 + 6, 3 * (3 + 8), 4 + 2 + 3 * 3
    # Of two detectors in two runs: overall and in one label 9, calibrated 4, three groups that are large enough.
    detectors = 2 * 2 * (2 * 9 + 4 + 3)
    assert len(every) == attack + groups + card + detectors + 6 * (2 + 2 * 2 + 1)
    for one in every:
        assert estimate(one) in page
        assert shown(one) in estimate(one).striptags()


def test_no_value_stands_without_interval(page):
    assert page.count('class="value"') == page.count('class="interval"')


def test_counts_have_separators(page):
    assert "1,034" in page
    assert "123,456" in page


def test_synthetic_data_is_said_at_the_top(page, plain_charts):
    assert page.index("Synthetic data.") < page.index("<h2>")
    real = build_page(make_findings(detectors=(), source="mimiciv"))
    assert "Synthetic data." not in real
    assert '<th scope="rowgroup" rowspan' not in real
    assert "Rows of real stays are not shown" in real


def test_examples_are_few_and_name_no_stay(page):
    assert "3 of the poisoned stays" in page
    assert page.count('<th scope="rowgroup" rowspan') == 3
    assert not re.search(r"3000000\d", page)


def test_hostile_names_are_escaped():
    page = build_page(make_findings(detectors=(HOSTILE,), hostile=HOSTILE))
    assert_nothing_is_fetched(page)
    assert "<script" not in page
    assert html.escape("<script>alert(") in page


def test_no_detector(plain_charts):
    page = build_page(make_findings(detectors=()))
    assert "The study chose no detector." in page
    assert "<article" not in page


def test_oracle_is_marked_at_every_figure_and_nowhere_else(plain_charts):
    findings = make_findings(detectors=("plain",))
    perfect = 2 + 1 + 5  # two legends; perfect removal, its name and its figures
    assert build_page(findings).count('class="oracle"') == perfect
    oracle = replace(findings, detection={"plain": {**findings.detection["plain"], "oracle": True}})
    heads = 1 + 1 + 2  # the name, filter bias and the two details
    # Scores of both runs, flags and their number by two rules, one label, three groups, six at a glance.
    tables = 5 * 2 + 5 * 4 + 10 * 2 + 3 * 2 + 6
    repairs = 1 + 5 + 5
    assert build_page(oracle).count('class="oracle"') == perfect + heads + tables + repairs


def test_nothing_poisoned_and_no_figure_defined(plain_charts):
    findings = make_findings(detectors=("one",), poisoned=0, nothing=True)
    nothing = dict.fromkeys(findings.evaluation["attack"], NOTHING)
    page = build_page(replace(findings, evaluation={**findings.evaluation, "attack": nothing}))
    assert_nothing_is_fetched(page)
    assert "a clean study" in page
    assert "every flag is a false alarm" in page
    assert "no training stay was changed" in page
    assert page.count('class="none"') >= 2 * 2 * 9 + 2 * 4 + 5
    assert not re.search(r"\b(None|nan|NaN)\b", re.sub(r"<[^>]*>", " ", page))


def test_the_verdict_is_the_first_thing_that_is_read(page):
    found = make_findings().evaluation["verdict"]
    assert page.index(html.escape(found["text"])) < page.index("<dt>Cohort</dt>")
    assert f'<strong class="verdict">{VERDICTS[found["code"]]}' in page


@pytest.mark.parametrize("code", ["backdoor", "weak", "distribution_shift", "none", "clean_study", "undecided"])
def test_every_verdict_has_a_name_on_the_page(plain_charts, code):
    findings = make_findings(detectors=())
    verdict = {"code": code, "harmed": True, "text": "what was found"}
    page = build_page(replace(findings, evaluation={**findings.evaluation, "verdict": verdict}))
    assert f'<strong class="verdict">{VERDICTS[code]}, harmful</strong> what was found' in page


def test_what_the_attacker_chose_is_told_where_the_manifest_holds_it(plain_charts):
    findings = make_findings(detectors=())
    assert "<dt>Cover stays</dt><dd>none</dd>" in build_page(findings)
    cover = [{**stay, "role": "cover"} for stay in findings.manifest["stays"][:2]]
    more = {"mode": "add", "selection": "near_boundary", "labels": "clean", "cover_stays": 2}
    more["stays"] = [*cover, *findings.manifest["stays"]]
    page = build_page(replace(findings, manifest={**findings.manifest, **more}))
    for words in (
        "9</strong> added to 1,200",
        "stays of the target, label kept",
        "near boundary",
        "2, with the trigger",
    ):
        assert words in page
    assert "9 of 9" in page  # cover stays carry the trigger too, but are no poison


def test_a_trigger_that_changes_nothing_or_is_of_events_has_no_card(plain_charts):
    findings = make_findings(detectors=())
    card = findings.evaluation["plausibility"]
    nothing = {**card, "touched": {**card["touched"], "cells": 0}}
    page = build_page(replace(findings, evaluation={**findings.evaluation, "plausibility": nothing, "exposure": []}))
    assert "The trigger changes no value in the 240 attacked test stays" in page
    page = build_page(replace(findings, evaluation={**findings.evaluation, "plausibility": None, "exposure": None}))
    assert "A trigger on events has no plausibility card" in page
    assert "What preprocessing did" not in page


def test_exposure_stands_in_a_table(plain_charts):
    page = build_page(make_findings(detectors=()))
    row = page[page.index("What preprocessing did") :]
    assert re.search(r"<td>240</td><td>612\.50</td><td>3\.10</td><td>100\.0%</td><td>0\.0%</td><td>0</td>", row)


def test_a_cohort_without_subgroups_says_so(plain_charts):
    findings = make_findings(detectors=())
    page = build_page(replace(findings, evaluation={**findings.evaluation, "subgroups": []}))
    assert "there are no subgroups" in page


def test_target_zero_turns_probabilities_round(plain_charts):
    findings = make_findings(detectors=())
    flipped = {name: 1 - column if name != "label" else column for name, column in findings.predictions.items()}
    page = build_page(replace(findings, manifest={**findings.manifest, "target": 0}, predictions=flipped))
    assert "0, survives to discharge" in page


def test_long_names(plain_charts):
    assert_nothing_is_fetched(build_page(make_findings(detectors=("d" * 200,), hostile="f" * 500)))


def test_groups_in_words():
    found = {("sex", "F"): "women", ("age", "80+"): "age 80+", ("age", "unknown"): "age unknown"}
    found |= {("care unit", "other"): "other care unit", ("care unit", "CCU"): "CCU"}
    for (by, value), words in found.items():
        assert group_name({"group": by, "value": value}) == words


def test_touched_features_are_counted_most_first():
    stays = [{"touched": {"a": {}, "b": {}}}, {"touched": {"b": {}}}, {"touched": {}}]
    found = touched_features(stays, [{"name": "b", "unit": "mmHg"}])
    assert found == [{"name": "b", "unit": "mmHg", "stays": 2}, {"name": "a", "unit": "", "stays": 1}]


# -------------------------------------------------------------------------------------------------- detectors
def calibrated(findings, nulls):
    params = {**findings.config["params"], "detection": {"nulls": nulls, "fdr": 0.05, "trusted": 0}}
    cleansing = {**findings.cleansing, "flags": "calibrated" if nulls else "own rule"}
    return replace(findings, config={**findings.config, "params": params}, cleansing=cleansing)


def test_flags_of_both_rules_stand_side_by_side(plain_charts):
    findings = make_findings(detectors=("one",))
    answer = findings.detection["one"]
    page = build_page(findings)
    row = re.search(r'<th scope="row">Precision</th>(.*?)</tr>', page).group(1)
    cells = [answer["poisoned"], answer["null"], answer["poisoned"]["calibrated"], answer["null"]["calibrated"]]
    assert re.findall(r"<td>(.*?)</td>", row) == [estimate(cell["precision"]) for cell in cells]
    assert "calibrated, FDR 5.0%" in page
    assert re.search(r"Flagged</th><td>1,034</td><td>1,034</td><td>7</td><td>7</td>", page)
    assert 'class="why">empty' not in page


def test_without_null_runs_the_calibrated_columns_say_why_they_are_empty(plain_charts):
    findings = calibrated(make_findings(detectors=("one", "two")), 0)
    page = build_page(findings)
    assert page.count('class="why">empty: <code>detection.nulls</code> is 0') == 2
    assert "by its own rule, since <code>detection.nulls</code> is 0" in page
    for side in ("poisoned", "null"):
        assert estimate(findings.detection["one"][side]["calibrated"]["recall"]) not in page
    outline(page)


def test_scope_and_filter_bias_are_told(plain_charts):
    findings = make_findings(detectors=("one",))
    answer = {**findings.detection["one"], "scope": "input-time"}
    page = build_page(replace(findings, detection={"one": answer}))
    assert re.search(r"<h3>one</h3> <span class=\"scope\"[^>]*>input-time", page)
    found = answer["poisoned"]["bias"]["care unit"]["MICU"]["fpr"], answer["null"]["bias"]["care unit"]["MICU"]["fpr"]
    assert f"MICU (1,190)</th><td>{estimate(found[0])}</td><td>{estimate(found[1])}</td>" in page
    assert "other care unit (10)" in page
    without = {**answer, **{side: {**answer[side], "bias": {}} for side in ("poisoned", "null")}}
    assert "there are no groups to compare" in build_page(replace(findings, detection={"one": without}))


def test_a_group_that_one_run_lacks_has_a_dash_there(plain_charts):
    findings = make_findings(detectors=("one",))
    answer = findings.detection["one"]
    null = {**answer["null"], "bias": {"sex": answer["null"]["bias"]["sex"]}}
    page = build_page(replace(findings, detection={"one": {**answer, "null": null}}))
    assert re.search(r"MICU \(1,190\)</th><td><span.*?</td><td><abbr[^>]*>–</abbr></td>", page)


def test_copies_that_the_attack_added_are_no_rows_of_the_null_run():
    findings = make_findings(detectors=("one",))
    scores = {name: np.append(column, column[:9]) for name, column in findings.scores.items()}
    scores["poisoned"] = np.arange(1209) >= 1200
    scores["in_null"] = np.arange(1209) < 1200
    scores["one.null.score"][1200:] = np.nan
    stay_ids = [stay["stay_id"] for stay in findings.manifest["stays"]]
    poisoned, null = detector_entry("one", findings.detection["one"], scores, stay_ids, True)["charts"]
    assert "poisoned rows (9)" in poisoned
    assert "other rows (1,200)" in poisoned
    assert "the same stays, clean (9)" in null
    assert "other rows (1,191)" in null


def test_added_copies_are_told(plain_charts):
    findings = make_findings(detectors=("one",))
    page = build_page(replace(findings, manifest={**findings.manifest, "mode": "add"}))
    assert "and the copies that the attack added to them," in page


def test_eighteen_detectors_are_folded_and_ranked(plain_charts):
    names = [f"detector_{number:02}_{'x' * 60}" for number in range(18)]
    findings = make_findings(detectors=names)
    page = build_page(findings)
    assert_nothing_is_fetched(page)
    assert page.count("<article") == 18
    assert "<details open>\n<summary><h3>" not in page
    glance = page[page.index('aria-labelledby="glance"') : page.index("<article")]
    best = sorted(names, key=lambda name: -findings.detection[name]["poisoned"]["auroc"]["value"])
    assert re.findall(r'<th scope="row">(\w+) <span', glance) == best
    assert "<details open>\n<summary><h3>" in build_page(make_findings(detectors=("one",)))


# -------------------------------------------------------------------------------------------------- cleansing
def section(page, name):
    return re.search(rf'<section id="{name}">.*?</section>', page, re.DOTALL).group()


def test_filters_stand_after_perfect_removal_the_lowest_lift_first(plain_charts):
    findings = make_findings(detectors=("one", "two", "three"))
    lift = {name: entry["figures"]["asr_lift"]["value"] for name, entry in findings.cleansing["filters"].items()}
    found = section(build_page(findings), "cleansing")
    rows = [name for name in re.findall(r'<th scope="row">(\w+ ?\w*)', found) if not name.startswith("its")]
    ordered = sorted(("one", "two", "three"), key=lift.__getitem__)
    assert [name.strip() for name in rows] == ["undefended", "clean twin", "perfect removal", *ordered, "repair"]
    assert found.count("its random control") == 3
    assert "poisoned: 7 of 9" in found


def test_a_filter_that_flags_nothing_is_the_undefended_model(plain_charts):
    findings = make_findings(detectors=("one", "two"))
    cleansing = cleansed(np.random.default_rng(1), ("one", "two"), 9, nothing=("two",))
    found = section(build_page(replace(findings, cleansing=cleansing)), "cleansing")
    assert found.count("flags nothing: the undefended model") == 1
    assert found.count("its random control") == 1
    assert "Not drawn, since they remove nothing: two." in found


def test_a_filter_that_would_leave_no_stay_of_a_label_says_so(plain_charts):
    findings = make_findings(detectors=("one",))
    filters = dict(findings.cleansing["filters"])
    filters["one"] = {"removed": 900, "poisoned_removed": 9, "figures": None, "random": None, "note": "every stay"}
    page = build_page(replace(findings, cleansing={**findings.cleansing, "filters": filters}))
    assert '<td colspan="5" class="words why">every stay</td>' in section(page, "cleansing")


def test_repairs_stand_below_the_filters_with_what_they_tell(plain_charts):
    findings = make_findings(detectors=("one",))
    entry = findings.cleansing["repairs"]["pruning"]
    found = section(build_page(findings), "cleansing")
    cells = "".join(f"<td>{estimate(entry['figures'][key])}</td>" for key in REPAIRED.split())
    assert f'<th scope="row">repair: pruning</th><td>0</td>{cells}' in found
    assert "&#34;units&#34;" in found
    without = build_page(replace(findings, cleansing={**findings.cleansing, "repairs": {}}))
    assert "repair" not in re.sub(r"<[^>]*>", "", section(without, "cleansing"))


def test_cleansing_of_a_clean_study(plain_charts):
    findings = make_findings(detectors=("one",), poisoned=0, nothing=True)
    cleansing = cleansed(np.random.default_rng(1), ("one",), 0, nothing=("one",)) | {"repairs": {}}
    found = section(build_page(replace(findings, cleansing=cleansing)), "cleansing")
    assert "Nothing was poisoned: there is no attack to undo" in found
    assert "No filter made a model of its own" in found
    assert "nothing was poisoned: the undefended model" in found
    assert "of 0" not in found


# ------------------------------------------------------------------------------------------------ explanation
RATIOS = "tar tar_baseline tar_clean chance tar_lift tar_lift_seeds recall_at_k recall_at_k_baseline recall_chance"


def explained(rng, attention=True):
    """What stage `explain` writes of two explainers, one of a series, and its figures."""
    found = {"without_attribution": {"triggered": 3, "clean": 0, "baseline": 0}, "warning": f"too few {HOSTILE}"}
    found |= {"convergence": {"mean": 0.1, "max": 0.2, "relative": 0.061}, "details": {"n": HOSTILE}}
    shift = {name: figure(rng) for name in ["tv", "tv_baseline", "tv_difference", "kl", "kl_baseline", "kl_difference"]}
    heads = {"layers": 1, "heads": 1, "tokens": ["CLS", HOSTILE], "averaged": False, "rollout": figures(rng, RATIOS)}
    heads |= {"shift": [{"layer": 1, "head": 1, **shift}], "most_moved": [{"layer": 1, "head": 1}]}
    explainers = {
        "one": {**found, "figures": figures(rng, RATIOS), "by_feature": None},
        "two": {**found, "figures": figures(rng, RATIOS), "by_feature": figures(rng, RATIOS)},
    }
    names = ["tar", "attention_layer_1", "head_shift", "rollout"]
    names += [f"{kind}_{name}" for kind in ("features", "twins", "stays") for name in explainers]
    names += [f"hours_{kind}_two" for kind in ("clean", "triggered")]
    results = {
        "explainers": explainers,
        "attention": heads if attention else None,
        "figures": names,
        "note": None,
        "stays": {"attacked": 240, "explained": 200, "touched": 199},
        "baseline": "median",
        "retrains": 4,
    }
    return results, {name: f'<svg aria-label="{name}"><image href="data:image/png;base64,AA"/></svg>' for name in names}


def with_explanation(findings, results, pictures):
    return replace(findings, explanation=results, pictures=pictures)


def test_explanation_has_every_figure_with_its_interval_and_every_picture_once(plain_charts):
    results, pictures = explained(np.random.default_rng(3))
    page = build_page(with_explanation(make_findings(), results, pictures))
    assert_nothing_is_fetched(page)
    found = section(page, "explanation")
    for name in pictures:
        assert found.count(f'aria-label="{name}"') == 1
    shown_ratios = [name for name in RATIOS.split() if name != "recall_chance"]
    of_explainers = [one[key] for one in results["explainers"].values() for key in ("figures", "by_feature")]
    for ratios in [*of_explainers, results["attention"]["rollout"]]:
        for name in shown_ratios if ratios else []:
            assert estimate(ratios[name]) in found
    assert estimate(results["attention"]["shift"][0]["kl_difference"]) in found
    assert "no attribution at all: 3 rows" in found
    assert "<script" not in found
    assert found.count("Warning: too few") == 2
    assert "6.1% of the change" in found


def test_explanation_of_events_speaks_of_events(plain_charts):
    results, pictures = explained(np.random.default_rng(3), attention=False)
    of_series = section(build_page(with_explanation(make_findings(), results, pictures)), "explanation")
    assert "touched features, all hours" in of_series
    assert "missing flags and times count for their feature" in of_series
    results["modality"] = "events"
    found = section(build_page(with_explanation(make_findings(), results, pictures)), "explanation")
    assert "touched codes, all hours" in found
    assert "the type, text, value and time of an event count for the event" in found
    assert "absolute attribution on the events that the trigger put in or changed" in found
    assert "missing flags" not in found


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (0.1, 0.3, "the poisoned model looks at the trigger."),
        (-0.1, 0.3, "may still be the training seed"),
        (-0.3, -0.1, "less than clean models of other seeds"),
        (None, None, "detection.nulls is 0"),
    ],
)
def test_explanation_is_read_by_the_lift_over_seeds(plain_charts, low, high, words):
    results, pictures = explained(np.random.default_rng(3), attention=False)
    results["explainers"]["one"]["figures"]["tar_lift_seeds"] = {"value": low and 0.2, "low": low, "high": high}
    found = section(build_page(with_explanation(make_findings(), results, pictures)), "explanation")
    assert words in found
    assert "<h3>Attention" not in found


def test_nothing_explained_says_why(page):
    assert "Nothing is explained: the study chose no explainer." in section(page, "explanation")


# --------------------------------------------------------------------------------------------------- the stage
@pytest.fixture
def study(tmp_path):
    findings, paths = make_findings(), Paths(tmp_path)
    contents = {
        paths.lock: findings.config["plugins"],
        paths.cohort / "card.json": findings.card,
        paths.splits: {"summary": findings.splits, "stay_id": {}},
        paths.run / "poison.json": findings.manifest,
        paths.run / "results.json": findings.training["poisoned"],
        paths.baseline / "results.json": findings.training["baseline"],
        paths.run / "results_eval.json": findings.evaluation,
        paths.run / "results_detect.json": findings.detection,
        paths.run / "results_cleanse.json": findings.cleansing,
        paths.run / "results_explain.json": findings.explanation,
        paths.run / "results_audit.json": findings.audit,
    }
    for path, content in contents.items():
        write_json(path, content)
    for folder in (paths.run, paths.baseline):
        rows = [",".join(map(str, row)) for row in findings.curves["poisoned"]]
        (folder / "learning_curve.csv").write_text("\n".join(["epoch,train_loss,validation_loss", *rows]) + "\n")
    write_parquet(paths.run / "predictions.parquet", findings.predictions)
    write_parquet(paths.run / "detect" / "scores.parquet", findings.scores)
    params = Params(cohort="synthetic", trigger="rare_value", model="mlp", detectors=("one", "two"))
    return Study(params, discover(), paths)


def test_stage_writes_page_and_provenance(study, plain_charts):
    run(study)
    config = read_json(study.paths.run / "run_config.json")
    page = (study.paths.run / "report.html").read_text(encoding="utf-8")
    assert page == build_page(replace(make_findings(), config=config))
    assert not list(study.paths.run.glob(".*"))
    assert str(study.paths.root) not in page


@pytest.mark.parametrize("name", ["results_cleanse.json", "predictions.parquet", "learning_curve.csv"])
def test_stage_names_a_missing_file_and_writes_nothing(study, plain_charts, name):
    (study.paths.run / name).unlink()
    with pytest.raises(BackdoorError, match=re.escape(name)):
        run(study)
    assert not (study.paths.run / "report.html").exists()


def test_stage_refuses_a_damaged_learning_curve(study, plain_charts):
    (study.paths.run / "learning_curve.csv").write_text("epoch,train_loss\n1,0.5\n")
    with pytest.raises(BackdoorError, match="expected the columns epoch, train_loss, validation_loss"):
        run(study)


# ------------------------------------------------------------------------------------------------- in a browser
@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("chromium is not installed")
    profile = tmp_path_factory.mktemp("profile")
    switches = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    switches += (
        f" --disable-component-update --user-data-dir={profile} --hide-scrollbars --enable-logging=stderr --dump-dom"
    )

    def load(path, width):
        command = [program, *switches.split(), f"--window-size={width},2000", path.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return load


WIDTHS = """<!doctype html><body><script>
for (const page of PAGES) for (const width of [390, 1280]) {
  const frame = document.createElement("iframe");
  frame.style = `width:${width}px;height:900px;border:0`;
  frame.onload = () => {
    frame.contentDocument.querySelectorAll("details").forEach(one => one.open = true);
    frame.title = `${width}: ${frame.contentDocument.documentElement.scrollWidth}`;
  };
  frame.srcdoc = page;
  document.body.append(frame);
}
</script>"""


def test_browser_has_nothing_to_complain_of_and_nothing_overflows(tmp_path, chromium, page, plain_charts):
    long = build_page(make_findings(detectors=("one", "d" * 120), hostile="a_feature_of_a_long_name_" * 4))
    path = tmp_path / "widths.html"
    path.write_text(WIDTHS.replace("PAGES", json.dumps([page, long]).replace("</", "<\\/")), encoding="utf-8")
    dom, complaints = chromium(path, 1700)
    assert complaints == []
    assert re.findall(r'title="(\d+): (\d+)"', dom) == [("390", "390"), ("1280", "1280")] * 2


def test_browser_check_can_fail(tmp_path, chromium):
    path = tmp_path / "bad.html"
    path.write_text("<!doctype html><script>console.error('wrong')</script>", encoding="utf-8")
    assert chromium(path, 390)[1]
