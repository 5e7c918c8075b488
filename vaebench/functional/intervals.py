"""Intervals at 95%: Student's for means, Wilson's for proportions, Newcombe's for areas under a ROC curve. No torch."""

LEVEL = 0.95
EDGE = 1e-12  # an area of 0 or 1 is itself a root


def quantile(df: float | None = None, level: float = LEVEL) -> float:
    """The half-width, in standard errors, of a two-sided interval: Student's with `df`, the normal one without."""
    from scipy.special import ndtri, stdtrit  # its import takes longer than a board's

    part = 0.5 + level / 2
    return float(ndtri(part) if df is None else stdtrit(df, part))


def p_value(difference: float, stderr: float, df: float | None = None) -> float:
    """How probable a difference of at least this size is where there is none: two-sided, Student's with `df`.

    1 for no difference; 0 for one without a standard error.
    """
    from scipy.special import ndtr, stdtr

    if difference == 0 or stderr == 0:
        return float(difference == 0)
    size = -abs(difference) / stderr
    return float(2 * (ndtr(size) if df is None else stdtr(df, size)))


def student(value: float, stderr: float, df: float | None = None) -> tuple[float, float]:
    """value -+ t stderr, t of `quantile`: (low, high). Source: Student 1908."""
    half = quantile(df) * stderr
    return value - half, value + half


def joined(*parts: tuple[float, float | None]) -> tuple[float, float | None]:
    """The standard error of a sum or difference of independent means, each (stderr, df), and its degrees of freedom.

    df = (sum s_i^2)^2 / sum (s_i^4 / df_i); None where nothing but normal parts have an error.
    Source: Welch 1947; Satterthwaite 1946.
    """
    total = sum(stderr**2 for stderr, _ in parts)
    largest = max((stderr for stderr, _ in parts), default=0.0)
    if largest == 0:
        return 0.0, None
    # relative to the largest: fourth powers of small errors would underflow
    spread = sum((stderr / largest) ** 4 / df for stderr, df in parts if df is not None)
    return total**0.5, (total / largest**2) ** 2 / spread if spread else None


def wilson(part: float, n: float, z: float | None = None) -> tuple[float, float]:
    """The interval of a proportion `part` seen in `n` trials: (low, high), within [0, 1].

    (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n). It has a width where p is 0 or 1, and holds p.
    Source: Wilson 1927; Brown, Cai & DasGupta 2001, equation 4.
    """
    z = quantile() if z is None else z
    centre = part + z**2 / (2 * n)
    half = z * (part * (1 - part) / n + z**2 / (4 * n**2)) ** 0.5
    low, high = (centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)
    return min(part, max(0.0, low)), max(part, min(1.0, high))  # at 0 and 1, but for rounding


def proportion(part: float, stderr: float | None, n: int) -> tuple[float, float]:
    """`wilson` of the mean `part` of `n` numbers in [0, 1] with this standard error: (low, high).

    The trials are those of which a proportion has this error, p (1 - p) / stderr^2: n - 1 where the numbers are 0 or 1,
    more where each is a mean of several such. They are `n` where all numbers are 0, or all 1.
    Source: Korn & Graubard 1998 for the effective number of trials.
    """
    spread = part * (1 - part)
    return wilson(part, max(1.0, spread / stderr**2) if stderr and spread > 0 else n)


def trained(part: float, n: int, spread: float) -> tuple[float, float]:
    """`wilson` of a mean accuracy over `n` test examples after several trainings, whose mean has the variance `spread`.

    The trials are those of which a proportion has the variance p (1 - p) / n + spread. (low, high).
    """
    alone = part * (1 - part) / n
    return wilson(part, max(1.0, n * alone / (alone + spread)) if alone > 0 else n)


def resampled(part: float, stderr: float, n: int) -> tuple[float, float]:
    """The interval of a rate in [0, 1] with a bootstrap error, of which `n` examples are counted: (low, high).

    It holds both value -+ 1.96 stderr and `wilson`: the one is of no width where no resample differs, the other knows
    nothing of what else was drawn, as the threshold at which is counted.
    """
    both = student(part, stderr), wilson(part, n)
    return max(0.0, min(low for low, _ in both)), min(1.0, max(high for _, high in both))


def newcombe(area: float, m: int, n: int) -> tuple[float, float]:
    """The interval of an area under a ROC curve, of `m` positive and `n` negative examples: (low, high), in [0, 1].

    The theta of which `area` lies z standard errors away, V(theta) = theta (1 - theta) (1 + N (1 - theta) / (2 - theta)
    + N theta / (1 + theta)) / (m n) with N = (m + n) / 2 - 1. It has a width where the area is 0 or 1, and holds it.
    Source: Newcombe 2006 (Confidence intervals for an effect size measure based on the Mann-Whitney statistic, part 2),
    method 5; Hanley & McNeil 1982 for the variance.
    """
    from scipy.optimize import brentq

    z, many = quantile(), (m + n) / 2 - 1

    def excess(theta: float) -> float:
        share = 1 + many * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return float((area - theta) ** 2 - z**2 * theta * (1 - theta) * share / (m * n))

    low = 0.0 if area <= 0 else float(brentq(excess, 0.0, min(area, 1 - EDGE)))
    high = 1.0 if area >= 1 else float(brentq(excess, max(area, EDGE), 1.0))
    return low, high


def detection(area: float, ood: int, total: int) -> tuple[float, float]:
    """The interval of an area under a cleaning curve, with `ood` of `total` examples to be found: (low, high).

    The area is linear in that under the ROC curve (`influence.detection_area`), whose interval is `newcombe`.
    """
    good = total - ood
    best = 1 - (ood - 1) / (2 * total)
    roc = min(1.0, max(0.0, 1 - (best - area) * total / good))
    low, high = (best - (1 - end) * good / total for end in newcombe(roc, ood, good))
    return min(low, area), max(high, area)
