"""Application and account default models: a points scorecard on monotone bins."""
