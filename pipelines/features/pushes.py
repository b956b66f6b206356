"""Single authorizations between batches: how what is pushed and what the batches bring meet.

The online store has two rows of a card, of the same columns: the batches' row of
`card_recent_features`, and beside it one of all that was pushed; so of an account, a merchant, a
device and an address, where the push tells them. Each has one kind of writer, so a
batch neither overwrites a push nor the other way round, whichever comes later and however late.
A read puts both together:

* Of an authorization that is in the batches' log, what stands there counts, its corrections
  included; of those pushed the others are added. So nothing is lost before a batch brings it nor
  counted twice after. They are told apart by the id with which each message of a log ends.
  Where the batches' row has no log (see dbt/macros/recent.sql), what was pushed of later than its
  latest authorization is added.
* The last use, decline and place are the later of both.

Pushes are put together likewise: of several of one transaction the earliest stands, as in the
batches. Sent again, or in another order, they leave the same row. Messages older than the newest by
more than a day can be in no window of a later request and are dropped.
"""

import hashlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Any, Protocol

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError

from pipelines.errors import CardlineError
from pipelines.features.encoding import VERSION_BYTES, Layout, encode_keys, layout_of, version
from pipelines.features.requests import now, parsed_time
from pipelines.ingestion.sensitive import require_tokens

VIEWS = {
    "card_recent_features": "card_id",
    "account_recent_features": "account_id",
    "merchant_recent_features": "merchant_id",
    "device_recent_features": "device_id",
    "ip_recent_features": "ip_hash",
}
"""The views whose rows pushes join, and what of an authorization is their key."""
SOURCE = "authorizations"
"""What pushes are called in the shape that Feast has for them."""
MAX_AHEAD = timedelta(minutes=5)
"""How far a sender's clock may be ahead of ours."""
_LOG_LENGTH = 128
_BUSY = "="
_EPOCH = datetime(1970, 1, 1)
_US = timedelta(microseconds=1)
# A sender that is ahead must not cut away what windows of the others still count.
_KEPT_US = (timedelta(hours=24) + MAX_AHEAD) // _US

Change = Callable[[bytes | None], bytes]
"""A packed row, or that there is none, as it is to be."""


class Pusher(Protocol):
    """A store as pushes write it: the pushed row of each serialised key is changed, one by one,
    each atomically. Returns how many became another; raises `StoreUnavailable`."""

    def __call__(
        self, table: Any, changes: Mapping[bytes, Change], seconds: float
    ) -> Awaitable[int]: ...


def _happened(value: Any) -> datetime:
    if not isinstance(value, str):
        raise ValueError("it is not a time (ISO 8601)")
    try:
        at = parsed_time("it", value)
    except CardlineError as error:
        raise ValueError(str(error)) from error
    if at > now() + MAX_AHEAD:
        raise ValueError("it has not happened yet")
    return at


_Name = Annotated[str, Field(min_length=1, max_length=128)]


class Authorization(BaseModel):
    """A purchase-like authorization as it was decided, in minor units."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    card_id: _Name
    transaction_id: _Name = Field(description="As the deliveries will name it.")
    event_at: Annotated[datetime, BeforeValidator(_happened)] = Field(
        description="When it was decided; UTC where no zone is given."
    )
    amount_minor: int = Field(ge=0, le=10**15)
    is_declined: bool
    account_id: _Name | None = None
    merchant_id: _Name | None = None
    device_id: _Name | None = None
    ip_hash: _Name | None = None
    is_card_present: bool | None = None
    latitude: float | None = Field(None, ge=-90, le=90, allow_inf_nan=False)
    longitude: float | None = Field(None, ge=-180, le=180, allow_inf_nan=False)

    @property
    def event_us(self) -> int:
        """`event_at` in microseconds since 1970."""
        return (self.event_at - _EPOCH) // _US

    @property
    def message(self) -> str:
        """As the batches' log has it."""
        digest = hashlib.md5(self.transaction_id.encode(), usedforsecurity=False).hexdigest()
        kind = "D" if self.is_declined else "A"
        return f"{self.event_us}:{self.amount_minor}:{kind}:{digest[:12]}"


_ROWS = TypeAdapter(list[Authorization])


