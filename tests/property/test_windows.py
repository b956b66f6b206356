"""Windows of fraud features against a plain recount, on any history of late, corrected and tied
messages: the models' own SQL, and the functions that Feast serves."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from math import asin, cos, radians, sin, sqrt
from statistics import fmean, stdev
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.features.registry import load_definitions
from pipelines.features.requests import made_key, on_demand, time_text
from tests.property.messages import History, Label, Message, built

START = datetime(2024, 1, 1, 23, 50)
TICK = timedelta(microseconds=1)
WINDOWS = {"15m": timedelta(minutes=15), "1h": timedelta(hours=1), "24h": timedelta(hours=24)}
# Steps that meet the edges of every window.
STEPS = [
    *(timedelta(0), TICK, timedelta(minutes=7), timedelta(minutes=15), timedelta(hours=1)),
    *(timedelta(hours=24), timedelta(days=1, microseconds=-1), timedelta(days=6)),
    *(timedelta(days=30), timedelta(days=59), timedelta(days=90)),
]


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Up to a dozen purchases by three cards of two accounts, at times that stand close or far."""
    steps = st.sampled_from(STEPS)
    messages: list[Message] = []
    labels: list[Label] = []
    at = START
    for number in range(draw(st.integers(0, 12))):
        at += draw(steps)
        card = draw(st.sampled_from(["c0", "c1", "c2"]))
        first = Message(
            transaction_id=f"t{number}",
            event_id=f"e{number}",
            version_no=1,
            event_type=draw(st.sampled_from(["AUTHORIZATION", "CLEARING"])),
            card_id=card,
            account_id="a" + ("0" if card == "c0" else "1"),
            merchant_id=draw(st.sampled_from(["m0", "m1", None])),
            mcc=draw(st.sampled_from(["5411", "5812", None])),
            merchant_country=draw(st.sampled_from(["US", "FR", None])),
            device_id=draw(st.sampled_from(["d0", "d1", None])),
            ip_hash=draw(st.sampled_from(["i0", None])),
            event_at=at,
            amount_minor=draw(st.integers(1, 10_000)),
            auth_result=draw(st.sampled_from([None, "APPROVED", "DECLINED"])),
            is_card_present=draw(st.sampled_from([True, False, None])),
            latitude=draw(st.sampled_from([None, 40.7128, -33.5])),
            longitude=-74.006,
            received_at=at + draw(steps),
            superseded_at=None,
        )
        versions = [first]
        if draw(st.integers(0, 3)) == 0:  # Corrected later, perhaps to another card.
            later = first.received_at + draw(steps)
            amount, other = draw(st.integers(1, 10_000)), draw(st.sampled_from(["c0", card]))
            versions = [
                replace(first, superseded_at=later),
                replace(first, version_no=2, received_at=later, amount_minor=amount, card_id=other),
            ]
        messages += versions
        if draw(st.integers(0, 3)) == 0:  # Another message about it, which came sooner or later.
            messages.append(
                replace(
                    first,
                    event_id=f"f{number}",
                    event_type=draw(st.sampled_from(["AUTHORIZATION", "CLEARING"])),
                    event_at=at + draw(steps),
                    received_at=at + timedelta(days=90) + draw(steps),
                    amount_minor=7,
                )
            )
        if draw(st.integers(0, 2)) == 0:
            known = (at + draw(steps)).date()
            until = known + timedelta(days=draw(st.integers(1, 40)))
            labels.append(Label(f"t{number}", known, draw(st.sampled_from([None, until]))))
    times = [m.received_at for m in messages] + [START]
    moments = {
        draw(st.sampled_from(times)) + draw(steps) - draw(st.sampled_from([timedelta(0), TICK]))
        for _ in range(6)
    }
    return History(tuple(messages), tuple(labels), tuple(sorted(moments)))


def _standing(history: History, known_by: datetime) -> list[Message]:
    """The message that stands for each transaction, of what had happened and was known."""
    chosen: dict[str, Message] = {}
    for message in history.messages:
        is_known = message.received_at <= known_by
        if message.superseded_at is not None and message.superseded_at <= known_by:
            is_known = False
        if is_known:
            rival = chosen.get(message.transaction_id)
            if rival is None or _preference(message) < _preference(rival):
                chosen[message.transaction_id] = message
    return [message for message in chosen.values() if message.event_at <= known_by]


def _preference(message: Message) -> tuple[Any, ...]:
    return (message.event_type == "CLEARING", message.event_at, message.event_id)


