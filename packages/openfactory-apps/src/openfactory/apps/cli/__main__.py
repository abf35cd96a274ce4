"""`python -m openfactory.apps.cli` is `ofa`, where no script is installed."""

from openfactory.apps.cli.root import main

main()
