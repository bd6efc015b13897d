"""Local data files of the recipes, and a description of this machine; shared by the measurements of recipes."""

from __future__ import annotations

import platform
import re
from pathlib import Path

import psutil

ROOT = Path(__file__).parent.parent
FILES = {
    "medical/abstracts": {"data.source": "medical/abstracts.csv"},
    "medical/dialogue-section": {
        "data.source.train": "medical/dialogue_train.csv",
        "data.source.validation": "medical/dialogue_validation.csv",
    },
    "medical/dialogue-note": {
        "data.source.train": "medical/dialogue_train.csv",
        "data.source.validation": "medical/dialogue_validation.csv",
    },
    "medical/en-zh-retrieval": {"data.source": "medical/covid_en_zh.csv", "data.file": None},
    "medical/question-summary": {"data.source": "medical/question_summaries.csv"},
    "medical/language": {"data.source": "medical/abstracts.csv"},
    "legal/language": {"data.source": "legal/contract_clauses.csv"},
    "medical/pubmedqa": {"data.source": "medical/pubmedqa.jsonl"},
    "finance/news-sentiment": {"data.source": "finance/news_sentiment.csv", "data.file": None},
    "finance/credit-risk": {"data.source": "finance/credit_default.csv", "data.file": None, "data.sha256": None},
    "finance/bankruptcy": {"data.source": "finance/bankruptcy.csv"},
    "finance/stock-direction": {"data.source": "finance/stock_tweets.csv"},
    "finance/banking-intents": {"data.source": "finance/banking_intents.csv"},
    "finance/zh-disclosure": {"data.source": "finance/zh_disclosure.csv"},
    "legal/contract-clause": {"data.source": "legal/contract_clauses.csv"},
    "legal/plain-summary": {"data.source": "legal/plain_summaries.csv"},
    "legal/unfair-terms": {"data.source": "legal/terms_of_service.csv"},
    "legal/zh-statutes": {"data.source": "legal/zh_statutes.csv"},
    "medical/chest-xray": {"data.source": "medical/chest_xray.npz"},
    "medical/ecg-beats": {"data.source": "medical/ecg_beats.csv"},
    "medical/molecule-bbb": {"data.source": "medical/molecules_bbbp.csv"},
    "medical/molecule-solubility": {"data.source": "medical/molecules_esol.csv"},
    "medical/zh-triage": {"data.source": "medical/zh_triage.csv"},
    "traffic/flow-forecast": {"data.source": "traffic/los_speed.csv", "data.reader.adjacency": "traffic/los_adjacency.csv"},
    "traffic/incident-severity": {"data.source": "traffic/road_casualties.csv"},
    "traffic/sensor-alarms": {"data.source": "traffic/sensor_anomalies", "data.reader.folder": None},
    "traffic/crash-narratives": {"data.source": "traffic/av_crash_narratives.csv"},
    "traffic/zh-transport-rules": {"data.source": "traffic/zh_transport_rules.csv"},
}
"""Recipe → settings for files in the folder of --data. finance/credit-risk is measured on both of its data sets."""


def machine() -> str:
    """Describe the machine in a few words."""
    memory = psutil.virtual_memory().total / 1e9
    return f"{_name_cpu()}{psutil.cpu_count()} CPU cores, {memory:.0f} GB, Python {platform.python_version()}"


def _name_cpu() -> str:
    """The processor's name, and whether it multiplies bfloat16; "" if the system does not say."""
    path = Path("/proc/cpuinfo")
    facts = path.read_text(encoding="utf-8") if path.is_file() else ""
    name = re.search(r"^model name\s*: (.*)$", facts, re.MULTILINE)
    return f"{name[1]}{' with AVX-512 bf16' if ' avx512_bf16' in facts else ''}, " if name else ""
