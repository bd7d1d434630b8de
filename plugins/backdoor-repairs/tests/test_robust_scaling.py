from pathlib import Path

import pytest
import yaml
from pydantic import ValidationError

from backdoor_core.contracts import Context, Retrained
from backdoor_core.params import PreprocessParams
from backdoor_repairs.robust_scaling import RobustScaling


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("{}", {"outliers": "null", "scaling": "robust"}),
        ("{outliers: null}", {"outliers": "null", "scaling": "robust"}),
        ("{outliers: clip, scaling: quantile}", {"outliers": "clip", "scaling": "quantile"}),
        ("{outliers: winsorize}", {"outliers": "winsorize", "scaling": "robust"}),
    ],
)
def test_it_retrains_with_what_it_says(given, expected, made_case, repaired, rows):
    asked, answer = [], Retrained("the victim")

    def retrain(changes):
        asked.append(changes)
        return answer

    mended, details = repaired(RobustScaling, made_case(None, *rows(5), retrain=retrain), **yaml.safe_load(given))
    assert mended is answer
    assert asked == [expected]
    assert details["preprocess"] == expected
    PreprocessParams(**expected)


def test_other_words_are_refused():
    with pytest.raises(ValidationError, match="outliers"):
        RobustScaling(RobustScaling.Options(outliers="keep"), Context(Path()))