def parsed(rows: list[Any]) -> list[Authorization]:
    """Rows of a request as authorizations. Raises `CardlineError`, which names no value."""
    try:
        found = _ROWS.validate_python(rows)
    except ValidationError as error:
        raise CardlineError(_told(error)) from None
    for name in ("transaction_id", *VIEWS.values()):
        require_tokens(name, (getattr(each, name) for each in found))
    return found


def changes_of(table: Any, pushed: Iterable[Authorization]) -> dict[bytes, Change]:
    """What `pushed` changes of the pushed rows of one of `VIEWS`, by serialised key."""
    by_key: dict[str, list[Authorization]] = {}
    for each in pushed:
        key = getattr(each, VIEWS[table.name])
        if key is not None:
            by_key.setdefault(key, []).append(each)
    layout = layout_of(table)
    (name,) = table.join_keys
    return {
        key: partial(_with_pushed, layout, mine)
        for key, mine in zip(encode_keys(name, by_key), by_key.values(), strict=True)
    }


def joined(table: Any, batch: bytes | None, pushed: bytes | None = None) -> bytes | None:
    """The row that a read sees of the batches' and the pushed one.

    A pushed row of other columns than today's is passed over.
    """
    if pushed is None:
        return batch
    layout = layout_of(table)
    if not layout.holds(pushed) or (batch is not None and not layout.holds(batch)):
        return batch
    if batch is None:
        return pushed
    mine, theirs = _values(layout, pushed), _values(layout, batch)
    name = _log_name(layout)
    row = _later_uses(mine, theirs)
    row[name] = _joined_logs(theirs[name] or "", mine[name])
    return layout.pack(max(batch[:VERSION_BYTES], pushed[:VERSION_BYTES]).decode(), row)


def _joined_logs(known: str, pushed: str) -> str:
    messages = pushed.split()
    if known.startswith(_BUSY):
        latest = int(known.split(":")[1])
        return " ".join([known, *(each for each in messages if _order(each)[0] > latest)])
    ids = {_id(message) for message in known.split()}
    more = [each for each in messages if _id(each) not in ids]
    return " ".join(sorted([*known.split(), *more]))


def _log_name(layout: Layout) -> str:
    return next(name for name in layout.names if name.endswith("recent_authorizations"))


def _with_pushed(
    layout: Layout, authorizations: Iterable[Authorization], stored: bytes | None
) -> bytes:
    """`stored`, a row of what was pushed before, with `authorizations`."""
    row: dict[str, Any] = dict.fromkeys(layout.names)
    if stored is not None and layout.holds(stored):
        row = _values(layout, stored)
    name = _log_name(layout)
    messages = {_id(each): each for each in (row[name] or "").split()}
    for each in authorizations:
        message = each.message
        messages[_id(message)] = min(messages.get(_id(message), message), message, key=_order)
        row = _later_uses(row, _uses(each))
    newest = max(_order(each) for each in messages.values())[0]
    log = [each for each in messages.values() if _order(each)[0] >= newest - _KEPT_US]
    row[name] = " ".join(sorted(log, key=_order)[-_LOG_LENGTH:])
    return layout.pack(version(newest, newest), row)


def _uses(authorization: Authorization) -> dict[str, Any]:
    """When and where the card was last used, as far as one authorization tells."""
    at = authorization.event_us
    if authorization.is_declined:
        return {"last_declined_us": at}
    place = (authorization.latitude, authorization.longitude)
    if not authorization.is_card_present or None in place:
        return {"last_used_us": at}
    return {"last_used_us": at, "last_place": f"{at + 10**18:019d} {place[0]} {place[1]}"}


def _later_uses(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    uses = dict(one)
    for name in {"last_used_us", "last_declined_us", "last_place"} & one.keys():
        told = [each[name] for each in (one, other) if each.get(name) is not None]
        uses[name] = max(told, default=None)
    return uses


def _values(layout: Layout, data: bytes) -> dict[str, Any]:
    return dict(zip(layout.names, layout.unpack(data), strict=True))


def _id(message: str) -> str:
    return message.rpartition(":")[2]


def _order(message: str) -> tuple[int, str]:
    return int(message.partition(":")[0]), message


def _told(error: ValidationError) -> str:
    """The first problem, by row and field but for a field that only the sender knows."""
    problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    number, *field = problem["loc"]
    if problem["type"] == "extra_forbidden":
        takes = ", ".join(Authorization.model_fields)
        return f"rows[{number}] has a field that is not taken; an authorization has {takes}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"rows[{number}] {' '.join([*map(str, field), message])}"
