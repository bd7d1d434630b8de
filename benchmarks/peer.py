"""Our activation clustering and spectral signatures beside those of the Adversarial Robustness Toolbox (ART).

    pip install "./plugins/backdoor-detectors[peer]" -c constraints.txt
    python benchmarks/peer.py [--seeds 3] [--rows 10000 100000 1000000] [--write docs/results.md]

Quality: the same rows and the same trained networks, settings A to D of benchmarks/settings.py. ART is run as its
documentation has it (it then takes the logits for the activations) and worked around (the network's modules in an
order that makes it take the penultimate ones). Ours are judged at ART's FPR, by their scores: with default options,
but PCA, as ART; and for activation clustering also with the rule that has the name of ART's. The last column says
where the default finds less than ART, or that ART raised an error. ART's distances are between medians of principal
components of different labels, each in its own coordinates, so what it flags by them is chance. Its spectral
signatures project activations that are not centered.

Scale: rows of 128 Gaussian activations with a planted cluster, each run in a process of its own: seconds without
the imports, and by how much the peak of its memory grew beyond the activations.
"""

from __future__ import annotations

import argparse
import itertools
import json
import resource
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from settings import SETTINGS, access_of, attacked, component, detect, make_rows, params_of
from tables import Result, mean_and_interval, replace_section

from backdoor_core.contracts import Context, DetectionCase, Feature, TableView
from backdoor_core.learning.training import Task, train_victims
from backdoor_core.learning.victim import TorchVictim
from backdoor_core.plugins import discover

OURS: dict[str, tuple[str, dict[str, Any]]] = {
    "AC": ("activation_clustering", {"reduce": "pca"}),
    "AC by distance": ("activation_clustering", {"reduce": "pca", "rule": "distance"}),
    "AC by silhouette": ("activation_clustering", {"reduce": "pca", "rule": "silhouette"}),
    "SS": ("spectral_signatures", {}),
}
PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "AC smaller": ("AC", {"cluster_analysis": "smaller"}),
    "AC relative-size": ("AC", {"cluster_analysis": "relative-size"}),
    "AC distance": ("AC by distance", {"cluster_analysis": "distance"}),
    "AC silhouette-scores": ("AC by silhouette", {"cluster_analysis": "silhouette-scores"}),
    "SS default": ("SS", {"expected_pp_poison": 0.33}),
    "SS told 5%": ("SS", {"expected_pp_poison": 0.05}),
}
WIDTH = 128


def peer_flags(network: Any, inputs: NDArray[Any], labels: NDArray[Any], peer: str) -> Any:
    """(N,) what ART flags, taking the last module of `network` for the activations."""
    kind, options = PEERS[peer]
    import torch
    from art.defences.detector.poison import ActivationDefence, SpectralSignatureDefense
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        model=network,
        loss=torch.nn.CrossEntropyLoss(),
        input_shape=inputs.shape[1:],
        nb_classes=2,
        device_type="cpu",
    )
    hot = np.eye(2, dtype=np.float32)[labels]
    if kind != "SS":
        defence = ActivationDefence(classifier, inputs, hot)
        _, clean = defence.detect_poison(nb_clusters=2, nb_dims=10, reduce="PCA", **options)
    else:
        defence = SpectralSignatureDefense(classifier, inputs, hot, batch_size=128, eps_multiplier=1.5, **options)
        _, clean = defence.detect_poison()
    return np.asarray(clean) == 0


def two_logits(network: Any, penultimate: bool) -> Any:
    """The network with an output for each class, whose last module gives what ART will take."""
    import torch

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            if penultimate:
                self.network, self.last = network, torch.nn.Identity()
            else:
                self.last, self.network, self.logits = torch.nn.Identity(), network, torch.nn.Identity()

        def forward(self, x: Any) -> Any:
            logit = network.head(self.last(network.embed(x)))
            both = torch.stack([torch.zeros_like(logit), logit], dim=1)
            return both if penultimate else self.logits(both)

    return Wrapped().eval()