def _ever(history: History, known_by: datetime) -> list[tuple[datetime, Message]]:
    """What ever stood for a transaction until then, and since when."""
    times = {m.received_at for m in history.messages} | {m.event_at for m in history.messages}
    times |= {m.superseded_at for m in history.messages if m.superseded_at}
    found: dict[Message, datetime] = {}
    for at in sorted(at for at in times if at <= known_by):
        for message in _standing(history, at):
            found.setdefault(message, at)
    return [(at, message) for message, at in found.items()]


def _latest(rows: list[dict[str, Any]], key: str, entity: str, at: datetime) -> dict[str, Any]:
    mine = [row for row in rows if row[key] == entity and row["event_timestamp"] <= at]
    return max(mine, key=lambda row: row["event_timestamp"], default={})


def _recounted(
    rows: Iterable[Message], frauds: set[str], day: date
) -> dict[str, dict[int, int | float]]:
    """Measures by window in days, of the days that end with `day`."""
    names = ("count", "amount", "declined", "frauds", "rate", *DISTINCT)
    found: dict[str, dict[int, int | float]] = {name: {} for name in names}
    for days in (1, 7, 30, 90):
        window = [m for m in rows if day - timedelta(days=days) < m.event_at.date() <= day]
        approved = [m for m in window if not m.is_declined]
        positives = sum(m.transaction_id in frauds for m in approved)
        found["count"][days] = len(approved)
        found["amount"][days] = sum(m.amount_minor for m in approved)
        found["declined"][days] = len(window) - len(approved)
        found["frauds"][days] = positives
        found["rate"][days] = (positives + 20 * 0.005) / (len(approved) + 20)
        for name, column in DISTINCT.items():
            found[name][days] = len({getattr(m, column) for m in window} - {None})
    return found


DISTINCT = {
    "merchants": "merchant_id",
    "mccs": "mcc",
    "countries": "merchant_country",
    "cards": "card_id",
}
NAMES = {
    "card_velocity_features": {
        "merchants": "card_merchant_count_{}d",
        "mccs": "card_mcc_count_{}d",
        "countries": "card_country_count_{}d",
        "count": "authorization_count_{}d",
        "amount": "authorization_amount_{}d_minor",
        "declined": "declined_count_{}d",
    },
    "account_amount_features": {
        "count": "account_count_{}d",
        "amount": "account_amount_{}d_minor",
        "declined": "account_declined_count_{}d",
    },
    "merchant_risk_features": {
        "cards": "merchant_card_count_{}d",
        "count": "transaction_count_{}d",
        "amount": "merchant_amount_{}d_minor",
        "declined": "merchant_declined_count_{}d",
        "frauds": "fraud_count_{}d",
        "rate": "fraud_rate_{}d",
    },
    **{
        f"{entity}_risk_features": {
            "cards": f"{entity}_card_count_{{}}d",
            "count": f"{entity}_count_{{}}d",
            "amount": f"{entity}_amount_{{}}d_minor",
            "declined": f"{entity}_declined_count_{{}}d",
            "frauds": f"{entity}_fraud_count_{{}}d",
            "rate": f"{entity}_fraud_rate_{{}}d",
        }
        for entity in ("mcc", "device", "ip")
    },
}
KEYS = {
    "card_velocity_features": ("card_id", "card_id"),
    "account_amount_features": ("account_id", "account_id"),
    "merchant_risk_features": ("merchant_id", "merchant_id"),
    "mcc_risk_features": ("mcc_key", "mcc"),
    "device_risk_features": ("device_key", "device_id"),
    "ip_risk_features": ("ip_key", "ip_hash"),
}
PROPERTY = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)


@PROPERTY
@given(histories())
def test_windows_of_days_are_what_was_known_at_the_end_of_each(history: History) -> None:
    tables = built(history, *NAMES)
    declared = load_definitions().views
    for moment in history.moments:
        day = moment.date()
        midnight = datetime.combine(day + timedelta(days=1), time())
        known = _standing(history, midnight - TICK)
        frauds = {
            label.transaction_id
            for label in history.labels
            if label.known_from <= day and (label.known_to is None or day < label.known_to)
        }
        for view, names in NAMES.items():
            key, column = KEYS[view]
            for entity in {getattr(m, column) for m in history.messages} - {None}:
                mine = [m for m in known if getattr(m, column) == entity]
                row = _latest(tables[view], key, entity, midnight)
                if not row:
                    assert not any(m.event_at.date() > day - timedelta(days=30) for m in mine)
                    continue
                for measure, by_days in _recounted(mine, frauds, day).items():
                    for days, value in by_days.items():
                        name = names.get(measure, "").format(days)
                        if name in declared[view].features:
                            assert row[name] == pytest.approx(value), (view, entity, day, name)


