"""Chat templates: what ordinary ones write, and that hostile ones end in a message within seconds."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tiny import tiny_rubric, tiny_tokenizer
from zreward.common.errors import InputError
from zreward.models.chat_template import render_chat
from zreward.models.scratch import CHAT_TEMPLATE, SCRATCH_FORMS
from zreward.prompting import messages

LONGER = """
{%- macro content_of(content) -%}
  {%- if content is string -%}{{- content -}}
  {%- else -%}
    {%- for item in content -%}
      {%- if 'image' in item or item.type == 'image' -%}<|vision_start|><|image_pad|><|vision_end|>
      {%- elif 'text' in item -%}{{- item.text -}}
      {%- else -%}{{- raise_exception('unexpected item') -}}{%- endif -%}
    {%- endfor -%}
  {%- endif -%}
{%- endmacro -%}
{%- set ns = namespace(last=messages|length - 1, names=[]) %}
{%- for message in messages[::-1] %}
  {%- if message.role == 'user' %}{% set ns.last = loop.index0 %}{% break %}{% endif %}
{%- endfor %}
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + content_of(message.content) | trim ~ '<|im_end|>' ~ (' ' * 2) -}}
{%- if loop.last and not loop.first and loop.length > 1 %}
{{ message.content | selectattr('type', 'equalto', 'text') | list | length }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>' }}
{%- else %}{{ {'a': [1, 'é']}|tojson }}{% endif %}
{%- endif %}
{% generation %}{{ eos_token if eos_token is defined }}{% endgeneration %}
{{- messages[0].content[0].text.split(' ')[1:] | join(', ') }}{{ 'a-b'.replace('-', '+').upper() }}
{%- for k, v in {'x': 1}.items() %}{{ k }}={{ v }}{% endfor %}
"""


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, LONGER], ids=["ours", "longer"])
@pytest.mark.parametrize("thinking", [True, False])
def test_ordinary_templates_write_what_transformers_writes(template, thinking):
    tokenizer = tiny_tokenizer()
    turns = messages("a red <circle> {x} 好", tiny_rubric().dimensions[0], tiny_rubric(), SCRATCH_FORMS, thinking)
    expected = tokenizer.apply_chat_template(
        turns, chat_template=template, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
    )
    values = {"tools": None, "documents": None, "add_generation_prompt": True, "enable_thinking": thinking}
    assert render_chat(template, turns, **tokenizer.special_tokens_map | values) == expected
    assert "red" in expected


HOSTILE = {
    "loops": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "loops that write": "{% for i in range(99999) %}{% for j in range(99999) %}"
    + "x" * 9_000
    + "{% endfor %}{% endfor %}",
    "a wide product": "{{ 'x' * 10**10 }}",
    "a product": "{{ 'x' * 9999999999 }}",
    "a product of a list": "{{ ([1] * 9999999999)|length }}",
    "a power": "{{ 9 ** 9 ** 9 }}",
    "products of numbers": "{% set ns = namespace(x=9) %}{% for i in range(99) %}{% set ns.x = ns.x * ns.x %}{% endfor %}",
    "doubling by joining": "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}",
    "doubling by adding": "{% set ns = namespace(x=[1]) %}{% for i in range(60) %}{% set ns.x = ns.x + ns.x %}{% endfor %}",
    "doubling by a block": "{% set ns = namespace(x='ab') %}{% for i in range(60) %}{% set y %}{{ ns.x }}{{ ns.x }}{% endset %}"
    "{% set ns.x = y %}{% endfor %}",
    "macros that call themselves twice": "{% macro f(n) %}"
    "{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "a macro that calls itself for ever": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "a recursive loop": "{% for i in range(9) recursive %}{{ loop(range(9)) }}{% endfor %}",
    "a width": "{{ '{:>999999999}'.format('x') }}",
    "an old width": "{{ '%999999999d' % 5 }}",
    "a width by a filter": "{{ '%999999999d'|format(5) }}",
    "centred": "{{ 'x'.center(999999999) }}",
    "a filter that centres": "{{ 'x'|center(999999999) }}",
    "zeros": "{{ 'x'.zfill(999999999) }}",
    "indented": "{{ ('x\n' * 9999)|indent(9999) }}",
    "an indent by name": "{{ ('x\n' * 9999)|indent(width=9999999) }}",
    "replaced": "{% set a = 'a' * 99999 %}{{ a.replace('a', a) }}",
    "a filter that replaces": "{% set a = 'a' * 99999 %}{{ a|replace('a', a) }}",
    "joined": "{% set a = 'a' * 99999 %}{{ a.join(range(99999)|map('string')) }}",
    "a filter that joins": "{% set a = 'a' * 99999 %}{{ range(99999)|map('string')|list|join(a) }}",
    "bytes of a number": "{{ (5).to_bytes(999999999, 'big') }}",
    "wide JSON": "{{ messages|tojson(indent=99999999) }}",
    "batches": "{{ [1]|batch(999999999, 0)|list }}",
    "filler text": "{{ lipsum(n=999999) }}",
    "large comparisons": "{% set a = 'a' * 1999999 %}"
    "{% for i in range(99999) %}{% if a ~ 'b' == a ~ 'c' %}x{% endif %}{% endfor %}",
    "slices": "{% set a = 'a' * 1999999 %}{% for i in range(99999) %}{% set b = a[1:] %}{% endfor %}",
    "only for some prompts": "{% if 'red' in messages[1].content[1].text %}{% for i in range(99999) %}{% for j in range(99999) %}"
    "{% endfor %}{% endfor %}{% endif %}",
}


@contextmanager
def no_more_than(more: float) -> Iterator[None]:
    """MemoryError for whatever takes so many bytes more than the process has now."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    present = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (present + int(more), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.parametrize("template", HOSTILE.values(), ids=HOSTILE)
def test_hostile_templates_end_in_a_message(template):
    turns = messages("red", tiny_rubric().dimensions[0], tiny_rubric(), SCRATCH_FORMS, False)
    begin = time.process_time()
    with (
        no_more_than(500e6),
        pytest.raises(InputError, match="the chat template (loops or grows without end|cannot be used)") as caught,
    ):
        render_chat(template, turns)
    assert len(str(caught.value)) < 400
    assert time.process_time() - begin < 60  # seconds; without the budget hours


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{% for", "TemplateSyntaxError"),
        ("{{ raise_exception('only text') }}", "only text"),
        ("{{ messages[9].content }}", "UndefinedError"),
        ("{{ ''.__class__.__mro__ }}", "SecurityError|UndefinedError"),
        ("{% include '/etc/passwd' %}", "cannot be used"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("x" * 200_001, "200,001 letters"),
    ],
)
def test_broken_templates_are_told(template, message):
    turns = messages("red", tiny_rubric().dimensions[0], tiny_rubric(), SCRATCH_FORMS, False)
    with pytest.raises(InputError, match=message):
        render_chat(template, turns)


def test_a_long_prompt_is_no_hostile_one():
    turns = messages("red circle " * 50_000, tiny_rubric().dimensions[0], tiny_rubric(), SCRATCH_FORMS, False)
    assert len(render_chat(LONGER, turns, add_generation_prompt=True)) > 500_000
