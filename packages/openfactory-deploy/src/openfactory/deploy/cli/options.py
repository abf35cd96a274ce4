"""Arguments and options that several commands of `ofa apps` share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import os

__all__ = [
    "LocalPath",
    "app_option",
    "no_wait_option",
    "now_option",
    "paths_argument",
    "project_option",
    "target_option",
    "timeout_option",
]


class LocalPath(click.Path):
    """A path of this machine; an address such as `github://…` is refused as it was written."""

    def __init__(self, **options: Any) -> None:
        super().__init__(path_type=Path, **options)

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        from openfactory.deploy.files.folders import local_path

        return super().convert(local_path(value) if isinstance(value, str) else value, param, ctx)


paths_argument = click.argument("paths", metavar="[PATH]…", nargs=-1, type=LocalPath())

target_option = click.option(
    "--target", "target_name", metavar="NAME", help="Where the apps run.  [default: $DEPLOYMENT_PLATFORM, else process]"
)

project_option = click.option(
    "--project", "project_name", metavar="NAME", help="Name of the project.  [default: the name of its folder]"
)

app_option = click.option(
    "--app", "wanted", metavar="UUID", multiple=True, help="Only this asset, or all replicas of this app; repeatable."
)

no_wait_option = click.option("--no-wait", is_flag=True, help="Fail if another deployment of the project runs.")

now_option = click.option("--now", is_flag=True, help="Do not wait for the conditions of apps (`when`).")

timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=60.0,
    show_default=True,
    help="Seconds in which an app becomes AVAILABLE.",
)
