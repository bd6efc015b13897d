"""Convert a file of llama.cpp to an ordinary model folder, once. The weights are exactly those of its quantization."""

from __future__ import annotations

import contextlib
import copy
import io
import json
from pathlib import Path
from typing import Any

from vertical_sdk.bases.chat_template import render_turns
from vertical_sdk.errors import BaseModelError, VerticalError
from vertical_sdk.paths import is_disk_full
from vertical_sdk.types import Progress, silent

__all__ = ["convert_gguf"]


def convert_gguf(file: Path, folder: Path, progress: Progress = silent) -> None:
    """Write `file` (GGUF) as safetensors in float32, with configuration, tokenizer and chat template, into a new folder.

    Raises BaseModelError if the converted tokenizer is not usable; OSError if the disk is full.
    """
    import torch
    import transformers
    from transformers.utils import logging as quiet

    logging: Any = quiet

    what = f"converting {file.name} to safetensors, once"
    progress(what, 0.0)
    bars, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        where: dict[str, Any] = {"gguf_file": file.name, "local_files_only": True}
        tokenizer: Any = transformers.AutoTokenizer.from_pretrained(file.parent, **where)
        progress(what, 0.3)
        if hasattr(transformers, "GgufConfig"):  # newer versions would keep the weights packed, which cannot be trained
            where["quantization_config"] = transformers.GgufConfig(dequantize=True)
        with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that cannot be switched off
            loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(file.parent, dtype=torch.float32, **where)
        progress(what, 0.8)
        plain = _remove_quantizer(loaded)
        tokenizer.model_max_length = plain.config.max_position_embeddings
        _check_tokenizer(tokenizer, plain.config.vocab_size, file)
        plain.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    except VerticalError:
        raise
    except Exception as error:
        if is_disk_full(error) or (isinstance(error, OSError) and error.errno is not None):
            raise  # the caller reports a full disk
        raise BaseModelError(
            f"cannot be converted with transformers {transformers.__version__}: {error}", where=file
        ) from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
    _drop_keys(folder / "tokenizer_config.json", {"local_files_only", "is_local", "gguf_file"})


def _remove_quantizer(loaded: Any) -> Any:
    """Build the same model as one that was never quantized and can be saved."""
    import torch

    config = copy.deepcopy(loaded.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        plain = type(loaded)(config)
    plain.load_state_dict(loaded.state_dict(), assign=True)
    plain.tie_weights()
    plain.generation_config = loaded.generation_config
    return plain


def _check_tokenizer(tokenizer: Any, vocab_size: int, file: Path) -> None:
    """Check that decoding gives the encoded text again, and that the end token ends each turn of a conversation."""
    text = "The don't-stop café: 42  words, naïve\n"
    turns = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Good day"}]
    try:
        tokens = tokenizer(render_turns(tokenizer, turns, question=False), add_special_tokens=False)["input_ids"]
        good = (
            tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
            and None not in {tokenizer.eos_token_id, tokenizer.pad_token_id}
            and tokens.count(tokenizer.eos_token_id) >= 2
            and max(tokens) < vocab_size
        )
    except Exception as error:  # a template is a program of somebody else's, which raises all kinds
        raise BaseModelError(
            f"its chat template or tokenizer cannot be used with this version of transformers: {error}", where=file
        ) from error
    if not good:
        raise BaseModelError("this version of transformers reads its tokenizer wrongly. Install another version.", where=file)


def _drop_keys(path: Path, keys: set[str]) -> None:
    """Drop keys that only say how the tokenizer was loaded."""
    table = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({k: v for k, v in table.items() if k not in keys}, indent=2) + "\n", encoding="utf-8")
