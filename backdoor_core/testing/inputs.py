"""Made-up inputs of networks, of tables, series and events."""

from __future__ import annotations

import torch
from torch import Tensor

from backdoor_core.contracts import EventSpec, InputSpec, TorchModel
from backdoor_core.learning.event_batch import EventBatch
from backdoor_core.learning.inputs import Inputs, from_tensors, tensors_of

Spec = InputSpec | EventSpec
LONGEST = 9
TEXTS = 12


def specs_of(model: TorchModel) -> list[Spec]:
    """Shapes that a model must take; the first lets even a linear model tell 64 random rows apart."""
    if model.modality == "events":
        return [_events(5, 16, 12), _events(1, 4, 0)]
    if model.modality == "series":
        return [_grid(8, 3, 12), _grid(5, 1, 48), _grid(1, 3, 1)]
    return [_grid(32, 2, None), _grid(5, 1, None), _grid(1, 2, None)]


def make_input(spec: Spec, rows: int, seed: int = 0) -> Inputs:
    """Made-up preprocessed input.

    Standard normal values, 0 where missing, then the blocks that `spec` asks for. Of events stays of 1 to `LONGEST`
    events at rising times, each with one of `TEXTS` texts.
    """
    generator = torch.Generator().manual_seed(seed)
    if isinstance(spec, EventSpec):
        return _made_events(spec, rows, generator)
    shape = (rows, len(spec.features)) if spec.steps is None else (rows, spec.steps, len(spec.features))
    missing = torch.rand(shape, generator=generator) < 0.2
    values = torch.randn(shape, generator=generator).masked_fill(missing, 0.0)
    hours = torch.rand(shape, generator=generator)
    return torch.cat([values, missing.float(), hours][: spec.blocks], dim=-1)


def reversed_rows(x: Inputs) -> Inputs:
    """The same rows from the last to the first."""
    return x.index_select(0, torch.arange(len(x) - 1, -1, -1))


def parted(x: Inputs, size: int) -> list[Inputs]:
    """Consecutive parts of `size` rows."""
    return [x.index_select(0, rows) for rows in torch.split(torch.arange(len(x)), size)]


def copied(x: Inputs) -> Inputs:
    """The same in memory of its own."""
    return from_tensors(tuple(tensor.clone() for tensor in tensors_of(x)))


def equal(x: Inputs, y: Inputs) -> bool:
    """Whether both hold the same numbers."""
    return all(torch.equal(a, b) for a, b in zip(tensors_of(x), tensors_of(y), strict=True))


def differentiable(x: Inputs) -> tuple[Inputs, list[Tensor]]:
    """A copy whose numbers take gradients, and those tensors."""
    tensors = tuple(t.clone().requires_grad_(t.is_floating_point() and t.numel() > 0) for t in tensors_of(x))
    return from_tensors(tensors), [t for t in tensors if t.requires_grad]


def _made_events(spec: EventSpec, rows: int, generator: torch.Generator) -> EventBatch:
    lengths = torch.randint(1, LONGEST + 1, (rows,), generator=generator)
    events = int(lengths.sum())
    stay = torch.repeat_interleave(torch.arange(rows), lengths)
    # By stay, then by time.
    days = torch.sort(stay + torch.rand(events, generator=generator)).values - stay
    measured = (torch.rand(events, generator=generator) < 0.8).float()
    values = torch.randn(events, generator=generator) * measured
    return EventBatch(
        statics=torch.randn(rows, len(spec.statics), generator=generator),
        offsets=torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]),
        entry=torch.randint(0, TEXTS, (events,), generator=generator),
        numbers=torch.stack([values, measured, days], dim=1),
        types=torch.randint(-1, len(spec.types), (TEXTS,), generator=generator),
        texts=torch.nn.functional.normalize(torch.randn(TEXTS, spec.text_width, generator=generator)),
    )


def _grid(features: int, blocks: int, steps: int | None) -> InputSpec:
    return InputSpec(tuple(f"feature_{number}" for number in range(features)), blocks, steps)


def _events(types: int, width: int, statics: int) -> EventSpec:
    return EventSpec(tuple("ABCDEFGH"[:types]), width, tuple(f"static_{number}" for number in range(statics)))
