"""What the ledger promises, checked from what is written: sums, hashes, seals, lots."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import duckdb
import polars as pl

from pipelines.checks import CheckResult
from pipelines.rewards.archive import first_difference
from pipelines.rewards.ledger import entry_hashes, entry_texts, with_payload_hash
from pipelines.rewards.seals import FIRST_HASH, seal_hash
from pipelines.settings import get_settings
from pipelines.warehouse import connect, has_table, set_watermark, transaction, watermark

BATCH = 500_000
"""Entries that are held at once while the chain is recomputed."""


def verify_new_seals() -> list[CheckResult]:
    """`verify_ledger` of this home, with hashes and files only of seals since it last held.

    What it costs then follows the day and not the history; `cardline verify` and every close look
    at everything again.
    """
    with connect() as con:
        newest = _newest_seals(con)
        after = {program: max(watermark(con, _VERIFIED + program), 0) for program in newest}
        results = verify_ledger(con, get_settings().ledger_dir, after)
        if all(result.ok for result in results) and newest != after:
            with transaction(con):
                for program, seal_no in newest.items():
                    set_watermark(con, _VERIFIED + program, seal_no)
        return results


_VERIFIED = "rewards:verified seal:"


def _newest_seals(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    if not has_table(con, "rewards", "seals"):
        return {}
    found = con.execute(
        "select program_id, max(seal_no) from rewards.seals group by all order by 1"
    )
    return dict(found.fetchall())


def verify_ledger(
    con: duckdb.DuckDBPyConnection | None = None,
    archive: Path | None = None,
    after: Mapping[str, int] | None = None,
) -> list[CheckResult]:
    """Every promise of the ledger, one named result each; reads only.

    An account of what is compared stands in each check's docstring. A ledger that does not exist
    yet passes, and says so. `archive` is the folder of sealed files: this home's where `con` is
    not given; a ledger without one is not compared with files. `after`: by program the last seal
    whose entries, hashes and files need no look (default: all are looked at).
    """
    if con is None:
        with connect(read_only=True) as own:
            return verify_ledger(own, get_settings().ledger_dir)
    checks: tuple[tuple[str, Callable[..., tuple[bool, str]]], ...] = (
        ("ledger sums", ledger_sums),
        ("ledger hash chain", partial(hash_chain, after=after)),
        ("ledger seals", partial(seals, after=after)),
        ("lots and balances", lots_equal_balances),
        ("decisions and ledger", decisions_equal_ledger),
        ("decision sets", one_decision_set_each),
    )
    if archive is not None:
        checks = (*checks, ("sealed files", partial(sealed_files, archive=archive, after=after)))
    if not has_table(con, "rewards", "journal"):
        return [CheckResult(name, True, "no ledger yet") for name, _ in checks]
    return [CheckResult(name, *check(con)) for name, check in checks]


def ledger_sums(con: duckdb.DuckDBPyConnection) -> tuple[bool, str]:
    """Debits equal credits per entry and asset; entries have legs and legs have entries."""
    wrong = _first(
        con,
        """
        select journal_id, sum(case direction when 'DEBIT' then amount else -amount end) as total
        from rewards.postings group by journal_id, asset
        having total <> 0 or min(amount) <= 0 order by journal_id limit 1
        """,
    )
    if wrong:
        return False, f"legs of {wrong[0]} sum to {wrong[1]}"
    odd = _first(
        con,
        """
        select journal_id from rewards.journal full join
            (select distinct journal_id from rewards.postings) as legs using (journal_id)
        where rewards.journal.seq is null or legs.journal_id is null order by 1 limit 1
        """,
    )
    if odd:
        return False, f"{odd[0]} has an entry without legs or legs without an entry"
    count = _first(con, "select count(*) from rewards.postings")
    return True, f"{count[0] if count else 0:,} legs, zero in every entry"


def hash_chain(
    con: duckdb.DuckDBPyConnection, after: Mapping[str, int] | None = None
) -> tuple[bool, str]:
    """Each entry's payload and entry hash, recomputed from the entry, its legs and the one before.

    The first that differs is named with the day that it was recorded for.
    """
    count = 0
    for program_id, journals, postings in _entries(con, after or {}):
        first = journals.row(0, named=True)
        if first["seq"] == 1 and first["prev_hash"] != FIRST_HASH:
            return False, _broken(program_id, first)
        again = with_payload_hash(journals.drop("payload_hash"), postings)
        hashes = list(entry_hashes(entry_texts(again), first["prev_hash"]))
        found = journals.with_columns(
            pl.Series("expected_payload", again["payload_hash"]), pl.Series("expected", hashes)
        ).filter(
            (pl.col("expected_payload") != pl.col("payload_hash"))
            | (pl.col("expected") != pl.col("entry_hash"))
            | (pl.col("prev_hash") != pl.col("entry_hash").shift(1)).fill_null(False)
            | (pl.col("seq") != pl.col("seq").shift(1) + 1).fill_null(False)
        )
        if not found.is_empty():
            return False, _broken(program_id, found.row(0, named=True))
        count += journals.height
    gap = _first(
        con,
        """
        select program_id, seq, cast(recorded_at as date) from (
            select *, lag(entry_hash, 1, ?) over (partition by program_id order by seq) as before,
                row_number() over (partition by program_id order by seq) as place
            from rewards.journal
        ) where before <> prev_hash or place <> seq order by program_id, seq limit 1
        """,
        [FIRST_HASH],
    )
    if gap:
        return False, f"{gap[0]}: chain broken at entry {gap[1]}, recorded for {gap[2]}"
    return True, f"{count:,} entries"


def seals(
    con: duckdb.DuckDBPyConnection, after: Mapping[str, int] | None = None
) -> tuple[bool, str]:
    """Each seal's figures from the entries it covers, and the chain of the seals themselves."""
    kept = con.execute("select * from rewards.seals order by program_id, seal_no").pl()
    before: dict[str, tuple[str, int]] = {}
    for seal in kept.iter_rows(named=True):
        program_id = seal["program_id"]
        prev, last_seq = before.get(program_id, (FIRST_HASH, 0))
        if (
            seal["prev_seal_hash"] != prev
            or seal["first_seq"] != last_seq + 1
            or seal["seal_hash"] != seal_hash(prev, seal)
        ):
            return False, f"{program_id}: seal {seal['seal_no']} of {seal['sealed_on']} was changed"
        before[program_id] = (seal["seal_hash"], seal["last_seq"])
    given: list[object] = [dict(after or {})]
    wrong = _first(
        con,
        """
        with covered as (
            select seals.program_id, seals.seal_no, count(distinct journal.journal_id) as n,
                coalesce(sum(amount) filter (direction = 'DEBIT'), 0) as debit,
                coalesce(sum(amount) filter (direction = 'CREDIT'), 0) as credit,
                bool_and(cast(journal.recorded_at as date) = seals.sealed_on) as same_day
            from rewards.seals as seals
            left join rewards.journal as journal on journal.program_id = seals.program_id
                and journal.seq between seals.first_seq and seals.last_seq
            left join rewards.postings as postings using (journal_id)
            where seals.seal_no
                > coalesce(map_extract_value(?::map(varchar, bigint), seals.program_id), 0)
            group by all
        )
        select seals.program_id, seals.seal_no, seals.sealed_on
        from rewards.seals as seals inner join covered using (program_id, seal_no)
        where n <> n_journals or debit <> sum_debit or credit <> sum_credit
            or same_day is distinct from true
        order by program_id, seal_no limit 1
        """,
        given,
    )
    if wrong:
        return False, f"{wrong[0]}: entries of {wrong[2]} differ in number or sum from their seal"
    wrong = _first(
        con,
        """
        select seals.program_id, seals.sealed_on from rewards.seals as seals
        inner join rewards.journal as journal on journal.program_id = seals.program_id
            and journal.seq between seals.first_seq and seals.last_seq
        where seals.seal_no
            > coalesce(map_extract_value(?::map(varchar, bigint), seals.program_id), 0)
        group by seals.program_id, seals.seal_no, seals.sealed_on, seals.root_hash
        having sha256(string_agg(entry_hash, chr(10) order by seq)) <> seals.root_hash
        order by seals.program_id, seals.seal_no limit 1
        """,
        given,
    )
    if wrong:
        return False, f"{wrong[0]}: entries of {wrong[1]} differ from their seal"
    unsealed = _first(
        con,
        """
        select journal.program_id, count(*) from rewards.journal as journal
        left join (select program_id, max(last_seq) as last_seq from rewards.seals group by all)
            as sealed using (program_id)
        where journal.seq > coalesce(sealed.last_seq, 0) group by all limit 1
        """,
    )
    if unsealed:
        return False, f"{unsealed[0]}: {unsealed[1]} entries are not sealed"
    return True, f"{kept.height:,} seals"


