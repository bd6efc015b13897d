"""Chinese questions of patients: to the department that answers them, without the names of diseases."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from vertical_sdk.catalog import cleaners, readers
from vertical_sdk.data.account import StepAccount, Tally
from vertical_sdk.data.read import Missing, Table, read_table
from vertical_sdk.data.texts import list_texts, replace_texts
from vertical_sdk.types import Example, TaskName

__all__ = ["mask_diseases", "questions_zh"]

MASK = "〔病〕"
WORDS = (
    *("高血压", "低血压", "血压", "血脂", "血糖", "降压药", "降压", "胰岛素", "糖尿病人", "糖尿病", "糖", "甲亢", "甲状腺"),
    *("抗癫痫药", "抗癫痫", "癫痫病", "癫痫症", "癫痫", "颠痫", "癫", "羊癫疯", "羊角风", "尿毒症", "肾炎", "肾病", "肾"),
    *(
        "甲型肝炎",
        "乙型肝炎",
        "丙型肝炎",
        "病毒性肝炎",
        "酒精性肝",
        "药物性肝",
        "酒精肝",
        "脂肪肝",
        "肝硬化",
        "肝腹水",
        "肝功能",
    ),
    *("肝炎", "肝癌", "肝病", "甲肝", "乙肝", "丙肝", "戊肝", "肝", "大三阳", "小三阳", "乙肝两对半", "两对半", "转氨酶"),
    *(
        "慢性浅表性胃炎",
        "浅表性胃炎",
        "萎缩性胃炎",
        "糜烂性胃炎",
        "胃溃疡",
        "胃炎",
        "胃癌",
        "胃病",
        "胃镜",
        "胃肠",
        "肠胃",
        "胃",
        "肠",
    ),
    *("反流性食管炎", "食管", "十二指肠", "支气管炎", "气管炎", "支气管", "肺气肿", "肺炎", "肺", "哮喘"),
    *("原发性高血压", "妊娠高血压", "高血压病", "1型糖尿病", "2型糖尿病", "二型糖尿病", "甲状腺功能亢进"),
)
"""Diseases, organs, laboratory values and drugs that by themselves say which department answers."""
DISEASE = re.compile(f"(?:{'|'.join(sorted(map(re.escape, WORDS), key=len, reverse=True))})+")


@readers.register("medical.questions_zh", tasks=("classification",))
def questions_zh(path: Path, columns: Mapping[str, str], task: TaskName, missing: Missing = "drop") -> Table:
    """Chinese questions of patients, each with the department that answers it.

    path     a table with the columns department, title and ask, as in Toyhom's Chinese-medical-dialogue-data (title and ask are
             joined; the answer is not read), or with text and label
    columns  other names, if a copy has such

    Raises DataError with file and line; RecipeError for another task.
    """
    readers.require("medical.questions_zh", task, "data.reader")
    return read_table(path, columns or _choose_columns, task, missing=missing)


def _choose_columns(there: Sequence[str]) -> dict[str, str]:
    if "ask" not in there:
        return {}
    text = "title + ask" if "title" in there else "ask"
    return {"text": text, **({"label": "department"} if "department" in there else {})}


@cleaners.register("medical.mask_diseases", text_normalizer=True)
def mask_diseases(examples: Sequence[Example]) -> tuple[list[Example], StepAccount]:
    """Write 〔病〕 for every run of disease words, so that the complaint decides and not the diagnosis. Labels never change."""
    tally = Tally("medical.mask_diseases")
    masked = []
    for example in examples:
        new = [DISEASE.sub(MASK, text) for text in list_texts(example)]
        if new != list_texts(example):
            tally.change(example.id, "names of diseases masked")
        masked.append(replace_texts(example, new))
    return masked, tally.close(len(examples), len(masked))
