"""A text's tokens and an ensemble in, how much each token adds to a label's logit out.

For the linear member that is exact: what its phrases add, shared out evenly over their tokens. For a network it is the
gradient by the token's vector times the vector, a first-order share; the two are weighed as the members are. Weights
say what the score rests on, not what is true of the patient.

Source: Denil et al. 2014, Extraction of Salient Sentences from Labelled Documents (gradient times input).
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from models.batch import Chunk
from models.ensemble import Ensemble
from models.stay import Floats, Ints
from models.text.network import TextNetwork
from models.text.phrases import PhraseMember


def token_weights(ensemble: Ensemble, ids: Ints, output: int) -> Floats:
    """(tokens,) how much each token of one whole text adds to an output's logit.

    Args:
        ensemble: in evaluation mode.
        ids: (tokens,) of the text.
        output: which one.
    """
    device = next(ensemble.parameters()).device
    tokens = torch.from_numpy(np.asarray(ids, dtype=np.int64)).to(device)[None, :, None]
    ones = torch.ones(tokens.shape[:2], dtype=torch.bool, device=device)
    chunk = Chunk(tokens, ones, ones[:, 0])
    total = np.zeros(len(ids))
    for member, weight in zip(ensemble, ensemble.weights, strict=True):
        if isinstance(member, TextNetwork):
            total += weight * _by_gradient(member, chunk, output)
        elif isinstance(member, PhraseMember):
            total += weight * member.shares(chunk, output)
    return total


def _by_gradient(network: TextNetwork, chunk: Chunk, output: int) -> Floats:
    # Outside cuDNN, as its recurrent layers differentiate in training mode alone.
    with torch.backends.cudnn.flags(enabled=False), torch.enable_grad():
        vectors = network.embed(chunk.features[..., 0]).detach().requires_grad_()
        logits, _ = network.read(vectors, chunk, network.initial_state(1))
        gradient: Tensor
        (gradient,) = torch.autograd.grad(logits[0, -1, output], vectors)
    shares: Floats = (gradient * vectors).sum(2)[0].double().detach().cpu().numpy()
    return shares
