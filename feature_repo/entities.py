"""What features are about: one opaque string key each.

A pair (account × merchant) would be an entity of its own with a surrogate key, never two join keys.
"""

from feast import Entity, ValueType


def _entity(name: str, description: str) -> Entity:
    return Entity(
        name=name,
        join_keys=[f"{name}_id"],
        value_type=ValueType.STRING,
        description=description,
    )


account = _entity("account", "A card account: what is billed and what earns rewards.")
card = _entity("card", "A plastic or virtual card of an account.")
customer = _entity("customer", "A person as the issuer knows them.")
merchant = _entity("merchant", "A merchant, or a terminal where a source knows no merchants.")
pull = _entity("pull", "One credit bureau report, as received.")
