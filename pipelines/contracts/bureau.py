"""Feeds from credit bureaus: pulls and what each pull returned."""

from pipelines.contracts.contract import (
    Feed,
    boolean,
    currency,
    day,
    integer,
    minor,
    number,
    string,
    timestamp,
)

BUREAU_PULLS = Feed(
    name="bureau_pulls",
    description="One row per version of a credit report request and its answer.",
    key=("pull_id",),
    columns=(
        string("pull_id", "The pull", required=True),
        string("person_id", "The person asked about", required=True),
        timestamp("requested_at", "When it was asked for", required=True),
        timestamp("received_at", "When the answer came", required=True),
        string("application_id", "The application that it was for"),
        string("account_id", "The account that it was for"),
        string("bureau", "Who answered"),
        string("pull_type", "Whether it left a hard inquiry", allowed=("HARD", "SOFT")),
        string(
            "file_hit",
            "What the bureau found",
            allowed=("HIT", "NO_HIT", "THIN", "FROZEN", "DECEASED", "FRAUD_ALERT"),
        ),
        string("score_name", "Name and version of the score"),
        integer("score", "The score"),
    ),
)

BUREAU_TRADELINES = Feed(
    name="bureau_tradelines",
    description="One row per version of a tradeline in a pull (Metro 2 shaped).",
    key=("pull_id", "tradeline_id"),
    references=(("pull_id", "bureau_pulls"),),
    columns=(
        string("pull_id", "The pull", required=True),
        string("tradeline_id", "The tradeline within the pull", required=True),
        string("portfolio_type", "C, I, M, O, R or L", required=True),
        day("opened_on", "Day of opening", required=True),
        string("account_type", "Metro 2 account type"),
        string("ecoa_code", "Whose account it is; 3 is an authorized user"),
        minor("credit_limit_minor", "Credit limit"),
        minor("highest_credit_minor", "Highest balance or original amount"),
        minor("balance_minor", "Balance"),
        minor("past_due_minor", "Amount past due"),
        minor("scheduled_payment_minor", "Monthly payment due"),
        minor("actual_payment_minor", "Payment made"),
        currency(),
        string("account_status", "Metro 2 account status"),
        string("payment_history", "One character a month, newest first"),
        day("first_delinquency_on", "First delinquency that led to the present state"),
        day("closed_on", "Day of closure"),
        boolean("is_open", "Whether it is open"),
    ),
)

BUREAU_TRENDED = Feed(
    name="bureau_trended",
    description="One row per version of a month of a tradeline in a pull.",
    key=("pull_id", "tradeline_id", "month_on"),
    references=(("pull_id", "bureau_pulls"),),
    columns=(
        string("pull_id", "The pull", required=True),
        string("tradeline_id", "The tradeline within the pull", required=True),
        day("month_on", "First day of the month", required=True),
        minor("balance_minor", "Balance"),
        minor("credit_limit_minor", "Credit limit"),
        minor("scheduled_payment_minor", "Monthly payment due"),
        minor("actual_payment_minor", "Payment made"),
        integer("days_past_due", "Days past due", minimum=0),
        currency(),
    ),
)

BUREAU_INQUIRIES = Feed(
    name="bureau_inquiries",
    description="One row per version of an inquiry in a pull.",
    key=("pull_id", "inquiry_id"),
    references=(("pull_id", "bureau_pulls"),),
    columns=(
        string("pull_id", "The pull", required=True),
        string("inquiry_id", "The inquiry within the pull", required=True),
        day("inquired_on", "Day of the inquiry", required=True),
        string("subscriber_kind", "Kind of lender that asked"),
        string("purpose", "Why it asked"),
    ),
)

BUREAU_RECORDS = Feed(
    name="bureau_records",
    description="One row per version of a public record or collection in a pull.",
    key=("pull_id", "record_id"),
    references=(("pull_id", "bureau_pulls"),),
    columns=(
        string("pull_id", "The pull", required=True),
        string("record_id", "The record within the pull", required=True),
        string(
            "kind",
            "What it is",
            required=True,
            allowed=("COLLECTION", "BANKRUPTCY", "JUDGMENT", "LIEN"),
        ),
        day("filed_on", "Day of filing"),
        day("resolved_on", "Day of discharge or payment"),
        minor("amount_minor", "Amount"),
        currency(),
        boolean("is_medical", "Whether it is a medical debt"),
    ),
)

BUREAU_ATTRIBUTES = Feed(
    name="bureau_attributes",
    description="One row per version of a vendor-computed attribute in a pull.",
    key=("pull_id", "attribute_name"),
    references=(("pull_id", "bureau_pulls"),),
    columns=(
        string("pull_id", "The pull", required=True),
        string("attribute_name", "The vendor's name of the attribute", required=True),
        number("value", "The value; null where a special code is set"),
        string("special_code", "Why there is no value"),
    ),
)
