"""The order of work: each task when those before it have succeeded, independent tasks beside each other."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from openfactory.exceptions import ConfigurationError

__all__ = ["run_in_order"]

# Number of tasks at a time.
_WORKERS = 8


def run_in_order(
    tasks: Mapping[str, Callable[[], bool]],
    after: Mapping[str, Collection[str]],
    skip: Callable[[str, str], None],
    cancel: Callable[[], None] = lambda: None,
) -> None:
    """Run tasks, each after those that it needs.

    Args:
        tasks: by name, functions that return whether they have succeeded.
        after: by name, the tasks that must have succeeded before; other names count as done.
        skip: called with the name of a task that is not run, and of the one that has not succeeded.
        cancel: called when an error, such as Ctrl-C, ends the call, before the running tasks are waited for.

    Raises:
        ConfigurationError: tasks wait for each other.
        Exception: the first error of a task, after the end of those that run.
    """
    waiting = {name: {other for other in after.get(name, ()) if other in tasks and other != name} for name in tasks}
    running: dict[Future[bool], str] = {}
    with ThreadPoolExecutor(_WORKERS, thread_name_prefix="openfactory-deploy") as pool:
        try:
            while waiting or running:
                for name in [name for name, others in waiting.items() if not others]:
                    del waiting[name]
                    running[pool.submit(tasks[name])] = name
                if not running:
                    raise ConfigurationError(
                        f"{', '.join(sorted(waiting))} wait for each other. Remove a name from their depends_on."
                    )
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    _settle(running.pop(future), future.result(), waiting, skip)
        except BaseException:
            cancel()
            raise


def _settle(name: str, succeeded: bool, waiting: dict[str, set[str]], skip: Callable[[str, str], None]) -> None:
    """Let the tasks that wait for one go on, or skip them and those that wait for them."""
    if succeeded:
        for others in waiting.values():
            others.discard(name)
        return
    failed = [name]
    while failed:
        cause = failed.pop()
        for other in [other for other, others in waiting.items() if cause in others]:
            del waiting[other]
            skip(other, cause)
            failed.append(other)
