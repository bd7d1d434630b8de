"""Integrated gradients and feature ablation: batched, against calling Captum one row at a time.

    python benchmarks/explain.py [--models mlp lstm] [--rows 64] [--steps 50] [--rows-at-once 1024] [--threads 1]

Untrained networks of the bundled models on 30 features and two blocks of channels, 24 hours of a series. Both sides
run once on the same rows and the same baseline, and must agree (numpy.allclose, 1e-4 absolute).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from captum.attr import FeatureAblation, IntegratedGradients
from numpy.typing import NDArray
from torch import nn

from backdoor_core.contracts import Context, ExplainCase, InputSpec
from backdoor_core.plugins import Catalog, discover

FEATURES, BLOCKS, HOURS = 30, 2, 24
Values = NDArray[np.float32]


def made_case(catalog: Catalog, name: str, args: argparse.Namespace) -> ExplainCase:
    """Random rows and a baseline for an untrained network."""
    model = catalog.get("model", name).component(catalog.resolve("model", name, {}), Context(root=Path()))
    hours = HOURS if model.modality == "series" else None
    spec = InputSpec(tuple(f"f{i}" for i in range(FEATURES)), BLOCKS, hours)
    torch.manual_seed(0)
    network = model.build(spec).eval()
    shape = (spec.channels,) if hours is None else (hours, spec.channels)
    rng = np.random.default_rng(0)
    inputs, baseline = (rng.normal(size=(rows, *shape)).astype(np.float32) for rows in (args.rows, 1))

    def predict(rows: Values) -> NDArray[np.float64]:
        with torch.no_grad():
            return network(torch.from_numpy(rows)).double().numpy()

    return ExplainCase(inputs, baseline, predict, network, 1.0, FEATURES, args.steps, args.rows_at_once, rng)


def batched(catalog: Catalog, name: str, case: ExplainCase) -> Values:
    explainer = catalog.get("explainer", name).component(catalog.resolve("explainer", name, {}), Context(root=Path()))
    return explainer.attribute(case).values


def row_by_row(attribute: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], case: ExplainCase) -> Values:
    baseline = torch.from_numpy(case.baselines)
    rows = [attribute(torch.from_numpy(row[np.newaxis]), baseline) for row in case.inputs]
    return torch.cat(rows).detach().numpy()


def captum_integrated_gradients(network: nn.Module, case: ExplainCase) -> Values:
    captum = IntegratedGradients(network)
    return row_by_row(lambda x, b: captum.attribute(x, b, n_steps=case.steps), case)


def captum_feature_ablation(network: nn.Module, case: ExplainCase) -> Values:
    captum = FeatureAblation(network)
    mask = torch.arange(FEATURES).repeat(BLOCKS)
    if case.inputs.ndim == 3:
        mask = mask + FEATURES * torch.arange(HOURS)[:, None]
    with torch.no_grad():
        values = row_by_row(lambda x, b: captum.attribute(x, b, feature_mask=mask[None]), case)
    # Captum writes a group's value on each of its channels, the bench an equal share.
    return values / BLOCKS


def timed(make: Callable[[], Values]) -> tuple[Values, float]:
    started = time.perf_counter()
    values = make()
    return values, time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["mlp", "tab_transformer", "lstm"])
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rows-at-once", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    catalog = discover()
    captum = {
        "integrated_gradients": captum_integrated_gradients,
        "feature_ablation": captum_feature_ablation,
    }
    print("| model | explainer | Captum, row by row (s) | batched (s) | ratio | equal |\n|---|---|---|---|---|---|")
    agree = True
    for model in args.models:
        case = made_case(catalog, model, args)
        for name, one_at_a_time in captum.items():
            slow, slow_seconds = timed(lambda f=one_at_a_time, case=case: f(case.network, case))
            quick, seconds = timed(lambda name=name, case=case: batched(catalog, name, case))
            equal = np.allclose(slow, quick, rtol=1e-4, atol=1e-4) and bool(np.abs(slow).max() > 0)
            agree &= equal
            ratio = slow_seconds / seconds
            print(
                f"| {model} | {name} | {slow_seconds:.2f} | {seconds:.2f} | {ratio:.1f} | {'yes' if equal else 'NO'} |"
            )
    if not agree:
        raise SystemExit("the two ways disagree")


if __name__ == "__main__":
    main()
