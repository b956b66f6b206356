-- No feature row claims to have been known before the time that it is about.
{% set tables = [
    'card_velocity_features', 'account_amount_features', 'merchant_risk_features',
    'pull_bureau_features', 'pull_application_features', 'customer_application_features',
    'account_payment_features',
] %}

{% for table in tables %}
select
    '{{ table }}' as feature_table,
    event_timestamp,
    created_timestamp
from {{ written_rows(ref(table)) }}
where created_timestamp < event_timestamp
{{ 'union all' if not loop.last }}
{% endfor %}
