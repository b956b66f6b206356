-- Where an application came from, by the report that was asked for it: applications of the 24 hours
-- up to it, itself included, from its device, from its address and by its person, and how long the
-- device has been known. As of the moment at which the application was first told of: that is what
-- the decision could know, and what is told later changes nothing.
{{ config(incremental_strategy='delete+insert', unique_key='pull_id') }}

{% set sources = {'device': 'device_id', 'ip': 'ip_hash', 'person': 'person_id'} %}

with told as (
    select * from {{ ref('stg_landing__applications') }}
),

applications as (
    select
        application_id,
        person_id,
        device_id,
        ip_hash,
        submitted_at,
        received_at,
        min(submitted_at) over (
            partition by device_id order by received_at
            range between unbounded preceding and current row
        ) as device_known_from
    from (
        select *
        from told
        qualify row_number() over (
            partition by application_id order by received_at, batch_date, file_id, line_no
        ) = 1
    ) as first_told
),

told_pulls as (
    select
        application_id,
        pull_id,
        received_at,
        file_id
    from told
    where pull_id is not null
    union all
    select
        application_id,
        pull_id,
        received_at,
        file_id
    from {{ ref('stg_landing__bureau_pulls') }}
    where application_id is not null
),

{% if is_delta() %}
new_applications as (
    select application_id
    from told
    where file_id in ({{ new_files() }})
    union
    select application_id
    from told_pulls
    where file_id in ({{ new_files() }})
),

touched_pulls as (
    select pull_id
    from told_pulls
    where
        application_id in (select application_id from new_applications)
        {% for column in sources.values() %}
        or application_id in (
            select application_id
            from told
            where {{ column }} in (
                select {{ column }}
                from told
                where application_id in (select application_id from new_applications)
            )
        )
        {% endfor %}
),
{% endif %}

pulls as (
    select
        application_id,
        pull_id,
        min(received_at) as known_at
    from told_pulls
    {% if is_delta() %}
    where pull_id in (select pull_id from touched_pulls)
    {% endif %}
    group by application_id, pull_id
),

told_of as (
    select
        pulls.pull_id,
        applications.*,
        greatest(applications.received_at, applications.submitted_at, pulls.known_at) as known_at
    from applications
    inner join pulls on applications.application_id = pulls.application_id
),

-- A report that two applications share tells of the one that came last.
asked as (
    select *
    from told_of
    qualify row_number() over (partition by pull_id, known_at order by application_id) = 1
),

-- By days, of which 24 hours touch two: a device in a shop may have very many applications.
others as (
    select
        *,
        {{ each_day(
            'cast(submitted_at as date)', plus('submitted_at', 2, 'day', 'date'), 'asked_on'
        ) }}
    from applications
),

{% for source, column in sources.items() %}
of_{{ source }} as (
    select
        asked.pull_id,
        asked.known_at,
        count(*) as applications_n
    from asked
    inner join others
        on
            asked.{{ column }} = others.{{ column }}
            and cast(asked.submitted_at as date) = others.asked_on
            and asked.submitted_at >= others.submitted_at
            and asked.submitted_at - interval '24' hour < others.submitted_at
            and asked.known_at >= others.received_at
    group by asked.pull_id, asked.known_at
){{ ',' if not loop.last }}

{% endfor %}
select
    asked.pull_id,
    asked.known_at as event_timestamp,
    asked.known_at as created_timestamp,
    {% for source in sources %}
    cast(of_{{ source }}.applications_n as bigint) as app_apps_24h_by_{{ source }},
    {% endfor %}
    cast(
        case
            when asked.device_id is not null
                then {{ full_days('asked.device_known_from', 'asked.submitted_at') }}
        end as bigint
    ) as app_device_age_d
from asked
{% for source in sources %}
left join of_{{ source }}
    on asked.pull_id = of_{{ source }}.pull_id and asked.known_at = of_{{ source }}.known_at
{% endfor %}
{{ in_order_of('event_timestamp') }}
