"""Features: published from the warehouse, served point-in-time and online through Feast.

Nothing here imports Feast (four seconds) before it is needed.
"""
