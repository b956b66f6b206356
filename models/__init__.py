"""Pure machine learning: frames in, artefacts out.

Nothing here reads the warehouse, the feature store or the clock of a run: what a model learns
from is handed to it, so the same frame gives the same model anywhere.
"""