def sealed_files(
    con: duckdb.DuckDBPyConnection, archive: Path, after: Mapping[str, int] | None = None
) -> tuple[bool, str]:
    """Each file of sealed days has the bytes that were written and the entries of the table."""
    if difference := first_difference(con, archive, after):
        return False, difference
    count = _first(con, "select count(*) from rewards.archives")
    return True, f"{count[0] if count else 0:,} files"


def lots_equal_balances(con: duckdb.DuckDBPyConnection) -> tuple[bool, str]:
    """Open lots less the deficit is each account's balance; no lot below zero or over its issue."""
    lot = _first(
        con,
        "select lot_id, points_open from rewards.lots "
        "where points_open < 0 or points_open > points_issued order by 1 limit 1",
    )
    if lot:
        return False, f"lot {lot[0]} has {lot[1]} points open"
    drift = _first(
        con,
        """
        with open as (
            select program_id, account_id, sum(points_open) as points from rewards.lots group by all
        )
        select program_id, account_id, coalesce(points, 0), coalesce(available + pending, 0)
        from open full join rewards.balances using (program_id, account_id)
        where coalesce(points, 0) <> coalesce(available + pending, 0) order by 1, 2 limit 1
        """,
    )
    if drift:
        return (
            False,
            f"{drift[0]}: account {drift[1]} has {drift[2]} in lots, {drift[3]} in its balance",
        )
    legs = _first(
        con,
        """
        with legs as (
            select lot_id, sum(case direction when 'CREDIT' then amount else -amount end) as points
            from rewards.postings
            where ledger_account in ('MEMBER_AVAILABLE', 'MEMBER_PENDING')
                and lot_id is not null
            group by lot_id
        )
        select lot_id, coalesce(points_open, 0), coalesce(points, 0)
        from rewards.lots full join legs using (lot_id)
        where coalesce(points_open, 0) <> coalesce(points, 0) order by 1 limit 1
        """,
    )
    if legs:
        return False, f"lot {legs[0]} has {legs[1]} points open, its legs sum to {legs[2]}"
    count = _first(con, "select count(*) from rewards.balances")
    return True, f"{count[0] if count else 0:,} balances"


