"""Checks of the servers and files that a factory needs, each with its state and a remedy.

Start with `factory`, the servers of a factory, and `examination`, which runs the checks. The checks are in `embedded`,
`broker`, `ksqldb`, `live` and `clock`.
"""

from openfactory.doctor.examination import examine
from openfactory.doctor.factory import Factory
from openfactory.doctor.finding import Finding

__all__ = ["Factory", "Finding", "examine"]
