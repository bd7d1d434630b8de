"""What the stages `references` and `audit` share: the stays that are audited, and the references' answers on disk."""

from pathlib import Path

import numpy as np

from backdoor_core.files import replacing_directory, write_array
from backdoor_core.privacy.measured import Audited, ReferenceAnswers
from backdoor_core.stages.data import Parts

_FILES = ("member.npy", "logits.npy", "population_logits.npy")
"""In the order of the fields of `ReferenceAnswers`."""


def audited_stays(parts: Parts) -> Audited:
    """The training and the test part. The validation part is left out: it chose epoch, temperature and threshold."""
    rows = np.concatenate([parts.splits.train, parts.splits.test])
    return Audited(
        view=parts.train.view.followed_by(parts.test.view),  # type: ignore[arg-type]  # both are of one modality
        label=np.concatenate([parts.train.label, parts.test.label]),
        patients=parts.cohort.subject_id[rows],
        member=np.arange(len(rows)) < len(parts.splits.train),
        rows=rows,
    )


def save_answers(answers: ReferenceAnswers, directory: Path) -> None:
    """Write the answers into the directory, in place of what it held."""
    with replacing_directory(directory) as folder:
        for name, array in zip(_FILES, (answers.member, answers.logits, answers.population), strict=True):
            write_array(folder / name, array)


def load_answers(directory: Path) -> ReferenceAnswers:
    """Read what `save_answers` wrote."""
    return ReferenceAnswers(*(np.load(directory / name, allow_pickle=False) for name in _FILES))
