"""A response is exactly what the model must produce, for every chat template; laws over the templates of published families."""

import random
from itertools import groupby
from typing import Any

import pytest

from liit.engine.models import rendering
from liit.engine.models.encoding import Encoded, SampleError, encode, encode_prompt, without_images
from liit.engine.models.layout import layout_of
from liit.engine.models.processors import plain_template
from liit.engine.models.rendering import MERGED
from liit.engine.models.responses import CHANGED, ENDLESS, LOST, stop_ids
from tests.engine.models.chat_families import LANGUAGE, ChatFamily, conversation

LENGTH = 10_000
SEEDS = range(80)


@pytest.fixture(scope="module", params=LANGUAGE)
def family(request: pytest.FixtureRequest) -> ChatFamily:
    return LANGUAGE[request.param]


def runs(mask: list[bool]) -> list[tuple[int, int]]:
    """From where to where the mask is true."""
    found, at = [], 0
    for value, group in groupby(mask):
        length = len(list(group))
        found += [(at, at + length)] if value else []
        at += length
    return found


def written(tokenizer: Any, one: Encoded) -> list[str]:
    """What each run of response tokens adds to the text before it."""
    ids = one.input_ids.tolist()
    return [
        tokenizer.decode(ids[:stop])[len(tokenizer.decode(ids[:start])) :]
        for start, stop in runs(one.response.tolist())
    ]


def test_response_tokens_are_what_the_template_writes_of_every_answer_and_its_end(family: ChatFamily) -> None:
    tokenizer = family.tokenizer()
    for seed in SEEDS:
        turns = conversation(random.Random(seed), system=True)
        answers = [turn["text"] for turn in turns if turn["role"] == "assistant"]
        expected = [family.answer(text, text is answers[-1]) + family.end for text in answers]
        assert written(tokenizer, encode(tokenizer, turns, [], LENGTH)) == expected, seed


def test_the_prompt_is_the_tokens_of_training_before_the_last_response(family: ChatFamily) -> None:
    tokenizer = family.tokenizer()
    for seed in SEEDS:
        turns = conversation(random.Random(seed), system=True)
        one, prompt = encode(tokenizer, turns, [], LENGTH), encode_prompt(tokenizer, turns, [], LENGTH)
        start = runs(one.response.tolist())[-1][0]
        assert prompt.input_ids.tolist() == one.input_ids[:start].tolist(), seed
        assert not prompt.response.any()


def test_generation_stops_at_the_token_that_every_response_ends_with(family: ChatFamily) -> None:
    tokenizer = family.tokenizer()
    for seed in SEEDS:
        one = encode(tokenizer, conversation(random.Random(seed)), [], LENGTH)
        ends = {int(one.input_ids[stop - 1]) for _, stop in runs(one.response.tolist())}
        if family.end:
            assert ends <= set(stop_ids(tokenizer)), seed
            assert tokenizer.decode(sorted(ends)) == family.end.strip()
        else:
            assert any("ends answers with no token of its own" in note for note in one.notes)


def test_the_text_of_a_turn_can_say_what_the_template_writes(family: ChatFamily) -> None:
    """Where a template's own words are said, they are words of the one who says them."""
    tokenizer = family.tokenizer()
    layout = layout_of(tokenizer)
    said = f"so{layout.opening.strip()}and{family.end.strip()}User:there"
    turns = [{"role": role, "text": said} for _ in range(2) for role in ("user", "assistant")]
    expected = [family.answer(said, last) + family.end for last in (False, True)]
    assert written(tokenizer, encode(tokenizer, turns, [], LENGTH)) == expected


