"""Worker processes of one thread each, forked from a server that has imported what they need."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import BaseContext
from typing import Any, TypeVar

from backdoor_core.errors import BackdoorError
from backdoor_core.threads import limit_threads

_Answer = TypeVar("_Answer")


def cpus() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def context(modules: Sequence[str]) -> BaseContext:
    """Processes that share nothing by accident. A fork of this one would inherit the locks of torch's threads.

    The first server of this process imports `modules`, once; each worker is a fork of it and starts at once.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload(list(modules))
    return found


def start_server(modules: Sequence[str]) -> None:
    """Have the server of this process import `modules` from now on, while this process goes on."""
    if context(modules).get_start_method() == "forkserver":
        from multiprocessing import forkserver

        forkserver.ensure_running()


def call_all(
    calls: Sequence[Callable[[], _Answer]],
    workers: int,
    modules: Sequence[str],
    on_done: Callable[[int, _Answer], None] = lambda number, answer: None,
) -> list[_Answer]:
    """What each call returns, in their order, from up to `workers` processes whose server imports `modules`.

    Calls are functions of modules, or partials of such; those that cannot be sent are made in this process, as all are
    where there is one worker. `on_done` hears the number of each call, as it is answered, and the answer. The first
    error that a call raises is raised here, once those under way have ended; `BackdoorError` where a process dies.
    """
    answers: dict[int, _Answer] = {}
    sent = _sent(calls) if min(workers, len(calls)) > 1 else None
    if sent is None:
        for number, call in enumerate(calls):
            answers[number] = call()
            on_done(number, answers[number])
        return list(answers.values())
    executor = ProcessPoolExecutor(min(workers, len(sent)), context(modules), _set_up)
    try:
        futures = {executor.submit(_answer, pickled): number for number, pickled in enumerate(sent)}
        for future in as_completed(futures):
            number = futures[future]
            answers[number] = pickle.loads(future.result())
            on_done(number, answers[number])
    except BrokenProcessPool:
        raise BackdoorError("a worker process died: out of memory, or killed") from None
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
    return [answers[number] for number in range(len(calls))]


def _sent(calls: Sequence[Callable[[], Any]]) -> list[bytes] | None:
    """Pickled here and not by `multiprocessing`, which torch teaches to send a tensor as a handle of this process."""
    try:
        return [pickle.dumps(call) for call in calls]
    except (pickle.PicklingError, AttributeError, TypeError):
        return None


# ------------------------------------------------------------------------------------------------- in a worker
def _set_up() -> None:
    # Ctrl-C reaches the whole process group; the parent decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit_threads(1)


def _answer(call: bytes) -> bytes:
    return pickle.dumps(pickle.loads(call)())
