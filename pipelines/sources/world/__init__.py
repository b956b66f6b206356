"""The synthetic world: a card portfolio from application to charge-off, as landing files.

What belongs here: everything that makes rows of landing feeds out of a seed. What does not: any
reading of them, and any knowledge of how the pipeline will use them.

Time. Every row has a `received_at`, and its file's batch date is never before it (`delivery` says
which feed comes how often). Authorizations, payments, labels, disputes and reward events are known
within seconds or hours, what posts is known the next morning (1 % a day later), statements two days
after their period. Account, customer, card and settlement files come on Mondays: a card is first
used eight days after its account was opened, so that both are known by then. Applications and
bureau answers were known when the API was called, never after `decision_at`; their weekly file only
brings them. An application that a person decides has a PENDING version before.

Independence. Every draw is a hash of (seed, purpose, account, …): see `draws`. Merchants, programs
and compromised terminals depend on the seed alone. More accounts add rows and change none; only
what the settlement totals and charges sum up grows with them.

Not in this world: `credit_outcomes` (outcomes follow from statements and account status),
`partner_acknowledgements` (a partner answers what the ledger has posted to it, which is not known
here). Faults are put into the finished files by `faults`.
"""

from pipelines.sources.world.generation import DEFAULT_END, WorldSummary, generate

__all__ = ["DEFAULT_END", "WorldSummary", "generate"]
