"""What must hold for every `ArrayModel`."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from backdoor_core.contracts import ArrayModel
from backdoor_core.ranking import auroc
from backdoor_core.testing.check import expect

ROWS, FEATURES = 400, 8
Fitted = Mapping[str, NDArray[Any]]


def one_finite_logit_a_row(model: ArrayModel) -> None:
    """(N,) finite float64 log-odds, for no row, one row, several, and a row without any value."""
    fitted = _fit(model)
    inputs, _ = make_rows()
    inputs[0] = np.nan
    for rows in (0, 1, ROWS):
        logits = model.logits(fitted, inputs[:rows])
        expect(logits.shape == (rows,), f"logits have shape {logits.shape} for {rows} rows; give one a row")
        expect(logits.dtype == np.float64, f"logits are {logits.dtype}; give float64")
        expect(bool(np.isfinite(logits).all()), "logits are NaN or infinite")


def the_seed_decides_the_fit(model: ArrayModel) -> None:
    """The same rows and seed give the same arrays, byte for byte."""
    first, again = _fit(model), _fit(model)
    same = first.keys() == again.keys() and all(
        first[key].dtype == again[key].dtype and first[key].tobytes() == again[key].tobytes() for key in first
    )
    expect(same, "two fits to the same rows with the same seed differ")


def seeds_of_63_bits_are_taken(model: ArrayModel) -> None:
    """The bench's seeds go up to 2**63 - 1."""
    _fit(model, seed=2**63 - 1)


def the_fit_is_plain_arrays(model: ArrayModel) -> None:
    """The fit is written and read without pickle, and predicts the same bytes."""
    fitted, (inputs, _) = _fit(model), make_rows()
    for name, array in fitted.items():
        plain = isinstance(array, np.ndarray) and not array.dtype.hasobject
        expect(plain, f"fit gives {name!r} as {type(array).__name__}; give plain arrays without objects")
    file = io.BytesIO()
    np.savez(file, **dict(fitted))  # type: ignore[arg-type]
    file.seek(0)
    with np.load(file, allow_pickle=False) as read:
        restored = {name: read[name] for name in read.files}
    expect(
        bool(np.array_equal(model.logits(fitted, inputs), model.logits(restored, inputs))),
        "a fit that was written and read gives other logits",
    )


def rows_do_not_depend_on_their_batch(model: ArrayModel) -> None:
    """A row has the same logit alone, in a small batch, and in another order."""
    fitted, (inputs, _) = _fit(model), make_rows()
    together = model.logits(fitted, inputs)
    for size in (1, 7):
        parts = [model.logits(fitted, inputs[start : start + size]) for start in range(0, 64, size)]
        close = np.allclose(np.concatenate(parts)[:64], together[:64], rtol=1e-9, atol=1e-9)
        expect(bool(close), f"logits differ in batches of {size}")
    flipped = model.logits(fitted, inputs[::-1])[::-1]
    expect(bool(np.allclose(flipped, together, rtol=1e-9, atol=1e-9)), "logits depend on the order of the rows")


def the_input_is_left_as_it_was(model: ArrayModel) -> None:
    """Neither fit nor logits writes into its arguments."""
    inputs, labels = make_rows()
    before = inputs.copy(), labels.copy()
    model.logits(model.fit(inputs, labels, 0), inputs)
    same = np.array_equal(inputs, before[0], equal_nan=True) and np.array_equal(labels, before[1])
    expect(bool(same), "the model writes into its inputs or labels")


def no_capability_of_torch_is_declared(model: ArrayModel) -> None:
    """There is no network, so that there is neither gradient nor embedding nor attention."""
    expect(not model.capabilities, f"an ArrayModel has no {', '.join(sorted(model.capabilities))}; declare none")


def learns_a_plain_signal(model: ArrayModel) -> None:
    """Where one feature all but decides the label, the AUROC on other rows of the kind is above 0.85."""
    inputs, labels = make_rows(seed=1)
    found = float(auroc(model.logits(_fit(model), inputs), labels.astype(np.bool_)))
    expect(found > 0.85, f"AUROC {found:.2f} where one feature all but decides the label; it should be above 0.85")


RULES: Sequence[Callable[[ArrayModel], None]] = (
    one_finite_logit_a_row,
    the_seed_decides_the_fit,
    seeds_of_63_bits_are_taken,
    the_fit_is_plain_arrays,
    rows_do_not_depend_on_their_batch,
    the_input_is_left_as_it_was,
    no_capability_of_torch_is_declared,
    learns_a_plain_signal,
)


def make_rows(seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """(400, 8) raw inputs, a fifth missing save in the first, and (400,) labels that the first decides, but 5%."""
    rng = np.random.default_rng(seed)
    inputs = rng.normal(100, 15, (ROWS, FEATURES)).astype(np.float32)
    labels = ((inputs[:, 0] > 105) ^ (rng.random(ROWS) < 0.05)).astype(np.int8)
    absent = rng.random(inputs.shape) < 0.2
    absent[:, 0] = False
    inputs[absent] = np.nan
    return inputs, labels


def _fit(model: ArrayModel, seed: int = 0) -> Fitted:
    return model.fit(*make_rows(), seed)
