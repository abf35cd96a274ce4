"""From files to apps: all apps, or all problems of all files.

`drafts` turns the problems of the schema into sentences. `checks` has the checks of one app, `clashes` those among all
apps, `places` those in the unified namespace, and `dependencies` the meaning of `depends_on`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from openfactory.deploy.app import App
from openfactory.deploy.files.document import read_document
from openfactory.deploy.files.folders import app_files
from openfactory.deploy.problems import InvalidFilesError, Problem
from openfactory.deploy.reading.checks import problems_of
from openfactory.deploy.reading.clashes import clashes_among
from openfactory.deploy.reading.drafts import Draft, drafts_of
from openfactory.deploy.reading.places import place_of, place_problems_among, replica_places_of

if TYPE_CHECKING:
    from openfactory.deploy.uns import UNSSchema

__all__ = ["read_apps"]


def read_apps(paths: Sequence[Path], environ: Mapping[str, str], uns: UNSSchema | None = None) -> list[App]:
    """Return the apps of files and folders, in the order of the files.

    Args:
        paths: files, and folders of files `app_*.yml`.
        environ: the variables that the files may name.
        uns: the unified namespace; without it, the places of the assets are not checked.

    Raises:
        InvalidFilesError: something is wrong; it has all problems of all files.
    """
    files, problems = app_files(paths)
    drafts: list[Draft] = []
    of_schema: list[Problem] = []
    for file in files:
        document = read_document(file, environ)
        problems += document.problems
        found, wrong = drafts_of(document)
        drafts += found
        of_schema += wrong
    for draft in drafts:
        of_schema += problems_of(draft)
    of_schema += [*clashes_among(drafts), *place_problems_among(drafts, uns)]
    unread = {(problem.place.file, problem.path) for problem in problems}
    problems += [problem for problem in of_schema if (problem.place.file, problem.path) not in unread]
    if problems:
        raise InvalidFilesError(problems)
    return [draft.app(place_of(draft, uns), replica_places_of(draft, uns)) for draft in drafts]
