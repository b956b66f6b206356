"""Cardline: the batch data platform behind a co-branded credit card."""
