"""Answers by a JSON schema: every document is read by json and checked by jsonschema, which know nothing of how it was written."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from vertical_sdk import VerticalModel
from vertical_sdk.engines.scheduler import Request, Scheduler
from vertical_sdk.errors import BaseModelError, DataError, MissingExtra
from vertical_sdk.families.continuation import Continuation, Decoding
from vertical_sdk.families.plain_decoder import read_decoder
from vertical_sdk.families.structured import JsonGrammar, read_schema
from vertical_sdk.types import GeneratedText

PROMPTS = ["cough", "red itch on skin", "pulse fast and slow", "fever", "the lung"]
NAMES = ["wide", "short", "dora", "short", "wide"]


def record(required: bool = True, **properties: Any) -> dict[str, Any]:
    """The schema of an object with these properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required else [],
        "additionalProperties": False,
    }


SHORT = {"type": "string", "maxLength": 6}
SCHEMAS: dict[str, Any] = {
    "record": record(name=SHORT, age={"type": "integer", "minimum": 0, "maximum": 120}, smoker={"type": "boolean"}),
    "optional": record(required=False, a={"type": "null"}, b={"enum": [1, "one", None]}),
    "nested": record(patient=record(id={"type": "integer", "maximum": 99, "minimum": 10}, ward=record(code={"enum": ["A", "B"]}))),
    "records in a list": {"type": "array", "minItems": 1, "maxItems": 2, "items": record(x={"enum": [0, 1]})},
    "enum": {"enum": ["refer", "treat here", "wait"]},
    "Chinese enum": {"enum": ["转诊", "就地治疗", "观察"]},
    "Chinese property": record(诊断={"enum": ["肺炎", "皮疹"]}, 严重={"type": "boolean"}),
    "Chinese pattern": {"type": "string", "pattern": "^[一-龥]{2,5}$"},
    "const": {"const": {"kind": "note", "version": [1, 2.5, None, "\"quoted\" \\ 引号\n"]}},
    "pattern": record(code={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"}),
    "date": {"type": "string", "format": "date"},
    "uuid": {"type": "string", "format": "uuid"},
    "range": {"type": "array", "items": {"type": "integer", "minimum": -5, "maximum": 5}, "minItems": 3, "maxItems": 3},
    "multiple": {"type": "integer", "multipleOf": 5, "minimum": 0, "maximum": 100},
    "any of": {"anyOf": [{"type": "boolean"}, record(value={"type": "null"})]},
    "one of": {"oneOf": [record(kind={"const": "a"}, n={"enum": [1, 2]}), record(kind={"const": "b"}, s={"enum": ["x", "y"]})]},
    "all of": {"allOf": [{"type": "integer", "minimum": 3}, {"type": "integer", "maximum": 7}]},
    "definitions": {"$defs": {"mg": record(mg={"enum": [5, 10]})}, **record(day={"$ref": "#/$defs/mg"}, night={"$ref": "#/$defs/mg"})},
    "tuple": {"type": "array", "prefixItems": [{"type": "boolean"}, {"enum": ["a", "b"]}], "items": False, "minItems": 2},
    "types": {"type": ["boolean", "null"]},
    "map": {"type": "object", "patternProperties": {"^w[0-9]$": {"type": "boolean"}}, "additionalProperties": False, "maxProperties": 1},
}  # fmt: skip


def check(answer: GeneratedText, schema: dict[str, Any], most: int) -> None:
    """Check that a complete answer follows the schema, and that another one is cut at the limit."""
    if answer.finish_reason == "length":
        assert answer.new_tokens == most
        return
    document = json.loads(answer.text)
    jsonschema.validate(document, schema, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_document_follows_its_schema(writers: VerticalModel, name: str) -> None:
    """Random weights of specialists in one batch, of which transformers computes one."""
    schema = SCHEMAS[name]
    jsonschema.Draft202012Validator.check_schema(schema)
    prompts, names, pieces = PROMPTS[:3], NAMES[:3], [""] * 3

    def collect(row: int, piece: str) -> None:
        assert "\N{REPLACEMENT CHARACTER}" not in piece
        pieces[row] += piece

    likeliest = writers.generate(prompts, adapters=names, json_schema=schema, max_new_tokens=200, stream=collect)
    drawn = writers.generate(
        PROMPTS, adapters=NAMES, json_schema=json.dumps(schema), max_new_tokens=200, temperature=4.0, seed=1
    )

    for answer in (*likeliest, *drawn):
        check(answer, schema, 200)
    assert pieces == [answer.text for answer in likeliest]
    assert any(answer.finish_reason == "stop" for answer in likeliest)
    assert [answer.finish_reason for answer in drawn].count("stop") >= 2


def test_the_likeliest_allowed_token_is_chosen_each_time(writers: VerticalModel) -> None:
    """The words of an enum are tried one by one by transformers; no mask and no decoder of this library is used for that."""
    words = ["ab", "cd", "xy"]
    specialist: Any = writers.specialist("short")
    tokenizer = specialist.tokenizer
    for prompt in PROMPTS[:2]:
        turns = [{"role": "user", "content": prompt}]
        ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        left, written = {f'"{word}"' for word in words}, ""
        while len(left) > 1:
            following = {text[len(written)] for text in left}
            with torch.inference_mode():
                scores = specialist.backbone(input_ids=torch.tensor([ids + tokenizer.encode(written)])).logits[0, -1]
            written += max(following, key=lambda letter: float(scores[tokenizer.encode(letter)[0]]))
            left = {text for text in left if text.startswith(written)}

        (answer,) = writers.generate([prompt], adapters="short", json_schema={"enum": words})

        assert {answer.text} == left
        assert (answer.finish_reason, answer.new_tokens, answer.prompt_tokens) == ("stop", 4, len(ids))


def test_calls_with_other_schemas_share_a_batch_and_change_nothing(writers: VerticalModel) -> None:
    schemas = list(SCHEMAS.values())[:8]

    def write(schema: dict[str, Any] | None) -> list[GeneratedText]:
        return writers.generate(PROMPTS, adapters=["wide", "short"] * 2 + ["wide"], json_schema=schema, max_new_tokens=60)

    alone = [write(schema) for schema in (*schemas, None)]
    with ThreadPoolExecutor(9) as pool:
        together = list(pool.map(write, (*schemas, None)))

    assert together == alone


@pytest.mark.parametrize("name", ["short", "dora"])
def test_a_document_that_is_cut_is_marked(writers: VerticalModel, name: str) -> None:
    schema = record(text={"type": "string", "minLength": 30})

    (answer,) = writers.generate(["cough"], adapters=name, json_schema=schema, max_new_tokens=12)

    assert (answer.finish_reason, answer.new_tokens) == ("length", 12)
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        json.loads(answer.text)
    (whole,) = writers.generate(["cough"], adapters=name, json_schema={"const": "abc"}, max_new_tokens=5)
    assert (whole.text, whole.finish_reason, whole.new_tokens) == ('"abc"', "stop", 5)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ('{"type": ', "json_schema is not JSON"),
        ("[]", r"json_schema = '\[\]' is wrong: give a JSON object"),
        ({"maximum": float("nan")}, "json_schema is not JSON"),
        ({"const": {1, 2}}, "json_schema is not JSON"),
        ({"type": "number or text"}, "json_schema cannot be followed: Invalid type"),
        ({"type": "array", "uniqueItems": True}, r"cannot be followed: Unimplemented keys: \[\"uniqueItems\"\]"),
        ({"not": {}, "x-guidance": {"lenient": True}}, r"cannot be followed: Unimplemented keys: \[\"not\"\]"),
        ({"type": "string", "pattern": "a(?=b)"}, "cannot be followed: regex parse error"),
        ({"type": "integer", "minimum": 2, "maximum": 1}, "cannot be followed: Unsatisfiable schema"),
        ({"$ref": "https://example.org/schema"}, "cannot be followed"),
    ],
)
def test_a_schema_that_cannot_be_followed_is_refused_before_the_first_token(
    writers: VerticalModel, schema: Any, message: str
) -> None:
    pieces: list[str] = []

    with pytest.raises(DataError, match=message):
        writers.generate(PROMPTS, adapters=NAMES, json_schema=schema, stream=lambda _, piece: pieces.append(piece))

    assert not pieces


def test_a_schema_says_alone_where_an_answer_ends(writers: VerticalModel) -> None:
    for settings in ({"stop": "a"}, {"choices": ["a"]}):
        with pytest.raises(DataError, match="leave out stop and choices"):
            writers.generate(["cough"], adapters="short", json_schema={"type": "null"}, **settings)  # type: ignore[arg-type]


def test_without_llguidance_the_error_names_the_extra(writers: VerticalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "llguidance", None)

    with pytest.raises(MissingExtra, match=r"json_schema needs the extra 'structured': pip install .*\[structured\]"):
        writers.generate(["cough"], adapters="short", json_schema={"type": "null"})


def limited_tokenizer(letters: str) -> PreTrainedTokenizerFast:
    """A byte tokenizer that has only these letters and a token that ends a turn."""
    raw = Tokenizer(models.BPE(vocab={"<|end|>": 0} | {letter: n for n, letter in enumerate(letters, 1)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(["<|end|>"])
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>")


def test_an_answer_that_cannot_go_on_is_an_error_and_leaves_the_others(writers: VerticalModel) -> None:
    """A base without a token for a digit meets an enum that needs it."""
    tokenizer = limited_tokenizer('"a1')
    specialist: Any = writers.specialist("short")
    with torch.inference_mode():
        decoder = read_decoder(specialist.backbone.get_base_model())
    assert decoder is not None
    decoding = Decoding(max_new_tokens=9)

    def request(schema: str) -> Request:
        json_state = JsonGrammar(tokenizer, 0, schema).begin_answer()
        return Request((1, 2), None, Continuation(tokenizer, 0, decoding, json=json_state))

    scheduler = Scheduler(decoder)
    good, bad = (scheduler.submit(request(schema)) for schema in ('{"enum": ["a11"]}', '{"enum": ["a12"]}'))
    while not (good.done and bad.done):
        scheduler.step()

    assert good.answer.text == '"a11"'
    assert isinstance(bad.error, DataError)
    assert "cannot be followed further" in str(bad.error)


def test_a_tokenizer_that_is_not_of_bytes_is_refused() -> None:
    words = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "</s>": 2}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()

    with pytest.raises(BaseModelError, match="cannot be used with the tokenizer of this base"):
        JsonGrammar(PreTrainedTokenizerFast(tokenizer_object=words, eos_token="</s>"), 2, read_schema({}))


@pytest.mark.network
def test_a_real_base_writes_documents_by_its_schema() -> None:
    from vertical_sdk.bases.base import load_tokenizer, pull_base
    from vertical_sdk.families.specialist import load_backbone

    base = pull_base("smollm2-135m")
    tokenizer, backbone = load_tokenizer(base), load_backbone(base)
    with torch.inference_mode():
        decoder = read_decoder(backbone)
    assert decoder is not None
    schema = record(
        name={"type": "string", "maxLength": 30}, age={"type": "integer", "minimum": 0, "maximum": 120},
        symptoms={"type": "array", "items": {"type": "string", "maxLength": 20}, "maxItems": 3},
        诊断={"enum": ["肺炎", "感冒"]},
    )  # fmt: skip
    grammar = JsonGrammar(tokenizer, tokenizer.eos_token_id, read_schema(schema))
    scheduler, requests = Scheduler(decoder), []
    for text in ("Anna, 34, has a cough and fever.", "Boris is 60. His skin itches."):
        turns = [{"role": "user", "content": f"Write the patient as JSON: {text}"}]
        prompt = tuple(tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False))
        for seed in (None, 1, 2):
            decoding = Decoding(max_new_tokens=200, temperature=0.0 if seed is None else 1.0, seed=seed)
            answer = Continuation(tokenizer, tokenizer.eos_token_id, decoding, prompt=prompt, json=grammar.begin_answer())
            requests.append(scheduler.submit(Request(prompt, None, answer)))
    while not all(request.done for request in requests):
        scheduler.step()

    assert [request.answer.finish_reason for request in requests] == ["stop"] * 6
    for request in requests:
        check(request.answer.result, schema, 200)
