"""Imports that later stages would wait for, made while this process waits for another one."""

from importlib import import_module


def import_ahead(*modules: str) -> None:
    """Import what is slow to import."""
    for module in modules:
        import_module(module)
