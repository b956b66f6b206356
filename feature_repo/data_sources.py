"""Published feature tables: date-partitioned Parquet, one folder per view.

Paths are absolute: Feast resolves a relative one against the repository on apply and against the
working folder on retrieval. A path that is a folder fails on the DuckDB store, so it is a glob with
an explicit format.
"""

from feast import FileSource
from feast.data_format import ParquetFormat

from pipelines.settings import get_settings


def published(view: str) -> FileSource:
    """The published Parquet of `view`; `created_timestamp` is when a row became known."""
    return FileSource(
        name=f"{view}_source",
        path=str(get_settings().features_dir / view / "*" / "*.parquet"),
        file_format=ParquetFormat(),
        timestamp_field="event_timestamp",
        created_timestamp_column="created_timestamp",
        description=f"Rows of features.{view}, partitioned by the day of event_timestamp.",
    )


account_amount_source = published("account_amount_features")
account_contact_source = published("account_contact_features")
account_history_source = published("account_history_features")
account_limit_source = published("account_limit_features")
account_mcc_source = published("account_mcc_features")
account_merchant_source = published("account_merchant_features")
account_payment_source = published("account_payment_features")
account_recent_source = published("account_recent_features")
account_redemption_source = published("account_redemption_features")
card_recent_source = published("card_recent_features")
card_state_source = published("card_state_features")
card_velocity_source = published("card_velocity_features")
customer_application_source = published("customer_application_features")
device_recent_source = published("device_recent_features")
device_risk_source = published("device_risk_features")
ip_recent_source = published("ip_recent_features")
ip_risk_source = published("ip_risk_features")
mcc_risk_source = published("mcc_risk_features")
merchant_recent_source = published("merchant_recent_features")
merchant_risk_source = published("merchant_risk_features")
pull_application_source = published("pull_application_features")
pull_bureau_source = published("pull_bureau_features")