@pytest.fixture(scope="module")
def functions() -> dict[str, Any]:
    """The on-demand functions that Feast serves, by name."""
    return {
        view.name: on_demand(view).function
        for view in load_definitions().objects
        if view.name.startswith("authorization_") and hasattr(view, "feature_transformation")
    }


def _asked(function: Any, **inputs: Any) -> dict[str, Any]:
    answer = function({name: [value] for name, value in inputs.items()})
    return {name: values[0] for name, values in answer.items()}


@PROPERTY
@given(history=histories())
def test_windows_of_a_request_are_exact(functions: dict[str, Any], history: History) -> None:
    """Of any moment, with what was known at any moment before."""
    tables = built(history, *RECENT)
    for known_at, event_at in zip(history.moments, history.moments[1:], strict=False):
        standing, ever = _standing(history, known_at), _ever(history, known_at)
        for view, (key, column, entity) in RECENT.items():
            for each in {getattr(m, column) for m in history.messages} - {None}:
                row = _latest(tables[view], key, each, known_at)
                mine = [m for m in standing if getattr(m, column) == each]
                if not row:
                    memory = timedelta(days=90 if entity == "card" else 1)
                    assert not any(m.event_at > known_at - memory for m in mine)
                    continue
                found = _asked_windows(functions, row, event_at, known_at)
                for name, length in WINDOWS.items():
                    window = [m for m in mine if event_at - length <= m.event_at < event_at]
                    approved = [m for m in window if not m.is_declined]
                    assert found[f"{entity}_count_{name}"] == len(approved)
                    declined = len(window) - len(approved)
                    assert found[f"{entity}_declined_count_{name}"] == declined
                    total = sum(m.amount_minor for m in approved)
                    assert found[f"{entity}_amount_{name}_minor"] == total
                assert found["age_s"] == pytest.approx((event_at - known_at).total_seconds())
                if entity != "card":
                    continue
                for what, is_declined in (("used", False), ("declined", True)):
                    uses = [
                        m.event_at
                        for _, m in ever
                        if m.card_id == each
                        and m.is_declined is is_declined
                        and m.event_at > event_at - timedelta(days=90)
                    ]
                    last = (event_at - max(uses)).total_seconds() if uses else None
                    seconds = found[f"seconds_since_{what}"]
                    assert seconds == (last if last is None else pytest.approx(last))


RECENT = {
    "card_recent_features": ("card_id", "card_id", "card"),
    "account_recent_features": ("account_id", "account_id", "account"),
    "merchant_recent_features": ("merchant_id", "merchant_id", "merchant"),
    "device_recent_features": ("device_key", "device_id", "device"),
    "ip_recent_features": ("ip_key", "ip_hash", "ip"),
}
"""Views with a log: the column of its key, what of a message that is, and how features begin."""


def _asked_windows(
    functions: dict[str, Any], row: dict[str, Any], event_at: datetime, known_at: datetime
) -> dict[str, Any]:
    """The windows of the entity that `row` is about; of the others nothing is known."""
    logs = [f"{entity}_recent_authorizations" for *_, entity in RECENT.values()]
    stored = dict.fromkeys(["recent_authorizations", "last_used_us", "last_declined_us", *logs])
    return _asked(
        functions["authorization_windows"],
        event_at=time_text(event_at),
        known_at=time_text(known_at),
        **{name: row.get(name) for name in stored},
    )


def test_a_file_that_is_heard_at_once_is_no_burst_of_a_busy_merchant(
    functions: dict[str, Any],
) -> None:
    """Forty authorizations of a day that all became known at its end."""
    start = datetime(2024, 5, 1)
    heard = start + timedelta(days=1, microseconds=-1)
    history = History(
        tuple(_of_merchant(n, start + timedelta(minutes=36 * n), heard) for n in range(40)), (), ()
    )
    rows = built(history, "merchant_recent_features")["merchant_recent_features"]
    (row,) = rows
    at = heard + timedelta(seconds=1)
    found = _asked_windows(functions, row, at, at)
    assert found["merchant_count_24h"] == 30
    assert found["merchant_declined_count_24h"] == 10
    # The 39th at 23:24 and the 38th at 22:48, which was declined or is out of the hour.
    assert found["merchant_count_1h"] + found["merchant_declined_count_1h"] == 1
    assert found["merchant_count_15m"] == 0
    # Asked for a time before it was heard, nothing of it counts, nor does what is asked for itself.
    earlier = _asked_windows(functions, row, heard, heard)
    assert earlier["merchant_count_24h"] == 0


