"""What features are about: one opaque string key each.

An entity whose key is `<name>_key` is made of what an authorization says, and callers need not give
the key: the tag `made_of` names the columns that it is made of. One column is the key itself; of
two, `pipelines.features.keys` puts one key together, never two join keys.
"""

from feast import Entity, ValueType


def _entity(name: str, description: str, made_of: str = "") -> Entity:
    return Entity(
        name=name,
        join_keys=[f"{name}_key" if made_of else f"{name}_id"],
        value_type=ValueType.STRING,
        description=description,
        tags={"made_of": made_of} if made_of else {},
    )


account = _entity("account", "A card account: what is billed and what earns rewards.")
account_mcc = _entity("account_mcc", "An account in a category.", made_of="account_id,mcc")
account_merchant = _entity(
    "account_merchant", "An account at a merchant.", made_of="account_id,merchant_id"
)
card = _entity("card", "A plastic or virtual card of an account.")
customer = _entity("customer", "A person as the issuer knows them.")
device = _entity("device", "A device that purchases are made with.", made_of="device_id")
ip = _entity("ip", "An internet address, as a hash.", made_of="ip_hash")
mcc = _entity("mcc", "A merchant category code.", made_of="mcc")
merchant = _entity("merchant", "A merchant, or a terminal where a source knows no merchants.")
pull = _entity("pull", "One credit bureau report, as received.")
