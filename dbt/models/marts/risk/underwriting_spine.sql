-- Who applied, what was decided, and how it turned out. An application without an account has no
-- outcome (the unknown of who was declined) unless its source ships one.
with applications as (
    select * from {{ ref('fct_applications') }}
),

-- What the applicant stated as the decision knew it: as the first version that tells of a decision
-- has it, for the two come together. What is corrected later was not known.
told as (
    select *
    from ({{ versions_of_table(ref('stg_landing__applications'), 'application_id') }}) as numbered
    qualify row_number() over (
        partition by application_id order by decision_at is null, version_no
    ) = 1
),

performance as (
    select * from {{ ref('account_performance') }}
),

accounts as (
    select
        account_id,
        customer_id
    from {{ ref('dim_accounts') }}
    where is_current
),

-- The pull that the decision could have used: the last one for the application that had arrived.
pulls as (
    select
        applications.application_id,
        pulls.pull_id
    from applications
    inner join {{ ref('fct_bureau_pulls') }} as pulls
        on
            applications.application_id = pulls.application_id
            and pulls.first_received_at
            <= coalesce(applications.decision_at, pulls.first_received_at)
    qualify row_number() over (
        partition by applications.application_id
        order by pulls.first_received_at desc, pulls.pull_id desc
    ) = 1
),

shipped as (
    select
        application_id,
        is_bad,
        greatest(known_at, received_at) as known_at
    from {{ ref('fct_credit_outcomes') }}
    where application_id is not null
    qualify row_number() over (
        partition by application_id order by known_at desc, received_at desc, outcome_id
    ) = 1
)

select
    applications.application_id,
    coalesce(applications.customer_id, accounts.customer_id) as customer_id,
    applications.person_id,
    applications.account_id,
    coalesce(told.pull_id, pulls.pull_id) as pull_id,
    applications.program_id,
    applications.channel,
    applications.submitted_at,
    coalesce(applications.decision_at, applications.submitted_at) as decision_at,
    applications.decision,
    applications.decision_source,
    applications.currency,
    told.stated_income_minor,
    told.housing_payment_minor,
    told.requested_limit_minor,
    applications.approved_limit_minor,
    case
        when shipped.application_id is null then performance.outcome
        when shipped.is_bad then 'BAD'
        else 'GOOD'
    end as outcome,
    coalesce(shipped.known_at, performance.outcome_known_at) as outcome_known_at,
    case
        when applications.decision in ('WITHDRAWN', 'INCOMPLETE', 'PENDING')
            then applications.decision
        when applications.decision = 'DECLINED' and applications.decision_source = 'policy_rule'
            then 'POLICY_DECLINE'
        when shipped.application_id is not null then null
        when
            applications.decision in ('APPROVED', 'COUNTER_OFFER')
            and applications.account_id is null
            then 'NOT_BOOKED'
        else performance.exclusion
    end as exclusion
from applications
inner join told on applications.application_id = told.application_id
left join performance on applications.account_id = performance.account_id
left join accounts on applications.account_id = accounts.account_id
left join pulls on applications.application_id = pulls.application_id
left join shipped on applications.application_id = shipped.application_id
