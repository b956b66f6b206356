-- Rebuilt by every run: what the new files touch. Empty where the run builds everything.
--
-- Refunds reach further than their own rows: a refund is linked to a purchase of the same account
-- and merchant with enough left to refund, so a new or corrected purchase, or a refund that moves
-- to another purchase, can move the account's other refunds at that merchant.
{% set files = new_files() %}
{% set is_everything = from_load_no() < 0 %}

with transactions as (
    select * from {{ ref('stg_landing__transactions') }}
),

all_versions as (
    select * from {{ ref('int_transaction_events__versioned') }}
),

new_events as (
    select
        event_id,
        received_at
    from transactions
    where {{ 'false' if is_everything else 'file_id in (' ~ files ~ ')' }}
),

-- Accounts and merchants whose attribution of past transactions the new files may change: seen for
-- the first time, or told differently at different times.
reattributed_accounts as (
    select account_id
    from {{ ref('stg_landing__accounts') }}
    where {{ 'false' if is_everything else 'file_id in (' ~ files ~ ')' }}
    except
    select known.account_id
    from {{ ref('stg_landing__accounts') }} as known
    inner join {{ ref('int_accounts__attributed') }} as attributed
        on
            known.account_id = attributed.account_id
            and known.program_id = attributed.program_id
            and known.customer_id = attributed.customer_id
    where
        known.file_id not in ({{ files }})
        and attributed.effective_to = timestamp '9999-12-31 00:00:00'
        and attributed.effective_from = timestamp '0001-01-01 00:00:00'
),

reattributed_merchants as (
    select merchant_id
    from {{ ref('stg_landing__merchants') }}
    where {{ 'false' if is_everything else 'file_id in (' ~ files ~ ')' }}
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
        known.file_id not in ({{ files }})
        and attributed.effective_to = timestamp '9999-12-31 00:00:00'
        and attributed.effective_from = timestamp '0001-01-01 00:00:00'
),

touched_transactions as (
    select transaction_id
    from all_versions
    where
        event_id in (select event_id from new_events)
        or account_id in (select account_id from reattributed_accounts)
        or merchant_id in (select merchant_id from reattributed_merchants)
    group by transaction_id
),

touched_events as (
    select *
    from all_versions
    where transaction_id in (select transaction_id from touched_transactions)
),

refund_events as (
    select
        transaction_id,
        account_id,
        merchant_id,
        original_transaction_id,
        network_transaction_id
    from all_versions
    where
        event_type in ('RETURN', 'RETURN_REVERSAL', 'FINANCIAL_CREDIT_AUTHORIZATION')
        or transaction_class = 'REFUND'
        or (event_type = 'CLEARING' and direction = 'CREDIT')
),

-- Account and merchant pairs in which something to refund changed, directly or because a touched
-- refund names a purchase there.
changed_pairs as (
    select
        account_id,
        merchant_id
    from touched_events
    union
    select
        named.account_id,
        named.merchant_id
    from all_versions as named
    where
        named.transaction_id in (select original_transaction_id from touched_events)
        or named.network_transaction_id in (select network_transaction_id from touched_events)
),

moved_refunds as (
    select
        transaction_id,
        account_id,
        merchant_id
    from refund_events
    where
        original_transaction_id in (select transaction_id from touched_transactions)
        or network_transaction_id in (select network_transaction_id from touched_events)
    union
    select
        refund_events.transaction_id,
        refund_events.account_id,
        refund_events.merchant_id
    from refund_events
    inner join changed_pairs
        on
            refund_events.account_id = changed_pairs.account_id
            and refund_events.merchant_id = changed_pairs.merchant_id
),

neighbouring_refunds as (
    select refund_events.transaction_id
    from refund_events
    inner join moved_refunds
        on
            refund_events.account_id = moved_refunds.account_id
            and refund_events.merchant_id = moved_refunds.merchant_id
    union
    select transaction_id
    from moved_refunds
),

new_labels as (
    select
        transaction_id,
        received_at
    from {{ ref('stg_landing__fraud_labels') }}
    where {{ 'false' if is_everything else 'file_id in (' ~ files ~ ')' }}
),

-- Events of transactions that are new, corrected or judged.
judged_events as (
    select *
    from all_versions
    where
        transaction_id in (select transaction_id from touched_transactions)
        or transaction_id in (select transaction_id from new_labels)
),

new_statement_rows as (
    {% for feed in ['statements', 'payments', 'accounts'] %}
    select
        account_id,
        received_at
    from {{ ref('stg_landing__' ~ feed) }}
    where {{ 'false' if is_everything else 'file_id in (' ~ files ~ ')' }}
    {{ 'union all' if not loop.last }}
    {% endfor %}
),

new_applications as (
    select application_id
    from {{ ref('stg_landing__applications') }}
    where {{ 'false' if is_everything else 'file_id in (' ~ files ~ ')' }}
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
        cast(null as date) as changed_on
    from (
        select transaction_id from touched_transactions
        union
        select transaction_id from neighbouring_refunds
    ) as transactions_and_refunds
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
    union all
    select
        'account_merchant' as entity,
        {{ pair_key('account_id', 'merchant_id') }} as entity_id,
        (select changed_on from events_known_from) as changed_on
    from touched_events
    where merchant_id is not null
    group by account_id, merchant_id
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
    from new_statement_rows
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
