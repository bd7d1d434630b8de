import json

import numpy as np
import pytest

from backdoor_core.cohort.static_columns import StaticEncoder, fit_static_encoder

TRAIN = {
    "age": np.array([40, 60, 80]),
    "weight": np.array([70.0, np.nan, 90.0]),
    "sex": np.array(["F", "M", None], dtype=object),
    "unit": np.array(["other", "MICU", "MICU"], dtype=object),
}


def test_numbers_are_standardized_and_flagged_categories_one_hot_with_a_slot_for_others():
    encoder = fit_static_encoder(TRAIN)
    assert encoder.columns == (
        "age",
        "age=missing",
        "sex=F",
        "sex=M",
        "sex=other",
        "unit=MICU",
        "unit=other",
        "weight",
        "weight=missing",
    )
    spread = np.std([40, 60, 80])
    assert encoder.encode(TRAIN, 3) == pytest.approx(
        np.array(
            [
                [-20 / spread, 0, 1, 0, 0, 0, 1, -1, 0],
                [0, 0, 0, 1, 0, 1, 0, 0, 1],
                [20 / spread, 0, 0, 0, 1, 1, 0, 1, 0],
            ]
        )
    )
    assert [encoder.sources[k] for k in encoder.source_of_column] == [name.split("=")[0] for name in encoder.columns]


def test_what_the_training_part_does_not_have_goes_to_the_slot_for_others():
    encoder = fit_static_encoder(TRAIN)
    new = {"age": np.array([60]), "weight": np.array([80.0]), "sex": np.array(["X"], object), "unit": np.array(["CCU"])}
    assert encoder.encode(new, 1)[0].tolist() == [0, 0, 0, 0, 1, 0, 1, 0, 0]


def test_json_and_back():
    encoder = fit_static_encoder(TRAIN)
    assert StaticEncoder.from_json(json.loads(json.dumps(encoder.as_json()))) == encoder


def test_without_columns_there_is_nothing():
    assert fit_static_encoder({}).encode({}, 4).shape == (4, 0)
