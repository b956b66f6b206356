"""`python -m pipelines` is `cardline`."""

from pipelines.cli import main

if __name__ == "__main__":
    main()
