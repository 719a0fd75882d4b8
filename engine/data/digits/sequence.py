"""Single-task sets one after the other, as continual instruction tuning is measured (He et al., arXiv 2311.16206).

Five tasks that neither base model knows: classification, knowledge, Chinese questions, multi-image and position. Before
them t0, what the base was trained on: captions alone (benchmark 1, `digits-captioned`), or t0's mixture of the lifelong
stream (benchmark 2, `digits-base`, jointly tuned). Every sample is plain: no bad answers, no repeats.
"""

from liit.engine.data.digits import language, several, sight, thought
from liit.engine.data.digits.evaluation import SkillSet
from liit.engine.data.digits.samples import Sample, composed
from liit.engine.data.digits.task import Task

JOINT = (sight.DIGIT, sight.COLOUR, sight.BOX, sight.BOX_OF_DIGIT, sight.CAPTION, language.ORDER, language.FACT)
IN_TURN: tuple[tuple[Task, SkillSet], ...] = (
    (sight.CLASSIFICATION, SkillSet("exam-classification", "classification", "exact", 6, (sight.CLASSIFICATION,))),
    (thought.KIND, SkillSet("exam-knowledge", "knowledge", "exact", 6, (thought.KIND,))),
    (thought.CHINESE_VQA, SkillSet("exam-chinese", "chinese", "bleu-zh", 20, (thought.CHINESE_VQA,))),
    (several.WHICH, SkillSet("exam-multi-image", "multi-image", "exact", 6, (several.WHICH,))),
    (sight.POSITION, SkillSet("exam-position", "position", "exact", 12, (sight.POSITION,))),
)
CAPTIONS = (SkillSet("exam-caption", "caption", "bleu", 40, (sight.CAPTION,)),)
INITIAL = (
    SkillSet("exam-vqa", "vqa", "exact", 6, (sight.DIGIT, sight.COLOUR)),
    SkillSet("exam-grounding", "grounding", "iou", 16, (sight.BOX, sight.BOX_OF_DIGIT)),
    SkillSet("exam-language", "language", "exact", 12, (language.ORDER, language.FACT)),
)


def names(joint: bool) -> list[str]:
    """Of the six releases."""
    return ["joint" if joint else "captions", *(task.name for task, _ in IN_TURN)]


def sets(joint: bool) -> tuple[SkillSet, ...]:
    """What the base knows, then the five tasks in turn."""
    return (*(INITIAL if joint else CAPTIONS), *(one for _, one in IN_TURN))


def in_turn(joint: bool, release: int, index: int, seed: int) -> Sample:
    """Sample `index` of a release, from the training digits."""
    if release > 0:
        task = IN_TURN[release - 1][0]
    else:
        task = JOINT[index % len(JOINT)] if joint else sight.CAPTION
    return composed(task, names(joint)[release], seed, index)
