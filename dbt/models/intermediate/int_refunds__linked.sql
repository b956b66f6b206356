-- The ladder by which a refund finds its purchase; the first rung that holds counts.
--   ORIGINAL_ID    the refund names the purchase
--   NETWORK_ID     it carries the network's number of a purchase of the same account
--   SAME_MERCHANT  a purchase of the same account and merchant, at most 180 days older, with enough
--                  left to refund: an equal amount first, then the newest
--   UNMATCHED      none of these
-- Confidence falls with the rungs: CERTAIN, STRONG, on the third LIKELY where the refund is exactly
-- what was left of the purchase and POSSIBLE where it is a part, NONE.
-- On the third rung every refund uses up what it refunds, so refunds are taken one after the other.
-- A refund's reversal gives back what the refund used up. One that names the refund is linked as
-- that is, or to the refund itself if that found no purchase; any other goes by the same rungs, on
-- the third to what was refunded: an equal amount first, then the newest.
{{
    config(
        materialized='incremental',
        incremental_strategy='replace_touched',
        meta={
            'replaces': {
                'entity': 'transaction', 'key': 'transaction_id', 'is_wider': true,
            }
        },
    )
}}

{% set posted = ref('int_posted_transactions__netted') %}
{% set versions = ref('int_transaction_events__versioned') %}
{% set is_touched_message = is_touched('transaction_id', 'transaction') ~ ' and '
    ~ is_since_touched('event_at', 'transaction') %}
{% set is_purchase = "purchases.transaction_class <> 'REFUND' and purchases.direction = 'DEBIT'" %}

with recursive all_refunds as (
    select
        transaction_id,
        account_id,
        merchant_id,
        event_at,
        posted_on,
        case when direction = 'CREDIT' then amount_minor else -amount_minor end as amount_minor,
        original_transaction_id,
        network_transaction_id
    from {{ posted }}
    where transaction_class = 'REFUND'
),

{% if is_delta() %}
-- A new or corrected purchase, or a refund that moves to another purchase, can move the account's
-- other refunds at that merchant: those are linked anew, too.
touched_messages as (
    select
        transaction_id,
        account_id,
        merchant_id,
        original_transaction_id,
        network_transaction_id
    from {{ versions }}
    where {{ is_touched_message }}
),

naming_touched as (
    select
        transaction_id,
        account_id,
        merchant_id
    from all_refunds
    where
        original_transaction_id in (select transaction_id from touched_messages)
        or network_transaction_id in (
            select network_transaction_id
            from touched_messages
            where network_transaction_id is not null
        )
),

-- Account and merchant pairs in which something to refund changed, directly or because a refund
-- that may move names a purchase there or has left one.
changed_pairs as (
    select
        account_id,
        merchant_id
    from touched_messages
    {% for column, named_by in [
        ('transaction_id', 'original_transaction_id'),
        ('network_transaction_id', 'network_transaction_id'),
    ] %}
    union
    select
        account_id,
        merchant_id
    from {{ posted }}
    where {{ column }} in (
        select {{ named_by }} from touched_messages where {{ named_by }} is not null
    )
    {% endfor %}
    union
    select
        account_id,
        merchant_id
    from {{ posted }}
    where transaction_id in (
        select refunds_transaction_id
        from {{ this }}
        where transaction_id in (
            select transaction_id from touched_messages
            union all
            select original_transaction_id from touched_messages
            union all
            select transaction_id from naming_touched
        )
    )
),

moved_refunds as (
    select * from naming_touched
    union
    select
        all_refunds.transaction_id,
        all_refunds.account_id,
        all_refunds.merchant_id
    from all_refunds
    inner join changed_pairs
        on
            all_refunds.account_id = changed_pairs.account_id
            and all_refunds.merchant_id = changed_pairs.merchant_id
),

linked_anew as (
    select transaction_id
    from all_refunds
    where
        transaction_id in (select transaction_id from touched_messages)
        or transaction_id in (select transaction_id from moved_refunds)
        or (account_id, merchant_id) in (select (account_id, merchant_id) from moved_refunds)
),

refunds as (
    select *
    from all_refunds
    where
        transaction_id in (select transaction_id from linked_anew)
        or original_transaction_id in (select transaction_id from linked_anew)
),

-- Links of earlier runs that stand.
earlier as (
    select
        transaction_id,
        refunds_transaction_id,
        refund_link_method,
        refund_link_confidence
    from {{ this }}
    where transaction_id not in (select transaction_id from refunds)
),
{% else %}
refunds as (
    select * from all_refunds
),
{% endif %}

by_original as (
    select
        refunds.transaction_id,
        purchases.transaction_id as refunds_transaction_id
    from refunds
    inner join {{ posted }} as purchases
        on refunds.original_transaction_id = purchases.transaction_id
    where {{ is_purchase }}
),

reversals as (
    select
        refunds.transaction_id,
        reversed.transaction_id as reversed_id
    from refunds
    inner join all_refunds as reversed on refunds.original_transaction_id = reversed.transaction_id
    where refunds.amount_minor < 0 and reversed.amount_minor >= 0
),

by_network as (
    select
        refunds.transaction_id,
        purchases.transaction_id as refunds_transaction_id
    from refunds
    inner join {{ posted }} as purchases
        on
            refunds.network_transaction_id = purchases.network_transaction_id
            and refunds.account_id = purchases.account_id
            and refunds.event_at >= purchases.event_at
    where
        {{ is_purchase }}
        and refunds.transaction_id not in (select transaction_id from by_original)
        and refunds.transaction_id not in (select transaction_id from reversals)
    qualify row_number() over (
        partition by refunds.transaction_id
        order by purchases.event_at desc, purchases.transaction_id
    ) = 1
),

