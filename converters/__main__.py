"""`python -m converters` is t7convert."""

from converters.cli import main

main()
