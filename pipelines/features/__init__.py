"""Features: published from the warehouse, served point-in-time and online through Feast.

Nothing here imports Feast (two seconds) before it is needed.
"""

from typing import Any

import typeguard


def _as_it_is(target: Any = None, **_: Any) -> Any:
    return _as_it_is if target is None else target


# Feast has typeguard compile every class of its declarations anew at import, to check the types of
# arguments: three seconds of each command. What `feature_repo/` declares is checked by pyright.
typeguard.typechecked = _as_it_is
