"""What is believed of what was read: by page, line and word."""

import numpy as np

from hwr.vision.candidates import Candidate
from hwr.vision.classifier import DIGITS
from hwr.vision.components import Component
from hwr.vision.decode import Digit, Reading
from hwr.vision.parameters import Parameters
from hwr.vision.refusal import Doubt, accepted, as_reading, words_of

P = Parameters()
IMAGE = np.zeros((28, 28), np.uint8)


def mark(x: int, dark: float = 0.6) -> Component:
    return Component(x, 0, 30, 50, np.ones((50, 30), bool), 5.0, 6.0, dark, dark)


def digit(x: int, label: int, probability: float = 0.99, dark: float = 0.6) -> Digit:
    scores = np.full(DIGITS + 1, np.log((1 - probability) / DIGITS), np.float32)
    scores[label] = np.log(probability)
    return Digit(Candidate(0, 1, (mark(x, dark),), IMAGE), label, probability, scores)


def read(lines: list[Reading], score: float, angle_deg: float = 0.0) -> list[str]:
    doubt = Doubt.of(lines, score, angle_deg, P)
    kept, refused = accepted(lines, doubt, 0.01, P)
    marks = sum(len(line.digits) + len(line.refused) for line in lines)
    assert sum(map(len, kept)) + len(refused) == marks, "each mark is read or refused"
    return ["".join(str(d.label) for d in line) for line in kept]


def word(x: int, letters: int) -> list[Component]:
    return [mark(x + 35 * i) for i in range(letters)]


def test_a_number_beside_a_word_is_read() -> None:
    line = as_reading([*word(0, 4), digit(220, 4), digit(255, 6), digit(290, 7)], P)
    assert [len(part.digits) for part in words_of(line, P)] == [0, 3]
    assert read([line], line.score) == ["467"]


def test_letters_that_look_like_digits_are_refused() -> None:
    within = as_reading([*word(0, 2), digit(70, 1), digit(105, 0), digit(140, 1), *word(175, 2)], P)
    pair = as_reading([*word(0, 4), digit(220, 1), digit(255, 0)], P)
    doubtful = as_reading([*word(0, 4), *(digit(220 + 35 * i, 4, 0.6) for i in range(3))], P)
    for line in (within, pair, doubtful):
        assert read([line], line.score) == []


def test_who_turns_a_page_must_be_able_to_read_it() -> None:
    line = as_reading([*word(0, 4), *(digit(220 + 35 * i, 2 + i) for i in range(5))], P)
    assert read([line], line.score) == ["23456"]
    assert read([line], line.score, angle_deg=180) == []


def test_faint_digits_are_believed_if_they_are_many() -> None:
    def page(count: int, label: int) -> list[Reading]:
        return [as_reading([digit(35 * i, label, dark=0.15) for i in range(count)], P)]

    assert read(page(9, 5), -0.21) == ["555555555"]
    assert read(page(4, 5), -0.21) == []
    assert read(page(9, 1), -0.21) == [], "folds"


def test_single_digits_on_an_unreadable_page_are_dirt() -> None:
    blots = Reading([], word(0, 9), -3.0, 9.0)
    alone = [as_reading([digit(0, 1)], P) for _ in range(5)]
    assert read([blots, *alone], -1.4) == []
    assert read(alone, -0.01) == ["1"] * 5
