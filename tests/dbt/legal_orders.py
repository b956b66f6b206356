"""Every legal order of a transaction's messages, and what each must hold and post.

The grammar is the domain's, told as a state machine: what may follow depends on what is held, what
has posted, and what has been returned. Amounts differ by place in the order, so that a message
that is counted twice or to the wrong side shows.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

AMOUNTS = (10_000, 3_100, 1_700, 900, 530, 210)


@dataclass(frozen=True)
class Message:
    """One message of an order."""

    event_type: str
    amount_minor: int
    direction: str
    auth_result: str | None = None


@dataclass(frozen=True)
class State:
    """Where a transaction stands. `balance` is what was approved and not used up, below zero where
    more was cleared than approved; `returned` counts returns that can be taken back."""

    family: str = ""
    balance: int = 0
    posted: int = 0
    posted_count: int = 0
    returned: tuple[int, ...] = ()
    is_expired: bool = False
    is_over: bool = False
    status: str = ""

    @property
    def hold(self) -> int:
        return max(self.balance, 0)


def _first(amount: int) -> Iterator[tuple[Message, State]]:
    debit, credit = State(family="debit"), State(family="credit")
    approved = replace(debit, balance=amount, status="PENDING")
    yield Message("AUTHORIZATION", amount, "DEBIT", "APPROVED"), approved
    yield Message("AUTHORIZATION_ADVICE", amount, "DEBIT", None), approved
    over = replace(debit, is_over=True, status="DECLINED")
    yield Message("AUTHORIZATION", amount, "DEBIT", "DECLINED"), over
    yield Message("FINANCIAL_AUTHORIZATION", amount, "DEBIT", "DECLINED"), over
    forced = replace(debit, balance=-amount, posted=amount, posted_count=1, status="SETTLED")
    yield Message("CLEARING", amount, "DEBIT"), forced
    single = State(family="single", posted=amount, posted_count=1, status="SETTLED")
    yield Message("FINANCIAL_AUTHORIZATION", amount, "DEBIT", "APPROVED"), single
    asked = replace(credit, status="PENDING")
    yield Message("CREDIT_AUTHORIZATION", amount, "CREDIT", "APPROVED"), asked
    yield Message("CREDIT_AUTHORIZATION_ADVICE", amount, "CREDIT", None), asked
    back = replace(credit, posted=-amount, posted_count=1, returned=(amount,), status="SETTLED")
    yield Message("RETURN", amount, "CREDIT"), back
    given = State(family="single", posted=-amount, posted_count=1, status="SETTLED")
    yield Message("FINANCIAL_CREDIT_AUTHORIZATION", amount, "CREDIT", "APPROVED"), given
    for kind, sign in (("CORRECTION_DEBIT", 1), ("CORRECTION_CREDIT", -1)):
        corrected = State(family="single", posted=sign * amount, posted_count=1, status="SETTLED")
        yield Message(kind, amount, kind.removeprefix("CORRECTION_")), corrected
    # Looking at the balance moves nothing: the transaction is not one.
    yield Message("BALANCE_INQUIRY", 0, "DEBIT", "APPROVED"), State(family="look", is_over=True)


def _next(state: State, amount: int) -> Iterator[tuple[Message, State]]:
    if state.is_over:
        return
    unsettled = state.posted_count == 0
    if state.family == "debit":
        if not state.is_expired:
            more = replace(state, balance=state.balance + amount)
            more = replace(more, status="PENDING" if unsettled else "SETTLED")
            if state.balance != 0 or not unsettled:
                yield Message("AUTHORIZATION", amount, "DEBIT", "APPROVED"), more
                yield Message("AUTHORIZATION_ADVICE", amount, "DEBIT", None), more
        if state.hold:
            for given_back in {min(amount, state.hold), state.hold}:
                less = replace(state, balance=state.balance - given_back)
                if unsettled:
                    less = replace(less, status="PENDING" if less.hold else "VOIDED")
                yield Message("AUTHORIZATION_REVERSAL", given_back, "CREDIT"), less
            ended = replace(state, balance=0, is_expired=True)
            if unsettled:
                ended = replace(ended, status="EXPIRED")
            yield Message("AUTHORIZATION_EXPIRY", state.hold, "CREDIT"), ended
        yield (
            Message("CLEARING", amount, "DEBIT"),
            replace(
                state,
                balance=state.balance - amount,
                posted=state.posted + amount,
                posted_count=state.posted_count + 1,
                status="SETTLED",
            ),
        )
    if state.family == "credit":
        yield (
            Message("RETURN", amount, "CREDIT"),
            replace(
                state,
                posted=state.posted - amount,
                posted_count=state.posted_count + 1,
                returned=(*state.returned, amount),
                status="SETTLED",
            ),
        )
        if state.returned:
            undone = state.returned[-1]
            yield (
                Message("RETURN_REVERSAL", undone, "DEBIT"),
                replace(
                    state,
                    posted=state.posted + undone,
                    posted_count=state.posted_count + 1,
                    returned=state.returned[:-1],
                ),
            )
    if state.posted_count:
        for kind, sign in (("CORRECTION_DEBIT", 1), ("CORRECTION_CREDIT", -1)):
            yield (
                Message(kind, amount, kind.removeprefix("CORRECTION_")),
                replace(
                    state,
                    posted=state.posted + sign * amount,
                    posted_count=state.posted_count + 1,
                ),
            )


def legal_orders(longest: int = len(AMOUNTS)) -> Iterator[tuple[tuple[Message, ...], State]]:
    """Every legal order of 1 … `longest` messages with the state that it leads to."""
    open_orders = [((message,), state) for message, state in _first(AMOUNTS[0])]
    for length in range(1, longest + 1):
        yield from open_orders
        if length < longest:
            open_orders = [
                ((*messages, message), after)
                for messages, state in open_orders
                for message, after in _next(state, AMOUNTS[length])
            ]
