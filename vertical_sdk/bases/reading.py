"""How well a base's tokenizer reads texts, before anything is trained on them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vertical_sdk.bases.text_tokenizer import TextTokenizer

__all__ = [
    "NOTHING_READ",
    "SENTENCES",
    "WORTH_A_WARNING",
    "LanguageReading",
    "Reading",
    "fitting_length",
    "group_languages",
    "mean_share",
    "read_languages",
    "read_texts",
    "share_above",
]

SENTENCES: Mapping[str, tuple[str, ...]] = {
    "en": (
        "The patient has had a cough and a fever for three days.",
        "My invoice is wrong, please send the money back.",
        "The contract ends when one side has not paid for two months.",
        "A lorry blocked the right lane of the bridge this morning.",
    ),
    "zh": (
        "病人咳嗽发烧已经三天了。",
        "我的发票有误，请把钱退给我。",
        "一方两个月没有付款，合同即告终止。",
        "今天早上一辆卡车堵住了桥上的右侧车道。",
    ),
    "es": (
        "El paciente tiene tos y fiebre desde hace tres días.",
        "Mi factura está mal, por favor devuélvanme el dinero.",
        "El contrato termina si una parte no ha pagado durante dos meses.",
        "Esta mañana un camión bloqueó el carril derecho del puente.",
    ),
    "de": (
        "Der Patient hat seit drei Tagen Husten und Fieber.",
        "Meine Rechnung ist falsch, bitte überweisen Sie das Geld zurück.",
        "Der Vertrag endet, wenn eine Seite zwei Monate lang nicht gezahlt hat.",
        "Heute Morgen blockierte ein Lastwagen die rechte Spur der Brücke.",
    ),
    "fr": (
        "Le patient a de la toux et de la fièvre depuis trois jours.",
        "Ma facture est fausse, veuillez me rembourser.",
        "Le contrat prend fin si une partie n'a pas payé pendant deux mois.",
        "Ce matin, un camion a bloqué la voie de droite du pont.",
    ),
    "ar": (
        "يعاني المريض من سعال وحمى منذ ثلاثة أيام.",
        "فاتورتي خاطئة، من فضلكم أعيدوا لي المال.",
        "ينتهي العقد إذا لم يدفع أحد الطرفين لمدة شهرين.",
        "هذا الصباح سدت شاحنة المسار الأيمن من الجسر.",
    ),
    "ru": (
        "У пациента уже три дня кашель и температура.",
        "В моём счёте ошибка, пожалуйста, верните деньги.",
        "Договор прекращается, если одна сторона не платит два месяца.",
        "Сегодня утром грузовик перекрыл правую полосу моста.",
    ),
    "ja": (
        "患者は三日前から咳と熱があります。",
        "請求書が間違っているので、お金を返してください。",
        "一方が二か月間支払わない場合、契約は終了します。",
        "今朝、トラックが橋の右車線をふさぎました。",
    ),
    "ko": (
        "환자는 사흘 전부터 기침과 열이 있습니다.",
        "청구서가 잘못되었으니 돈을 돌려주세요.",
        "한쪽이 두 달 동안 지불하지 않으면 계약이 끝납니다.",
        "오늘 아침 트럭이 다리의 오른쪽 차선을 막았습니다.",
    ),
    "th": (
        "ผู้ป่วยไอและมีไข้มาสามวันแล้ว",
        "ใบแจ้งหนี้ของฉันผิด กรุณาคืนเงินให้ด้วย",
        "สัญญาสิ้นสุดลงเมื่อฝ่ายหนึ่งไม่ชำระเงินเป็นเวลาสองเดือน",
        "เช้านี้รถบรรทุกขวางช่องทางขวาของสะพาน",
    ),
    "hi": (
        "मरीज़ को तीन दिन से खाँसी और बुखार है।",
        "मेरा बिल ग़लत है, कृपया पैसे वापस कर दीजिए।",
        "अगर एक पक्ष दो महीने तक भुगतान न करे तो अनुबंध समाप्त हो जाता है।",
        "आज सुबह एक ट्रक ने पुल की दाहिनी लेन रोक दी।",
    ),
}
"""The same four sentences in eleven languages (ISO 639-1)."""

SEEN = 0.02
"""Share of unknown tokens up to which a base reads a language."""
WORTH_A_WARNING = 0.02
"""Mean share of unknown tokens of some texts above which there is a warning."""
LONG = 2.0
"""Tokens for each token of the same text in English from which a language is read in small pieces."""


@dataclass(frozen=True)
class Reading:
    """How a tokenizer reads texts.

    lengths  tokens of each text, with those that the base expects around it
    unknown  for each text the share of its tokens that are [UNK], as the vocabulary does not have what is written
    control  how many texts have a control token written in them
    """

    lengths: tuple[int, ...]
    unknown: tuple[float, ...]
    control: int

    @property
    def unknown_share(self) -> float:
        """The mean over the texts; see `mean_share`."""
        return mean_share(self.unknown)

    @property
    def worst(self) -> int | None:
        """The position of the first text with the largest share of unknown tokens; None if nothing is unknown."""
        most = max(self.unknown, default=0.0)
        return self.unknown.index(most) if most else None


NOTHING_READ = Reading((), (), 0)


@dataclass(frozen=True)
class LanguageReading:
    """How a tokenizer reads the sentences of one language.

    unknown  the share of tokens that are [UNK]
    tokens   tokens for each token of the same sentences in English: far above 1, and the base reads letters or bytes, not words
    """

    unknown: float
    tokens: float


def read_texts(tokenizer: TextTokenizer, texts: Iterable[str]) -> Reading:
    """Encode texts and count. No weights are needed."""
    lengths, unknown, control = [], [], 0
    for text in texts:
        ids = tokenizer.encode(text).ids
        lengths.append(len(ids) + tokenizer.extra)
        unknown.append(tokenizer.count_unknown(ids) / max(1, len(ids)))
        control += tokenizer.count_control(text) > 0
    return Reading(tuple(lengths), tuple(unknown), control)


def mean_share(shares: Sequence[float]) -> float:
    """The mean over texts, so that a long text does not hide a short one; 0 without texts."""
    return round(sum(shares) / len(shares), 9) if shares else 0.0  # 18 times a fifth is not above a fifth


def fitting_length(lengths: Sequence[int], cut: float) -> int:
    """Find the shortest limit, a multiple of 8, that at most the share `cut` of the texts is longer than.

    lengths  tokens of each text, at least one text
    """
    longest_first = sorted(lengths, reverse=True)
    needed = longest_first[min(int(cut * len(lengths)), len(lengths) - 1)]
    return max(8, -(-needed // 8) * 8)


def share_above(lengths: Sequence[int], most: int) -> float:
    """The share of texts that are longer than `most`, rounded up to a hundredth."""
    over = sum(length > most for length in lengths)
    return -(-100 * over // max(1, len(lengths))) / 100


def read_languages(tokenizer: TextTokenizer) -> dict[str, LanguageReading]:
    """Measure how a tokenizer reads each language of SENTENCES."""
    found = {}
    english = 0
    for language, sentences in SENTENCES.items():  # English is the first
        ids = [number for sentence in sentences for number in tokenizer.encode(sentence).ids]
        english = english or len(ids)
        found[language] = LanguageReading(
            round(tokenizer.count_unknown(ids) / max(1, len(ids)), 3), round(len(ids) / max(1, english), 2)
        )
    return found


def group_languages(reads: Mapping[str, LanguageReading]) -> tuple[list[str], list[str], list[str]]:
    """Sort languages into those that a base reads, those that it reads in small pieces, and those that it does not know."""
    known = {language: item for language, item in reads.items() if item.unknown <= SEEN}
    return (
        [language for language, item in known.items() if item.tokens < LONG],
        [language for language, item in known.items() if item.tokens >= LONG],
        [language for language in reads if language not in known],
    )
