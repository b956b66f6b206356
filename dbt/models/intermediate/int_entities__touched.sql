-- Rebuilt by every run: what the new files touch, and since when. Empty where the run builds
-- everything.
--
-- `changed_on` is the first day on which something new was known; of a transaction the day of its
-- first message, before which no table has a row of it.
{% set files = new_files() %}
{% set is_new = 'false' if from_load_no() < 0 else 'file_id in (' ~ files ~ ')' %}
{% set versions = ref('int_transaction_events__versioned') %}

with new_events as (
    select
        event_id,
        transaction_id,
        received_at
    from {{ ref('stg_landing__transactions') }}
    where {{ is_new }}
),

-- Accounts and merchants whose attribution of past transactions the new files may change: seen for
-- the first time, or told differently at different times.
new_accounts as (
    select account_id
    from {{ ref('stg_landing__accounts') }}
    where {{ is_new }}
),

reattributed_accounts as (
    select account_id
    from new_accounts
    except
    select known.account_id
    from {{ ref('stg_landing__accounts') }} as known
    inner join {{ ref('int_accounts__attributed') }} as attributed
        on
            known.account_id = attributed.account_id
            and known.program_id = attributed.program_id
            and known.customer_id = attributed.customer_id
    where
        known.account_id in (select account_id from new_accounts)
        and known.file_id not in ({{ files }})
        and attributed.effective_to = timestamp '9999-12-31 00:00:00'
        and attributed.effective_from = timestamp '0001-01-01 00:00:00'
),

new_merchants as (
    select merchant_id
    from {{ ref('stg_landing__merchants') }}
    where {{ is_new }}
),

reattributed_merchants as (
    select merchant_id
    from new_merchants
    except
    select known.merchant_id
    from {{ ref('stg_landing__merchants') }} as known
    inner join {{ ref('int_merchants__attributed') }} as attributed
        on
            known.merchant_id = attributed.merchant_id
            and known.partner_id is not distinct from attributed.partner_id
            and known.mcc is not distinct from attributed.mcc
            and known.country is not distinct from attributed.country
    where
        known.merchant_id in (select merchant_id from new_merchants)
        and known.file_id not in ({{ files }})
        and attributed.effective_to = timestamp '9999-12-31 00:00:00'
        and attributed.effective_from = timestamp '0001-01-01 00:00:00'
),

-- An earlier version of an event may be of another transaction.
corrected_events as (
    select event_id
    from {{ versions }}
    where version_no > 1 and event_id in (select event_id from new_events)
),

touched_transactions as (
    select transaction_id
    from new_events
    {% for column, keys in [
        ('event_id', 'corrected_events'),
        ('account_id', 'reattributed_accounts'),
        ('merchant_id', 'reattributed_merchants'),
    ] %}
    union
    select transaction_id
    from {{ versions }}
    where {{ column }} in (select {{ column }} from {{ keys }})
    {% endfor %}
),

new_labels as (
    select
        transaction_id,
        received_at
    from {{ ref('stg_landing__fraud_labels') }}
    where {{ is_new }}
),

-- Transactions that are new, corrected or judged. This narrow look goes back through all of the
-- history, and tells how far the wide one has to.
judged_transactions as (
    select
        transaction_id,
        min(event_at) as event_at
    from {{ versions }}
    where
        transaction_id in (
            select transaction_id from touched_transactions
            union all
            select transaction_id from new_labels
        )
    group by transaction_id
),

judged_events as (
    select
        transaction_id,
        account_id,
        card_id,
        merchant_id,
        mcc,
        device_id,
        ip_hash,
        event_at
    from {{ versions }}
    where
        transaction_id in (select transaction_id from judged_transactions)
        and event_at >= (select min(event_at) from judged_transactions)
),

touched_events as (
    select *
    from judged_events
    where transaction_id in (select transaction_id from touched_transactions)
),

-- An earlier version of a statement or payment may be of another account.
statement_accounts as (
    {% for feed, key in [('statements', 'statement_id'), ('payments', 'payment_id')] %}
    select account_id
    from {{ ref('stg_landing__' ~ feed) }}
    where
        {{ key }} in (
            select {{ key }}
            from {{ ref('stg_landing__' ~ feed) }}
            where {{ is_new }}
        )
    union
    {% endfor %}
    select account_id from new_accounts
),

new_statement_rows as (
    {% for feed in ['statements', 'payments', 'accounts'] %}
    select received_at
    from {{ ref('stg_landing__' ~ feed) }}
    where {{ is_new }}
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

new_reward_events as (
    select reward_event_id
    from {{ ref('stg_landing__reward_events') }}
    where {{ is_new }}
),

new_applications as (
    select application_id
    from {{ ref('stg_landing__applications') }}
    where {{ is_new }}
),

events_known_from as (
    select cast(min(received_at) as date) as changed_on from new_events
),

labels_known_from as (
    select cast(min(received_at) as date) as changed_on from new_labels
),

statements_known_from as (
    select cast(min(received_at) as date) as changed_on from new_statement_rows
),

touched as (
    select
        'transaction' as entity,
        transaction_id as entity_id,
        cast(min(event_at) as date) as changed_on
    from touched_events
    group by transaction_id
    union all
    select
        'card' as entity,
        card_id as entity_id,
        (select changed_on from events_known_from) as changed_on
    from touched_events
    group by card_id
    union all
    select
        'account' as entity,
        account_id as entity_id,
        (select changed_on from events_known_from) as changed_on
    from touched_events
    group by account_id
    {% for entity, column in [('account_merchant', 'merchant_id'), ('account_mcc', 'mcc')] %}
    union all
    select
        '{{ entity }}' as entity,
        {{ pair_key('account_id', column) }} as entity_id,
        (select changed_on from events_known_from) as changed_on
    from touched_events
    where {{ column }} is not null
    group by account_id, {{ column }}
    {% endfor %}
    {% for entity, column in [
        ('merchant', 'merchant_id'), ('mcc', 'mcc'), ('device', 'device_id'), ('ip', 'ip_hash')
    ] %}
    union all
    select
        '{{ entity }}' as entity,
        {{ column }} as entity_id,
        least(
            (select changed_on from events_known_from),
            (select changed_on from labels_known_from)
        ) as changed_on
    from judged_events
    where {{ column }} is not null
    group by {{ column }}
    {% endfor %}
    union all
    select
        'label' as entity,
        transaction_id as entity_id,
        cast(null as date) as changed_on
    from new_labels
    group by transaction_id
    union all
    select
        'statement_account' as entity,
        account_id as entity_id,
        (select changed_on from statements_known_from) as changed_on
    from statement_accounts
    union all
    select
        'redeeming_account' as entity,
        account_id as entity_id,
        cast(null as date) as changed_on
    from {{ ref('stg_landing__reward_events') }}
    where reward_event_id in (select reward_event_id from new_reward_events)
    group by account_id
    union all
    select
        'applicant' as entity,
        customer_id as entity_id,
        cast(null as date) as changed_on
    from {{ ref('stg_landing__applications') }}
    where
        customer_id is not null
        and application_id in (select application_id from new_applications)
    group by customer_id
)

select
    entity,
    entity_id,
    changed_on
from touched