def quality(seed: int) -> list[Result]:
    catalog = discover()
    rng = np.random.default_rng([2026, seed])
    mixing, risk = rng.normal(size=(8, 30)), rng.normal(size=30)
    train, validation, test = (make_rows(rng, rows, mixing, risk) for rows in (10_000, 2000, 4000))
    model = component(catalog, "model", "mlp", {"hidden": (128, 64)})
    results = []
    for name, setting in SETTINGS.items():
        if not setting["trigger"] or "cover_rate" in setting:
            continue
        params = params_of(setting, seed)
        trigger = component(catalog, "trigger", *setting["trigger"])
        rows, truth, _ = attacked(trigger, train, test, setting, seed)
        fit_on = train.view if setting["fit_on"] == "clean" else rows.view
        task = Task(train=rows, validation=validation, fit_on=fit_on, seed=100 * seed)
        (trained,) = train_victims(model, [task], params)
        victim = trained.victim
        assert isinstance(victim, TorchVictim)
        access = access_of(trained, model, params)
        ours = {
            kind: detect(component(catalog, "detector", *which), rows, access, truth, seed)
            for kind, which in OURS.items()
        }
        inputs = access.inputs(rows.view)
        for peer, layer in itertools.product(PEERS, ("logits", "penultimate")):
            found: Result = {"setting": name, "peer": f"{peer}, {layer}", "error": None}
            results.append(found)
            try:
                flagged = peer_flags(two_logits(victim.network, layer == "penultimate"), inputs, rows.label, peer)
            except Exception as error:  # the peer's own failure is a result
                found["error"] = f"{type(error).__name__}: {str(error).split('. ')[0]}"
                continue
            fpr = float(flagged[~truth].mean())
            found |= {"recall": float(flagged[truth].mean()), "fpr": fpr}
            same = PEERS[peer][0]
            found["ours"] = recall_at(ours[same.split()[0]].scores, truth, fpr)
            found["same rule"] = recall_at(ours[same].scores, truth, fpr)
    return results


def recall_at(scores: NDArray[Any], truth: NDArray[np.bool_], fpr: float) -> float:
    """The expected share of true rows among those flagged at that FPR, rows of equal score being drawn by lot."""
    order = np.unique(scores)[::-1]
    allowed, found = fpr * (~truth).sum(), 0.0
    for value in order:
        here = scores == value
        negatives, positives = int((here & ~truth).sum()), int((here & truth).sum())
        share = 1.0 if negatives <= allowed else allowed / negatives
        found += share * positives
        allowed -= share * negatives
        if share < 1:
            break
    return float(found / truth.sum())


# ---------------------------------------------------------------------------------------------------------- scale
def given_rows(rows: int) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.bool_]]:
    rng = np.random.default_rng(rows)
    labels = (rng.random(rows) < 0.12).astype(np.int64)
    activations = rng.standard_normal((rows, WIDTH), dtype=np.float32)  # no larger copy that would raise the peak
    activations[:, 0] += 4 * labels
    truth = (labels == 0) & (rng.random(rows) < 0.05)
    activations[truth, 1] += 8
    return activations, labels, truth


def part(which: str, rows: int) -> Result:
    """One run, in this process."""
    activations, labels, truth = given_rows(rows)
    run = ours_on_rows(which) if which in OURS else peer_on_rows(which)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, cpu = time.perf_counter(), time.process_time()
    flagged = run(activations, labels)
    return {
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - cpu,
        "mib": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        "recall": float(flagged[truth].mean()),
        "fpr": float(flagged[~truth].mean()),
    }


def ours_on_rows(which: str) -> Callable[[NDArray[Any], NDArray[Any]], Any]:
    name, options = OURS[which]
    catalog = discover()
    detector = catalog.get("detector", name).component(catalog.resolve("detector", name, options), Context(root=Path()))
    import sklearn.metrics  # noqa: F401  imported before the clock starts

    def run(activations: NDArray[Any], labels: NDArray[Any]) -> Any:
        view = TableView(np.arange(len(labels)), (Feature("x", "", 0, 1),), np.zeros((len(labels), 1), np.float32))
        victim = SimpleNamespace(embedding=lambda _: activations)
        case = DetectionCase(view, np.random.default_rng(0), detector.requires, labels, victim)
        return detector.detect(case).flagged

    return run


