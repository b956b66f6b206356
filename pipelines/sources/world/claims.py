"""Rows of the feeds `fraud_labels` and `disputes`.

Fraud becomes a label when somebody says so, mostly the cardholder, mostly late; some of it never.
First-party fraud is the decoy: a claim on a genuine purchase, `UNKNOWN` at first and `LEGIT` once
an analyst has looked. Some alerts on genuine transactions are cleared within days.
"""

import numpy as np
import polars as pl

from pipelines.sources.world import lifecycle
from pipelines.sources.world.clock import DAY, HOUR, instants
from pipelines.sources.world.draws import Draws
from pipelines.sources.world.fraud import FRAUD_TYPES
from pipelines.sources.world.lifecycle import Plans
from pipelines.sources.world.onboarding import labels
from pipelines.sources.world.servicing import Serviced
from pipelines.sources.world.story import Story

_CLEARED_ALERTS = 0.002
_REASONS = ("", "FRAUD", "GOODS_SERVICES_NOT_RECEIVED", "FRAUD_CARD_NOT_PRESENT")
_CODES = ("", "10.4", "13.1", "10.4")
_DISPOSITIONS = ("WON", "PARTIALLY_WON", "LOST", "DENIED")


def disputed(plans: Plans, serviced: Serviced):
    """Attempts whose planned dispute comes true: their provisional credit has posted."""
    postings = plans.postings
    credited = serviced.happened & (postings.kind == lifecycle.PROVISIONAL)
    return np.unique(postings.attempt[credited])


def label_rows(story: Story, ids: pl.Series) -> pl.DataFrame:
    """Labels of attempts (whose transactions are `ids`), known when they are made."""
    seed, holders, attempts = story.seed, story.holders, story.attempts
    incidents, plans, serviced = story.incidents, story.plans, story.serviced
    incident = attempts["incident"].to_numpy()
    at = attempts["at"].to_numpy()
    holder = attempts["holder"].to_numpy()
    salt = attempts["salt"].to_numpy()
    draws = Draws(seed, "labels")

    def rows(chosen, label, known, *, kind, source, tag) -> pl.DataFrame:
        return pl.DataFrame(
            {
                "label_id": "lab_" + ids[chosen].str.slice(3) + tag,
                "transaction_id": ids[chosen],
                "label": pl.repeat(label, chosen.size, eager=True),
                "occurred_at": instants(at[chosen]),
                "known_at": instants(known),
                "fraud_type": kind,
                "source": source,
                "received_at": instants(known),
            }
        )

    frauds = np.flatnonzero(serviced.emitted & (incident >= 0) & (plans.label_known_at >= 0))
    who = draws.choice([0.70, 0.20, 0.10], holders.number[holder[frauds]], salt[frauds], 1)
    parts = [
        rows(
            frauds,
            "FRAUD",
            plans.label_known_at[frauds],
            kind=labels(FRAUD_TYPES, incidents.scenario[incident[frauds]]),
            source=labels(("CUSTOMER_CLAIM", "ANALYST", "NETWORK_FRAUD_REPORT"), who),
            tag="f",
        )
    ]
    decoys = disputed(plans, serviced)
    decoys = decoys[plans.dispute[decoys] == lifecycle.DISPUTE_FIRST_PARTY]
    first_party = pl.repeat("FIRST_PARTY", decoys.size, eager=True)
    claimed = plans.claimed_at[decoys]
    decided = (claimed // DAY + plans.decided_days[decoys]) * DAY + 16 * HOUR
    by_customer = pl.repeat("CUSTOMER_CLAIM", decoys.size, eager=True)
    by_analyst = pl.repeat("ANALYST", decoys.size, eager=True)
    parts += [
        rows(decoys, "UNKNOWN", claimed, kind=first_party, source=by_customer, tag="u"),
        rows(decoys, "LEGIT", decided, kind=first_party, source=by_analyst, tag="g"),
    ]
    looked_at = serviced.emitted & (incident < 0)
    looked_at &= draws.happens(_CLEARED_ALERTS, holders.number[holder], salt, 2)
    cleared = np.flatnonzero(looked_at)
    wait = draws.integers(3, 70, holders.number[holder[cleared]], salt[cleared], 3) * HOUR
    parts.append(
        rows(
            cleared,
            "LEGIT",
            at[cleared] + wait,
            kind=pl.repeat(None, cleared.size, dtype=pl.String, eager=True),
            source=pl.repeat("ANALYST", cleared.size, eager=True),
            tag="k",
        )
    )
    return pl.concat(parts)


def dispute_rows(story: Story, ids: pl.Series) -> pl.DataFrame:
    """Events of each dispute. `denied + recovered + written off` never exceeds the amount, and
    equals it once the dispute is closed."""
    plans = story.plans
    chosen = disputed(plans, story.serviced)
    outcome, amount = plans.dispute_outcome[chosen], plans.disputed_amount[chosen]
    claim_day = plans.claimed_at[chosen] // DAY
    denied = np.where(outcome == lifecycle.DENIED, amount, 0)
    half = np.where(outcome == lifecycle.PARTIALLY_WON, amount // 2, 0)
    recovered = np.where(outcome == lifecycle.WON, amount, half)
    written_off = amount - denied - recovered
    nothing = np.zeros(chosen.size, np.int64)
    at_network = outcome != lifecycle.DENIED
    is_fought = at_network & (outcome != lifecycle.WON)
    chargeback_at = (claim_day + plans.chargeback_days[chosen]) * DAY + 14 * HOUR
    decided_at = (claim_day + plans.decided_days[chosen]) * DAY + 15 * HOUR
    everyone = np.ones(chosen.size, np.bool_)
    kind = plans.dispute[chosen]

    def event(name, tag, at, where, closed=False) -> pl.DataFrame:
        frame = pl.DataFrame(
            {
                "dispute_event_id": "dse_" + ids[chosen].str.slice(3) + tag,
                "dispute_id": "dsp_" + ids[chosen].str.slice(3),
                "transaction_id": ids[chosen],
                "event_type": pl.repeat(name, chosen.size, eager=True),
                "event_at": instants(at),
                "amount_minor": pl.Series(amount),
                "reason": labels(_REASONS, kind),
                "network_reason_code": labels(_CODES, kind),
                "disposition": labels(_DISPOSITIONS, outcome)
                if closed
                else pl.repeat(None, chosen.size, dtype=pl.String, eager=True),
                "denied_minor": pl.Series(denied if closed else nothing),
                "recovered_minor": pl.Series(recovered if closed else nothing),
                "written_off_minor": pl.Series(written_off if closed else nothing),
                "received_at": instants(at),
            }
        )
        return frame.filter(pl.Series(where))

    credited_at = (claim_day + 2) * DAY + 13 * HOUR
    return pl.concat(
        [
            event("CLAIM", "c", plans.claimed_at[chosen], everyone),
            event("PROVISIONAL_CREDIT_GRANTED", "p", credited_at, everyone),
            event("CHARGEBACK", "b", chargeback_at, at_network),
            event("REPRESENTMENT", "r", (chargeback_at + decided_at) // 2, is_fought),
            event("PROVISIONAL_CREDIT_REVERSED", "v", decided_at - HOUR, ~at_network),
            event("CLOSED", "z", decided_at, everyone, closed=True),
        ]
    )
