"""The adaptive softmax of a language model in C (`torch.nn.AdaptiveLogSoftmaxWithLoss`)."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from seqcells.lab.export.c.products import Arrays, Product, multiply_add, product_of


class Cluster(NamedTuple):
    """Rare words, from number `first` on: one product reduces the features, one gives logits."""

    first: int
    reduce: Product
    logits: Product


def clusters_of(
    softmax: nn.AdaptiveLogSoftmaxWithLoss, arrays: Arrays, block: int
) -> list[Cluster]:
    """Add the weights of the clusters, and return their products."""
    return [
        Cluster(
            first,
            product_of(tail[0].weight, f"cluster{number}_reduce", arrays, block),
            product_of(tail[1].weight, f"cluster{number}_logits", arrays, block),
        )
        for number, (first, tail) in enumerate(zip(softmax.cutoffs, softmax.tail))
    ]


def log_probabilities(head: Product, clusters: list[Cluster], features: str) -> list[str]:
    """Return the statements that write the log-probabilities of all words to `output`.

    The head gives those of the frequent words and of the clusters.
    """
    frequent = clusters[0].first
    lines = [
        f"float most[{head.rows}];",
        "memcpy(most, weights->head_bias, sizeof most);",
        *multiply_add(head, "most", features),
        f"@_log_softmax(most, {head.rows}, 0.0f);",
        f"memcpy(output, most, {frequent} * sizeof *output);",
    ]
    for number, (first, reduce, logits) in enumerate(clusters):
        reduced, count = f"reduced{number}", logits.rows
        lines += [
            f"float {reduced}[{reduce.rows}] = {{0.0f}};",
            *multiply_add(reduce, reduced, features),
            f"for (int n = 0; n < {count}; ++n) output[{first} + n] = 0.0f;",
            *multiply_add(logits, f"(output + {first})", reduced),
            f"@_log_softmax(output + {first}, {count}, most[{frequent + number}]);",
        ]
    return lines
