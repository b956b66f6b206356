"""Optional monitoring of outcomes by protected group, apart from everything that trains or scores.

Off until `CARDLINE_FAIR_LENDING` names a folder. Nothing outside this package, but the command that
prints its result, may import it; protected data stay in that folder and are never written into the
home.
"""
