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
_REASONS = (
    "FRAUD_CARD_NOT_PRESENT", "FRAUD_CARD_PRESENT", "GOODS_SERVICES_NOT_RECEIVED", "DUPLICATED",
)  # fmt: skip
_CODES = ("10.4", "10.3", "13.1", "12.6")
_DISPOSITIONS = ("WON", "PARTIALLY_WON", "LOST", "DENIED", "WITHDRAWN")


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
    """Events of each dispute, stage by stage.

    `denied + recovered + written off` is what has been settled so far: it never shrinks, never
    exceeds the amount, and equals it once the dispute is closed. What remains is the rest.
    """
    plans, draws = story.plans, Draws(story.seed, "dispute stages")
    chosen = disputed(plans, story.serviced)
    holder = story.attempts["holder"].to_numpy()[chosen]
    keys = (story.holders.number[holder], story.attempts["salt"].to_numpy()[chosen])
    outcome, amount = plans.dispute_outcome[chosen], plans.disputed_amount[chosen]
    claim_day = plans.claimed_at[chosen] // DAY
    is_refused = np.isin(outcome, (lifecycle.DENIED, lifecycle.WITHDRAWN))
    denied = np.where(is_refused, amount, 0)
    half = np.where(outcome == lifecycle.PARTIALLY_WON, amount // 2, 0)
    recovered = np.where(outcome == lifecycle.WON, amount, half)
    written_off = amount - denied - recovered
    nothing = np.zeros(chosen.size, np.int64)
    at_network = outcome != lifecycle.DENIED
    is_fought = at_network & ~np.isin(outcome, (lifecycle.WON, lifecycle.WITHDRAWN))
    goes_on = is_fought & draws.happens(0.6, *keys, 1)
    to_the_end = goes_on & draws.happens(0.5, *keys, 2)
    talks = at_network & (plans.dispute[chosen] == lifecycle.DISPUTE_GOODS)
    talks &= draws.happens(0.4, *keys, 3)
    chargeback_at = (claim_day + plans.chargeback_days[chosen]) * DAY + 14 * HOUR
    decided_at = (claim_day + plans.decided_days[chosen]) * DAY + 15 * HOUR
    quarter = (decided_at - chargeback_at) // 4
    everyone = np.ones(chosen.size, np.bool_)
    is_goods = plans.dispute[chosen] == lifecycle.DISPUTE_GOODS
    is_present = story.attempts["is_present"].to_numpy()[chosen]
    reason = np.where(is_goods, 2 + draws.happens(0.3, *keys, 4), is_present.astype(np.int64))

    def event(name, tag, at, where, *, settled=(nothing, nothing, nothing), closed=False):
        frame = pl.DataFrame(
            {
                "dispute_event_id": "dse_" + ids[chosen].str.slice(3) + tag,
                "dispute_id": "dsp_" + ids[chosen].str.slice(3),
                "transaction_id": ids[chosen],
                "event_type": pl.repeat(name, chosen.size, eager=True),
                "event_at": instants(at),
                "amount_minor": pl.Series(amount),
                "reason": labels(_REASONS, reason),
                "network_reason_code": labels(_CODES, reason),
                "disposition": labels(_DISPOSITIONS, outcome)
                if closed
                else pl.repeat(None, chosen.size, dtype=pl.String, eager=True),
                "denied_minor": pl.Series(settled[0]),
                "recovered_minor": pl.Series(settled[1]),
                "written_off_minor": pl.Series(settled[2]),
                "received_at": instants(at),
            }
        )
        return frame.filter(pl.Series(where))

    credited_at = (claim_day + 2) * DAY + 13 * HOUR
    paid_back = (nothing, recovered, nothing)
    refused = (denied, recovered, nothing)
    final = (denied, recovered, written_off)
    is_lost = written_off > 0
    return pl.concat(
        [
            event("CLAIM", "c", plans.claimed_at[chosen], everyone),
            event("PROVISIONAL_CREDIT_GRANTED", "p", credited_at, everyone),
            event("COLLABORATION", "l", chargeback_at - 12 * HOUR, talks),
            event("CHARGEBACK", "b", chargeback_at, at_network),
            event("REPRESENTMENT", "r", chargeback_at + quarter, is_fought),
            event("PREARBITRATION", "t", chargeback_at + 2 * quarter, goes_on, settled=paid_back),
            event("ARBITRATION", "q", chargeback_at + 3 * quarter, to_the_end, settled=paid_back),
            event("PROVISIONAL_CREDIT_REVERSED", "v", decided_at - HOUR, is_refused,
                  settled=refused),
            event("WRITTEN_OFF", "w", decided_at - HOUR // 2, is_lost, settled=final),
            event("CLOSED", "z", decided_at, everyone, settled=final, closed=True),
        ]
    )  # fmt: skip
