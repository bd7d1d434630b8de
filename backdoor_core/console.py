"""Progress for people: a bar on a terminal, plain lines elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(stderr=True, highlight=False)

Advance = Callable[[str], None]


@contextmanager
def progress(what: str, total: int) -> Iterator[Advance]:
    """Show the progress of `total` steps. Call the yielded function after each step, with what to say of it."""
    if console.is_terminal:
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[last]}"),
            console=console,
        ) as bar:
            task = bar.add_task(what, total=total, last="")
            yield lambda last: bar.update(task, advance=1, last=last)
    else:
        done = 0

        def line(last: str) -> None:
            nonlocal done
            done += 1
            say(f"{what} {done}/{total}  {last}")

        yield line


def say(line: str) -> None:
    """One plain line on standard error."""
    console.print(line, markup=False, soft_wrap=True)
