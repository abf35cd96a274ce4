"""Looks at all that a factory needs, and says of each part how it is and what to do.

Read `factory` for what is looked at, `examination` for how, then the parts: `embedded`, `broker`, `ksqldb`, `live`.
"""

from openfactory.doctor.examination import examine
from openfactory.doctor.factory import Factory
from openfactory.doctor.finding import Finding

__all__ = ["Factory", "Finding", "examine"]
