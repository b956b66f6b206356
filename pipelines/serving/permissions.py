"""Feast's permissions, where `feature_repo/` declares any, as Feast's own server applies them.

They come after the scopes of a token and can only take away. Its scopes and its name are the
client's roles. Without any permission the scopes alone decide.
"""

from functools import lru_cache
from typing import Any

from pipelines.features.registry import load_definitions
from pipelines.serving.tokens import ALL, Client

READ = "READ_ONLINE"
WRITE = "WRITE_ONLINE"


class Permissions:
    """What the declared permissions say of one client and some of Feast's objects."""

    def __init__(self) -> None:
        from feast import FeatureService, FeatureView, OnDemandFeatureView
        from feast.permissions.permission import Permission

        objects = load_definitions().objects
        self._permissions = [item for item in objects if isinstance(item, Permission)]
        kinds = (FeatureService, FeatureView, OnDemandFeatureView)
        self._objects = {item.name: item for item in objects if isinstance(item, kinds)}
        self._is_granted = lru_cache(maxsize=4_096)(self._decide)

    def allow(self, client: Client, names: tuple[str, ...], action: str) -> bool:
        """Whether `client` may do `action` (`READ`, `WRITE`) with services or views of `names`.

        As in Feast, what no permission speaks of is closed once there is one. The scope `*` is the
        operator's and not looked at.
        """
        if not self._permissions or ALL in client.scopes:
            return True
        return self._is_granted(client, names, action)

    def _decide(self, client: Client, names: tuple[str, ...], action: str) -> bool:
        from feast.errors import FeastPermissionError
        from feast.permissions.action import AuthzedAction
        from feast.permissions.enforcer import enforce_policy
        from feast.permissions.user import User

        user = User(client.name, roles=[client.name, *sorted(client.scopes)])
        wanted: list[Any] = [self._objects[name] for name in names]
        try:
            enforce_policy(self._permissions, user, wanted, [AuthzedAction[action]])
        except FeastPermissionError:
            return False
        return True
