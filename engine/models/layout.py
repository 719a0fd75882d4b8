"""What is learned once of a chat template: what stands between a question and its answer, and what ends the answer.

Learned from the template's own renderings, with and without generation prompt, compared token by token.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any
from weakref import WeakKeyDictionary

from liit.engine.models.processors import SampleError, template_of, tokenizer_of
from liit.engine.models.rendering import ANSWER, QUESTION, Form, Message, form_of, messages_of, render
from liit.engine.models.tokenizing import Token, tokenize

SPACES = "Ġ▁Ċ"
"""How vocabularies write a space or line break that a word begins with."""
WORDS = 12


@dataclass(frozen=True)
class Layout:
    """The borders of a response, as texts.

    opening: between a question and the response to it, in any turn but the last. borrowed: characters at the end of the
    generation prompt that become one token with most answers, or that no finished conversation has. closings: what ends a
    response, in any turn but the last and in the last. stops: ids of the tokens that these end with, none where they are plain
    text. whole: ids that are one token by definition. word: an answer like any other.
    """

    form: Form
    opening: str
    borrowed: int
    closings: tuple[str, str]
    stops: frozenset[int]
    whole: frozenset[int]
    word: str


_LAYOUTS: WeakKeyDictionary[Any, tuple[str, Layout]] = WeakKeyDictionary()


def layout_of(processor: Any) -> Layout:
    """Learned at the first call. Raises SampleError where the template can write no question with its answer."""
    template = template_of(processor)
    known = _LAYOUTS.get(processor)
    if known is None or known[0] != template:
        known = (template, _learn(processor, form_of(processor)))
        _LAYOUTS[processor] = known
    return known[1]


def _learn(processor: Any, form: Form) -> Layout:
    words = _words(tokenizer_of(processor))
    rounds = _rounds(processor, form, words[0])
    talks = [_talk(processor, form, word, rounds) for word in words]
    openings = [_opening(processor, talk, 0)[0] for talk in talks]
    borrowed = [_opening(processor, talk, rounds - 1)[1] for talk in talks]
    closings, stops = _Closing(processor, render(processor, talks[0])[0]).found(rounds)
    whole = frozenset(tokenizer_of(processor).added_tokens_decoder)
    return Layout(form, min(openings, key=len), max(borrowed), closings, stops, whole, words[0])


def _talk(processor: Any, form: Form, word: str, rounds: int) -> list[Message]:
    """Questions and answers that a rendering can be searched for; every answer begins with the word."""
    turns = []
    for at in range(rounds):
        turns.append({"role": "user", "text": f"{QUESTION} {at}"})
        turns.append({"role": "assistant", "text": f"{word} {ANSWER} {at}"})
    return messages_of(processor, turns, form)[0]


def _rounds(processor: Any, form: Form, word: str) -> int:
    """Two; one of a template that is for one question, or writes the last only."""
    try:
        text, _ = render(processor, _talk(processor, form, word, 2))
    except SampleError:
        return 1
    return 2 if f"{QUESTION} 0" in text else 1


def _words(tokenizer: Any) -> list[str]:
    """Words that begin with white space in the vocabulary, the most frequent first: a prompt's own may become part of them."""
    known = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    found = (token[1:] for token, _ in known if token[0:1] and token[0] in SPACES)
    usable = [word for word in found if word.isascii() and word.isalnum()]
    return [*dict.fromkeys(usable[:WORDS]), "a"]


def _opening(processor: Any, messages: Sequence[Message], number: int) -> tuple[str, int]:
    """What the rendering and the prompt share after this question, in whole tokens, and how much longer the prompt is."""
    text, question = render(processor, messages)[0], f"{QUESTION} {number}"
    prompt = render(processor, messages[: 2 * number + 1], prompt=True)[0]
    asked, said = _after(prompt, question), _after(text, question)
    pairs = zip(_ends(processor, prompt, asked), _ends(processor, text, said), strict=False)
    shared = [end for (_, end), _ in takewhile(lambda pair: pair[0] == pair[1], pairs)]
    length = shared[-1] if shared else 0
    return text[said : said + length], len(prompt) - asked - length


def _ends(processor: Any, text: str, start: int) -> list[tuple[int, int]]:
    """Id and end, counted from there, of every token that ends after `start`."""
    return [(token.id, token.stop - start) for token in tokenize(processor, text) if token.stop > start]


def _after(text: str, literal: str) -> int:
    at = text.rfind(literal)
    if at < 0:
        raise SampleError("the chat template changes what is said in it")
    return at + len(literal)


class _Closing:
    """What ends the answers of a rendered talk."""

    def __init__(self, processor: Any, text: str) -> None:
        self.text, self.tokens = text, tokenize(processor, text)
        known = tokenizer_of(processor).added_tokens_decoder
        self.whole = {token for token in self.tokens if token.id in known and text[token.start : token.stop].strip()}

    def found(self, rounds: int) -> tuple[tuple[str, str], frozenset[int]]:
        """Of all turns but the last, and of the last; and ids of the tokens that these end with.

        They end with a run of tokens that are one by definition, as far as the last turn has it in common with the others. Where
        they have none in common, the others end with the first such token, if that ends questions too.
        """
        text, last = self.text, _after(self.text, f"{ANSWER} {rounds - 1}")
        first, until = (last, len(text)) if rounds == 1 else (_after(text, f"{ANSWER} 0"), text.rfind(f"{QUESTION} 1"))
        final, usual = self._run(last, len(text)), self._run(first, until)
        alike = takewhile(lambda pair: pair[0].id == pair[1].id, zip(final, usual, strict=False))
        shared = [token for token, _ in alike]
        if self.whole.isdisjoint(shared):
            usual, asked = (self._first(run) for run in (usual, self._run(_after(text, f"{QUESTION} 0"), first)))
            usual = usual if usual and asked and usual[-1].id == asked[-1].id else []
        else:
            usual, final = usual[: len(shared)], shared
        if not usual and not final:
            plain = _alike(text[last:], text[first:until]).rstrip()
            return (plain, plain), frozenset()
        ends = [text[start : run[-1].stop] if run else "" for start, run in ((first, usual), (last, final))]
        return (ends[0], ends[1]), frozenset(run[-1].id for run in (usual, final) if run)

    def _run(self, start: int, stop: int) -> list[Token]:
        """Tokens there to the end of the first run of whole ones; none where no token is whole."""
        after = [token for token in self.tokens if start <= token.start < stop]
        plain = list(takewhile(lambda token: token not in self.whole, after))
        run = list(takewhile(self.whole.__contains__, after[len(plain) :]))
        return plain + run if run else []

    def _first(self, run: list[Token]) -> list[Token]:
        """The run to its first whole token."""
        return run[: next((at + 1 for at, token in enumerate(run) if token in self.whole), 0)]


def _alike(one: str, other: str) -> str:
    """How both begin."""
    return "".join(a for a, _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))
