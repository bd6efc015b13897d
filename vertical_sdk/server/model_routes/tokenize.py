"""POST /tokenize: the tokens of a text or a conversation as a specialist's base reads it, in vLLM's shape."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from vertical_sdk.server.model_routes.bodies import Body
from vertical_sdk.server.model_routes.messages import Turn, read_turns
from vertical_sdk.server.model_routes.problems import Unsupported
from vertical_sdk.server.model_routes.service import ModelService, model_router
from vertical_sdk.serving.problems import WrongModel

__all__ = ["routes"]


class TokenizeRequest(Body):
    """A text (`prompt`) or a conversation (`messages`).

    add_special_tokens  with the tokens that the base expects around a text; a conversation has those of the chat template
    return_token_strs   also what each token is called
    """

    prompt: str | None = None
    messages: list[Turn] | None = Field(None, min_length=1)
    add_special_tokens: bool = True
    return_token_strs: bool = False


class Tokens(BaseModel):
    """Token ids; `max_model_len` is the number of tokens that the specialist or the base reads."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str] | None = None


LONGEST = 1 << 20
"""Tokens of a base without a limit of its own."""


def routes(service: ModelService) -> APIRouter:
    """Build the route of tokens."""
    router = model_router("specialists")

    @router.post("/tokenize", name="tokenize", dependencies=[Depends(service.may_infer)], response_model=Tokens)
    def tokenize(body: TokenizeRequest) -> Tokens:
        """Write a text or a conversation as the tokens that the base reads."""
        if (body.prompt is None) == (body.messages is None):
            raise Unsupported("prompt", "give either `prompt`, a text, or `messages`, a conversation.")
        base = service.serving.bases.get(body.model)
        longest = base.max_length if base is not None else None
        if base is None:
            with service.using("/tokenize", body.model) as answerer:
                card, recipe = answerer.served.adapter.card, answerer.served.adapter.recipe
                if card.members_only or card.family not in {"encoder", "causal"}:
                    raise WrongModel(f"{answerer.served.version} does not read texts with a base, so it has no tokens.")
                base, longest = answerer.served.engine.base, recipe.data.max_length
        return _tokenize(base, body, longest or LONGEST)

    return router


def _tokenize(base: Any, body: TokenizeRequest, longest: int) -> Tokens:
    from vertical_sdk.bases.base import load_text_tokenizer
    from vertical_sdk.families.chat import encode_turns, require_template

    texts = load_text_tokenizer(base)
    if body.prompt is not None:
        if any("\ud800" <= character <= "\udfff" for character in body.prompt):
            raise Unsupported("prompt", "the prompt contains half of a surrogate pair, which is not a character.")
        ids = texts.encode(body.prompt, special=body.add_special_tokens).ids
    else:
        if base.family != "causal":
            raise WrongModel("an encoder has no chat template, so it reads no conversations. Give `prompt`.")
        require_template(texts.tokenizer, "this base")
        ids = encode_turns(texts, read_turns(body.messages or []), LONGEST)
    names = texts.tokenizer.convert_ids_to_tokens(list(ids)) if body.return_token_strs else None
    return Tokens(count=len(ids), max_model_len=longest, tokens=list(ids), token_strs=names)
