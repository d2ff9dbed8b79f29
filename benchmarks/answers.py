"""Summarise the rows of the GPU benchmark: answer its questions."""

from collections.abc import Iterator, Sequence

from benchmarks.contest import CUDNN, KERNEL, LOOP, TORCH, Case, Result

Ratios = list[tuple[float | None, Case]]


def answers(results: Sequence[Result]) -> Iterator[str]:
    """Yield a line per question, then the rows in which our kernel is faster and slower."""
    further = [
        (result.ratio(LOOP, KERNEL, CUDNN), result.case)
        for result in results
        if not result.case.plain
        and result.case.shape.batch >= 64
        and 64 <= result.case.shape.hidden <= 256
    ]
    plain = [
        (result.ratio(TORCH, KERNEL, CUDNN), result.case) for result in results if result.case.plain
    ]
    ragged = [(ratio, case) for ratio, case in plain if case.shape.lengths is not None]
    yield verdict(
        "Layer-norm, peephole and zoneout LSTMs at H 64 to 256 and B of at least 64: 10 times "
        "as fast as the Python loop?",
        further,
        10,
    )
    yield verdict(
        "Ragged batches of IMDB's lengths: 2 times as fast as torch.nn with packing?", ragged, 2
    )
    yield verdict(
        "Plain cells on the faster of our two backends: at most 10% slower than torch.nn in every "
        "row?",
        plain,
        1 / 1.1,
    )
    yield from duels(
        [(result.ratio(TORCH, KERNEL), result.case) for result in results if result.case.plain]
    )


def verdict(question: str, ratios: Ratios, bound: float) -> str:
    """Return yes if all rows reach the bound, no if one does not, with the smallest ratio."""
    known = [(ratio, case) for ratio, case in ratios if ratio is not None]
    missing = len(ratios) - len(known)
    if not known:
        return f"- {question} **Unknown**: none of {len(ratios)} rows could be compared."
    worst, where = min(known, key=lambda pair: pair[0])
    word = "No" if worst < bound else "Unknown" if missing else "Yes"
    line = f"- {question} **{word}**: over {len(known)} rows the smallest ratio is {worst:.2f}"
    return f"{line} ({where})" + (f"; {missing} rows could not be compared." if missing else ".")


def duels(ratios: Ratios) -> Iterator[str]:
    """Yield, by kind, the sizes at which our kernel is faster than torch.nn, and the others."""
    known = [(ratio, case) for ratio, case in ratios if ratio is not None]
    won = sum(ratio > 1 for ratio, _ in known)
    yield f"- Our kernel is faster than torch.nn in {won} of {len(known)} rows:"
    for kind in dict.fromkeys(case.kind for _, case in known):
        own = [(ratio, case.shape) for ratio, case in known if case.kind == kind]
        for word, some in (
            ("faster", [pair for pair in own if pair[0] > 1]),
            ("slower", [pair for pair in own if pair[0] <= 1]),
        ):
            if some:
                sizes = [f"T={s.steps} B={s.batch} H={s.hidden} ({r:.2f})" for r, s in some]
                yield f"  - {kind}: {word} at {', '.join(sizes)}."
