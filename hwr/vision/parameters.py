"""The numbers by which a photograph is read one way or another, in one place.

Lengths are shares of something that the photograph itself tells: its sides, the height of its
digits, the width of its strokes. What is counted in pixels belongs to the working image, whose
size is chosen here, and says why. Where a comment names no whole, it is a share of 1.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """How a photograph is read. The defaults read photographs of all kinds: see `hwr.evaluate`."""

    # the working image
    longest: int = 1400  # pixels of its longer side
    finest: int = 2800  # the same where the digits are small
    smallest_text: int = 22  # pixels: height of digits below which the finer image is taken
    enlarge: float = 4.0  # at most, of a small photograph
    fewest: int = 50  # pixels, to take a median or a threshold of
    most: int = 200_000  # pixels; of more, every so many are looked at

    # frame: paper put around a picture, as around one that holds hardly more than a digit
    frame: float = 0.0  # of its longer side
    frame_few: float = 1.0  # the same where fewer digits than `supported` are read without
    frame_smooth: float = 0.33  # of its shorter side, for its paper's colour: wider than strokes

    # halftone: a picture of black and white dots
    dots: float = (
        0.01  # of its pixels that are unlike all four around them: no scan of ink has more
    )
    dot: float = 1.4  # pixels, sigma of the Gaussian that makes greys of dots a pixel wide

    # page: a sheet on a desk, sought in a thumbnail
    page: bool = True  # whether it is sought
    page_thumbnail: int = 300  # pixels of its longer side: pages are large
    page_levels: int = 18  # of brightness that are tried
    page_edges: tuple[int, int] = (25, 60)  # Canny's thresholds: faint edges join strong ones
    page_closing: float = 0.03  # of the thumbnail's longer side: wider than any stroke
    page_opening: float = 0.017  # the same: narrower bridges to what is as bright are cut
    page_rim: float = 0.024  # the same: how far inside and outside its outline it is judged
    page_border: float = 0.017  # the same: where the photograph itself ends
    page_smallest: float = 0.06  # area, of the photograph
    page_largest: float = 0.985
    page_contrast: float = 0.25  # of sheet and desk, relative to the sheet
    page_solid: float = 0.88  # area of its hull that a page fills
    page_step: float = 0.22  # change of brightness across a sharp edge, of the brighter side
    page_outline: float = 0.15  # seen of its outline at least, of half the photograph's
    page_whole: float = 0.5  # the same, from which more makes it no likelier
    page_larger: float = 0.5  # power of the area in the score
    page_outside: float = 0.02  # of the outline may lie at the photograph's end, as far from it
    page_corners: float = 0.06  # of the hull's area: what four corners may miss
    page_inside: float = 0.008  # of the sheet's size: what is cut off with its edges

    # ink
    background: float = 1 / 12  # kernel, of the shorter side: wider than any stroke
    smooth: float = 0.7  # pixels, sigma of the Gaussian: grain is a pixel wide at any size
    darkest_paper: int = 24  # grey level below which a ratio to the background says nothing
    darkest_board: int = 60  # the same of light strokes on dark
    colour: float = 1.15  # times as clear as grey that a single colour must be
    full_ink: float = 99.3  # percentile of the page's darkness
    least_noise: float = 0.004  # of the paper: a drawn page has none

    # threshold
    threshold: str = "hysteresis"  # or "otsu", "adaptive", "sauvola"
    noise: float = 5.0  # standard deviations above the paper that ink must be
    noise_block: float = 0.05  # of the shorter side: the place that a noise is measured of
    noise_pixels: int = 16  # pixels: side of such a block at least, or its median says little
    near: float = 0.0065  # of the longer side: Otsu's threshold is taken this far around ink
    faintest: float = 0.07  # darkness, as a share of the background, that may be ink
    hysteresis: float = 0.5  # of the threshold: as faint as a stroke may get
    fainter: float = 0.7  # of the noise and of `faintest`: the same
    surer: float = 1.2  # times the place's noise that a component must pass once
    window: float = 0.049  # of the shorter side, of the adaptive rules offered for comparison
    below_mean: float = 0.06  # darker than the neighbourhood, of full range: "adaptive"
    sauvola: float = 0.2  # k of Sauvola's rule
    sauvola_range: float = 0.25  # R, the largest standard deviation, of full range

    # ruling
    ruling: float = 0.6  # length of a ruling line, of the page's side: no digit is as long
    ruled_part: float = 0.25  # the same of a line in a table or a form
    slender: float = 50.0  # its length, of its thickness: no stroke is as straight
    ruling_slant_deg: int = 6  # at most, after the page was found; each degree is tried
    ruling_piece: float = 0.12  # of the page's side: the length that is sought at each slant
    ruling_least: float = 0.017  # the same of the longer side; also of a rung
    ruling_filled: float = 0.85  # of a piece that is ink: strokes hide a line, or it fades
    ruling_own: float = 0.5  # of a seventh of a piece: between the lines of squared paper is less
    ruling_bridge: float = 0.3  # of a piece: gaps between the pieces of one line
    ruling_thick: float = 0.18  # of a piece: no ruling line is thicker
    ruling_covered: float = 0.7  # of a line's length: the bars of several 7s leave gaps
    ruling_bends: int = 5  # degree of the polynomial that a line follows
    ruling_followed: float = 0.7  # of its pixels are near it
    ruling_reaches: tuple[float, ...] = (1.0, 0.6, 0.6)  # thicknesses from its course, fit by fit
    ruling_crossing: float = 1.7  # thicknesses: a longer run across the line is a stroke's
    ruling_full: int = 90  # percentile of a line's darkness: its middle, not its soft edges
    ruling_lighter: float = 0.8  # of the pen's darkness: below it darkness parts line and stroke
    ruling_darker: float = 0.4  # of the way from a line's darkness to the pen's: here it does
    rung_upright: float = 4.0  # height over width of a line between two others
    rung_alike: float = 0.06  # of slopes: rungs of one form are parallel
    least_rungs: int = 4
    frame_filled: float = 0.3  # of a frame's height: what stands in it is no speck
    frame_corners: float = 0.88  # area within it, of the rectangle around it; a 0 fills less

    # components
    margin: float = 0.02  # of the longer side: what lies in it is the page's edge
    edge_touched: float = 0.12  # of a component's size, at the page's edge: it belongs there
    edge_long: float = 0.25  # of the longer side: the same of a component that touches it at all
    edge_corner: float = 0.1  # of the page's area: smaller in a corner, it belongs there
    as_high: float = 0.92  # of the page: no digit
    as_wide: float = 0.97
    least_side: float = 0.00175  # of the longer side: a square as small is not looked at
    pen: float = 0.7  # of the ink is fainter than full ink
    speck: float = 0.12  # length, of the text height
    speck_strokes: float = 1.2  # the same, in stroke widths
    patchy: float = 0.25  # of the squared stroke width: the least area of a mark
    faint: float = 0.4  # darkness, of the page's ink: bleed-through, shadows
    smudge: float = 3.2  # thickness, of the page's stroke width
    blot: float = 0.35  # thickness, of the longer side, from which a mark may be a smudge
    most_components: int = 800

    # lines, in text heights if nothing else is said
    overlap: float = 0.45  # of heights, for two digits to stand in one line
    small: float = 0.42  # height below which no digit begins a line
    smallest: float = 0.22  # height of a zero or a stroke that still counts
    ahead: int = 3  # members at a line's end that the next one is compared with
    far: float = 2.5  # the widest gap between neighbours
    gap_cost: float = 0.15  # of a gap: as bad as being so much too high or low
    same_line: float = 0.3  # between the middles of two pieces of one line
    beside: float = 0.35  # between a small stroke and the digit it belongs to
    above: float = 0.2  # a line's digits, where a small mark may still stand in it
    below: float = 0.3
    skew_deg: float = 3.0  # above it the pixels are turned
    skew_times: int = 2  # that they are turned at most, the second time by what is left
    skew_search_deg: float = 8.0  # around the neighbours' slant
    skew_step_deg: float = 0.5
    skew_row: float = 1 / 12  # of the profile
    skew_high: float = 0.4  # of components whose neighbours tell the slant
    skew_counted: float = 0.3  # of components in the profile
    skew_fewest: int = 6  # of them, or the neighbours decide

    # where components may be cut, in line heights if nothing else is said
    cuts: bool = True  # of components that may be several digits
    cut_slants: tuple[float, ...] = (-0.6, -0.45, -0.3, -0.15, 0.0, 0.15, 0.3, 0.45, 0.6)
    cut_ink: float = 2.6  # stroke widths: as much ink as a cut may cross
    cut_ink_high: float = 0.04  # and of the component's height
    cut_slant_cost: float = 0.5  # stroke widths that a slant of 45 degrees is as bad as
    cut_from_side: float = 0.12  # no cut nearer to the side of a component
    cut_apart: float = 0.14  # between cuts
    cut_narrow: float = 0.5  # what is narrower is not cut
    cuts_per_width: int = 4  # at most, for a component as wide as the line is high

    # digits
    normalise: str = "mnist"  # or "stretch", "box", for comparison
    box_faint: float = 0.12  # of the strongest ink: a fainter pixel does not widen the box
    stroke_px: tuple[float, float] = (1.2, 3.5)  # widths in the 20-pixel box that are left alone
    tone: tuple[float, float] = (0.2, 0.9)  # of full ink: what becomes black, and what white
    pieces: int = 6  # at most, in one digit
    widest: float = 1.35  # width of a digit, of its height
    gap: float = 0.22  # between the strokes of one digit, of the line's height

    # what readings of a line cost, in nats if nothing else is said
    usual_length: float = 2.2  # line heights: the strokes of one digit
    most_surprise: float = 6.0
    digit_cost: float = 0.06  # fewer digits, if nothing else decides
    cut_cost: float = 1.0  # a letter is soon cut into ones
    cut_one_cost: float = 1.0  # the stem of a letter, cut off, looks like a 1
    skip_cost: float = 2.3  # for refusing a stroke as long as a digit's
    least_skip: float = 0.02  # for refusing however little
    wide_cost: float = 0.8  # for a digit wider than high
    wide_from: float = 0.95  # width over height
    low_cost: float = 0.5  # for a low digit
    low_from: float = 0.55  # line heights
    overlap_cost: float = 0.3  # for digits, cut from one component, one before the other
    overlap_from: float = 0.4  # of the narrower one's width
    stack_cost: float = 0.3  # for one above the other
    stack_from: float = 0.35  # of the lower one's height that they share
    unread: float = -3.0  # log probability that refused ink counts with in a line's score

    # orientation, in nats if nothing else is said
    orient: bool = True  # try the four quarter turns
    orient_sample: int = 60  # components that are read in all four ways
    orient_worst: float = -3.0  # log probability below which a component says no more
    orient_close: float = 0.45  # this near to the best, a page is read in full
    upright: float = 0.08  # in favour of a page as it was taken
    upright_few: float = 0.5  # the same, of a page with one digit; half of it with two
    upright_most: float = 0.3
    upside_down: float = -0.05
    level: float = 0.06  # in favour of levelled lines

    # refusal
    least: float = 0.40  # calibrated probability of a digit among others
    least_alone: float = 0.75  # of a line that is one digit, on a page without others
    low_alone: float = 0.5  # height of such a digit, of the page's
    sure: float = 0.9  # from it a digit speaks for those around it
    supported: int = 4  # so many sure digits on the page make a lone one likelier
    plenty: int = 8  # so many sure digits, 1s not counted, are no stains however faint they are
    plenty_part: float = 0.5  # and at least so many of all
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
