"""Rewards: program terms, the earning engine, lots, the double-entry ledger and its seals."""
