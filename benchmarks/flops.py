"""Floating-point operations of scoring a batch, counted on paper: two per multiply and add, matrix products only."""

from dataclasses import dataclass

from tiny_llava import Shape


@dataclass(frozen=True)
class Lengths:
    """Tokens of one sample: text with the response, the response, and its image's."""

    text: int
    response: int
    image: int


def forward(shape: Shape, one: Lengths, images: bool = True) -> float:
    """Of the model as it must be computed: the head on response tokens only, the image tower once per image."""
    tokens = one.text + (one.image if images else 0)
    layers = shape.layers * layer(shape, tokens)
    return layers + 2 * one.response * shape.vocabulary * shape.hidden + (tower(shape) if images else 0)


def layer(shape: Shape, tokens: int) -> float:
    """The seven linears, and scores and values of causal attention."""
    linears = 4 * shape.hidden**2 + 3 * shape.hidden * shape.intermediate
    return 2 * tokens * linears + 2 * tokens**2 * shape.hidden


def tower(shape: Shape) -> float:
    """CLIP and the projector."""
    tokens, width = shape.image_tokens + 1, shape.vision_hidden
    linears = 4 * width**2 + 2 * width * shape.vision_intermediate
    blocks = shape.vision_layers * (2 * tokens * linears + 4 * tokens**2 * width)
    return blocks + 2 * shape.image_tokens * (width * shape.hidden + shape.hidden**2)


def backward(shape: Shape, one: Lengths) -> float:
    """To the inputs of the middle layer's linears, no weight's: as much as a forward of these layers, twice in attention."""
    tokens = one.text + one.image
    layers = shape.layers - shape.layers // 2
    attention = 2 * tokens**2 * shape.hidden
    return layers * (layer(shape, tokens) + attention) + 2 * one.response * shape.vocabulary * shape.hidden


def sketch(shape: Shape, one: Lengths, sides: tuple[int, int]) -> float:
    """Both sides of the seven linears of one layer, and their outer products."""
    tokens, (p, q) = one.text + one.image, sides
    outputs = 5 * shape.hidden + 2 * shape.intermediate
    inputs = 6 * shape.hidden + shape.intermediate
    return 2 * tokens * (p * outputs + q * inputs + 7 * p * q)


def profile(shape: Shape, one: Lengths, sides: tuple[int, int]) -> float:
    """Everything: forward, backward, sketch, and the forward without images."""
    seen = forward(shape, one) + backward(shape, one) + sketch(shape, one, sides)
    return seen + forward(shape, one, images=False)


def training(shape: Shape, one: Lengths) -> float:
    """Forward and backward of a LoRA on all seven linears: no frozen weight has a gradient, and the tower has no backward.

    A LoRA's two matrices are multiplied three times each: forward, to their input, to their weight.
    """
    tokens = one.text + one.image
    seen = one.image > 0
    layers = shape.layers * (2 * layer(shape, tokens) + 2 * tokens**2 * shape.hidden)
    sides = 11 * shape.hidden + 3 * shape.intermediate  # inputs and outputs of the seven, summed
    lora = 3 * 2 * tokens * shape.layers * shape.rank * sides
    return layers + lora + 4 * one.response * shape.vocabulary * shape.hidden + (tower(shape) if seen else 0)
