"""What a model may refuse."""


class ModelError(Exception):
    """One clear line: what cannot be modelled, promoted or loaded, and what to do."""


class NotEnoughOutcomes(ModelError):
    """There are too few matured labels, or only one class: training is not due yet."""
