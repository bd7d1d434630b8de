import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from backdoor_core.contracts import Audit, AuditCase, Context, Floats, Options
from backdoor_core.errors import BackdoorError

from .zlib_entropy import compressed_bytes


class BlindOptions(Options):
    """Options of the blind control."""

    source: Literal["inputs", "texts"] = Field("inputs", description="what it reads: raw features, or texts")
    classifier: Literal["logistic", "boosting"] = Field(
        "boosting", description="for inputs; texts are always read by logistic regression"
    )
    folds: int = Field(5, ge=5, le=20, description="parts by patient; each is scored by a classifier of the others")
    penalty: float = Field(1.0, gt=0, description="weight of the squared coefficients in the logistic regression")


class Blind(Audit):
    """Control: tells members from non-members by the records alone, without ever seeing the model.

    Meeus et al. 2024 (arXiv 2406.17975) and Das et al. 2024 (arXiv 2406.16201): where members and non-members come
    from other places or times, a bag of words beats published attacks, and an attack's AUC says nothing of leakage.
    Its interval, widened for the cross-validation (`backdoor_core.privacy.verdict.widened`), must cover 0.5.

    It is told the membership of all records but those of the fold at hand. Folds hold whole patients. Texts are bags
    of their words and word pairs, with length and compressed size; inputs are the raw features, which of them are
    missing, and the label where there is one. In a logistic regression both memberships weigh the same. Scores are
    ranks within the fold: with plain probabilities a fold that holds more members than the others is scored lower for
    it, and chance looks like less than 0.5.
    """

    name = "blind"
    Options = BlindOptions
    requires = frozenset({"inputs", "truth"})
    controls = True

    def __init__(self, options: BlindOptions, context: Context) -> None:
        super().__init__(options, context)
        if options.source == "texts":
            self.requires = frozenset({"texts", "truth"})

    def score(self, case: AuditCase) -> Floats:
        """(N,) rank, 0 to 1, of the predicted membership within the fold. Raises `BackdoorError` for too few patients.

        The folds are drawn from `case.rng`.
        """
        # All here, since `threadpool_limits` holds for libraries already loaded.
        import sklearn.ensemble
        import sklearn.linear_model  # noqa: F401
        from scipy.stats import rankdata
        from sklearn.model_selection import StratifiedGroupKFold
        from threadpoolctl import threadpool_limits

        truth = case.truth
        folds = min(self.options.folds, _patients(case))
        if folds < 2:
            raise BackdoorError(
                f"audit {self.name}: {int(truth.sum())} members and {int((~truth).sum())} non-members; "
                "needs at least 2 patients of each"
            )
        seed = int(case.rng.integers(2**31))
        splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
        scores = np.empty(len(case))
        with threadpool_limits(limits=1):
            for fit, fold in splitter.split(np.zeros(len(case)), truth, case.groups):
                scores[fold] = rankdata(self._predict(case, fit, fold, truth[fit])) / len(fold)
        return scores

    def _predict(
        self, case: AuditCase, fit: NDArray[np.intp], fold: NDArray[np.intp], truth: NDArray[np.bool_]
    ) -> NDArray[Any]:
        options: BlindOptions = self.options
        if truth.all() or not truth.any():  # a fold may take all of a membership with it: nothing is learned
            return np.zeros(len(fold))
        if options.source == "texts":
            return _by_words([case.texts[i] for i in fit], truth, [case.texts[i] for i in fold], options.penalty)
        features = raw_features(case)
        if options.classifier == "boosting":
            return _by_boosting(features[fit], truth, features[fold])
        return _by_logistic(features[fit], truth, features[fold], options.penalty)


def raw_features(case: AuditCase) -> Floats:
    """(N, C) inputs, and the label as one more column where records have labels."""
    inputs = np.asarray(case.inputs, dtype=np.float64)
    return inputs if case.labels is None else np.column_stack([inputs, case.labels])


def _patients(case: AuditCase) -> int:
    """Patients with a record of the membership that has fewer."""
    return min(len(np.unique(case.groups[case.truth])), len(np.unique(case.groups[~case.truth])))


def _by_boosting(fit: Floats, truth: NDArray[np.bool_], fold: Floats) -> NDArray[Any]:
    from sklearn.ensemble import HistGradientBoostingClassifier

    # Shallow and few, without early stopping, whose split by row would part a patient's records. Weights for the two
    # memberships would leave ranks much as they are, and take ten times as long, for bins are weighted too.
    model = HistGradientBoostingClassifier(max_iter=60, max_depth=4, early_stopping=False, random_state=0)
    # The binning fails on a column without any value; a constant says as little.
    fit = np.where(np.isnan(fit).all(axis=0), 0.0, fit)
    return model.fit(fit, truth).decision_function(fold)


def _by_logistic(fit: Floats, truth: NDArray[np.bool_], fold: Floats, penalty: float) -> NDArray[Any]:
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    steps = (
        SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
        StandardScaler(),
        _logistic(penalty),
    )
    return make_pipeline(*steps).fit(fit, truth).decision_function(fold)


def _by_words(fit: list[str], truth: NDArray[np.bool_], fold: list[str], penalty: float) -> NDArray[Any]:
    from scipy.sparse import csr_array, hstack
    from sklearn.feature_extraction.text import HashingVectorizer
    from sklearn.preprocessing import StandardScaler

    # Hashed, so that a text without any known word is no special case.
    words = HashingVectorizer(ngram_range=(1, 2), n_features=2**16, alternate_sign=False)
    scaler = StandardScaler().fit(_sizes(fit))
    parts = [hstack([words.transform(texts), csr_array(scaler.transform(_sizes(texts)))]) for texts in (fit, fold)]
    return _logistic(penalty).fit(parts[0], truth).decision_function(parts[1])


def _sizes(texts: list[str]) -> Floats:
    """(N, 2) logarithms of the characters and of the compressed bytes."""
    lengths = np.array([math.log1p(len(text)) for text in texts])
    return np.column_stack([lengths, np.log(compressed_bytes(texts))])


def _logistic(penalty: float) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=1 / penalty, class_weight="balanced", max_iter=1000)
