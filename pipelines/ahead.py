"""Imports that later stages would wait for, made while this process waits for another one."""

from importlib import import_module
from threading import Thread


def import_ahead(*modules: str) -> None:
    """Import what is slow to import."""
    for module in modules:
        import_module(module)


def import_beside(*modules: str) -> None:
    """`import_ahead` in a thread of its own."""
    Thread(target=import_ahead, args=modules, daemon=True).start()
