"""`python -m pipelines`: the same as the `sequela` command."""

from pipelines.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