def test_files_a_day_apart_are_not_counted_together(functions: dict[str, Any]) -> None:
    """Two days of twenty and forty authorizations, each heard at the end of its day."""
    days = [datetime(2024, 5, day) for day in (1, 2, 3)]
    ends = [day + timedelta(days=1, microseconds=-1) for day in days]
    history = History(
        tuple(
            _of_merchant(100 * day + n, days[day] + timedelta(minutes=30 * n), ends[day])
            for day, several in enumerate((40, 20, 40))
            for n in range(several)
        ),
        (),
        (),
    )
    rows = built(history, "merchant_recent_features")["merchant_recent_features"]
    by_day = [
        _asked_windows(functions, row, *[end + TICK] * 2)
        for row, end in zip(rows, ends, strict=True)
    ]
    assert [found["merchant_count_24h"] for found in by_day] == [30, 15, 30]
    assert [found["merchant_declined_count_24h"] for found in by_day] == [10, 5, 10]
    # The second day has a log, from which what leaves the window goes: at eight, all but four.
    at = ends[1] + timedelta(hours=8)
    assert _asked_windows(functions, rows[1], at, ends[1])["merchant_count_24h"] == 3


def _of_merchant(number: int, event_at: datetime, received_at: datetime) -> Message:
    """The `number`th authorization at a merchant; every fourth is declined."""
    return Message(
        transaction_id=f"t{number}",
        event_id=f"e{number}",
        version_no=1,
        event_type="AUTHORIZATION",
        card_id=f"c{number % 3}",
        account_id="a0",
        merchant_id="m0",
        mcc=None,
        merchant_country=None,
        device_id=None,
        ip_hash=None,
        event_at=event_at,
        amount_minor=100 + number,
        auth_result="DECLINED" if number % 4 == 0 else "APPROVED",
        is_card_present=None,
        latitude=None,
        longitude=None,
        received_at=received_at,
        superseded_at=None,
    )


def test_windows_of_a_busy_merchant_end_with_its_last_message(functions: dict[str, Any]) -> None:
    """An authorization a minute, every fourth declined, one corrected: from the 33rd message on
    there is no log, until a day has fewer again."""
    start = datetime(2024, 5, 1, 12)
    minutes = [*range(60), 1_490]
    history = History(
        tuple(
            replace(
                _of_merchant(minute, at, at),
                superseded_at=start + timedelta(minutes=30, seconds=5) if minute == 29 else None,
            )
            for minute in minutes
            for at in [start + timedelta(minutes=minute)]
        ),
        (),
        (),
    )
    rows = built(history, "merchant_recent_features")["merchant_recent_features"]

    def counts(minute: float, known: float, window: str) -> list[int]:
        at = start + timedelta(minutes=minute)
        row = _latest(rows, "merchant_id", "m0", start + timedelta(minutes=known))
        found = _asked_windows(functions, row, at, at)
        names = (f"count_{window}", f"declined_count_{window}", f"amount_{window}_minor")
        return [found[f"merchant_{name}"] for name in names]

    def told(heard: Iterable[int]) -> list[int]:
        approved = [100 + each for each in heard if each % 4]
        declined = [each for each in heard if each % 4 == 0]
        return [len(approved), len(declined), sum(approved)]

    # 31 messages and a correction: the last row with a log, exact at any later time.
    assert counts(30.5, 30.5, "1h") == told({*range(31)} - {29})
    assert counts(40, 30.5, "15m") == told({*range(25, 31)} - {29})
    # One more, and what was heard in the window that ends with it stands until the window is over.
    assert counts(59.5, 59, "1h") == told(range(60)) == counts(118, 59, "1h")
    assert counts(59.5, 59, "15m") == told(range(45, 60)) == counts(73, 59, "15m")
    assert counts(75, 59, "15m") == [0, 0, 0]
    # A day later there is a log again.
    assert counts(1_491, 1_490, "24h") == told([*range(51, 60), 1_490])


