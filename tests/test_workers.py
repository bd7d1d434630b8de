"""Calls in worker processes: their order, their errors, what cannot be sent, and a server that was started before."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import yaml

from backdoor_core.errors import BackdoorError
from backdoor_core.files import write_json
from backdoor_core.stages.warm_up import warm_up
from backdoor_core.study import load_study
from backdoor_core.workers import call_all

MODULES = ("backdoor_core.files",)
PARAMS = Path(__file__).parents[1] / "params.yaml"


def doubled(x: torch.Tensor) -> tuple[int, torch.Tensor, int]:
    return os.getpid(), 2 * x, torch.get_num_threads()


def refused(number: int) -> None:
    raise BackdoorError(f"number {number} is wrong")


def test_calls_are_answered_in_their_order_by_other_processes_of_one_thread():
    heard = {}
    calls = [partial(doubled, torch.full((3,), float(n))) for n in range(5)]
    answers = call_all(calls, 2, MODULES, lambda number, answer: heard.update({number: answer[0]}))
    assert heard == {number: answer[0] for number, answer in enumerate(answers)}
    assert [answer[1].tolist() for answer in answers] == [[2.0 * n] * 3 for n in range(5)]
    assert os.getpid() not in {answer[0] for answer in answers}
    assert {answer[2] for answer in answers} == {1}


@pytest.mark.parametrize(("calls", "workers"), [(3, 1), (1, 2), (0, 2)])
def test_one_worker_or_one_call_stays_in_this_process(calls, workers):
    answers = call_all([partial(doubled, torch.ones(1))] * calls, workers, MODULES)
    assert [answer[0] for answer in answers] == [os.getpid()] * calls


def test_what_cannot_be_sent_is_called_here():
    calls = [lambda n=n: (os.getpid(), n) for n in range(3)]
    assert call_all(calls, 2, MODULES) == [(os.getpid(), n) for n in range(3)]


def test_the_first_error_is_raised_here_as_it_was():
    calls = [partial(abs, -1), partial(refused, 1), partial(abs, -2)]
    with pytest.raises(BackdoorError, match=r"^number 1 is wrong$"):
        call_all(calls, 2, MODULES)


def test_a_process_that_dies_is_said_in_one_line():
    with pytest.raises(BackdoorError, match="a worker process died"):
        call_all([partial(os._exit, 1)] * 2, 2, MODULES)


PROGRAM = """
from functools import partial
from backdoor_core.workers import call_all, start_server
if __name__ == "__main__":
    start_server(["colorsys"])
    imported = "{'colorsys', 'sndhdr'} & set(__import__('sys').modules)"
    print(call_all([partial(eval, imported)] * 2, 2, ["sndhdr"]))
"""


def test_a_server_that_was_started_ahead_is_the_one_that_is_used():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[{'colorsys'}, {'colorsys'}]"


@pytest.mark.parametrize(
    ("stage", "model", "stays", "starts"),
    [
        ("nulls", "lstm", 7000, True),
        ("explain", "event_transformer", 7000, True),
        ("explain", "lstm", 7000, False),
        ("nulls", "mlp", 7000, False),
        ("nulls", "lstm", 100, False),
        ("train", "lstm", 7000, False),
    ],
)
def test_processes_are_started_ahead_only_where_they_will_be_wanted(tmp_path, monkeypatch, stage, model, stays, starts):
    params = yaml.safe_load(PARAMS.read_text()) | {"model": model}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    study = load_study(tmp_path)
    asked = []
    monkeypatch.setattr("backdoor_core.stages.warm_up.start_server", asked.append)
    warm_up(stage, study)
    assert not asked
    study.paths.splits.parent.mkdir()
    write_json(study.paths.splits, {"summary": {"train": {"stays": stays}}})
    warm_up(stage, study)
    assert asked == ([[f"backdoor_core.stages.{stage}"]] if starts else [])
