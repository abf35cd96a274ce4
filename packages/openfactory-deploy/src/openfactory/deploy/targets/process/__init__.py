"""The target `process`: the apps of one machine as supervised processes, without a container engine.

Each project folder has one supervisor, which the first command starts and which ends with the last app. `target` is the
side of the commands. `supervisor` is the process, `supervised` one app in it, `records` what it keeps on disk.

The library supervisor was tried first, 4.3.0 on Python 3.11, and is not used. When its daemon is killed, the output
pipes of all apps break, and a new daemon cannot take the apps over. A program that runs longer than `startsecs` is
restarted without a pause for ever, others after pauses that grow without a bound. A value of the environment with both
kinds of quotes cannot be written in its configuration.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from openfactory.deploy.targets.process.target import ProcessTarget

__all__ = ["ProcessTarget"]


def __getattr__(name: str) -> Any:
    if name == "ProcessTarget":  # the supervisor does without the modules of the commands
        from openfactory.deploy.targets.process.target import ProcessTarget

        return ProcessTarget
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
