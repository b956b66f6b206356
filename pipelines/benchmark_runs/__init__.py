"""Published benchmarks: our figures beside those of others, on their data and their split."""