@PROPERTY
@given(history=histories())
def test_what_is_new_to_an_account(functions: dict[str, Any], history: History) -> None:
    tables = built(history, "account_history_features", "account_merchant_features")
    for known_at in history.moments:
        ever = [(at, m) for at, m in _ever(history, known_at) if not m.is_declined]
        for account in ("a0", "a1"):
            mine = [(at, m) for at, m in ever if m.account_id == account]
            row = _latest(tables["account_history_features"], "account_id", account, known_at)
            for merchant in ("m0", "m1"):
                pair = _latest(
                    tables["account_merchant_features"],
                    "account_merchant_key",
                    str(made_key([account, merchant])),
                    known_at,
                )
                found = _asked(
                    functions["authorization_novelty"],
                    event_at=time_text(known_at + TICK),
                    mcc="5411",
                    merchant_country="FR",
                    device_id=None,
                    known_mccs=row.get("known_mccs"),
                    known_countries=row.get("known_countries"),
                    known_devices=row.get("known_devices"),
                    first_used_us=pair.get("first_used_us"),
                )
                first = min((at for at, m in mine if m.merchant_id == merchant), default=None)
                days = None if first is None else (known_at + TICK - first) / timedelta(days=1)
                assert found["days_at_merchant"] == (days if days is None else pytest.approx(days))
                if row:
                    assert found["is_new_mcc"] is not any(m.mcc == "5411" for _, m in mine)
                    used = any(m.merchant_country == "FR" for _, m in mine)
                    assert found["is_new_country"] is not used
                else:
                    named = [m for _, m in mine if m.mcc or m.merchant_country or m.device_id]
                    assert not named and found["is_new_mcc"] is None
                assert found["is_new_device"] is None


@PROPERTY
@given(history=histories())
def test_what_an_account_is_used_to(functions: dict[str, Any], history: History) -> None:
    """Amounts and uses by category and merchant, of 30 and 90 days to the microsecond."""
    tables = built(history, "account_mcc_features", "account_merchant_features")
    for known_at in history.moments:
        standing = [m for m in _standing(history, known_at) if not m.is_declined]
        for account, mcc, merchant, lag in (
            ("a0", "5411", "m0", TICK),
            ("a1", "5812", "m1", timedelta(days=30)),
            ("a1", "5411", "m0", timedelta(days=59)),
        ):
            at = known_at + lag
            views = (
                ("account_mcc_features", "account_mcc_key", mcc),
                ("account_merchant_features", "account_merchant_key", merchant),
            )
            stored = [
                _latest(tables[view], key, str(made_key([account, other])), known_at)
                for view, key, other in views
            ]
            found = _asked(
                functions["authorization_habits"],
                event_at=time_text(at),
                amount_minor=5_000,
                amount_count_90d=4,
                mcc_recent_uses=stored[0].get("mcc_recent_uses"),
                merchant_recent_uses=stored[1].get("merchant_recent_uses"),
            )
            mine = [
                m for m in standing
                if m.account_id == account and at - timedelta(days=90) <= m.event_at < at
            ]  # fmt: skip
            of_mcc = [m for m in mine if m.mcc == mcc]
            of_merchant = [m for m in mine if m.merchant_id == merchant]
            for name, row, used in (
                ("mcc", stored[0], of_mcc),
                ("merchant", stored[1], of_merchant),
            ):
                if not row:
                    assert not used
                assert found[f"account_{name}_count_90d"] == (len(used) if row else None)
                assert found[f"account_{name}_share_90d"] == (
                    min(1, len(used) / 4) if row else None
                )
                assert found[f"seconds_since_{name}_used"] == _since(at, used)
            of_30_days = [m for m in of_mcc if m.event_at >= at - timedelta(days=30)]
            amounts = [m.amount_minor for m in of_mcc]
            assert found["account_mcc_count_30d"] == (len(of_30_days) if stored[0] else None)
            assert found["account_mcc_amount_to_max_90d"] == (
                pytest.approx(5_000 / max(amounts)) if amounts else None
            )
            for name, used in (("30d", of_30_days), ("90d", of_mcc)):
                zscore = found[f"account_mcc_amount_zscore_{name}"]
                usual = [m.amount_minor for m in used]
                assert (zscore is None) is (len(usual) < 5)
                if zscore is not None:
                    spread = max(stdev(usual), 0.05 * fmean(usual), 100)
                    assert zscore == pytest.approx((5_000 - fmean(usual)) / spread)
            rank = found["account_mcc_amount_percentile_90d"]
            assert (rank is None) is (len(amounts) < 5)
            if rank is not None:
                ranked = sorted([*amounts, 5_000])
                first, last = ranked.index(5_000), len(ranked) - 1 - ranked[::-1].index(5_000)
                assert rank == pytest.approx((first + last) / 2 / len(amounts))


