"""Features of underwriting and account behaviour.

The schema here is the one declaration of what Feast serves; the dbt models of the same name have
these columns and types. No view has a TTL: rows are change events, so the latest one stays true
until the next, however old it is.
"""

from data_sources import (
    account_payment_source,
    customer_application_source,
    pull_application_source,
    pull_bureau_source,
)
from entities import account, customer, pull
from feast import FeatureView, Field
from feast.types import Bool, Float64, Int64, String

pull_bureau_features = FeatureView(
    name="pull_bureau_features",
    description="One row per bureau report and state of its details: credit bureau aggregates.",
    entities=[pull],
    ttl=None,
    schema=[
        Field(name="pull_id", dtype=String),
        Field(name="bur_file_hit", dtype=Bool),
        Field(name="bur_thin_file", dtype=Bool),
        Field(name="bur_score", dtype=Int64),
        Field(name="bur_trades_n", dtype=Int64),
        Field(name="bur_trades_open_n", dtype=Int64),
        Field(name="bur_bc_open_n", dtype=Int64),
        Field(name="bur_age_oldest_m", dtype=Int64),
        Field(name="bur_age_newest_m", dtype=Int64),
        Field(name="bur_age_avg_m", dtype=Float64),
        Field(name="bur_opened_3m_n", dtype=Int64),
        Field(name="bur_opened_6m_n", dtype=Int64),
        Field(name="bur_opened_12m_n", dtype=Int64),
        Field(name="bur_opened_24m_n", dtype=Int64),
        Field(name="bur_inq_1m_n", dtype=Int64),
        Field(name="bur_inq_3m_n", dtype=Int64),
        Field(name="bur_inq_6m_n", dtype=Int64),
        Field(name="bur_inq_12m_n", dtype=Int64),
        Field(name="bur_inq_24m_n", dtype=Int64),
        Field(name="bur_util_rev", dtype=Float64),
        Field(name="bur_util_bc_max", dtype=Float64),
        Field(name="bur_bc_over90_n", dtype=Int64),
        Field(name="bur_dq30_6m_n", dtype=Int64),
        Field(name="bur_dq30_12m_n", dtype=Int64),
        Field(name="bur_dq30_24m_n", dtype=Int64),
        Field(name="bur_dq30_ever_n", dtype=Int64),
        Field(name="bur_mths_since_dq30", dtype=Int64),
        Field(name="bur_dq60_6m_n", dtype=Int64),
        Field(name="bur_dq60_12m_n", dtype=Int64),
        Field(name="bur_dq60_24m_n", dtype=Int64),
        Field(name="bur_dq60_ever_n", dtype=Int64),
        Field(name="bur_mths_since_dq60", dtype=Int64),
        Field(name="bur_dq90_6m_n", dtype=Int64),
        Field(name="bur_dq90_12m_n", dtype=Int64),
        Field(name="bur_dq90_24m_n", dtype=Int64),
        Field(name="bur_dq90_ever_n", dtype=Int64),
        Field(name="bur_mths_since_dq90", dtype=Int64),
        Field(name="bur_worst_status_24m", dtype=Int64),
        Field(name="bur_past_due_minor", dtype=Int64),
        Field(name="bur_chargeoff_n", dtype=Int64),
        Field(name="bur_collections_n", dtype=Int64),
        Field(name="bur_collections_bal_minor", dtype=Int64),
        Field(name="bur_collections_nonmed_n", dtype=Int64),
        Field(name="bur_public_records_n", dtype=Int64),
        Field(name="bur_mths_since_bk", dtype=Int64),
        Field(name="bur_sat_pct", dtype=Float64),
        Field(name="bur_pay_ratio_tr_3m", dtype=Float64),
        Field(name="bur_pay_ratio_tr_6m", dtype=Float64),
        Field(name="bur_pay_ratio_tr_12m", dtype=Float64),
        Field(name="bur_bal_slope_tr_12m", dtype=Float64),
        Field(name="bur_util_slope_tr_12m", dtype=Float64),
        Field(name="bur_transactor_tr_12m", dtype=Float64),
        Field(name="bur_monthly_debt_minor", dtype=Int64),
        Field(name="bur_attributes", dtype=String),
    ],
    source=pull_bureau_source,
)

pull_application_features = FeatureView(
    name="pull_application_features",
    description="One row per bureau report and application: where the application came from.",
    entities=[pull],
    ttl=None,
    schema=[
        Field(name="pull_id", dtype=String),
        Field(name="app_apps_24h_by_device", dtype=Int64),
        Field(name="app_apps_24h_by_ip", dtype=Int64),
        Field(name="app_apps_24h_by_person", dtype=Int64),
        Field(name="app_device_age_d", dtype=Int64),
    ],
    source=pull_application_source,
)

customer_application_features = FeatureView(
    name="customer_application_features",
    description="One row per application of a customer: applications so far, this one included.",
    entities=[customer],
    ttl=None,
    schema=[
        Field(name="customer_id", dtype=String),
        Field(name="app_count_30d", dtype=Int64),
        Field(name="app_count_365d", dtype=Int64),
        Field(name="app_declined_count_365d", dtype=Int64),
    ],
    source=customer_application_source,
)

account_payment_features = FeatureView(
    name="account_payment_features",
    description="One row per account, statement and known time: how the account is used and paid.",
    entities=[account],
    ttl=None,
    schema=[
        Field(name="account_id", dtype=String),
        Field(name="beh_balance_cur_minor", dtype=Int64),
        Field(name="beh_util_cur", dtype=Float64),
        Field(name="beh_util_avg3", dtype=Float64),
        Field(name="beh_util_avg6", dtype=Float64),
        Field(name="beh_util_max12", dtype=Float64),
        Field(name="beh_util_slope_6m", dtype=Float64),
        Field(name="beh_pay_ratio_1m", dtype=Float64),
        Field(name="beh_pay_ratio_3m", dtype=Float64),
        Field(name="beh_pay_ratio_6m", dtype=Float64),
        Field(name="beh_dpd_cur", dtype=Int64),
        Field(name="beh_dpd_max_3m", dtype=Int64),
        Field(name="beh_dpd_max_6m", dtype=Int64),
        Field(name="beh_dpd_max_12m", dtype=Int64),
        Field(name="beh_missed_6m_n", dtype=Int64),
        Field(name="beh_minpay_only_6m_n", dtype=Int64),
        Field(name="beh_revolver_6m_n", dtype=Int64),
        Field(name="beh_cash_adv_6m_n", dtype=Int64),
        Field(name="beh_cash_adv_6m_minor", dtype=Int64),
        Field(name="beh_overlimit_6m_n", dtype=Int64),
        Field(name="beh_returned_pay_6m_n", dtype=Int64),
        Field(name="beh_spend_slope_6m", dtype=Float64),
        Field(name="beh_refund_ratio_6m", dtype=Float64),
        Field(name="beh_mob", dtype=Int64),
    ],
    source=account_payment_source,
)
