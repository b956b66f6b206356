"""What finance reads: reconciliations, exceptions and the monthly rewards packs.

The figures themselves are dbt models (`dbt/models/finance`); here they are compared with each
other and put on paper. Nothing in this package changes a balance.
"""
