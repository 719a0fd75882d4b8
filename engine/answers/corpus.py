"""Metrics of a whole set of answers: BLEU, whose counts are pooled, and CIDEr, whose words weigh by how rare they are."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sacrebleu.metrics import BLEU
from sacrebleu.metrics.bleu import BLEUScore

from liit.engine.answers.scores import DatasetScore, mean
from liit.engine.answers.text import Asked
from liit.engine.answers.words import caption_words
from liit.engine.settings.metric_options import Reading


@dataclass(frozen=True)
class Bleu:
    """Corpus BLEU of sacreBLEU (Post 2018, arXiv 1804.08771) with one of its tokenizers.

    Orders that no answer is long enough for are left out (effective order), so that equal texts score 100 however short. Beside
    it `corpus_bleu`, which has all four orders, and `mean_sentence_bleu`; an answer's own value is its sentence BLEU.
    """

    tokenizer: str

    def __call__(self, asked: Sequence[Asked], options: Reading) -> DatasetScore:
        answers, references = [one.answer for one in asked], [one.references for one in asked]
        most = max(len(accepted) for accepted in references)
        # sacreBLEU wants the n-th reference of every answer together, None where an answer has fewer.
        columns = [[accepted[n] if n < len(accepted) else None for accepted in references] for n in range(most)]
        effective = BLEU(tokenize=self.tokenizer, force=True, effective_order=True)
        values = [_percent(effective.sentence_score(one.answer, one.references)) for one in asked]
        whole = BLEU(tokenize=self.tokenizer, force=True).corpus_score(answers, columns)
        extra = {"corpus_bleu": _percent(whole), "mean_sentence_bleu": mean(values)}
        silent = sum(not answer.strip() for answer in answers)
        return DatasetScore(_percent(effective.corpus_score(answers, columns)), values, silent, extra)


def _percent(found: BLEUScore) -> float:
    return min(float(found.score), 100.0)  # sacreBLEU rounds a perfect score to a hair above 100


ORDERS = (1, 2, 3, 4)
SIGMA = 6.0
"""Of the penalty for another length, in words."""


def cider(asked: Sequence[Asked], options: Reading) -> DatasetScore:
    """CIDEr-D (Vedantam et al. 2015, arXiv 1411.5726, section 5) times 100, as it is reported: 0 to 1000.

    Document frequencies are those of the set's own references, so a value holds for the whole set alone, and one single picture
    has none.
    """
    references = [[_counts(text) for text in one.references] for one in asked]
    seen = Counter(gram for texts in references for gram in set().union(*texts))
    pictures = math.log(len(asked))
    rarity = {gram: pictures - math.log(count) for gram, count in seen.items()}
    values, silent = [], 0
    for one, texts in zip(asked, references, strict=True):
        given = _counts(one.answer)
        silent += not given
        values.append(1000 * mean([_likeness(given, wanted, rarity, pictures) for wanted in texts]))
    return DatasetScore(mean(values), values, silent)


Gram = tuple[str, ...]


def _counts(text: str) -> Counter[Gram]:
    words = caption_words(text)
    return Counter(tuple(words[at : at + n]) for n in ORDERS for at in range(len(words) - n + 1))


def _likeness(given: Counter[Gram], wanted: Counter[Gram], rarity: Mapping[Gram, float], unseen: float) -> float:
    """Mean over n-gram orders of the clipped cosine of TF-IDF vectors, times the length penalty (eq. 3 and section 5)."""
    cosines = []
    for n in ORDERS:
        one, other = _vector(given, n, rarity, unseen), _vector(wanted, n, rarity, unseen)
        norms = _norm(one) * _norm(other)
        shared = math.fsum(min(one[gram], other[gram]) * other[gram] for gram in one.keys() & other.keys())
        cosines.append(shared / norms if norms else 0.0)
    apart = _length(given) - _length(wanted)
    return mean(cosines) * math.exp(-(apart**2) / (2 * SIGMA**2))


def _vector(counts: Counter[Gram], n: int, rarity: Mapping[Gram, float], unseen: float) -> dict[Gram, float]:
    return {gram: count * rarity.get(gram, unseen) for gram, count in counts.items() if len(gram) == n}


def _norm(vector: Mapping[Gram, float]) -> float:
    return math.sqrt(math.fsum(value**2 for value in vector.values()))


def _length(counts: Counter[Gram]) -> int:
    return sum(count for gram, count in counts.items() if len(gram) == 1)
