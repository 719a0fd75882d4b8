"""A tokenizer for the embedded stream: every word of it is one token, anything else falls back to bytes.

A byte-level vocabulary without merges: text is split into words, single digits, decimals with the signs of a box around
them, single Chinese characters and single signs; a piece that the vocabulary has is one token, any other is spelled
in bytes. So no text is unknown, and
decoding gives back what was encoded.
"""

from collections.abc import Iterable

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, IMAGE = "<pad>", "<s>", "</s>", "<image>"
PIECES = r"\p{Han}|,? ?\[?\d\.\d\d\]?| ?\d| ?[A-Za-z]+| ?[^\s\p{L}\d]|\s|\p{L}"

TEMPLATE = (
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}{{ 'ASSISTANT: ' }}"
    "{% elif message['role'] == 'user' %}{{ 'USER: ' }}{% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% set state = namespace(after_image=false) %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<image>' }}{% set state.after_image = true %}"
    "{% else %}"
    "{% if state.after_image and part['text'][:1] not in ['\\n', ' '] %}{{ '\\n' }}{% endif %}"
    "{{ part['text'] }}{% set state.after_image = false %}"
    "{% endif %}{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}{{ '</s>' }}{% else %}{{ ' ' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
"""`USER: <image>\\nquestion ASSISTANT: answer</s>`; content is text, or a list of parts in their order."""


def pieces(text: str) -> list[str]:
    """The pieces of a text, in the byte-level alphabet that the vocabulary is written in."""
    return [piece for piece, _ in _splitter().pre_tokenize_str(text)]


def make_tokenizer(texts: Iterable[str], max_length: int) -> PreTrainedTokenizerFast:
    """A tokenizer whose vocabulary is the special tokens, the 256 bytes and every piece of the texts, sorted."""
    special = [PAD, BOS, EOS, IMAGE]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = sorted({piece for text in texts for piece in pieces(text)} - set(alphabet))
    vocabulary = {token: index for index, token in enumerate([*special, *alphabet, *words])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = _splitter()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=EOS,
        extra_special_tokens={"image_token": IMAGE},
        clean_up_tokenization_spaces=False,
        padding_side="left",
        model_max_length=max_length,
        chat_template=TEMPLATE,
    )


def _splitter() -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(PIECES), behavior="isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
