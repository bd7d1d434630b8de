"""Who does the work of a sweep: processes of this machine, or a Ray cluster. Both give the same bytes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol

from backdoor_core.sweep_params import SweepParams
from backdoor_core.workers import context, cpus, start_server

Key = tuple[str, Any]
"""What a call is for, and which one."""

# The stages, and what they import late.
_IMPORTED = (
    "backdoor_core.sweep.work",
    "backdoor_core.stages.evaluate",
    "backdoor_core.stages.detect",
    "backdoor_core.stages.poison",
    "backdoor_core.attack.plausibility",
)


class Executor(Protocol):
    """Runs functions of modules somewhere else."""

    by_value: bool
    """Whether a worker may be on a machine without this disk, and must be given contents, not paths."""

    def share(self, value: Any) -> Any:
        """A stand-in for a large argument of many calls, sent once."""

    def submit(self, key: Key, function: Callable[..., Any], *arguments: Any) -> None:
        """Have a call done; `next_done` gives its result by `key`."""

    def next_done(self) -> tuple[Key, Any]:
        """Wait for a call to end. What it raised is returned, not raised."""

    def close(self) -> None:
        """Stop all work."""


def make_executor(sweep: SweepParams) -> Executor:
    """The one that the params choose. Raises `errors.BackdoorError` where it is not installed or not reached."""
    if sweep.executor == "local":
        return LocalExecutor(sweep.workers or cpus(), sweep.retries)
    from backdoor_core.sweep.ray_executor import RayExecutor

    return RayExecutor(sweep)


@dataclass(frozen=True)
class _Call:
    key: Key
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    tries: int = 1
    alone: bool = False
    """Whether it is tried with nothing beside it."""


class LocalExecutor:
    """Processes of one thread each. When one dies, what was under way is given out again, to a fresh set.

    Which of several calls a process died of cannot be told. So the last try of each is made by itself, and a call is
    given up only when a process dies that did nothing else.
    """

    by_value = False

    def __init__(self, workers: int, retries: int) -> None:
        self.workers, self.retries = workers, retries
        self.calls: dict[Future[Any], _Call] = {}
        self.waiting: list[_Call] = []
        self.suspects: list[_Call] = []
        """Calls in their last try: one after the other, while all others wait."""
        # The server of the workers imports torch while the cohort is built; who asks it for a worker waits for that.
        start_server(_IMPORTED)

    def share(self, value: Any) -> Any:
        """The value itself: workers of this machine are given paths."""
        return value

    def submit(self, key: Key, function: Callable[..., Any], *arguments: Any) -> None:
        """Have a call done."""
        self.waiting.append(_Call(key, function, arguments))
        self._hand_out()

    def next_done(self) -> tuple[Key, Any]:
        """Wait for a call to end."""
        while True:
            self._hand_out()
            done, _ = wait(self.calls, return_when=FIRST_COMPLETED)
            # What was done before a process died is not lost with it.
            answered = next((future for future in done if not _lost(future)), None)
            if answered is not None:
                error = answered.exception()
                return self.calls.pop(answered).key, answered.result() if error is None else error
            if (dead := self._again()) is not None:
                return dead

    @cached_property
    def pool(self) -> ProcessPoolExecutor:
        """The workers, from the first call on."""
        return ProcessPoolExecutor(self.workers, context(_IMPORTED), set_up_worker, (os.getpid(),))

    def close(self) -> None:
        """Stop all work."""
        if "pool" not in vars(self):
            return
        for process in list((self.pool._processes or {}).values()):
            process.terminate()
        self.pool.shutdown(wait=True, cancel_futures=True)

    def _hand_out(self) -> None:
        """Give the pool what waits, or one suspect once there is nothing else under way."""
        if self.suspects:
            if not self.calls and self._give(self.suspects[0]):
                self.suspects.pop(0)
        elif not any(call.alone for call in self.calls.values()):
            while self.waiting and self._give(self.waiting[0]):
                self.waiting.pop(0)

    def _give(self, call: _Call) -> bool:
        """Whether the pool takes it: one that has died takes nothing until `next_done` has seen what went with it."""
        try:
            future = self.pool.submit(call.function, *call.arguments)
        except BrokenProcessPool:
            if self.calls:
                return False
            self._drop_pool()
            future = self.pool.submit(call.function, *call.arguments)
        self.calls[future] = call
        return True

    def _drop_pool(self) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)
        del self.pool

    def _again(self) -> tuple[Key, Any] | None:
        """Have what the dead pool had tried again; the call that it certainly died of, where its tries are up."""
        self._drop_pool()
        lost = [call for future, call in self.calls.items() if _lost(future)]
        self.calls = {future: call for future, call in self.calls.items() if not _lost(future)}
        # They were begun in the order in which they were given.
        under_way, not_begun = lost[: self.workers], lost[self.workers :]
        if len(under_way) == 1 and under_way[0].tries > self.retries:
            self.waiting[:0] = not_begun
            (dead,) = under_way
            return dead.key, RuntimeError(f"its process died, {dead.tries} times: out of memory, or killed")
        again = [replace(call, tries=call.tries + 1, alone=call.tries >= self.retries) for call in under_way]
        self.suspects += [call for call in again if call.alone]
        self.waiting[:0] = [*(call for call in again if not call.alone), *not_begun]
        return None


def _lost(future: Future[Any]) -> bool:
    """Whether a call that has ended went down with its pool."""
    return future.cancelled() or isinstance(future.exception(), BrokenProcessPool)


def set_up_worker(parent: int | None = None) -> None:
    """One thread, silent, and gone when the sweep is: a worker whose parent was killed would wait forever."""
    import torch

    from backdoor_core.console import console
    from backdoor_core.threads import limit_threads

    limit_threads(1)
    torch.set_num_threads(1)
    console.quiet = True
    if parent is not None:
        # Ctrl-C reaches the whole process group; the parent decides.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    while True:
        time.sleep(1)
        try:
            os.kill(parent, 0)
        except ProcessLookupError:
            os._exit(1)
