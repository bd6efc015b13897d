"""How a causal model chooses among label words: the likelihood of each, read off a tree of their tokens.

Only the first words of a label that distinguish it from the others are compared. Usually all labels differ in their first token,
and one pass over the prompt is enough. Otherwise each inner node of the tree is one more token after the prompt, which sees only
the prompt and its own ancestors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vertical_sdk.errors import RecipeError
from vertical_sdk.kernels.packing import Tail

__all__ = ["Choices", "locate_nodes", "plan_choices", "tree_inputs"]


@dataclass(frozen=True)
class Choices:
    """The tree. Node 0 is the prompt's end; nodes 1, 2, ... are tokens that more than one label begins with.

    tokens   token of each node but the first
    parents  parent of each node but the first
    depths   1 for a child of the prompt's end
    edges    label → its steps (node, token); the likelihood of a label is the product over its steps
    """

    tokens: tuple[int, ...]
    parents: tuple[int, ...]
    depths: tuple[int, ...]
    edges: tuple[tuple[tuple[int, int], ...], ...]

    @property
    def tail(self) -> Tail:
        """The tree as packed rows have it."""
        return Tail(self.parents, self.depths)

    def scores(self, logits: Tensor) -> Tensor:
        """Log-likelihood of each label, up to what all labels share.

        logits   (batch, 1 + nodes, vocabulary)  next-token logits at each node
        returns  (batch, labels)
        """
        if not self.tokens:
            return logits[:, 0, [steps[0][1] for steps in self.edges]]
        logp = logits.log_softmax(-1)
        return torch.stack(
            [sum((logp[:, node, token] for node, token in steps), logp.new_zeros(())) for steps in self.edges], dim=1
        )


def plan_choices(words: Sequence[str], sequences: Sequence[Sequence[int]], end: int) -> Choices:
    """Build the tree for label words.

    words      what is answered for each label, for messages
    sequences  their token ids
    end        the token that ends an answer; it tells a word from a longer one that begins with it

    Raises RecipeError if two labels have the same words.
    """
    whole = [(*sequence, end) for sequence in sequences]
    for number, sequence in enumerate(whole):
        if sequence in whole[:number]:
            raise RecipeError(f"labels: two labels are answered with {words[number]!r}; give each label its own words.")
    needed = []
    for sequence in whole:
        length = next(n for n in range(1, len(sequence) + 1) if sum(other[:n] == sequence[:n] for other in whole) == 1)
        needed.append(sequence[:length])
    inner = sorted({sequence[:n] for sequence in needed for n in range(1, len(sequence))}, key=lambda path: (len(path), path))
    node = {(): 0} | {path: number for number, path in enumerate(inner, 1)}
    return Choices(
        tokens=tuple(path[-1] for path in inner),
        parents=tuple(node[path[:-1]] for path in inner),
        depths=tuple(len(path) for path in inner),
        edges=tuple(tuple((node[s[:n]], s[n]) for n in range(len(s))) for s in needed),
    )


def locate_nodes(choices: Choices, mask: Tensor) -> Tensor:
    """Return the positions of each node's next-token logits, the prompt's last token first: (batch, 1 + nodes).

    mask  (batch, length)  1 for the prompts' tokens
    """
    nodes = mask.shape[1] + torch.arange(len(choices.tokens), device=mask.device)
    return torch.cat([mask.sum(1)[:, None] - 1, nodes.expand(len(mask), -1)], dim=1)


def tree_inputs(choices: Choices, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Append the tree to each prompt.

    ids, mask  (batch, length)  prompts padded on the right
    returns    ids (batch, length + nodes); attention (batch, 1, n, n), 0 where a token sees another and -inf elsewhere;
               positions (batch, n)
    """
    batch, length = ids.shape
    extra = len(choices.tokens)
    size = length + extra
    lengths = mask.sum(1)
    tokens = torch.tensor(choices.tokens, device=ids.device)
    depths = torch.tensor(choices.depths, device=ids.device)
    sees = torch.zeros(batch, size, size, dtype=torch.bool, device=ids.device)
    sees[:, :length, :length] = torch.tril(torch.ones(length, length, dtype=torch.bool, device=ids.device))
    sees[:, :, :length] &= mask.bool()[:, None, :]
    sees[:, length:, :length] = mask.bool()[:, None, :]
    for number in range(extra):
        sees[:, length + number, length + number] = True
        parent = choices.parents[number]
        if parent:
            sees[:, length + number, length:] |= sees[:, length + parent - 1, length:]
    rows = torch.arange(size, device=ids.device)
    sees[:, rows, rows] = True  # a padding token sees itself, so that no row of the softmax is empty
    attention = torch.zeros(batch, 1, size, size, device=ids.device).masked_fill(~sees[:, None], torch.finfo(torch.float32).min)
    positions = torch.cat([torch.arange(length, device=ids.device).expand(batch, -1), lengths[:, None] - 1 + depths], dim=1)
    return torch.cat([ids, tokens.expand(batch, -1)], dim=1), attention, positions
