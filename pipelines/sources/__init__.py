"""Where landing files come from: the synthetic world, and one adapter per public data set."""
