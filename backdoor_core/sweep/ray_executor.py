"""The work of a sweep on a Ray cluster, or on Ray of this machine."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from backdoor_core.errors import BackdoorError
from backdoor_core.sweep.calls import Place
from backdoor_core.sweep.executors import Key, set_up_worker
from backdoor_core.sweep_params import SweepParams


class RayExecutor:
    """Calls as Ray tasks of one CPU each, which Ray gives out again when a worker or its machine dies."""

    by_value = True

    def __init__(self, sweep: SweepParams) -> None:
        self.ray = _ray()
        self.keys: dict[Any, Key] = {}
        _look_for(sweep.address)
        # Without `local`, Ray would join a cluster of somebody else that runs on this machine.
        here = {"address": "local", "num_cpus": sweep.workers, "include_dashboard": False}
        where = {"address": sweep.address} if sweep.address else here
        try:
            self.ray.init(**where, log_to_driver=False, logging_level="error", configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError, self.ray.exceptions.RayError) as error:
            said = " ".join(str(error).split())
            if not sweep.address:
                raise BackdoorError(
                    f"params.yaml: sweep.executor: Ray does not start on this machine: {said}"
                ) from None
            raise BackdoorError(
                f"params.yaml: sweep.address: no Ray cluster at {sweep.address}, or none that takes this machine's "
                f"token (`RAY_AUTH_MODE`, see docs/sweeps.md): {said}"
            ) from None
        self.task = self.ray.remote(num_cpus=1, max_retries=sweep.retries)(_work)

    def share(self, value: Any) -> Any:
        """Put it once into the object store."""
        return self.ray.put(value)

    def submit(self, key: Key, function: Callable[..., Any], *arguments: Any) -> None:
        """Have a call done."""
        self.keys[self.task.remote(function, *arguments)] = key

    def next_done(self) -> tuple[Key, Any]:
        """Wait for a call to end."""
        (done, *_), _ = self.ray.wait(list(self.keys), num_returns=1)
        key = self.keys.pop(done)
        try:
            return key, self.ray.get(done)
        except self.ray.exceptions.RayTaskError as error:
            return key, error.cause if isinstance(error.cause, Exception) else error
        except self.ray.exceptions.RayError as error:
            said = " ".join(str(error).split())
            return key, RuntimeError(f"its Ray worker died too often: {said}")

    def close(self) -> None:
        """Leave the cluster, or stop the one of this machine."""
        self.ray.shutdown()


def _look_for(address: str | None) -> None:
    """Raise `BackdoorError` where nothing answers at a host and port: Ray itself asks for minutes."""
    named = address or ""
    where = urlsplit(named if "://" in named else f"//{named}")
    try:
        if where.hostname is not None and where.port is not None:
            socket.create_connection((where.hostname, where.port), timeout=10).close()
    except (OSError, ValueError) as error:
        raise BackdoorError(f"params.yaml: sweep.address: no Ray cluster at {address}: {error}") from None


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise BackdoorError(
            "params.yaml: sweep.executor ray needs Ray; install it with `pip install -c constraints.txt '.[ray]'`"
        ) from None
    return ray


@cache
def _ready() -> None:
    set_up_worker()


def _work(function: Callable[..., Any], *arguments: Any) -> Any:
    _ready()
    return function(*(_fetched(argument) for argument in arguments))


def _fetched(argument: Any) -> Any:
    """With what stands in the object store in its place: Ray itself looks at arguments alone, not into them."""
    if not isinstance(argument, Place):
        return argument
    ray = _ray()
    return replace(argument, cohort=ray.get(argument.cohort), clean=argument.clean and ray.get(argument.clean))
