"""Feeds on who holds what: applications, customers, accounts, cards, merchants."""

from pipelines.contracts.contract import (
    Feed,
    currency,
    day,
    integer,
    latitude,
    longitude,
    minor,
    string,
    timestamp,
)

ACCOUNT_STATES = ("OPEN", "SUSPENDED", "CLOSED")

APPLICATIONS = Feed(
    name="applications",
    description="One row per version of a credit application and its decision.",
    key=("application_id",),
    columns=(
        string("application_id", "The application", required=True),
        string("person_id", "The applicant across applications and products", required=True),
        string("program_id", "The co-brand program applied for", required=True),
        timestamp("submitted_at", "When the applicant sent it", required=True),
        string("customer_id", "The customer, where one exists already or was created"),
        string("channel", "Where it came from, e.g. partner_web, in_store"),
        minor("stated_income_minor", "Yearly income as stated"),
        currency(),
        minor("housing_payment_minor", "Monthly rent or mortgage as stated"),
        string("employment_status", "As stated"),
        minor("requested_limit_minor", "Credit limit asked for"),
        string("device_id", "Device that sent it"),
        string("ip_hash", "Keyed hash of the network address"),
        string(
            "decision",
            "State of the decision",
            allowed=(
                "APPROVED", "DECLINED", "COUNTER_OFFER", "PENDING", "WITHDRAWN", "INCOMPLETE",
            ),
        ),
        timestamp("decision_at", "When it was decided"),
        string("decision_source", "Who decided: policy_rule, model or manual"),
        minor("approved_limit_minor", "Credit limit granted"),
        string("account_id", "The account that was booked"),
        string("pull_id", "The bureau pull that the decision used"),
    ),
)  # fmt: skip

CUSTOMERS = Feed(
    name="customers",
    description="One row per version of a customer.",
    key=("customer_id",),
    columns=(
        string("customer_id", "The customer", required=True),
        timestamp("updated_at", "When this version came to be", required=True),
        string("person_id", "The person across products"),
        integer("birth_year", "Year of birth", minimum=1850),
        string("state", "State or province of residence"),
        string("postal_code", "Postal code of residence"),
        latitude("Latitude of the home"),
        longitude("Longitude of the home"),
        string("email_hash", "Keyed hash of the e-mail address"),
        string("phone_hash", "Keyed hash of the phone number"),
    ),
)

ACCOUNTS = Feed(
    name="accounts",
    description="One row per version of a card account.",
    key=("account_id",),
    references=(("customer_id", "customers"),),
    columns=(
        string("account_id", "The account", required=True),
        string("customer_id", "Its primary customer", required=True),
        string("program_id", "Its co-brand program", required=True),
        day("opened_on", "Day of opening", required=True),
        minor("credit_limit_minor", "Credit limit", required=True),
        currency(required=True),
        timestamp("updated_at", "When this version came to be", required=True),
        string("status", "State of the account", allowed=ACCOUNT_STATES),
        string(
            "substatus",
            "Why, e.g. END_USER_REQUEST; CHARGED_OFF_DELINQUENT, BANKRUPTCY and SETTLED_FOR_LESS "
            "are bad outcomes",
        ),
        integer("apr_bps", "Yearly interest rate, basis points", minimum=0),
        integer("cycle_day", "Day of the month on which statements close", minimum=1, maximum=31),
        day("closed_on", "Day of closure"),
        string("close_reason", "Why it was closed, in the words of substatus"),
        day("charge_off_on", "Day of charge-off"),
        string("tier", "Reward tier that the processor carries"),
    ),
)

CARDS = Feed(
    name="cards",
    description="One row per version of a card.",
    key=("card_id",),
    references=(("account_id", "accounts"),),
    columns=(
        string("card_id", "Token of the card, never its number", required=True),
        string("account_id", "The account that it belongs to", required=True),
        timestamp("updated_at", "When this version came to be", required=True),
        string("state", "State of the card, e.g. ACTIVE, LOST, CLOSED"),
        timestamp("issued_at", "When it was issued"),
        timestamp("activated_at", "When it was activated"),
        string("replaced_by", "The card that replaced it"),
    ),
)

MERCHANTS = Feed(
    name="merchants",
    description="One row per version of a merchant.",
    key=("merchant_id",),
    columns=(
        string("merchant_id", "The merchant", required=True),
        timestamp("updated_at", "When this version came to be", required=True),
        string("name", "Descriptor"),
        string("mcc", "Merchant category code", pattern="[0-9]{4}"),
        string("country", "Country of the merchant"),
        string("city", "City of the merchant"),
        latitude("Latitude"),
        longitude("Longitude"),
        string("partner_id", "The co-brand partner that owns it"),
    ),
)
