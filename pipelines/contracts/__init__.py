"""The landing contract: one declaration per feed."""

from pipelines.contracts import activity, bureau, portfolio, settlement
from pipelines.contracts.contract import Column, Feed

FEEDS: dict[str, Feed] = {
    feed.name: feed
    for module in (portfolio, activity, bureau, settlement)
    for feed in vars(module).values()
    if isinstance(feed, Feed)
}
"""Every feed by its name, in the order in which they are read."""

__all__ = ["FEEDS", "Column", "Feed"]