def _since(at: datetime, messages: list[Message]) -> float | None:
    last = max((m.event_at for m in messages), default=None)
    return None if last is None else (at - last) / timedelta(seconds=1)


def test_what_is_heard_when_it_leaves_the_window_is_still_in_it(
    functions: dict[str, Any],
) -> None:
    """[t - window, t) has its beginning, also of what was not known before t."""
    start = datetime(2024, 5, 1)
    told = [_of_merchant(1, start, start + timedelta(days=days)) for days in (1, 90)]
    history = History((replace(told[0], mcc="5411"), replace(told[1], mcc="5411", event_id="f",
                       transaction_id="u")), (), ())  # fmt: skip
    tables = built(history, "card_recent_features", "account_mcc_features")
    row = _latest(tables["card_recent_features"], "card_id", "c1", start + timedelta(days=1))
    of_card = _asked_windows(functions, row, start + timedelta(days=1), start + timedelta(days=1))
    assert of_card["card_count_24h"] == 1
    at = start + timedelta(days=90)
    key = str(made_key(["a0", "5411"]))
    found = _asked(
        functions["authorization_habits"],
        event_at=time_text(at),
        amount_minor=5_000,
        amount_count_90d=2,
        mcc_recent_uses=_latest(tables["account_mcc_features"], "account_mcc_key", key, at)[
            "mcc_recent_uses"
        ],
        merchant_recent_uses=None,
    )
    assert found["account_mcc_count_90d"] == 2


@PROPERTY
@given(history=histories())
def test_travel_is_from_the_last_use_in_person(functions: dict[str, Any], history: History) -> None:
    tables = built(history, "card_recent_features")
    for known_at in history.moments:
        for card in ("c0", "c1", "c2"):
            row = _latest(tables["card_recent_features"], "card_id", card, known_at)
            if not row:
                continue
            event_at = known_at + timedelta(minutes=20)
            found = _asked(
                functions["authorization_travel"],
                event_at=time_text(event_at),
                latitude=34.0522,
                longitude=-118.2437,
                last_place=row["last_place"],
                home_latitude=None,
                home_longitude=None,
            )
            places = [
                (m.event_at, m.latitude, m.longitude)
                for _, m in _ever(history, known_at)
                if m.card_id == card and m.is_card_present and m.latitude is not None
                and not m.is_declined
                and m.event_at > event_at - timedelta(days=90)
            ]  # fmt: skip
            if not places:
                assert set(found.values()) == {None}
                continue
            last = max(at for at, *_ in places)
            distances = {_kilometres(34.0522, -118.2437, la, lo) for at, la, lo in places
                         if at == last}  # fmt: skip
            hours = max((event_at - last).total_seconds(), 300) / 3600
            assert found["distance_km"] == pytest.approx(
                min(distances, key=lambda d: abs(d - found["distance_km"]))
            )
            assert found["speed_kmh"] == pytest.approx(found["distance_km"] / hours)


def _kilometres(la: float, lo: float, other_la: float, other_lo: float) -> float:
    half = (
        sin(radians(la - other_la) / 2) ** 2
        + cos(radians(la)) * cos(radians(other_la)) * sin(radians(lo - other_lo) / 2) ** 2
    )
    return 2 * 6371.0088 * asin(sqrt(half))


def test_new_york_to_los_angeles_in_three_hours(functions: dict[str, Any]) -> None:
    stamp = 10**18 + 1_704_067_200_000_000
    found = _asked(
        functions["authorization_travel"],
        event_at="2024-01-01T03:00:00Z",
        latitude=34.0522,
        longitude=-118.2437,
        last_place=f"{stamp} 40.7128 -74.006",
        home_latitude=34.0522,
        home_longitude=-118.2437,
    )
    assert found["distance_from_home_km"] == 0
    assert found["distance_km"] == pytest.approx(3_935.752, abs=1e-3)
    assert found["speed_kmh"] == pytest.approx(1_311.92, abs=1e-2)
    assert found["is_impossible_travel"] is True


def test_places_and_times_that_cannot_be_give_nulls(functions: dict[str, Any]) -> None:
    place = f"{10**18 + 1_704_067_200_000_000} 40.7 -74.0"
    for latitude in (91.0, float("inf"), float("nan"), None):
        found = _asked(
            functions["authorization_travel"],
            event_at="2024-01-01T03:00:00Z",
            latitude=latitude,
            longitude=0.0,
            last_place=place,
            home_latitude=40.7,
            home_longitude=-74.0,
        )
        assert set(found.values()) == {None}
