"""Names of things and of countries in many languages, and facts of countries, from CLDR's and `world-countries`' tables."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from real.items import Item

TONGUES = {
    "Czech": ("cs", "ces"),
    "German": ("de", "deu"),
    "Spanish": ("es", "spa"),
    "Estonian": ("et", "est"),
    "Finnish": ("fi", "fin"),
    "French": ("fr", "fra"),
    "Hungarian": ("hu", "hun"),
    "Italian": ("it", "ita"),
    "Dutch": ("nl", "nld"),
    "Polish": ("pl", "pol"),
    "Portuguese": ("pt", "por"),
    "Swedish": ("sv", "swe"),
    "Turkish": ("tr", "tur"),
}
"""Languages in Latin letters, of which a token holds more than a byte: CLDR's code of each, and that of countries' names."""
TAUGHT = ("German", "Spanish", "French", "Italian", "Dutch", "Portuguese", "Swedish")
"""Languages that things are translated to."""


def spoken(annotations: Path, tongue: str) -> dict[str, str]:
    """The short name of every symbol in a language, as it is read aloud."""
    file = annotations / tongue / "annotations.json"
    table = json.loads(file.read_text(encoding="utf-8"))["annotations"]["annotations"]
    return {symbol: entry["tts"][0] for symbol, entry in table.items() if entry.get("tts")}


def pictured(annotations: Path) -> dict[str, str]:
    """English names of emoji that are one or two plain words: things, not arrows and letters."""
    names = spoken(annotations, "en")
    plain = {symbol: name for symbol, name in names.items() if ord(symbol[0]) >= 0x1F300 and "symbol" not in name}
    return {symbol: name for symbol, name in plain.items() if name.isascii() and name.replace(" ", "").isalpha()}


def things(annotations: Path) -> Iterator[Item]:
    """What an emoji shows, what a name is in another language, and of which language and English word a name is."""
    english = {symbol: name for symbol, name in pictured(annotations).items() if name.count(" ") <= 1}
    tables = {tongue: spoken(annotations, code) for tongue, (code, _) in TONGUES.items()}
    for position, (symbol, name) in enumerate(english.items()):
        about = f"emoji {symbol}"
        yield Item("emoji", about, f"What does {symbol} show?", name)
        for offset, (tongue, table) in enumerate(tables.items()):
            other = table.get(symbol)
            if not other or other.lower() == name.lower():
                continue
            turn = (position + offset) % len(TONGUES)  # a few languages for each thing
            if turn == 0:
                wrong = tuple(each for each in TONGUES if each != tongue)
                yield Item("language", about, f"Which language is “{other}”?", tongue, others=wrong)
            elif turn in (1, 2) and tongue in TAUGHT:
                yield Item("translation", about, f"What is “{name}” in {tongue}?", other)
            elif turn == 3:
                yield Item("english", about, f"What does the {tongue} “{other}” mean in English?", name)


def countries(table: Path) -> list[dict[str, Any]]:
    """The members of the United Nations with a capital, by code."""
    rows = json.loads(table.read_text(encoding="utf-8"))
    return sorted((row for row in rows if row["unMember"] and row["capital"]), key=lambda row: row["cca3"])


def facts(table: Path) -> Iterator[Item]:
    """Capital, part of the world, first language and name in other languages of every country."""
    for position, row in enumerate(countries(table)):
        name, about = row["name"]["common"], f"country {row['cca3']}"
        capital = row["capital"][0]
        yield Item("capital", about, f"Name the capital of {name} in a word or two.", capital, tuple(row["capital"]))
        yield Item("capital", about, f"{capital} is the capital of which country?", name)
        yield Item("region", about, f"In which part of the world is {name}?", row["subregion"])
        spoken_there = tuple(row["languages"].values())
        yield Item("tongue", about, f"Name an official language of {name}.", spoken_there[0], spoken_there)
        for offset, (tongue, (_, code)) in enumerate(TONGUES.items()):
            other = row["translations"].get(code, {}).get("common")
            if other and other != name and (position + offset) % 4 == 0:
                yield Item("country-name", about, f"What is {name} called in {tongue}?", other)
