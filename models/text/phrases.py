"""Phrases of texts in, logits out: a linear member beside the networks that reads which runs of tokens occur.

What single words and short phrases tell of a text is told by a linear model from few documents; a recurrent network
learns what hangs on order and distance. Both are members of one ensemble. The phrases are those that enough groups'
texts hold, so that none that few people alone have reaches the artifact.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.batch import Chunk
from models.errors import ConfigError
from models.state import State
from models.stay import Floats, Ints
from models.streaming import StreamingNetwork

_BITS = 63


@dataclass(frozen=True)
class PhrasesConfig:
    """Choices for the linear member.

    Args:
        longest: tokens of the longest phrase.
        min_groups: distinct groups whose texts must hold a phrase for it to enter.
        strength: inverse strength of its regularisation, as of scikit-learn's `C`.
        most: phrases that are kept at most, the commonest first.
        refit: whether it is fitted once more on everything that is not held out, after the validation part has
            said how much it weighs and the calibration part how sure the members are: where documents are few,
            those of the two parts are worth more as examples.
    """

    longest: int = 1
    min_groups: int = 5
    strength: float = 10.0
    most: int = 200_000
    refit: bool = True

    def __post_init__(self) -> None:
        """Refuses numbers without meaning."""
        for name in ("longest", "min_groups", "most"):
            if getattr(self, name) < 1:
                raise ConfigError(f"phrases.{name} must be at least 1, got {getattr(self, name)}; raise the number")
        if self.strength <= 0:
            raise ConfigError(f"phrases.strength must be above 0, got {self.strength}; raise the number")


def phrase_keys(ids: Ints, longest: int, vocabulary_size: int) -> list[Ints]:
    """For every length from 1 to `longest` the keys of the phrases of that length, by where they begin."""
    check_room(longest, vocabulary_size)
    keys, found = np.asarray(ids, dtype=np.int64), []
    for length in range(1, longest + 1):
        if length > 1:
            keys = keys[:-1] * vocabulary_size + ids[length - 1 :]
        if len(keys) == 0:
            break
        found.append(keys * longest + (length - 1))
    return found


def check_room(longest: int, vocabulary_size: int) -> None:
    """Refuses phrases whose keys do not fit 63 bits.

    Raises:
        ConfigError: with the remedy.
    """
    if longest * np.log2(vocabulary_size) + np.log2(max(longest, 1)) >= _BITS:
        raise ConfigError(
            f"phrases.longest must fit 63 bits with {vocabulary_size} tokens, got {longest}; shorten the phrases"
        )


def common_phrases(
    texts: Sequence[Ints], groups: Sequence[str], config: PhrasesConfig, vocabulary_size: int
) -> tuple[Ints, Floats]:
    """Keys, ascending, of the phrases that enough groups hold, and their inverse frequency over the texts."""
    own: dict[str, list[Ints]] = {}
    for ids, group in zip(texts, groups, strict=True):
        own.setdefault(group, []).extend(phrase_keys(ids, config.longest, vocabulary_size))
    per_group = [np.unique(np.concatenate(keys)) for keys in own.values()]
    keys, holders = np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *per_group]), return_counts=True)
    kept = np.flatnonzero(holders >= config.min_groups)
    kept = np.sort(kept[np.argsort(-holders[kept], kind="stable")[: config.most]])
    return keys[kept], np.log((1 + len(per_group)) / (1 + holders[kept])) + 1.0


class PhraseMember(StreamingNetwork):
    """Logits from the phrases of the text so far: log counts by inverse frequency, of unit length, times weights.

    Args:
        keys: (phrases,) ascending, of `common_phrases`.
        rarity: (phrases,) their inverse frequency.
        longest: tokens of the longest phrase.
        vocabulary_size: number of token ids.
        outputs: number of logits.
    """

    def __init__(self, keys: Ints, rarity: Floats, *, longest: int, vocabulary_size: int, outputs: int) -> None:
        super().__init__()
        self.width, self.outputs, self.longest, self.vocabulary_size = 1, outputs, longest, vocabulary_size
        self.register_buffer("keys", torch.from_numpy(np.asarray(keys, dtype=np.int64)))
        self.register_buffer("rarity", torch.from_numpy(np.asarray(rarity, dtype=np.float32)))
        self.weight = nn.Parameter(torch.zeros(len(keys), outputs), requires_grad=False)
        self.head = nn.ParameterDict({"bias": nn.Parameter(torch.zeros(outputs), requires_grad=False)})

    @property
    def streams(self) -> bool:
        """A text can be read chunk by chunk."""
        return True

    @property
    def phrases(self) -> int:
        """Number of phrases."""
        return len(self.weight)

    def initial_state(
        self, batch: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> State:
        """The state of `batch` texts that begin: no phrase counted, no token before."""
        where = torch.device(device) if device is not None else self.weight.device
        kind = dtype or self.weight.dtype
        widths = {"count": self.phrases, "before": self.longest - 1, "sum": self.outputs, "square": 1}
        return State(tuple(widths), tuple(torch.zeros(1, batch, w, device=where, dtype=kind) for w in widths.values()))

    def forward(self, chunk: Chunk, state: State) -> tuple[Tensor, State]:
        """Logits (batch, time, outputs) of the text up to each token, and the state after the last one."""
        before = state.reset(chunk.reset, self.initial_state(state.batch, dtype=state.tensors[0].dtype))
        count, earlier, total, square = (t[0] for t in before.tensors)
        ids = torch.cat([earlier.long(), chunk.features[..., 0] * chunk.valid], dim=1)
        phrase = self._phrases(ids)
        gain, gained, count = self._gains(phrase, count)
        values = gain[..., None] * self.weight[phrase.clamp_max(max(self.phrases - 1, 0))] if self.phrases else None
        added = ids.new_zeros(*phrase.shape[:2], self.outputs, dtype=count.dtype) if values is None else values.sum(2)
        sums = total[:, None] + added.cumsum(1)
        squares = square[:, None] + gained.sum(2, keepdim=True).cumsum(1)
        logits = sums / squares.clamp_min(1e-12).sqrt() + self.head.get_parameter("bias")
        last = chunk.valid.sum(1)
        kept = (last[:, None] + torch.arange(self.longest - 1, device=ids.device)[None]).long()
        after = (count, ids.gather(1, kept).to(count.dtype), sums[:, -1], squares[:, -1])
        return logits, State(before.names, tuple(t[None] for t in after))

    def shares(self, chunk: Chunk, output: int) -> Floats:
        """(tokens,) what each token of one whole text adds to an output's logit; a phrase's share is its tokens'."""
        with torch.no_grad():
            ids = nn.functional.pad(chunk.features[:1, :, 0], (self.longest - 1, 0))
            phrase = self._phrases(ids)
            gain, gained, _ = self._gains(phrase, torch.zeros(1, self.phrases, device=ids.device))
            column = torch.cat([self.weight[:, output], self.weight.new_zeros(1)])
            added = (gain * column[phrase] / gained.sum().clamp_min(1e-12).sqrt())[0].double().cpu().numpy()
        shares = np.zeros(added.shape[0] + self.longest - 1)
        for length in range(1, self.longest + 1):
            for back in range(length):
                first = self.longest - 1 - back
                shares[first : first + len(added)] += added[:, length - 1] / length
        return shares[self.longest - 1 :]

    def _phrases(self, ids: Tensor) -> Tensor:
        """(batch, time, longest) number of every phrase that ends at a token; `phrases` where it is none."""
        time, found = ids.shape[1] - self.longest + 1, []
        keys_of: Tensor = self.get_buffer("keys")
        for length in range(1, self.longest + 1):
            first = self.longest - length
            keys, whole = ids[:, first : first + time], ids[:, first : first + time] > 0
            for step in range(1, length):
                part = ids[:, first + step : first + step + time]
                keys, whole = keys * self.vocabulary_size + part, whole & (part > 0)
            keys = keys * self.longest + (length - 1)
            place = torch.searchsorted(keys_of, keys.contiguous()).clamp_max(max(self.phrases - 1, 0))
            known = whole & (keys_of[place] == keys) if self.phrases else torch.zeros_like(whole)
            found.append(torch.where(known, place, self.phrases))
        return torch.stack(found, dim=2)

    def _gains(self, phrase: Tensor, count: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What every phrase adds to its feature and to the sum of squares, and the counts after all of them."""
        batch, flat = phrase.shape[0], phrase.flatten(1)
        padded = torch.cat([count, count.new_zeros(batch, 1)], dim=1)
        # How often the same phrase stood earlier in this chunk: its place among its like, in the order of the text.
        order = torch.sort(flat, dim=1, stable=True)
        place = torch.arange(flat.shape[1], device=flat.device).expand_as(flat)
        begins = torch.ones_like(order.values, dtype=torch.bool)
        begins[:, 1:] = order.values[:, 1:] != order.values[:, :-1]
        rank = place - torch.where(begins, place, 0).cummax(1).values
        number = torch.empty_like(flat).scatter_(1, order.indices, rank).to(count.dtype) + padded.gather(1, flat) + 1
        known = flat < self.phrases
        rarity = torch.cat([self.get_buffer("rarity").to(count.dtype), count.new_zeros(1)])[flat]
        now = rarity * (1 + number.log())
        past = torch.where(number > 1, rarity * (1 + (number - 1).clamp_min(1).log()), 0.0)
        padded = padded.scatter_add(1, flat, torch.ones_like(number))
        gain, gained = torch.where(known, now - past, 0.0), torch.where(known, now.square() - past.square(), 0.0)
        return gain.view(phrase.shape), gained.view(phrase.shape), padded[:, :-1]

    def take(self, weight: NDArray[np.float64], bias: NDArray[np.float64]) -> None:
        """Puts fitted weights (phrases, outputs) and biases (outputs,) in place."""
        with torch.no_grad():
            self.weight.copy_(torch.from_numpy(np.ascontiguousarray(weight)))
            self.head.get_parameter("bias").copy_(torch.from_numpy(np.ascontiguousarray(bias)))
