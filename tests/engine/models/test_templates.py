"""What is written into a chat template when it is loaded: its arguments, and the day that it takes for today."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from liit.engine.models.encoding import encode, encode_prompt
from liit.engine.models.loading import ModelError, load_processor
from liit.engine.models.processors import settled
from liit.engine.settings.sections import Model
from liit.engine.settings.specs import TemplateSpec
from tests.engine.models.chat_families import LANGUAGE
from tests.engine.models.test_responses import LENGTH, written

TURNS = [{"role": role, "text": f"{role} {at}"} for at in range(2) for role in ("user", "assistant")]
MESSAGES = [{"role": turn["role"], "content": turn["text"]} for turn in TURNS]
VALUES = {
    "flag": False,
    "nothing": None,
    "count": 3,
    "share": 0.5,
    "words": 'it\'s {{ "x" }} %} 日\n',
    "many": [1, {"a": True}],
}


@pytest.mark.parametrize("prompt", [False, True])
@pytest.mark.parametrize("name", ["qwen3", "smollm3"])
@pytest.mark.parametrize("thinking", [False, True])
def test_arguments_are_those_that_the_template_would_be_called_with(name: str, thinking: bool, prompt: bool) -> None:
    spec = TemplateSpec(template_kwargs={"enable_thinking": thinking, "of_another_model": 1})
    told, asked = LANGUAGE[name].tokenizer(spec), LANGUAGE[name].tokenizer()
    messages = MESSAGES[:3] if prompt else MESSAGES
    text = told.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
    assert text == asked.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=prompt, enable_thinking=thinking
    )
    assert "of_another_model" not in told.chat_template


def test_any_plain_value_can_be_an_argument() -> None:
    template = (
        "{% for name in 'x' %}" + " {{ flag }} {{ nothing }} {{ count }} {{ share }} {{ words }} {{ many }}{% endfor %}"
    )
    tokenizer = LANGUAGE["qwen3"].tokenizer()
    tokenizer.chat_template = settled(template, TemplateSpec(template_kwargs=VALUES))
    text = tokenizer.apply_chat_template(MESSAGES, tokenize=False)
    assert text == " " + " ".join(str(value) for value in VALUES.values())
    assert text == tokenizer.apply_chat_template(MESSAGES, tokenize=False, chat_template=template, **VALUES)


def test_a_response_begins_after_the_block_that_the_prompt_opens() -> None:
    """Qwen3 told not to think: the prompt holds the empty thought of the last answer; earlier answers have none."""
    tokenizer = LANGUAGE["qwen3"].tokenizer(TemplateSpec(template_kwargs={"enable_thinking": False}))
    one = encode(tokenizer, TURNS, [], LENGTH)
    assert written(tokenizer, one) == ["assistant 0<|im_end|>", "assistant 1<|im_end|>"]
    prompt = tokenizer.decode(encode_prompt(tokenizer, TURNS, [], LENGTH).input_ids)
    assert prompt == tokenizer.apply_chat_template(MESSAGES[:3], tokenize=False, add_generation_prompt=True)
    assert prompt.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")


def test_the_date_is_what_the_configuration_says() -> None:
    for name, day in (("llama3_2", "Today Date: 03 Feb 2025\n"), ("smollm3", "Today Date: 03 February 2025\n")):
        tokenizer = LANGUAGE[name].tokenizer(TemplateSpec(date="2025-02-03"))
        assert day in tokenizer.apply_chat_template(MESSAGES, tokenize=False)
        assert "strftime_now(" not in tokenizer.chat_template
    assert settled("{{ strftime_now('%Y') }}{{ strftime_now( \"%d\" ) }}", TemplateSpec()) == "{{ '2026' }}{{ '01' }}"


def test_a_model_says_what_cannot_be_written_into_its_template(tiny_llama: str, tmp_path: Path) -> None:
    for file in Path(tiny_llama).iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "chat_template.jinja").unlink(missing_ok=True)
    (tmp_path / "chat_template.jinja").write_text("{% set how = '%Y' %}{{ strftime_now(how) }}")
    with pytest.raises(ModelError, match="today's date in a format that it computes"):
        load_processor(str(tmp_path))


def test_settings_take_a_date_and_arguments_and_nothing_else() -> None:
    assert Model(date="2025-02-03").template() == TemplateSpec(date="2025-02-03")
    assert Model().told() == {}, "or the fingerprints of all models would change"
    assert Model(template_kwargs={"enable_thinking": False}).told() == {"template_kwargs": {"enable_thinking": False}}
    assert json.loads(Model().model_dump_json())["date"] == TemplateSpec().date, "the resolved configuration says it"
    for wrong in (
        {"date": "03.02.2025"},
        {"template_kwargs": {"enable thinking": 1}},
        {"template_kwargs": {"a": object}},
    ):
        with pytest.raises(ValidationError):
            Model(**wrong)
