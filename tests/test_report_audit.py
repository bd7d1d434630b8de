"""The page's section on leaks: figures with and without values, hostile names, nothing audited."""

import re

import numpy as np
import pytest

from backdoor_core.privacy.findings import audit_findings
from backdoor_core.privacy.judge import Run, resamples
from backdoor_core.report.audit_charts import auc_chart, roc_chart
from backdoor_core.report.audit_section import leakage

N = 300
MEMBER = np.arange(N) < 200
HOSTILE = '<script>alert("x")</script>'


def results(names=("loss_threshold", "rmia"), blind=True):
    rng = np.random.default_rng(0)
    scores = {name: {side: rng.normal(size=N) + MEMBER for side in ("poisoned", "baseline")} for name in names}
    if blind:
        scores["blind"] = dict.fromkeys(("poisoned", "baseline"), rng.normal(size=N))
    first = next(iter(scores.values()))["poisoned"]
    weights = resamples([Run(first, MEMBER, np.arange(N))], 100, np.random.default_rng(1))
    groups = [("sex", HOSTILE, np.arange(N) % 2 == 0), ("unit", "rare", np.arange(N) < 5)]
    audits = audit_findings(scores, frozenset({"blind"}), MEMBER, np.arange(N), weights, groups)
    return {"audits": audits, "note": None, "references": 0}


def test_every_audit_has_a_row_for_each_model_and_sighted_ones_a_verdict():
    found = leakage(results())
    assert [(row["name"], row["side"]) for row in found["rows"]] == [
        (name, side) for name in ("loss_threshold", "rmia", "blind") for side in ("poisoned model", "clean twin")
    ]
    assert [name for name, _, _ in found["verdicts"]] == ["loss_threshold", "rmia"]
    assert found["levels"] == [0.1, 0.01, 0.001]
    assert found["smallest"] == pytest.approx(1 / 100)


def test_the_references_are_those_that_were_trained():
    assert leakage(results())["references"] == "No audit here needs reference models, and none was trained."
    said = leakage({**results(), "references": 1024})["references"]
    assert said == "1,024 reference models were trained on random halves of the same patients."


def test_nothing_audited_is_a_note():
    assert leakage({"audits": {}, "note": "the study chose no audit"}) == {"note": "the study chose no audit"}


def test_controls_alone_have_no_roc_curve():
    found = leakage(results(names=()))
    assert found["roc"] is None
    assert found["verdicts"] == []


def test_charts_name_every_audit_escaped_and_read_no_formulas():
    audits = results(names=(HOSTILE, "a$b$c", "x" * 80))["audits"]
    for svg in (auc_chart(audits), roc_chart(audits)):
        assert "<script" not in svg
        assert "a$b$c" in svg
        assert "x" * 60 not in svg
        assert "mathdefault" not in svg
    assert re.search(r">\s*1%\s*<", roc_chart(audits))


def test_an_auc_without_value_leaves_its_place_empty():
    audits = results()["audits"]
    audits["rmia"]["poisoned"]["auc"] = {"value": None, "low": None, "high": None}
    audits["rmia"]["poisoned"]["roc"] = []
    assert auc_chart(audits)
    assert roc_chart(audits)
