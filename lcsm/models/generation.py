"""Sampling from a language model, one token at a time, through its recurrent step."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from lcsm.errors import UsageError
from lcsm.models.language_model import LanguageModel
from lcsm.shapes import Float, Int, Tensor


def generate(
    model: LanguageModel,
    prompt_ids: list[int],
    num_tokens: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    generator: torch.Generator,
) -> Iterator[int]:
    """Yield `num_tokens` tokens that follow the prompt.

    The prompt runs through the parallel form once and leaves its state; every further token costs one step, which for
    EOS mixers takes the same time and memory at every position.

    Args:
        model: a language model in eval mode.
        prompt_ids: at least one token.
        num_tokens: how many tokens to sample.
        temperature: divides the logits; 0 takes the most likely token.
        top_k: keeps the k most likely tokens; None keeps all.
        top_p: keeps the smallest set with this probability, in (0, 1]; None keeps all.
        generator: source of randomness, on the CPU.
    Raises:
        UsageError: settings that cannot be sampled with, or a model that gives infinite numbers.
    """
    check_sampling(prompt_ids, num_tokens, temperature, top_k, top_p)
    device = model.embedding.weight.device
    with torch.inference_mode():
        prompt = torch.tensor([prompt_ids], device=device)
        hidden, state = model.hidden(prompt, model.initial_state())
        assert state is not None, "a stream was begun"
        # of a long prompt the last logits alone
        logits = model.read_out(hidden[:, -1])
        for remaining in range(num_tokens, 0, -1):
            if not bool(logits.isfinite().all()):
                read = len(prompt_ids) + num_tokens - remaining
                raise UsageError(f"after {read} tokens the model gives numbers that are not finite: it overflows here")
            token = sample(logits.float().cpu(), temperature, top_k, top_p, generator)
            yield int(token)
            if remaining > 1:
                logits, state = model.step(token.to(device), state)


def check_sampling(
    prompt_ids: list[int], num_tokens: int, temperature: float, top_k: int | None, top_p: float | None
) -> None:
    """Refuse settings that cannot be sampled with."""
    if not prompt_ids:
        raise UsageError("prompt is empty: give at least one character, e.g. prompt='The '")
    if num_tokens < 1:
        raise UsageError(f"num_tokens={num_tokens} must be at least 1")
    if not 0 <= temperature < float("inf"):
        raise UsageError(f"temperature={temperature} must be finite and >= 0; 0 takes the most likely token")
    if top_k is not None and top_k < 1:
        raise UsageError(f"top_k={top_k} must be at least 1; leave it out to keep all tokens")
    if top_p is not None and not 0 < top_p <= 1:
        raise UsageError(f"top_p={top_p} must lie in (0, 1]; leave it out to keep all tokens")


def sample(
    logits: Float[Tensor, "B V"], temperature: float, top_k: int | None, top_p: float | None, generator: torch.Generator
) -> Int[Tensor, " B"]:
    """One token per row from logits [B V]."""
    if temperature == 0:
        return logits.argmax(-1)
    # relative to the largest and in float64, so that any temperature above zero leaves one that is finite
    logits = (logits - logits.amax(-1, keepdim=True)).double() / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        logits = logits.masked_fill(logits < logits.topk(top_k).values[:, -1:], -torch.inf)
    if top_p is not None and top_p < 1:
        ordered, order = logits.sort(descending=True)
        probability = ordered.softmax(-1)
        # the token that crosses the threshold stays, so that one is always left
        beyond = probability.cumsum(-1) - probability >= top_p
        logits = logits.masked_fill(beyond.scatter(1, order, beyond), -torch.inf)
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]
