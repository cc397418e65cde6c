"""Sentences to numbers: a tokenizer of whole words and a small CLIP text encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import CLIPTextConfig, CLIPTextModel, PreTrainedTokenizerFast

from . import wording

LENGTH = 24
WIDTH = 128
PAD, BEGIN, UNKNOWN, END = "[PAD]", "[BOS]", "[UNK]", "[EOS]"
SPECIAL = (PAD, BEGIN, UNKNOWN, END)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Give a tokenizer that lower-cases, drops punctuation and maps words it does not know to one token."""
    words = [*SPECIAL, *wording.vocabulary()]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Lowercase(), normalizers.Replace(Regex(r"[^\p{L}\p{N}]+"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A {END}", special_tokens=[(BEGIN, SPECIAL.index(BEGIN)), (END, SPECIAL.index(END))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BEGIN,
        unk_token=UNKNOWN,
        eos_token=END,
        model_max_length=LENGTH,
        padding_side="right",
        truncation_side="right",
    )


def build_text_encoder(vocabulary_size: int) -> CLIPTextModel:
    """Give an untrained text encoder of two layers; its pooled output is the state at the end token."""
    config = CLIPTextConfig(
        vocab_size=vocabulary_size,
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        hidden_act="gelu",
        pad_token_id=SPECIAL.index(PAD),
        bos_token_id=SPECIAL.index(BEGIN),
        eos_token_id=SPECIAL.index(END),
    )
    return CLIPTextModel(config)


def encode(tokenizer: Any, sentences: list[str]) -> Any:
    """Give token ids, sentences x LENGTH, padded and cut; no attention mask goes with them."""
    return tokenizer(sentences, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt").input_ids


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Give the tokenizer of a model folder."""
    return PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer")
