"""Continue a text with a checkpoint: the prompt once in parallel, then one constant-size step per token."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence

from lcsm.commands.arguments import Option, read, refuse_rest, usage_text
from lcsm.errors import UsageError, shortened

TOLERANCE = 1e-4
OPTIONS = {
    "ckpt": Option(str, "checkpoint of a language model, or the directory of its run", required=True),
    "prompt": Option(str, "text to continue; - reads it from standard input", required=True),
    "num_tokens": Option(int, "how many tokens to add", 256),
    "temperature": Option(float, "divides the logits; 0 always takes the most likely token", 0.8),
    "top_k": Option(int, "keep only the k most likely tokens"),
    "top_p": Option(float, "keep only the smallest set of tokens with this probability"),
    "seed": Option(int, "of the draws; the same seed gives the same text", 1),
    "stream": Option(
        str,
        "how long convolutions go from token to token; exact: ring, tiles, boxes (shrink=sgconv), auto (the faster of "
        "ring and tiles); converted first, see lcsm convert: etsc, modal, hybrid",
        "auto",
        choices=("auto", "ring", "tiles", "boxes", "etsc", "modal", "hybrid"),
    ),
    "tolerance": Option(
        float, f"largest relative error of a kernel with stream=modal or hybrid, {TOLERANCE} if left out"
    ),
    "threads": Option(int, "CPU threads of torch"),
    "allow_targets": Option(list, "your own classes that the checkpoint may name, e.g. [my_module.MyOscillation]"),
}
EXAMPLES = (
    "lcsm generate ckpt=runs/lcsm/2026-01-31_12-00-00-000000 prompt='def ' num_tokens=500",
    "lcsm generate ckpt=best.ckpt prompt=- temperature=0 < prompt.txt",
)


def usage(arguments: Sequence[str]) -> str:
    """The text of `--help`."""
    return usage_text("generate", "Continue a text with a trained language model, streamed.", OPTIONS, EXAMPLES)


def run(arguments: Sequence[str]) -> int:
    """Print the prompt and what the model adds, as it comes."""
    options, rest = read("generate", arguments, OPTIONS)
    refuse_rest("generate", rest, OPTIONS)
    if not 0 <= options["seed"] < 2**63:
        raise UsageError(f"seed={options['seed']} must be >= 0 and below 2^63")
    tolerance = TOLERANCE if options["tolerance"] is None else options["tolerance"]
    if options["tolerance"] is not None and options["stream"] not in ("modal", "hybrid"):
        raise UsageError(
            f"tolerance={tolerance} has no effect with stream={options['stream']}: add stream=modal or hybrid"
        )
    if not 0 < tolerance < 1:
        raise UsageError(f"tolerance={tolerance} must lie between 0 and 1, e.g. {TOLERANCE}")
    prompt = read_prompt() if options["prompt"] == "-" else options["prompt"]

    import torch

    from lcsm.commands.checkpoint import load, load_model
    from lcsm.conversion.streams import attach
    from lcsm.data.tokenizer import tokenizer_from_state
    from lcsm.models.generation import check_sampling, generate

    checkpoint = load(options["ckpt"], options["threads"], options["allow_targets"])
    if checkpoint.tokenizer is None:
        kind = shortened(checkpoint.data.get("kind", "no tokenizer"))
        raise UsageError(
            f"ckpt={options['ckpt']} was not trained on text ({kind}): "
            "it has no words to continue\ntrain one with python train.py task=lm"
        )
    tokenizer = tokenizer_from_state(checkpoint.tokenizer)
    if tokenizer.vocab_size != checkpoint.vocab_size:
        raise UsageError(
            f"ckpt={options['ckpt']} is damaged: its tokenizer has {tokenizer.vocab_size} ids, its model "
            f"{checkpoint.vocab_size}"
        )
    model = load_model(checkpoint)
    table, prompt_ids = tokenizer.token_bytes(), tokenizer.encode(prompt)
    check_sampling(prompt_ids, *(options[name] for name in ("num_tokens", "temperature", "top_k", "top_p")))
    tokens = len(prompt_ids) + options["num_tokens"]
    # the last token is written and not read
    if checkpoint.holds is not None and tokens - 1 > checkpoint.holds:
        sys.stderr.write(
            f"lcsm: this conversion holds for {checkpoint.holds} tokens, and the text gets {tokens}: beyond them it is "
            f"not what the convolution writes;\nconvert the checkpoint that it was made from with lags={tokens}\n"
        )
    attach(model, options["stream"], tolerance, tokens)
    ids = generate(
        model,
        prompt_ids,
        options["num_tokens"],
        options["temperature"],
        options["top_k"],
        options["top_p"],
        torch.Generator().manual_seed(options["seed"]),
    )
    sys.stdout.write(prompt)
    write_stream((table[token] for token in ids), sys.stdout.write, sys.stdout.flush)
    sys.stdout.write("\n")
    return 0


def read_prompt() -> str:
    """The text on standard input.

    Raises:
        UsageError: it is not in the encoding of this terminal.
    """
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise UsageError(f"prompt=-: standard input is no text: {error}") from error


def write_stream(pieces: Iterable[bytes], write: Callable[[str], object], flush: Callable[[], object]) -> None:
    """Write text as its bytes arrive; a character that spans several pieces is written when it is complete."""
    for text in decoded(pieces):
        write(text)
        flush()


def decoded(pieces: Iterable[bytes]) -> Iterator[str]:
    """UTF-8 text of byte pieces, incrementally; what is no UTF-8 becomes U+FFFD."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for piece in pieces:
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)
