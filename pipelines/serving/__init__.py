"""The server of risk models: features and scores over HTTP, guarded, measured and logged.

Nothing here imports Feast or a model library before it is needed.
"""
