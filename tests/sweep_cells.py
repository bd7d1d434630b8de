"""Cells of a made-up sweep."""

from backdoor_core.sweep.rows import row_of


def cell(figures, model="mlp", trigger="rare_value", rate=0.02, seed=1, parameters=None, **others):
    return {
        "inputs": "0" * 64,
        "status": "done",
        "error": None,
        "axes": {"model": model, "trigger": trigger, "rate": rate, "parameters": parameters or {}, "seed": seed},
        "figures": figures,
        "roc": {},
        "null_lift": [],
    } | others


def row(figures, *args, **kwargs):
    return row_of(cell(figures, *args, **kwargs))


def failed(error="the training part holds no stay", **axes):
    return row({}, status="failed", error=error, **axes)
