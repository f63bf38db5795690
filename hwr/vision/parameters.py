"""The numbers by which a photograph is read one way or another, in one place.

Lengths are shares of something that the photograph itself tells: its sides, the height of its
digits, the width of its strokes. What shapes a single step, such as the width of a window in which
it looks, stands with a name at the head of that step's file.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """How a photograph is read. The defaults read photographs of all kinds: see `hwr.evaluate`."""

    # sizes, in pixels
    longest: int = 1400  # side of the working image
    finest: int = 2800  # the same where the digits are small
    smallest_text: int = 22  # height of digits below which the finer image is taken
    enlarge: float = 4.0  # at most, of a small photograph

    # page
    page: bool = True  # look for a sheet on a desk
    page_contrast: float = 0.25  # of sheet and desk, relative to the sheet

    # ink
    background: float = 1 / 12  # kernel, of the shorter side: wider than any stroke
    threshold: str = "hysteresis"  # or "otsu", "adaptive", "sauvola"
    noise: float = 5.0  # standard deviations above the paper that ink must be
    faintest: float = 0.07  # darkness, as a share of the background, that may be ink
    hysteresis: float = 0.5  # of the threshold: as faint as a stroke may get
    ruling: float = 0.6  # length of a ruling line, of the page's side: no digit is as long
    ruled_part: float = 0.25  # the same of a line in a table or a form
    slender: float = 50.0  # its length, of its thickness: no stroke is as straight

    # components
    margin: float = 0.02  # of the longer side: what lies in it is the page's edge
    speck: float = 0.12  # length, of the text height
    faint: float = 0.4  # darkness, of the page's ink: bleed-through, shadows
    smudge: float = 3.2  # thickness, of the page's stroke width
    most_components: int = 800

    # lines
    overlap: float = 0.45  # of heights, for two digits to stand in one line
    small: float = 0.42  # height, of the text height: below it no digit begins a line
    smallest: float = 0.22  # height of a zero or a stroke that still counts
    skew_deg: float = 3.0  # above it the pixels are turned

    # digits
    normalise: str = "mnist"  # or "stretch", "box", for comparison
    pieces: int = 6  # at most, in one digit
    cuts: bool = True  # of components that may be several digits
    widest: float = 1.35  # width of a digit, of its height
    gap: float = 0.22  # between the strokes of one digit, of the line's height
    digit_cost: float = 0.06  # nats: fewer digits, if nothing else decides
    cut_cost: float = 1.0  # a letter is soon cut into ones
    cut_one_cost: float = 1.0  # the stem of a letter, cut off, looks like a 1
    skip_cost: float = 2.3  # for refusing a stroke as long as a digit's
    wide_cost: float = 0.8  # for a digit wider than high
    orient: bool = True  # try the four quarter turns

    # refusal
    least: float = 0.40  # calibrated probability of a digit among others
    least_alone: float = 0.75  # of a line that is one digit, on a page without others
    sure: float = 0.9  # from it a digit speaks for those around it
    supported: int = 4  # so many sure digits on the page make a lone one likelier
    plenty: int = 8  # so many sure digits, 1s not counted, are no stains however faint they are
    least_line: float = 0.55  # mean of a line
    dark: float = 0.2  # darkness from which a page of ones alone, or a doubtful one, is believed
    clear: float = 10.0  # standard deviations of the paper's noise: the same
    strokes: float = 0.7  # of the digits: on a faint page with so many ones, all are strokes
    most_strokes: int = 12  # as many ones alone are believed
    line_score: float = -0.7  # mean log probability over the ink of a line
    page_score: float = -0.3  # of a page; below it clear lines are believed; if turned, nothing
    clear_line: float = -0.15
    few_score: float = -0.2  # of a page on which fewer digits than `supported` are sure
    word_gap: float = 0.6  # of the digits' height: wider, it parts a number from a word
    least_word: int = 2  # digits of a number that is believed in a line with words
    least_words: int = 3  # of all of them on the page
    unsure: float = 0.8  # below it a digit is marked