def test_a_conversation_of_any_length_is_rendered_three_times(
    family: ChatFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer, calls, real = family.tokenizer(), list[bool](), rendering.render_jinja_template
    layout_of(tokenizer)

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(options["add_generation_prompt"])
        return real(*arguments, **options)

    monkeypatch.setattr(rendering, "render_jinja_template", counted)
    for rounds in (1, 4, 64):
        calls.clear()
        turns = [turn for at in range(rounds) for turn in conversation(random.Random(at), rounds=1)]
        encode(tokenizer, turns, [], 100_000)
        assert calls == [False, False, True], rounds


def test_a_turn_of_context_is_read_and_not_learned(family: ChatFamily) -> None:
    tokenizer = family.tokenizer()
    turns = [turn for at in range(3) for turn in conversation(random.Random(at), rounds=1)]
    whole = encode(tokenizer, turns, [], LENGTH)
    turns[3]["context"] = True
    part = encode(tokenizer, turns, [], LENGTH)
    assert part.input_ids.tolist() == whole.input_ids.tolist()
    assert runs(part.response.tolist()) == [run for at, run in enumerate(runs(whole.response.tolist())) if at != 1]
    assert without_images(turns)[3]["context"]
    with pytest.raises(SampleError, match="no response token"):
        encode(tokenizer, [{**turn, "context": True} for turn in turns], [], LENGTH)


@pytest.mark.parametrize("ending", ["ASSISTANT:", "ASSISTANT: "])
@pytest.mark.parametrize("kind", ["qwen", "gpt2", "llama3", "llama", "gemma"])
def test_the_first_word_of_an_answer_is_response_where_it_takes_the_prompts_last_space(kind: str, ending: str) -> None:
    """As it is in the plain template, which models without one get."""
    tokenizer = ChatFamily("plain", kind, "</s>").bare_tokenizer()
    tokenizer.chat_template = plain_template(tokenizer).replace("ASSISTANT:", ending)
    for answer in ("Yes", "the answer", "7", "一", "(", "日本 is red"):
        turns = [{"role": "user", "text": "why?"}, {"role": "assistant", "text": answer}]
        one, prompt = encode(tokenizer, turns, [], LENGTH), encode_prompt(tokenizer, turns, [], LENGTH)
        start = len(prompt.input_ids)
        assert one.input_ids[:start].tolist() == prompt.input_ids.tolist()
        assert written(tokenizer, one) == [f" {answer}</s>"]
        text = "USER: why?\nASSISTANT: " + answer + "</s>\n"
        assert one.input_ids.tolist() == tokenizer(text, add_special_tokens=False)["input_ids"], "as one text"


def test_an_answer_that_begins_with_a_line_break_leaves_the_prompt_as_it_is() -> None:
    tokenizer = LANGUAGE["qwen2_5"].tokenizer()
    turns = [{"role": "user", "text": "why?"}, {"role": "assistant", "text": "\n\nYes"}]
    one = encode(tokenizer, turns, [], LENGTH)
    assert written(tokenizer, one) == ["\n\nYes<|im_end|>"]
    text = "<|im_start|>assistant\n\n\nYes<|im_end|>\n"
    merged = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert one.input_ids[-len(merged) :].tolist() != merged, (
        "else three line breaks are not one token, and this says nothing"
    )


def test_a_system_turn_goes_before_the_first_question_where_the_template_takes_none() -> None:
    """Gemma's raises; that of Mistral 7B v0.3 writes it in prompts only, where training would never see it."""
    for name in ("gemma", "mistral", "mistral_v3"):
        tokenizer = LANGUAGE[name].tokenizer()
        turns = conversation(random.Random(5), rounds=1)
        one = encode(tokenizer, [{"role": "system", "text": "Be kind."}, *turns], [], LENGTH)
        merged = [{**turns[0], "text": f"Be kind.\n\n{turns[0]['text']}"}, turns[1]]
        assert one.input_ids.tolist() == encode(tokenizer, merged, [], LENGTH).input_ids.tolist()
        assert one.notes == (MERGED,)


def test_what_a_template_raises_is_the_reason_of_the_sample() -> None:
    tokenizer = LANGUAGE["llama2"].tokenizer()
    twice = [{"role": role, "text": "a"} for role in ("user", "user", "assistant")]
    with pytest.raises(SampleError, match="refuses the conversation: Conversation roles must alternate"):
        encode(tokenizer, twice, [], LENGTH)
    tokenizer.chat_template = "{% for message in messages %}{{ message.content + 1 }}{% endfor %}"
    with pytest.raises(SampleError, match=r"cannot write a question and its answer.*refuses"):
        encode(tokenizer, twice[1:], [], LENGTH)


def test_of_turns_that_the_template_leaves_out_the_others_count() -> None:
    """Here: of all but the last four; and where Qwen3 takes the thoughts off, what it leaves."""
    tokenizer = LANGUAGE["qwen2_5"].tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if loop.revindex <= 4 %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    turns = [{"role": role, "text": f"{role} {at}"} for at in range(3) for role in ("user", "assistant")]
    one = encode(tokenizer, turns, [], LENGTH)
    assert one.notes == (LOST,)
    assert written(tokenizer, one) == ["assistant 1<|im_end|>", "assistant 2<|im_end|>"]
    tokenizer = LANGUAGE["qwen3"].tokenizer()
    turns = [
        {**turn, "text": turn["text"].replace("assistant", "<think>\nso\n</think>\n\nassistant")} for turn in turns
    ]
    one = encode(tokenizer, turns, [], LENGTH)
    ends = ["assistant 0<|im_end|>", "assistant 1<|im_end|>", "<think>\nso\n</think>\n\nassistant 2<|im_end|>"]
    assert written(tokenizer, one) == ends
    assert one.notes == (CHANGED,) * 2


def test_generation_blocks_say_what_of_a_response_counts() -> None:
    tokenizer = LANGUAGE["qwen2_5"].tokenizer()
    turns = [{"role": "user", "text": "why?"}, {"role": "assistant", "text": "Yes"}] * 2
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}therefore: "
        "{% generation %}{{ m.content }}{% endgeneration %}{% else %}{{ m.content }}{% endif %}<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    tokenizer.chat_template = template
    assert (
        written(tokenizer, encode(tokenizer, turns, [], LENGTH)) == [" Yes<|im_end|>"] * 2
    )  # one token with its space
    tokenizer.chat_template = template.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    assert written(tokenizer, encode(tokenizer, turns, [], LENGTH)) == ["therefore: Yes<|im_end|>"] * 2


