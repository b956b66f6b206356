"""How deliveries go, by feed and batch date: what was found wrong, how fresh, how much."""

from datetime import date

import duckdb
import polars as pl

from pipelines.findings import file_findings

WEEKS = 26
LEAST_WEEKS = 6
DEVIATIONS = 6.0
LEAST_SHARE = 0.5
LATEST_DATES = 7


def findings_by_day(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """What was found about files, of all ingests: feed, batch_date, finding and how many.

    Findings are those of `landing.findings` that files and quarantine tell, without a look at the
    rows that were taken in.
    """
    return (
        con.sql(file_findings())
        .filter("batch_date > date '0001-01-01'")
        .aggregate("feed, batch_date, kind as finding, count(*) as found")
        .order("all")
        .pl()
    )


def freshness(con: duckdb.DuckDBPyConnection, today: date) -> pl.DataFrame:
    """One row per feed that ever delivered: last batch date, its age on `today`, what came last."""
    return con.execute(
        "select feed, max(batch_date) as last_batch_date, "
        "datediff('day', max(batch_date), ?::date) as age_days, "
        "max(received_at) as last_received_at, "
        "max_by(path, (batch_date, load_no)).split('/')[-1] as last_file, "
        "sum(rows)::bigint as rows "
        "from landing.files where state = 'LOADED' group by feed order by age_days desc, feed",
        [today],
    ).pl()


def unusual_volumes(con: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """Feeds with unusually many or few rows on one of the last `LATEST_DATES` batch dates.

    Usual is the median of the same weekday in the `WEEKS` before. A day is unusual where it is
    further from it than `DEVIATIONS` of their median absolute deviations (as standard deviations
    of a normal distribution) and than `LEAST_SHARE` of the median itself; with fewer than
    `LEAST_WEEKS` weekdays to compare with, and of a feed that is not usual on that weekday, nothing
    is said. A day on which a feed sent nothing
    while others did counts as zero rows. Columns: feed, batch_date, rows, usual_rows, weeks.
    """
    return con.execute(
        "with by_day as ("
        "  select feed, batch_date, sum(rows)::bigint as rows from landing.files "
        "  where state = 'LOADED' group by all"
        "), days as ("
        "  select feeds.feed, dates.batch_date, coalesce(by_day.rows, 0) as rows "
        "  from (select feed, min(batch_date) as first_on from by_day group by feed) as feeds "
        "  inner join (select distinct batch_date from by_day) as dates "
        "    on dates.batch_date >= feeds.first_on "
        "  left join by_day "
        "    on by_day.feed = feeds.feed and by_day.batch_date = dates.batch_date"
        "), compared as ("
        "  select latest.feed, latest.batch_date, latest.rows, count(*) as weeks, "
        "    median(earlier.rows) as usual_rows, mad(earlier.rows) as deviation "
        "  from (select * from days "
        "    qualify dense_rank() over (order by batch_date desc) <= ?) as latest "
        "  inner join days as earlier on earlier.feed = latest.feed "
        "    and earlier.batch_date < latest.batch_date "
        "    and earlier.batch_date >= latest.batch_date - to_days(7 * ?) "
        "    and dayofweek(earlier.batch_date) = dayofweek(latest.batch_date) "
        "  group by all"
        ") select feed, batch_date, rows, usual_rows::bigint as usual_rows, weeks from compared "
        "where weeks >= ? and usual_rows > 0 and abs(rows - usual_rows) > ? * 1.4826 * deviation "
        "and abs(rows - usual_rows) > ? * usual_rows order by batch_date desc, feed",
        [LATEST_DATES, WEEKS, LEAST_WEEKS, DEVIATIONS, LEAST_SHARE],
    ).pl()
