"""The verbs of `vertical registry`, put together."""

from __future__ import annotations

from collections.abc import Callable

from vertical_sdk.cli.options import group
from vertical_sdk.cli.registry import importing, lineage, lookup, promote, publish, server, transport, trust

__all__ = ["verbs"]

VERBS: tuple[tuple[str, Callable[..., None]], ...] = (
    ("list", lookup.list_adapters),
    ("show", lookup.show_version),
    ("publish", publish.publish),
    ("alias", publish.alias),
    ("tag", publish.tag),
    ("history", lookup.history),
    ("verify", lookup.verify),
    ("gc", lookup.gc),
    ("import", importing.import_adapter),
    ("lineage", lineage.lineage),
    ("diff", lineage.diff),
    ("search", lineage.search),
    ("used-data", lineage.used_data),
    ("promote", promote.promote),
    ("rollback", promote.rollback),
    ("serve", server.serve),
    ("copy", transport.copy),
    ("bundle", transport.bundle),
    ("unbundle", transport.unbundle),
    ("keygen", trust.keygen),
    ("sign", trust.sign),
    ("check", trust.check),
    ("revoke", trust.revoke),
    ("purge", trust.purge),
)
TOKEN_VERBS: tuple[tuple[str, Callable[..., None]], ...] = (
    ("add", server.add_token),
    ("list", server.list_tokens),
    ("remove", server.remove_token),
)

verbs = group("Publish, name, look up and check adapters.")
for _name, _verb in VERBS:
    verbs.command(_name)(_verb)
_tokens = group("Create, list and remove the tokens of a served registry.")
for _name, _verb in TOKEN_VERBS:
    _tokens.command(_name)(_verb)
verbs.add_typer(_tokens, name="token")
