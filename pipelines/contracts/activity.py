"""Feeds on what happens on accounts: transactions, payments, statements, disputes, labels."""

from pipelines.contracts.contract import (
    Feed,
    boolean,
    currency,
    day,
    integer,
    latitude,
    longitude,
    minor,
    string,
    timestamp,
)

EVENT_TYPES = (
    "AUTHORIZATION", "AUTHORIZATION_ADVICE", "AUTHORIZATION_EXPIRY", "AUTHORIZATION_REVERSAL",
    "BALANCE_INQUIRY", "CLEARING", "CORRECTION_CREDIT", "CORRECTION_DEBIT",
    "CREDIT_AUTHORIZATION", "CREDIT_AUTHORIZATION_ADVICE", "FINANCIAL_AUTHORIZATION",
    "FINANCIAL_CREDIT_AUTHORIZATION", "RETURN", "RETURN_REVERSAL",
)  # fmt: skip
TRANSACTION_CLASSES = (
    "PURCHASE", "CASH_ADVANCE", "QUASI_CASH", "BALANCE_TRANSFER", "CONVENIENCE_CHECK", "REFUND",
    "FEE", "INTEREST", "PAYMENT", "PAYMENT_RETURN", "ADJUSTMENT", "REWARD_CREDIT",
    "DISPUTE_PROVISIONAL_CREDIT", "CHARGEBACK", "WRITE_OFF",
)  # fmt: skip
DIRECTIONS = ("DEBIT", "CREDIT")

TRANSACTIONS = Feed(
    name="transactions",
    description="One row per version of a message in a transaction's life.",
    key=("event_id",),
    is_event=True,
    references=(
        ("account_id", "accounts"),
        ("card_id", "cards"),
        ("merchant_id", "merchants"),
    ),
    columns=(
        string("event_id", "The message", required=True),
        string("transaction_id", "The transaction that the message belongs to", required=True),
        string("event_type", "What the message does", required=True, allowed=EVENT_TYPES),
        string("account_id", "The account", required=True),
        string("card_id", "Token of the card", required=True),
        timestamp("event_at", "When it happened", required=True),
        minor("amount_minor", "Amount billed to the cardholder", required=True),
        currency(required=True),
        string(
            "direction",
            "Effect on the cardholder's balance: a purchase is a debit",
            required=True,
            allowed=DIRECTIONS,
        ),
        day("posted_on", "Business day on which it posted"),
        string("merchant_id", "The merchant"),
        string("mcc", "Merchant category code in this message", pattern="[0-9]{4}"),
        string("merchant_country", "Country of the merchant"),
        latitude("Latitude of the terminal"),
        longitude("Longitude of the terminal"),
        string("entry_mode", "How the card was read"),
        boolean("is_card_present", "Whether the card was there"),
        string("auth_result", "Answer to an authorization", allowed=("APPROVED", "DECLINED")),
        string("transaction_class", "What kind of transaction it is", allowed=TRANSACTION_CLASSES),
        string("original_transaction_id", "The purchase that this refunds, where it is known"),
        string("network_transaction_id", "The network's number of the purchase"),
        string("device_id", "Device that initiated it"),
        string("ip_hash", "Keyed hash of the network address"),
    ),
)

PAYMENTS = Feed(
    name="payments",
    description="One row per version of a cardholder's payment.",
    key=("payment_id",),
    references=(("account_id", "accounts"),),
    columns=(
        string("payment_id", "The payment", required=True),
        string("account_id", "The account paid", required=True),
        minor("amount_minor", "Amount", required=True),
        currency(required=True),
        timestamp("initiated_at", "When it was started", required=True),
        string("state", "State", required=True, allowed=("INITIATED", "SETTLED", "RETURNED")),
        string("method", "E.g. ACH, CHECK"),
        timestamp("settled_at", "When it settled"),
        timestamp("returned_at", "When it came back"),
        string("return_reason", "Why it came back"),
    ),
)

STATEMENTS = Feed(
    name="statements",
    description="One row per version of an account's periodic statement.",
    key=("statement_id",),
    references=(("account_id", "accounts"),),
    columns=(
        string("statement_id", "The statement", required=True),
        string("account_id", "The account", required=True),
        day("period_start_on", "First day of the period", required=True),
        day("period_end_on", "Last day of the period", required=True),
        minor("opening_balance_minor", "Balance at the start", required=True, signed=True),
        minor("closing_balance_minor", "Balance at the end", required=True, signed=True),
        currency(required=True),
        day("due_on", "When the minimum is due"),
        minor("credit_limit_minor", "Credit limit at the end"),
        minor("minimum_due_minor", "Least payment due"),
        minor("purchases_minor", "Purchases in the period"),
        minor("cash_advances_minor", "Cash advances in the period"),
        minor("balance_transfers_minor", "Balance transfers in the period"),
        minor("fees_minor", "Fees in the period"),
        minor("interest_minor", "Interest in the period"),
        minor("other_debits_minor", "Other debits in the period"),
        minor("payments_minor", "Payments in the period"),
        minor("credits_minor", "Refunds and other credits in the period"),
        integer("days_past_due", "Days past due at the end", minimum=0),
    ),
)

DISPUTES = Feed(
    name="disputes",
    description="One row per version of an event in a dispute.",
    key=("dispute_event_id",),
    is_event=True,
    references=(("transaction_id", "transactions"),),
    columns=(
        string("dispute_event_id", "The event", required=True),
        string("dispute_id", "The dispute", required=True),
        string("transaction_id", "The transaction in dispute", required=True),
        string("event_type", "What happened", required=True),
        timestamp("event_at", "When it happened", required=True),
        minor("amount_minor", "Amount in dispute"),
        string("reason", "Why the cardholder disputes it"),
        string("network_reason_code", "The network's reason code"),
        string("disposition", "How it ended, e.g. WON, LOST"),
        minor("denied_minor", "Amount denied"),
        minor("recovered_minor", "Amount recovered"),
        minor("written_off_minor", "Amount written off"),
    ),
)

FRAUD_LABELS = Feed(
    name="fraud_labels",
    description="One row per version of a judgement on a transaction.",
    key=("label_id",),
    is_event=True,
    references=(("transaction_id", "transactions"),),
    columns=(
        string("label_id", "The label", required=True),
        string("transaction_id", "The transaction", required=True),
        string("label", "The judgement", required=True, allowed=("FRAUD", "LEGIT", "UNKNOWN")),
        timestamp("occurred_at", "When the transaction happened", required=True),
        timestamp("known_at", "When the judgement was made", required=True),
        string("fraud_type", "E.g. CNP, COUNTERFEIT, FIRST_PARTY"),
        string("source", "E.g. CUSTOMER_CLAIM, CHARGEBACK"),
    ),
)

CREDIT_OUTCOMES = Feed(
    name="credit_outcomes",
    description="One row per version of a ready-made credit outcome.",
    key=("outcome_id",),
    columns=(
        string("outcome_id", "The outcome", required=True),
        string("application_id", "The application that it is about"),
        string("account_id", "The account that it is about"),
        boolean("is_bad", "Whether the borrower defaulted", required=True),
        day("observed_on", "End of the time that it was observed over", required=True),
        timestamp("known_at", "When it was known", required=True),
        string("definition", "What counts as bad"),
    ),
    require_one_of=("application_id", "account_id"),
)
