"""A chat template is a program of somebody else's: it ends, and it does not fill the memory."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from vertical_sdk.bases.base import load_tokenizer, pull_base
from vertical_sdk.bases.chat_template import render_turns

TURNS = [{"role": "user", "content": " hay yo "}, {"role": "assistant", "content": "b"}]
GOOD = """{%- macro mark(x) -%}<|{{ x }}|>{%- endmacro -%}{{ bos_token }}{%- set ns = namespace(n=0) -%}
{% for message in messages %}{% set ns.n = ns.n + 1 %}{{ '<|im_start|>' + message['role'] + '\n' + message['content']|trim ~ '<|im_end|>' }}
{{ mark(loop.index0) }}{% if message.content.split('a')|length > 1 %}{{ "a=%s" % message.role }}{{ message | tojson(indent=4) }}{% endif %}
{% endfor %}{% for message in messages[::-1] %}{{ message.role.upper() }}{% generation %}x{% endgeneration %}{% endfor %}
{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""
DOUBLED = "{%% set ns = namespace(x=%s) %%}{%% for i in range(1000) %%}%s{%% endfor %%}{{ ns.x }}"
LISTED = "{%% set big = range(99999)|list %%}{%% for i in range(60000) %%}{%% set y = %s %%}{%% endfor %%}"
NESTED = "{%% set ns = namespace(x=(1,)) %%}{%% for i in range(40) %%}{%% set ns.x = (ns.x, ns.x) %%}{%% endfor %%}{{ %s }}"
"""Values that contain one another: 40 pairs in memory, a million millions to read."""
BAD = (
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "{% for a in 'x'*99999 recursive %}{{ loop('x'*99999) }}{% endfor %}",
    "{% macro f(n) %}{% if n > 0 %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(100) }}",
    "{% for a in range(9999) %}" + "y" * 100_000 + "{% endfor %}",
    "{{ 'x' * 1000000000 }}",
    "{{ ['a'] * 1000000000 }}",
    "{{ [range(99999)|list] * 1000 }}",
    "{{ 9 ** 9999999 }}",
    "{{ '%1000000000d' % 1 }}",
    "{{ '%*d' % (1000000000, 1) }}",
    "{{ '%1000000000d'|format(1) }}",
    "{{ '{:1000000000}'.format(1) }}",
    "{{ 'x'|center(1000000000) }}",
    "{{ '1'.zfill(1000000000) }}",
    "{{ range(99999)|list|tojson(indent=1000) }}",
    "{{ range(99999)|join('x'*100000) }}",
    DOUBLED % ("'aaaa'", "{% set ns.x = ns.x ~ ns.x %}"),
    DOUBLED % ("'aaaa'", "{% set ns.x = ns.x + ns.x %}"),
    DOUBLED % ("'aaaa'", "{% set ns.x = ns.x.replace('a', 'aaaaaaaaaa') %}"),
    DOUBLED % ("'aaaa'", "{% set ns.x = ns.x|replace('a', 'aaaaaaaaaa') %}"),
    DOUBLED % ("'aaaa'", "{% set ns.x %}{{ ns.x }}{{ ns.x }}{% endset %}"),
    DOUBLED % ("[1]", "{% set ns.x = [ns.x, ns.x] %}"),
    DOUBLED % ("7", "{% set ns.x = ns.x * ns.x %}"),
    *(LISTED % work for work in ("-1 in big", "-1 is in(big)", "big == big[:]", "big|sum", "big[::-1]", "big.count(-1)")),
    "{% set x = 'a ' * 100000 %}{% for i in range(60000) %}{% set y = x|wordcount %}{% endfor %}",
    *(
        NESTED % work
        for work in ("ns.x == (ns.x, 1)", "ns.x ~ ''", "ns ~ ''", "'%s' % ns.x", "{ns.x: 1}", "{}[ns.x]", "ns.x|string")
    ),
    *(NESTED % work for work in ("{}.get(ns.x)", "'{}'.format(ns.x)", "{1: ns.x}.items() - {}.items()")),
    "{{ 1 }}" * 100_000,
)


class Templated:
    """As much of a tokenizer as a template needs."""

    special_tokens_map = {"bos_token": "<s>"}  # noqa: RUF012

    def __init__(self, template: str) -> None:
        self.template = template

    def get_chat_template(self) -> str:
        return self.template


@pytest.mark.parametrize("template", BAD, ids=range(len(BAD)))
def test_a_template_that_does_not_end_or_fills_the_memory_is_refused(template: str) -> None:
    started = time.process_time()

    with pytest.raises(ValueError, match="the chat template"):
        render_turns(Templated(template), TURNS, question=True)
    assert time.process_time() - started < 5


def test_an_honest_template_writes_what_transformers_writes() -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    theirs = render_jinja_template(conversations=[TURNS], chat_template=GOOD, add_generation_prompt=True, bos_token="<s>")[0][0]

    assert render_turns(Templated(GOOD), TURNS, question=True) == theirs


def test_the_template_of_a_base_writes_what_transformers_writes(causal: Path) -> None:
    tokenizer = load_tokenizer(pull_base(str(causal)))
    long = [{"role": "user", "content": "a long text. " * 20_000}]

    for turns in (TURNS, long):
        theirs = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        assert render_turns(tokenizer, turns, question=True) == theirs
