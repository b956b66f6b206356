"""`python -m pipelines` is `cardline`."""

from pipelines.cli import main

main()
