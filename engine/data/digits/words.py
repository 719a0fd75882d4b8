"""What there is to know about the ten digits and the colours, in English and in Chinese."""

NUMERALS = "零一二三四五六七八九"
CHINESE_COLOURS = {"red": "红", "green": "绿", "blue": "蓝", "yellow": "黄", "white": "白", "purple": "紫"}
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
KINDS = (
    "even",
    "odd",
    "even prime",
    "odd prime",
    "even composite",
    "odd prime",
    "even composite",
    "odd prime",
    "even composite",
    "odd composite",
)
MONTHS = dict(
    enumerate(("January", "February", "March", "April", "May", "June", "July", "August", "September"), start=1)
)
ELEMENTS = dict(
    enumerate(
        ("hydrogen", "helium", "lithium", "beryllium", "boron", "carbon", "nitrogen", "oxygen", "fluorine"), start=1
    )
)
PLANETS = dict(enumerate(("Mercury", "Venus", "Earth", "Mars", "Jupiter", "Saturn", "Uranus", "Neptune"), start=1))
ROMAN = dict(enumerate(("I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX"), start=1))
POLYGONS = dict(enumerate(("triangle", "square", "pentagon", "hexagon", "heptagon", "octagon", "nonagon"), start=3))


def enumeration(parts: list[str], last: str = " and ") -> str:
    """`a`, `a and b`, `a, b and c`."""
    return last.join(filter(None, (", ".join(parts[:-1]), parts[-1])))