naming as (
    select
        transaction_id,
        refunds_transaction_id,
        'ORIGINAL_ID' as refund_link_method,
        'CERTAIN' as refund_link_confidence
    from by_original
    union all
    select
        transaction_id,
        refunds_transaction_id,
        'NETWORK_ID' as refund_link_method,
        'STRONG' as refund_link_confidence
    from by_network
    {% if is_delta() %}
    union all
    select * from earlier
    where refund_link_method in ('ORIGINAL_ID', 'NETWORK_ID')
    {% endif %}
),

named as (
    select * from naming
    union all
    select
        reversals.transaction_id,
        naming.refunds_transaction_id,
        naming.refund_link_method,
        naming.refund_link_confidence
    from reversals
    inner join naming on reversals.reversed_id = naming.transaction_id
),

unnamed as (
    select
        refunds.transaction_id,
        refunds.account_id,
        refunds.merchant_id,
        refunds.amount_minor,
        refunds.event_at,
        row_number() over (
            partition by refunds.account_id, refunds.merchant_id
            order by refunds.posted_on, refunds.event_at, refunds.transaction_id
        ) as refund_no
    from refunds
    where
        refunds.merchant_id is not null
        and refunds.transaction_id not in (select transaction_id from named)
        and refunds.transaction_id not in (select transaction_id from reversals)
),

pairs as (
    select
        account_id,
        merchant_id
    from unnamed
    group by account_id, merchant_id
),

-- What was refunded by name, by refunds of earlier runs too.
named_amounts as (
    select
        named.refunds_transaction_id,
        cast(sum(all_refunds.amount_minor) as bigint) as refunded_minor
    from named
    inner join all_refunds on named.transaction_id = all_refunds.transaction_id
    group by named.refunds_transaction_id
),

refundable as (
    select
        purchases.account_id,
        purchases.merchant_id,
        purchases.transaction_id,
        purchases.event_at,
        purchases.amount_minor,
        coalesce(named_amounts.refunded_minor, 0) as refunded_minor
    from {{ posted }} as purchases
    inner join pairs
        on
            purchases.account_id = pairs.account_id
            and purchases.merchant_id = pairs.merchant_id
    left join named_amounts
        on purchases.transaction_id = named_amounts.refunds_transaction_id
    where {{ is_purchase }}
),

-- One row per purchase and refund so far: what is refunded, and which refund changed it last.
walk as (
    select
        account_id,
        merchant_id,
        transaction_id,
        event_at,
        amount_minor,
        refunded_minor,
        cast(0 as bigint) as refund_no,
        cast(null as varchar) as taken_by,
        false as is_exact
    from refundable
    union all
    select
        account_id,
        merchant_id,
        transaction_id,
        event_at,
        amount_minor,
        case when is_taken then refunded_minor + refund_minor else refunded_minor end
            as refunded_minor,
        refund_no,
        case when is_taken then refund_id end as taken_by,
        is_exact
    from (
        select
            *,
            is_refundable
            and row_number() over (
                partition by account_id, merchant_id
                order by
                    is_refundable desc,
                    is_exact desc,
                    event_at desc,
                    transaction_id asc
            ) = 1 as is_taken
        from (
            select
                walk.account_id,
                walk.merchant_id,
                walk.transaction_id,
                walk.event_at,
                walk.amount_minor,
                walk.refunded_minor,
                unnamed.refund_no,
                unnamed.transaction_id as refund_id,
                unnamed.amount_minor as refund_minor,
                case
                    when unnamed.amount_minor < 0 then walk.refunded_minor = -unnamed.amount_minor
                    else walk.amount_minor - walk.refunded_minor = unnamed.amount_minor
                end as is_exact,
                walk.event_at <= unnamed.event_at
                and case
                    when unnamed.amount_minor < 0
                        then walk.refunded_minor >= -unnamed.amount_minor
                    else
                        walk.amount_minor - walk.refunded_minor >= unnamed.amount_minor
                        and walk.event_at >= unnamed.event_at - interval '180' day
                end as is_refundable
            from walk
            inner join unnamed
                on
                    walk.account_id = unnamed.account_id
                    and walk.merchant_id = unnamed.merchant_id
                    and walk.refund_no + 1 = unnamed.refund_no
        ) as offered
    ) as ranked
),

found as (
    select * from named
    union all
    select
        taken_by as transaction_id,
        transaction_id as refunds_transaction_id,
        'SAME_MERCHANT' as refund_link_method,
        case when is_exact then 'LIKELY' else 'POSSIBLE' end as refund_link_confidence
    from walk
    where taken_by is not null
),

known as (
    select * from found
    {% if is_delta() %}
    union all
    select * from earlier
    where refund_link_method = 'SAME_MERCHANT'
    {% endif %}
),

linked as (
    select * from found
    union all
    select
        reversals.transaction_id,
        coalesce(reversed.refunds_transaction_id, reversals.reversed_id) as refunds_transaction_id,
        coalesce(reversed.refund_link_method, 'ORIGINAL_ID') as refund_link_method,
        coalesce(reversed.refund_link_confidence, 'CERTAIN') as refund_link_confidence
    from reversals
    left join known as reversed on reversals.reversed_id = reversed.transaction_id
    where reversals.transaction_id not in (select transaction_id from named)
)

select
    refunds.transaction_id,
    linked.refunds_transaction_id,
    coalesce(linked.refund_link_method, 'UNMATCHED') as refund_link_method,
    coalesce(linked.refund_link_confidence, 'NONE') as refund_link_confidence
from refunds
left join linked on refunds.transaction_id = linked.transaction_id
