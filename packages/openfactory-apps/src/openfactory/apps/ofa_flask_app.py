"""An alias of the module `openfactory.flaskapp` of openfactory-flask, at the path that existing apps import."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from openfactory.flaskapp import *  # noqa: F403
else:
    try:
        import openfactory.flaskapp
    except ImportError as error:
        if error.name not in ("openfactory.flaskapp", "openfactory.flaskapp.app", "flask", "werkzeug"):
            raise
        from openfactory.exceptions import MissingDistributionError

        raise MissingDistributionError(
            "OpenFactoryFlaskApp needs openfactory-flask. Install it: pip install openfactory-flask"
        ) from error
    sys.modules[__name__] = openfactory.flaskapp
