"""Questions with options: ScienceQA, A-OKVQA, MMMU (open questions too) and MMLU."""

import ast
import re

from liit.engine.data.presets.rows import Row, asked, letter, lettered

BY_LETTER = "Answer with the option's letter from the given choices directly."
BY_WORD = "Answer the question using a single word or phrase."


def scienceqa(row: Row) -> list[Row]:
    """lmms-eval `scienceqa`. Rows without a picture are questions in words."""
    hint = f"Context: {row['hint']}\n" if row["hint"] else ""
    question = f"{hint}{row['question']}\n{lettered(row['choices'])}\n{BY_LETTER}"
    return [asked(question, [letter(row["answer"])], images=[row.get("image")])]


def aokvqa(row: Row) -> list[Row]:
    """The multiple-choice setting, asked as LLaVA-1.5's mixture has it."""
    question = f"{row['question']}\n{lettered(row['choices'])}\n{BY_LETTER}"
    right = letter(row["correct_choice_idx"])
    return [asked(question, [right], images=[row["image"]], name=row["question_id"])]


_PLACE = re.compile(r"<image (\d+)>")


def mmmu(row: Row) -> list[Row]:
    """lmms-eval `mmmu_val`, its interleaved prompt: every `<image n>` of question and options is the picture `image_n`."""
    if row["question_type"] == "multiple-choice":
        question = f"{row['question']}\n{lettered(ast.literal_eval(row['options']))}\n\n{BY_LETTER}"
        references, metric = [row["answer"]], "choice"
    else:
        question = f"{row['question']}\n\n{BY_WORD}"
        references, metric = _several(row["answer"]), "mmmu-open"
    images = [row[f"image_{number}"] for number in _PLACE.findall(question)]
    if None in images:
        raise ValueError("missing image: the question names one that the row does not have")
    return [asked(_PLACE.sub("<image>", question), references, images=images, name=row["id"], metric=metric)]


def _several(answer: str) -> list[str]:
    """An open answer; some are written as a list of those accepted."""
    if answer.startswith("["):
        try:
            found = ast.literal_eval(answer)
        except (ValueError, SyntaxError):
            return [answer]
        if isinstance(found, list) and found:
            return [str(one) for one in found]
    return [answer]


def mmlu(row: Row) -> list[Row]:
    """lm-evaluation-harness `mmlu_generative` (lmms-eval's `mmlu` has the same words), without examples."""
    subject = row["subject"].replace("_", " ")
    about = f"The following are multiple choice questions (with answers) about {subject}.\n\n"
    question = f"{about}{row['question'].strip()}\n{lettered(row['choices'])}\nAnswer:"
    return [asked(question, [letter(row["answer"])])]