def decisions_equal_ledger(con: duckdb.DuckDBPyConnection) -> tuple[bool, str]:
    """What the decisions of an account give is what the ledger accrued less what it clawed back,
    or what the issuer bore because a return policy left it."""
    drift = _first(
        con,
        """
        with decided as (
            select program_id, account_id, sum(points) as points from rewards.decisions group by all
        ),
        posted as (
            select journal.program_id, journal.account_id,
                sum(case direction when 'CREDIT' then amount else -amount end) as points
            from rewards.journal as journal
            inner join rewards.postings as postings using (journal_id)
            where ledger_account in ('MEMBER_AVAILABLE', 'MEMBER_PENDING', 'ADJUSTMENT')
                and source_kind = 'POSTED_EVENT'
            group by all
        )
        select program_id, account_id, coalesce(decided.points, 0), coalesce(posted.points, 0)
        from decided full join posted using (program_id, account_id)
        where coalesce(decided.points, 0) <> coalesce(posted.points, 0) order by 1, 2 limit 1
        """,
    )
    if drift:
        return False, f"{drift[0]}: account {drift[1]} decided {drift[2]}, posted {drift[3]}"
    caps = _first(
        con,
        """
        with decided as (
            select program_id, account_id, cap_share_key as share_key, cap_window_on as window_on,
                sum(cap_used) as used
            from rewards.decisions where cap_share_key is not null group by all
        )
        select program_id, account_id, share_key from decided
        full join rewards.cap_usage as kept using (program_id, account_id, share_key, window_on)
        where coalesce(decided.used, 0) <> coalesce(kept.used, 0) order by 1, 2, 3 limit 1
        """,
    )
    if caps:
        return False, f"{caps[0]}: cap {caps[2]} of account {caps[1]} differs from its decisions"
    return True, "points and cap usage agree"


