"""Feeds on money between networks, partners and us."""

from pipelines.contracts.activity import DIRECTIONS
from pipelines.contracts.contract import (
    Feed,
    boolean,
    currency,
    day,
    integer,
    minor,
    string,
    timestamp,
)

SETTLEMENT_TOTALS = Feed(
    name="settlement_totals",
    description="One row per version of a network's total for a report day.",
    key=("total_id",),
    columns=(
        string("total_id", "The total", required=True),
        string("network", "The network", required=True),
        day("report_on", "Day of the report", required=True),
        currency(required=True),
        minor("gross_minor", "Gross settlement", required=True, signed=True),
        minor("interchange_minor", "Interchange", required=True, signed=True),
        minor("charges_minor", "Network charges", required=True, signed=True),
        minor("net_minor", "Gross less interchange less charges", required=True, signed=True),
        boolean("is_complete", "Whether the report is complete"),
    ),
)

SETTLEMENT_DETAILS = Feed(
    name="settlement_details",
    description="One row per version of a line of a settlement report.",
    key=("detail_id",),
    is_event=True,
    references=(("event_id", "transactions"),),
    columns=(
        string("detail_id", "The line", required=True),
        string("network", "The network", required=True),
        day("report_on", "Day of the report", required=True),
        string("type", "What the line settles, e.g. CLEARING, FEE", required=True),
        minor("amount_minor", "Amount", required=True),
        currency(required=True),
        string("direction", "Sign of the amount", required=True, allowed=DIRECTIONS),
        string("transaction_id", "The transaction settled"),
        string("event_id", "The message settled"),
        integer("interchange_micros", "Interchange in millionths of a minor unit"),
    ),
)

REWARD_EVENTS = Feed(
    name="reward_events",
    description="One row per version of something that a member does with points.",
    key=("reward_event_id",),
    is_event=True,
    columns=(
        string("reward_event_id", "The event", required=True),
        string("account_id", "The account", required=True),
        string("program_id", "The program", required=True),
        string(
            "kind",
            "What happened",
            required=True,
            allowed=("ENROL", "ACTIVATE", "REDEEM", "REDEEM_CANCEL", "TRANSFER", "ADJUST"),
        ),
        timestamp("event_at", "When it happened", required=True),
        integer("points", "Points in the program's smallest unit; an adjustment may be negative"),
        string("reference", "What it refers to, e.g. the redemption that is cancelled"),
        string("offer_id", "The offer that is activated"),
    ),
)

PARTNER_ACKNOWLEDGEMENTS = Feed(
    name="partner_acknowledgements",
    description="One row per version of a partner's answer to points that were posted to it.",
    key=("acknowledgement_id",),
    columns=(
        string("acknowledgement_id", "The answer", required=True),
        string("program_id", "The program", required=True),
        string("partner_id", "The partner", required=True),
        string("period", "Accounting period", required=True, pattern="[0-9]{4}-(?:0[1-9]|1[0-2])"),
        integer("points", "Points that the partner counts", required=True),
        string("status", "E.g. ACCEPTED, REJECTED", required=True),
        string("reason", "Why it was rejected"),
    ),
)
