import numpy as np
import pytest
from small_study import make_study, run_stages

from backdoor_core import seeds
from backdoor_core.contracts import Context, NoOptions, Repair
from backdoor_core.learning.victim import load_victim
from backdoor_core.stages.data import load_shared
from backdoor_core.stages.mending import repair_victim
from backdoor_core.stages.poisoned import load_poisoning, victims_rows


class Again(Repair):
    """Trains the victim anew with the preprocessing that it has."""

    name = "again"

    def repair(self, case):
        return case.retrain({}), {}


@pytest.mark.parametrize("fit_on", ["poisoned", "clean"])
def test_preprocessing_is_learned_anew_from_the_rows_that_the_victims_was(fit_on, tmp_path):
    """With nothing changed, the retrained model is the victim itself, and its scale that of the victim."""
    preprocess = {"fit_on": fit_on, "outliers": "keep", "scaling": "standard"}
    study = run_stages(make_study(tmp_path, stays=600, preprocess=preprocess), "cohort", "splits", "poison", "train")
    parts = load_shared(study).parts
    rows = victims_rows(parts.train, load_poisoning(study, parts.train)[0])
    victim = load_victim(study.paths.run, study.model(), study.params.train.device, study.params.train.threads)
    rng = seeds.generator(study.params.seed, "repair", *b"again")
    mended, _ = repair_victim(Again(NoOptions(), Context(tmp_path)), victim, study, parts, rows, rng)
    assert np.array_equal(mended.inputs(rows.view), victim.inputs(rows.view))
    assert mended.logits(rows.view) == pytest.approx(victim.logits(rows.view), abs=1e-6)
