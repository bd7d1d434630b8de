import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from backdoor_core.errors import BackdoorError
from backdoor_core.privacy.halves import membership_matrix


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 12), min_size=2, max_size=60), st.sampled_from([2, 4, 8]), st.integers(0, 99))
def test_every_record_is_in_half_of_the_models_with_its_whole_patient(groups, models, seed):
    groups = np.array(groups)
    if len(np.unique(groups)) < 2:
        groups[0] = 99
    member = membership_matrix(groups, models, np.random.default_rng(seed))
    assert member.shape == (models, len(groups))
    assert member.dtype == np.bool_
    assert (member.sum(axis=0) == models // 2).all()
    assert (member[::2] == ~member[1::2]).all()
    for patient in np.unique(groups):
        rows = member[:, groups == patient]
        assert (rows == rows[:, :1]).all()
    largest = np.unique(groups, return_counts=True)[1].max()
    assert (np.abs(2 * member.sum(axis=1) - len(groups)) <= largest).all()
    assert member.any(axis=1).all()


def test_halves_are_equal_where_most_patients_have_one_record():
    groups = np.concatenate([np.repeat(np.arange(40), 7), np.arange(100, 301)])
    member = membership_matrix(groups, 16, np.random.default_rng(0))
    assert (np.abs(2 * member.sum(axis=1) - len(groups)) == 1).all()


def test_each_pair_halves_anew_and_the_seed_decides():
    member = membership_matrix(np.arange(2000), 64, np.random.default_rng(1))
    assert (member == membership_matrix(np.arange(2000), 64, np.random.default_rng(1))).all()
    pairs = member[::2].astype(float)
    correlation = np.corrcoef(pairs)[np.triu_indices(32, 1)]
    assert np.abs(correlation).max() < 0.11  # 496 pairs of standard error 0.022
    together = (pairs[:, 0] == pairs[:, 1]).mean(), (pairs[:, 5] == pairs[:, 1999]).mean()
    assert all(0.15 < share < 0.85 for share in together)


def test_the_patient_with_most_records_is_in_either_half():
    groups = np.concatenate([np.zeros(5, int), np.arange(1, 30)])
    first = [membership_matrix(groups, 2, np.random.default_rng(seed))[0, 0] for seed in range(60)]
    assert 15 < sum(first) < 45


@pytest.mark.parametrize(
    ("models", "patients", "says"),
    [(3, 9, "3 models cannot be paired"), (0, 9, "0 models"), (2, 1, "1 patient cannot")],
)
def test_what_cannot_be_halved_is_refused(models, patients, says):
    with pytest.raises(BackdoorError, match=says):
        membership_matrix(np.arange(9) % patients, models, np.random.default_rng(0))
