import numpy as np
import pytest
from small import make_view

from backdoor_core.privacy.alike import judged_stays
from backdoor_core.privacy.measured import Audited
from backdoor_core.ranking import auroc


@pytest.mark.parametrize("near", [False, True])
def test_what_is_judged_is_as_one_as_the_attacker_left_it(near):
    rng = np.random.default_rng(3)
    train, test = 4000, 1000
    label = (rng.random(train + test) < 0.2).astype(np.int8)
    member = np.arange(train + test) < train
    view, _ = make_view(train + test)
    stays = Audited(view, label, np.arange(train + test), member, np.arange(train + test))
    dead = np.flatnonzero(label[:train] == 1)[:200]
    cover = rng.choice(np.setdiff1d(np.arange(train), dead), 300, replace=False)
    rows = np.sort(np.concatenate([dead, cover]))
    margin = rng.random(test)
    kept = judged_stays(stays, rows, np.isin(rows, cover), np.random.default_rng(0), margin if near else None)
    assert np.array_equal(np.flatnonzero(~kept[:train]), rows)
    for value in (0, 1):
        left = [kept[side][label[side] == value].mean() for side in (member, ~member)]
        assert left[1] == pytest.approx(left[0], abs=2 / (label[~member] == value).sum())
    if near:
        dead_others = label[train:] == 1
        lost = np.sort(margin[dead_others])[: round(200 / (label[:train] == 1).sum() * dead_others.sum())]
        assert not kept[train:][np.isin(margin, lost)].any()


def test_a_fixed_function_that_met_nobody_leaks_nothing_however_many_of_one_label_were_taken():
    """Over 40 draws its AUC is at a half; with the poisoned ones left out alone it was 0.523."""
    view, _ = make_view(4250)
    found = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        logits = 1.5 * (rng.normal(size=4250) - 2.2)
        label = (rng.random(4250) < 1 / (1 + np.exp(-logits))).astype(np.int8)
        member = np.arange(4250) < 3500
        rows = np.sort(rng.choice(np.flatnonzero(label[:3500] == 1), 175, replace=False))
        stays = Audited(view, label, np.arange(4250), member, np.arange(4250))
        kept = judged_stays(stays, rows, np.zeros(175, dtype=bool), rng)
        loss = np.logaddexp(0, -np.where(label == 1, 1, -1) * logits)
        found.append(auroc(-loss[kept], member[kept]))
    assert abs(np.mean(found) - 0.5) < 3 * np.std(found) / np.sqrt(len(found))
    assert abs(np.mean(found) - 0.5) < 0.01
