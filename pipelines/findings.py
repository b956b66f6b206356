"""What was found about the deliveries: one view over inventory, quarantine and raw tables.

`landing.findings` has one row per finding: `kind`, `feed`, `batch_date`, `path`, `line_no`,
`record_key` (the row's key, or the number of a missing file) and `detail`. A clean landing folder
gives none.

Kinds: `FILE_REFUSED` and `ROW_REFUSED` wait in quarantine; `FILE_AGAIN` and `ROW_AGAIN` were known
already; `UNKNOWN_COLUMN` was kept aside; `FILE_MISSING` is a gap in the sequence numbers of the
manifests; `FILE_LATE` came two days or more after its batch date, or after a later one of its feed
had been taken in; `CORRECTION` is another version of an event; `ORPHAN_KEY` leads nowhere.
"""

from collections.abc import Iterator

from pipelines.contracts import FEEDS, Feed

FINDINGS = "landing.findings"
KINDS = (
    "FILE_REFUSED", "FILE_AGAIN", "FILE_MISSING", "FILE_LATE", "UNKNOWN_COLUMN", "ROW_REFUSED",
    "ROW_AGAIN", "CORRECTION", "ORPHAN_KEY",
)  # fmt: skip

SEQUENCE_STEPS = """
select
    *,
    lag(sequence_no) over series as number_before,
    lag(batch_date) over series as date_before
from (
    select
        feed, split_part(parse_filename(path), '.', 1) as stream, sequence_no,
        min(batch_date) as batch_date
    from landing.files
    where sequence_no is not null
    group by all
) as numbered
window series as (partition by feed, stream order by sequence_no)
"""
"""A row a numbered file of a stream (a feed's files of one name), with the one before it."""

# A delivery that was mended at the same path settles what was wrong with it before.
_OF_FILES = f"""
standing as (
    select * from landing.files as files
    where not (files.state = 'QUARANTINED' and exists (
        select 1 from landing.files as mended
        where
            mended.path = files.path and mended.state = 'LOADED'
            and mended.load_no > files.load_no
    ))
),

steps as ({SEQUENCE_STEPS}),

progress as (
    select feed, load_no, max(batch_date) as reached
    from landing.files
    where state = 'LOADED'
    group by all
),

late as (
    select standing.*
    from standing
    where
        standing.state = 'LOADED'
        and not exists (
            select 1 from landing.files as earlier
            where earlier.path = standing.path and earlier.load_no < standing.load_no
        )
        and (
            date_diff('day', standing.batch_date, standing.received_at) >= 2
            or exists (
                select 1 from progress
                where
                    progress.feed = standing.feed and progress.load_no < standing.load_no
                    and progress.reached > standing.batch_date
            )
        )
)
"""  # noqa: S608

_FROM_FILES = """
select
    case state when 'QUARANTINED' then 'FILE_REFUSED' else 'FILE_AGAIN' end as kind,
    feed, batch_date, path, cast(null as bigint) as line_no, cast(null as varchar) as record_key,
    reason as detail
from standing
where state in ('QUARANTINED', 'DUPLICATE')
union all
select 'UNKNOWN_COLUMN', feed, batch_date, path, null, null, unknown_columns
from standing
where state = 'LOADED' and unknown_columns is not null
union all
select
    'FILE_LATE', feed, batch_date, path, null, null,
    'received ' || strftime(received_at, '%Y-%m-%d')
from late
union all
select
    'FILE_MISSING', feed, date_before, null, null, cast(unnest(range(
        number_before + 1, sequence_no
    )) as varchar),
    stream || ': between ' || date_before || ' and ' || batch_date
from steps
where sequence_no > number_before + 1
union all
select 'ROW_REFUSED', rows.feed, files.batch_date, files.path, rows.line_no, null, rows.reason
from quarantine.rows as rows
inner join standing as files
    on rows.feed = files.feed and rows.file_id = files.file_id and rows.load_no = files.load_no
where files.state = 'LOADED'
"""


# The files of the last ingest commit that loaded any.
_FRESH = """
fresh as (
    select file_id from landing.files
    where
        state = 'LOADED'
        and load_no = (select max(load_no) from landing.files where state = 'LOADED')
)
"""


def findings_view() -> str:
    """The statement that makes `landing.findings`; feeds and columns are the contract's own."""
    return f"create or replace view {FINDINGS} as {_findings(is_fresh=False)}"


def fresh_findings() -> str:
    """As `landing.findings`, of rows only those that the last ingest brought or corrected.

    The cost follows that ingest: of what was there before, only keys are looked at.
    """
    return _findings(is_fresh=True)


def file_findings() -> str:
    """As `landing.findings`, without what only the accepted rows tell."""
    return f"with {_OF_FILES} {_FROM_FILES}"


def _findings(is_fresh: bool) -> str:
    parts = [_FROM_FILES, *(part for feed in FEEDS.values() for part in _of_feed(feed, is_fresh))]
    return f"with {_OF_FILES}, {_FRESH} " + " union all ".join(parts)


def _of_feed(feed: Feed, is_fresh: bool) -> Iterator[str]:
    keys = ", ".join(feed.key)
    key = " || '/' || ".join(feed.key)
    table = f"raw.{feed.name}"
    brought = known = f"{table} where true"
    if is_fresh:
        brought = f"{table} where file_id in (from fresh)"
        known = f"{table} where ({keys}) in (select ({keys}) from {brought})"  # noqa: S608
    paths = f"""(
    select file_id, min(path) as path from standing where feed = '{feed.name}' group by file_id
)"""  # noqa: S608
    where = f"'{feed.name}' as feed, batch_date, files.path, line_no, {key} as record_key"
    if feed.is_event:
        yield f"""
select
    case when version_no = 1 then 'ROW_AGAIN' else 'CORRECTION' end as kind, {where},
    case when version_no = 1 then 'the same row again' else 'version ' || version_no end as detail
from (
    select
        *,
        row_number() over (
            partition by {key}, record_hash order by received_at, batch_date, file_id, line_no
        ) as copy_no,
        dense_rank() over (partition by {key} order by first_seen, record_hash) as version_no
    from (
        select
            batch_date, file_id, line_no, record_hash, received_at, {keys},
            min((received_at, batch_date)) over (partition by {key}, record_hash) as first_seen
        from {table}
        where ({keys}) in (
            select ({keys}) from {known} group by {keys} having count(*) > 1
        )
    ) as repeated
) as versions
left join {paths} as files using (file_id)
where version_no > 1 or copy_no > 1
"""  # noqa: S608
    for column, parent in feed.references:
        yield f"""
select
    'ORPHAN_KEY' as kind, {where}, '{column} is in no row of {parent}: ' || {column} as detail
from (from {brought} and {column} is not null and exists (from raw.{parent})) as brought
anti join raw.{parent} as parents on brought.{column} = parents.{column}
left join {paths} as files using (file_id)
"""  # noqa: S608
