"""Measurements at size: each module is a program, `python -m benchmarks.<name> --help`."""
