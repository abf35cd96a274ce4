"""`python -m openfactory.apps.cli` is `ofa` without an installed script."""

from openfactory.apps.cli.root import main

main()
