"""Seven skills, one to three evaluation sets each, and which tasks ask for them. Targets come from the same tasks."""

from typing import NamedTuple

from liit.engine.data.digits import language, several, sight, thought
from liit.engine.data.digits.task import Task
from liit.engine.settings.streams import Metric

TARGETS_PER_SKILL = 32


class SkillSet(NamedTuple):
    """One evaluation set of a skill: one or more tasks in turn."""

    name: str
    skill: str
    metric: Metric
    max_new_tokens: int
    tasks: tuple[Task, ...]


SETS = (
    SkillSet("vqa-digit", "vqa", "exact", 6, (sight.DIGIT,)),
    SkillSet("vqa-colour", "vqa", "exact", 6, (sight.COLOUR,)),
    SkillSet("knowledge-kind", "knowledge", "exact", 6, (thought.KIND,)),
    SkillSet("knowledge-world", "knowledge", "exact", 6, (thought.MONTH, thought.ELEMENT)),
    SkillSet("chinese-vqa", "multilingual", "bleu-zh", 20, (thought.CHINESE_VQA,)),
    SkillSet("chinese-caption", "multilingual", "bleu-zh", 32, (thought.CHINESE_CAPTION,)),
    SkillSet("grounding-colour", "grounding", "iou", 16, (sight.BOX,)),
    SkillSet("grounding-digit", "grounding", "iou", 16, (sight.BOX_OF_DIGIT,)),
    SkillSet("reasoning-largest", "reasoning", "exact", 6, (thought.LARGEST,)),
    SkillSet("reasoning-sum", "reasoning", "exact", 6, (thought.SUM,)),
    SkillSet("language-order", "language", "exact", 12, (language.ORDER,)),
    SkillSet("language-facts", "language", "exact", 8, (language.FACT,)),
    SkillSet("images-which", "multi-image", "exact", 6, (several.WHICH,)),
    SkillSet("images-each", "multi-image", "exact", 12, (several.EACH,)),
)
SKILLS = tuple(dict.fromkeys(one.skill for one in SETS))


def shares(total: int, of: tuple[SkillSet, ...] = SETS) -> dict[str, int]:
    """Samples of each set when every skill has `total`, as even as can be, the first set of a skill the larger."""
    counts = {}
    for skill in dict.fromkeys(one.skill for one in of):
        sets = [one for one in of if one.skill == skill]
        for position, one in enumerate(sets):
            counts[one.name] = total // len(sets) + (position < total % len(sets))
    return counts
