"""Dagster objects and nothing else: what they call is importable and testable without Dagster."""
