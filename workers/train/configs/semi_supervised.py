"""Options of SemiSupervisedTrainer."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from msgspec import Meta

from workers.nets.validation import Problem
from workers.train.configs.base import Natural, Positive, Rate, Share, TrainerOptions

NotNegative = Annotated[float, Meta(ge=0)]


class SemiSupervisedOptions(TrainerOptions, frozen=True):
    """What to do with rows that have no label.

    Attributes:
        method: fixmatch (Sohn et al., 2020), mean_teacher (Tarvainen and Valpola, 2017), pseudo_label (Lee,
            2013), or supervised, which leaves them alone and is what the others have to beat.
        augmentation: weak and strong changes of a row: digits, photos, words (token numbers), features (rows
            of numbers, such as embeddings), or none.
        unlabelled_ratio: rows without a label for each labelled one in a batch.
        lambda_u: weight of what the unlabelled rows say.
        ramp, ramp_steps: how that weight grows from nothing, and in how many steps.
        threshold: how sure a guess has to be before it is learnt from. Not for mean_teacher.
        temperature: sharpens guesses before the threshold, below 1.
        align: correct guesses by how frequent classes are among the labels (Berthelot et al., 2020).
        consistency: the distance of student and teacher.
        student_view, teacher_view: the changes that mean_teacher shows to each.
        word_dropout: share of words that a weak and a strong change replace by ``unknown_word``.
        feature_noise: standard deviation of what they add to a number, in units of the column's own.
        ema: as in every trainer, but on by default; the teacher of mean_teacher is this average.
    """

    method: Literal["fixmatch", "mean_teacher", "pseudo_label", "supervised"] = "fixmatch"
    augmentation: Literal["digits", "photos", "words", "features", "none"] = "digits"
    unlabelled_ratio: Positive = 7
    lambda_u: NotNegative = 1.0
    ramp: Literal["sigmoid", "linear"] = "linear"
    ramp_steps: Natural = 0
    threshold: Share = 0.95
    temperature: Rate = 1.0
    align: bool = False
    consistency: Literal["mse", "kl"] = "mse"
    student_view: Literal["weak", "strong"] = "weak"
    teacher_view: Literal["weak", "strong"] = "weak"
    word_dropout: tuple[Share, Share] = (0.1, 0.4)
    unknown_word: Natural = 1
    feature_noise: tuple[NotNegative, NotNegative] = (0.1, 0.5)
    ema: Share | dict[str, Share] | None = 0.99

    def problems(self) -> Iterator[Problem]:
        """What contradicts itself."""
        guesses = self.method in {"fixmatch", "pseudo_label"}
        if self.method == "mean_teacher" and _decay(self.ema) is None:
            yield Problem(("ema",), "is the teacher's decay: mean_teacher needs one")
        if self.method == "fixmatch" and self.augmentation == "none":
            yield Problem(("augmentation",), "is what fixmatch learns from")
        if self.align and not guesses:
            yield Problem(("align",), f"has no meaning for {self.method}")
        if self.temperature != 1 and not guesses:
            yield Problem(("temperature",), f"has no meaning for {self.method}")
        if self.ramp_steps and self.method == "supervised":
            yield Problem(("ramp_steps",), "has no meaning for supervised")
        if self.method != "mean_teacher" and (self.student_view, self.teacher_view) != ("weak", "weak"):
            yield Problem(("student_view",), f"has no meaning for {self.method}")
        for name in ("word_dropout", "feature_noise"):
            weak, strong = getattr(self, name)
            if weak > strong:
                yield Problem((name,), "is a weak and a strong level, in this order")


def _decay(ema: float | Mapping[str, float] | None) -> float | None:
    return ema.get("main") if isinstance(ema, Mapping) else ema
