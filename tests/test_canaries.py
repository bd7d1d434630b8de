"""What a repair promises of privacy is checked by one more run, with canaries."""

import numpy as np
import pytest
from small import make_view
from small_study import TO_DETECT, make_study, run_stages

from backdoor_core.cohort.storage import Rows
from backdoor_core.contracts import Repair
from backdoor_core.files import read_json
from backdoor_core.privacy.canaries import FEWEST, draw_canaries
from backdoor_core.privacy.one_run import judge_canaries
from backdoor_core.stages import cleanse


def test_canaries_are_mislabeled_and_in_or_out_by_their_coin():
    view, label = make_view(900)
    canaries = draw_canaries(900, 60, np.random.default_rng(0))
    assert len(np.unique(canaries.rows)) == len(canaries.coins) == 60
    put = canaries.put_into(Rows(view, label))
    right = dict(zip(view.stay_id.tolist(), label.tolist(), strict=True))
    told = dict(zip(put.view.stay_id.tolist(), put.label.tolist(), strict=True))
    for row, coin in zip(canaries.rows, canaries.coins, strict=True):
        stay = int(view.stay_id[row])
        assert told.get(stay) == (1 - right[stay] if coin else None)
    others = set(right) - {int(view.stay_id[row]) for row in canaries.rows}
    assert all(told[stay] == right[stay] for stay in others)
    assert len(told) == 900 - 60 + canaries.coins.sum()


def test_at_most_a_tenth_of_the_rows_are_canaries_and_never_few():
    rng = np.random.default_rng(1)
    assert len(draw_canaries(5000, 10_000, rng).rows) == 500
    assert len(draw_canaries(5000, 30, rng).rows) == 30
    assert draw_canaries(10 * FEWEST - 1, 500, rng) is None
    assert draw_canaries(5000, FEWEST - 1, rng) is None


def test_coins_are_fair_and_do_not_depend_on_the_row():
    seen = [draw_canaries(1000, 100, np.random.default_rng(seed)) for seed in range(100)]
    coins, rows = np.concatenate([c.coins for c in seen]), np.concatenate([c.rows for c in seen])
    assert abs(coins.mean() - 0.5) < 0.02  # four standard deviations
    assert abs(np.corrcoef(coins, rows)[0, 1]) < 0.04


def test_a_score_is_the_move_to_the_flipped_label():
    label = np.array([0, 1] * 500, dtype=np.int8)
    canaries = draw_canaries(1000, 100, np.random.default_rng(2))
    flipped = 1 - label[canaries.rows]
    before = np.random.default_rng(3).normal(size=100)
    moved = before + np.where(flipped == 1, 2.0, -2.0) * canaries.coins
    scores = canaries.scores(label, before, moved)
    np.testing.assert_allclose(scores, 2.0 * canaries.coins)
    assert judge_canaries(scores, canaries.coins, 1e-5).epsilon == pytest.approx(
        judge_canaries(scores, canaries.coins, 1e-5).ceiling
    )


# --------------------------------------------------------------------------------------------------- the stage
class Memorizes(Repair):
    """Promises privacy, and learns every row by heart."""

    name = "memorizes"
    promise: float | None = 0.05

    def repair(self, case):
        import torch

        torch.manual_seed(int(case.rng.integers(2**31)))
        network, x = case.fresh(1), torch.from_numpy(case.inputs)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.02)
        y = torch.from_numpy(case.labels.astype(np.float32))
        for _ in range(400):
            optimizer.zero_grad()
            torch.nn.functional.binary_cross_entropy_with_logits(network(x), y).backward()
            optimizer.step()
        case.network.load_state_dict(network.state_dict())
        return case.network, {} if self.promise is None else {"epsilon": self.promise, "delta": 1e-4}


def repaired(study, repair, monkeypatch):
    monkeypatch.setattr(type(study), "repairs", lambda self: [repair])
    cleanse.run(study)
    return read_json(study.paths.run / "results_cleanse.json")["repairs"][repair.name]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    changes = {"models": {"mlp": {"hidden": [64], "dropout": 0.0}}, "audit": {"canaries": 100}}
    return run_stages(make_study(tmp_path_factory.mktemp("study"), **changes), *TO_DETECT)


def test_a_false_promise_is_refuted(study, monkeypatch):
    privacy = repaired(study, Memorizes(None, None), monkeypatch)["privacy"]
    assert privacy["promised"] == {"epsilon": 0.05, "delta": 1e-4}
    assert privacy["canaries"] == 100
    assert privacy["epsilon"] > 0.5 > privacy["promised"]["epsilon"]
    assert privacy["epsilon"] <= privacy["ceiling"]


def test_who_promises_nothing_is_not_checked(study, monkeypatch):
    repair = Memorizes(None, None)
    repair.promise = None
    assert repaired(study, repair, monkeypatch)["privacy"] is None


def test_dp_sgd_keeps_its_promise_and_the_page_says_so(tmp_path):
    pytest.importorskip("opacus", reason="Opacus is not installed")
    changes = {
        "repairs": ["dp_sgd"],
        "repair_options": {"dp_sgd": {"epsilon": 4.0, "epochs": 3}},
        "detectors": ["range_rule"],
        "audit": {"canaries": 60},
    }
    study = make_study(tmp_path, stays=1200, **changes)
    run_stages(study, *TO_DETECT, "evaluate", "cleanse", "explain", "audit", "report")
    entry = read_json(study.paths.run / "results_cleanse.json")["repairs"]["dp_sgd"]
    assert entry["details"]["epsilon"] == pytest.approx(4.0, abs=0.05)
    privacy = entry["privacy"]
    assert privacy["promised"]["epsilon"] == pytest.approx(4.0, abs=0.05), "the run with canaries has the same budget"
    assert privacy["epsilon"] <= min(privacy["promised"]["epsilon"], privacy["ceiling"])
    page = (study.paths.run / "report.html").read_text(encoding="utf-8")
    assert "<strong>dp_sgd</strong> promises epsilon" in page
    assert "60 mislabeled stays" in page
    assert "contradicts nothing" in page
