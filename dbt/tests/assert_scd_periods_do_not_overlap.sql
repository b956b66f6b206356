-- One state of a thing at a time, without gaps, and exactly one that is current.
{% set dimensions = {
    'dim_accounts': 'account_id', 'dim_customers': 'customer_id',
    'dim_cards': 'card_id', 'dim_merchants': 'merchant_id',
} %}

{% for dimension, key in dimensions.items() %}
select
    '{{ dimension }}' as dimension,
    {{ key }} as id,
    valid_from,
    valid_to
from (
    select
        {{ key }},
        valid_from,
        valid_to,
        is_current,
        lead(valid_from) over (partition by {{ key }} order by valid_from) as next_valid_from
    from {{ rows_beside_written(ref(dimension), [key]) }}
) as states
where
    valid_to is distinct from next_valid_from
    or valid_from >= valid_to
    or is_current <> (next_valid_from is null)
{{ 'union all' if not loop.last }}
{% endfor %}