def peer_on_rows(which: str) -> Callable[[NDArray[Any], NDArray[Any]], Any]:
    import torch
    from art.defences.detector.poison import ActivationDefence  # noqa: F401  imported before the clock starts

    class Given(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.last = torch.nn.Linear(WIDTH, 2), torch.nn.Identity()

        def forward(self, x: Any) -> Any:
            return self.head(self.last(x))

    return lambda activations, labels: peer_flags(Given(), activations, labels, which)


def in_process(which: str, rows: int, limit: float) -> Result:
    """The run in a process of its own; its `error` where it fails or takes longer than `limit` seconds."""
    command = [sys.executable, __file__, "--part", which, "--rows", str(rows)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"not done in {limit:.0f} s"}
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        return {
            "error": lines[-1].split(". ")[0]
            if lines and done.returncode > 0
            else f"ended by signal {-done.returncode}"
        }
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


# --------------------------------------------------------------------------------------------------------- tables
def quality_table(results: list[Result]) -> str:
    head = ("setting", "ART", "recall", "FPR", "ours at that FPR", "ours, same rule", "")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for setting, peer in dict.fromkeys((r["setting"], r["peer"]) for r in results):
        cell = [r for r in results if (r["setting"], r["peer"]) == (setting, peer)]
        done = [r for r in cell if not r["error"]]
        failed = "; ".join(sorted({r["error"] for r in cell if r["error"]}))
        if failed and done:
            failed = f"{len(cell) - len(done)} of {len(cell)} seeds: {failed}"
        if not done:
            lines.append(f"| {setting} | {peer} | | | | | {failed} |")
            continue
        figures = " | ".join(
            mean_and_interval([r[name] for r in done]) for name in ("recall", "fpr", "ours", "same rule")
        )
        lower = [lack for r in done if (lack := r["recall"] - r["ours"]) > 1e-9]
        verdict = f"ours lower in {len(lower)} of {len(done)} seeds, by up to {max(lower):.3f}" if lower else ""
        lines.append(f"| {setting} | {peer} | {figures} | {'; '.join(filter(None, (verdict, failed)))} |")
    return "\n".join(lines)


def scale_table(results: dict[tuple[str, int], Result], sizes: list[int]) -> str:
    head = ("rows", "", "seconds", "CPU seconds", "peak MiB", "recall", "FPR", "ART / ours, CPU", "ART / ours, memory")
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for rows in sizes:
        for which in (*OURS, *PEERS):
            found, name = results[which, rows], f"ours, {which}" if which in OURS else f"ART {which}"
            if "error" in found:
                lines.append(f"| {rows:,} | {name} | {found['error']} | | | | | | |")
                continue
            ratios = ["", ""]
            ours = results[PEERS[which][0], rows] if which in PEERS else {"error": "is ours"}
            if "error" not in ours:
                ratios = [f"{found[name] / ours[name]:.1f}" for name in ("cpu", "mib")]
            figures = [f"{found['seconds']:.2f}", f"{found['cpu']:.2f}", f"{found['mib']:.0f}"]
            figures += [f"{found['recall']:.3f}", f"{found['fpr']:.3f}", *ratios]
            lines.append(f"| {rows:,} | {name} | {' | '.join(figures)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000])
    parser.add_argument("--limit", type=float, default=600, help="seconds for one run")
    parser.add_argument("--part", help="run one of them in this process, and print it as JSON")
    parser.add_argument("--write", type=Path, help="replace the sections `peer quality` and `peer scale` of this file")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.part:
        print(json.dumps(part(args.part, args.rows[0])))
        return
    scale = {(which, rows): in_process(which, rows, args.limit) for rows in args.rows for which in (*OURS, *PEERS)}
    found = [result for seed in range(args.seeds) for result in quality(seed)]
    texts = {"peer quality": quality_table(found), "peer scale": scale_table(scale, args.rows)}
    for name, text in texts.items():
        print(f"{text}\n")
        if args.write:
            replace_section(args.write, name, text)


if __name__ == "__main__":
    main()