def one_decision_set_each(con: duckdb.DuckDBPyConnection) -> tuple[bool, str]:
    """Every posted event known by the ledger's last day has one decision set, but of accounts
    that wait for their program."""
    double = _first(
        con,
        "select event_id from rewards.decisions group by event_id "
        "having count(*) <> count(distinct rule_id) or count(distinct revision) > 1 limit 1",
    )
    if double:
        return False, f"event {double[0]} has two decision sets"
    if not has_table(con, "marts", "fct_earning_events"):
        return True, "no posted events"
    missing = _first(
        con,
        """
        select count(*), min(event_id) from marts.fct_earning_events
        where cast(received_at as date) <= (select max(through) from rewards.progress)
            and event_id not in (select event_id from rewards.decisions)
            and account_id not in (select account_id from rewards.waiting_accounts)
        """,
    )
    if missing and missing[0]:
        return False, f"{missing[0]:,} posted events without a decision, e.g. {missing[1]}"
    waiting = _first(con, "select count(*) from rewards.waiting_accounts")
    return True, f"complete; {waiting[0] if waiting else 0:,} accounts wait for a program"


def _entries(
    con: duckdb.DuckDBPyConnection, after: Mapping[str, int]
) -> Iterator[tuple[str, pl.DataFrame, pl.DataFrame]]:
    """Entries and legs of each program past its seal in `after`, in order, some at a time."""
    programs = con.execute(
        """
        with looked_at as (
            select program_id, last_seq from rewards.seals
            where seal_no = map_extract_value(?::map(varchar, bigint), program_id)
        )
        select program_id, min(seq), max(seq)
        from rewards.journal left join looked_at using (program_id)
        where seq > coalesce(last_seq, 0)
        group by all order by all
        """,
        [dict(after)],
    ).fetchall()
    for program_id, first, last in programs:
        for start in range(first, last + 1, BATCH):
            where = "program_id = ? and seq >= ? and seq < ?"
            parameters = [program_id, start, start + BATCH]
            journals = con.execute(
                f"select * from rewards.journal where {where} order by seq",  # noqa: S608
                parameters,
            ).pl()
            if journals.is_empty():
                continue
            postings = con.execute(
                "select * from rewards.postings where journal_id in "  # noqa: S608
                f"(select journal_id from rewards.journal where {where})",
                parameters,
            ).pl()
            yield program_id, journals, postings


def _broken(program_id: str, entry: dict[str, object]) -> str:
    return (
        f"{program_id}: entry {entry['seq']} ({entry['journal_id']}) was changed, "
        f"recorded for {str(entry['recorded_at'])[:10]}"
    )


def _first(
    con: duckdb.DuckDBPyConnection, query: str, parameters: list[object] | None = None
) -> tuple[object, ...] | None:
    return con.execute(query, parameters or []).fetchone()