@pytest.mark.parametrize(
    ("written_end", "ends", "stops"),
    [
        ("<end_of_utterance><|im_end|>\n", ("<end_of_utterance><|im_end|>",) * 2, {"<|im_end|>"}),  # as Command R7B
        (
            "{{ '<|endoftext|>' if loop.last else '<|end|>' }}",
            ("<|end|>", "<|endoftext|>"),
            {"<|end|>", "<|endoftext|>"},
        ),
        ("<|end|>{{ '<|endoftext|>' if loop.last }}", ("<|end|>",) * 2, {"<|end|>"}),
        ("{{ '<|endoftext|>' if loop.last }}", ("", "<|endoftext|>"), {"<|endoftext|>"}),
        ("", ("", ""), set()),  # as GLM: the next question's first token is no end
        ("\n### End\n", ("\n### End",) * 2, set()),
    ],
)
def test_a_response_ends_with_what_ends_the_turns_of_a_template(
    written_end: str, ends: tuple[str, str], stops: set[str]
) -> None:
    tokenizer = ChatFamily("inline", "qwen", "").bare_tokenizer()
    question_end = "<|end|>" if "<|end|>" in written_end or "'<|end|>'" in written_end else ""
    tokenizer.chat_template = (
        "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% if m.role == 'assistant' %}"
        + written_end.replace("\n", "{{ '\\n' }}")
        + f"{{% else %}}{question_end}{{% endif %}}{{% endfor %}}{{% if add_generation_prompt %}}<|assistant|>{{% endif %}}"
    )
    turns = [{"role": role, "text": f"{role} {at}"} for at in range(3) for role in ("user", "assistant")]
    one = encode(tokenizer, turns, [], LENGTH)
    assert written(tokenizer, one) == [f"assistant {at}{ends[at == 2]}" for at in range(3)]
    assert set(tokenizer.convert_ids_to_tokens(stop_ids(tokenizer))) == stops | {"</s>"}
    assert (ENDLESS in one.notes) == (not stops)
