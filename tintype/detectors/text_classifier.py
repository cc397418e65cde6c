"""Adapter for a guard language model of Qwen3Guard's kind: a causal model that answers with a judgement."""

import re
import threading
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from jinja2 import TemplateError
from numpy.typing import NDArray

from tintype.detectors import answers, descriptions, folders, pretrained
from tintype.detectors.descriptions import TextClassifierDescription
from tintype.detectors.folders import Folder, ListedModel
from tintype.detectors.scoring import DetectorFailedError, labels_of
from tintype.inference import hub_folders
from tintype.safety.contract import Label

SPEAKERS = re.compile(r"\b(USER|ASSISTANT|SYSTEM)\s*:", re.IGNORECASE)
"""How the guard's conversations name who speaks; a text that does so could end its own turn."""

Answering = Callable[[str], str]
"""From a piece of text to the model's whole answer; raises DetectorFailedError if it does not come to an end."""
Cutting = Callable[[str], list[str]]
"""From a text to the pieces it is judged in; together they are all of it."""


class TextClassifier:
    """Scores a text by the guard's judgement of each of its pieces; the gravest counts.

    Greedy decoding without sampling: the same text gets the same score. One text at a time.
    """

    def __init__(self, *, name: str, described: TextClassifierDescription, cut: Cutting, answer: Answering) -> None:
        self.name = name
        self._described = described
        self._cut = cut
        self._answer = answer
        self._lock = threading.Lock()

    @property
    def text_labels(self) -> frozenset[Label]:
        """What its categories speak of."""
        return labels_of(self._described.labels)

    @property
    def image_labels(self) -> frozenset[Label]:
        """None: it reads texts only."""
        return frozenset()

    def score_image(self, pixels: NDArray[np.uint8]) -> Mapping[Label, float]:
        """Nothing: it reads texts only."""
        return {}

    def score_text(self, text: str) -> Mapping[Label, float]:
        """The score per label; all 0 for a blank text.

        Raises:
            DetectorFailedError: the text is longer than it may be, or an answer is not a judgement.
        """
        scores = dict.fromkeys(self.text_labels, 0.0)
        with self._lock:
            pieces = self._cut(defused(text))
            if len(pieces) > self._described.most_pieces:
                raise DetectorFailedError(
                    f"the text has {len(pieces)} pieces, the detector {self.name} reads {self._described.most_pieces}; "
                    "shorten it"
                )
            for piece in pieces:
                found = answers.read(self._answer(piece), frozenset(self._described.labels))
                severity = self._described.severity
                score = severity.unsafe if found.severity == "Unsafe" else severity.controversial
                for category in found.categories:
                    label = self._described.labels[category]
                    if label is not None:
                        scores[label] = max(scores[label], score)
        return scores


def defused(text: str) -> str:
    """The text on one line and without what could pass for the guard's own marks: it is judged, it gives no orders."""
    without_marks = unicodedata.normalize("NFC", text).translate({ord("<"): "(", ord(">"): ")", ord("|"): "/"})
    return SPEAKERS.sub(r"\1 -", " ".join(without_marks.split()))


class GuardModel:
    """The model and its tokenizer: cuts texts into pieces and answers for one."""

    def __init__(self, *, name: str, model: Any, tokenizer: Any, described: TextClassifierDescription) -> None:
        self._name = name
        self._model = model
        self._tokenizer = tokenizer
        self._described = described
        ends = model.generation_config.eos_token_id
        self._ends = frozenset(ends if isinstance(ends, list) else [tokenizer.eos_token_id if ends is None else ends])
        self._settings = transformers.GenerationConfig(
            do_sample=False,
            num_beams=1,
            max_new_tokens=described.answer_tokens,
            eos_token_id=sorted(self._ends),
            pad_token_id=min(self._ends),
        )

    def cut(self, text: str) -> list[str]:
        """Pieces of `piece_tokens` tokens, each repeating the last `overlap_tokens` of the one before."""
        if not text:
            return []
        said = self._described
        spans = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        stride = said.piece_tokens - said.overlap_tokens
        starts = range(0, max(1, len(spans) - said.overlap_tokens), stride)
        bounds = [(spans[start][0], spans[min(start + said.piece_tokens, len(spans)) - 1][1]) for start in starts]
        if not bounds or bounds[0][0] > 0 or bounds[-1][1] < len(text):
            raise DetectorFailedError(f"the detector {self._name} cannot read all of the text")
        return [text[begin:end] for begin, end in bounds]

    def prompt(self, piece: str) -> str:
        """The guard's instructions, around the piece.

        Raises:
            DetectorFailedError: the template leaves out text.
        """
        prompt = self._tokenizer.apply_chat_template(
            [{"role": "user", "content": piece}], tokenize=False, add_generation_prompt=True
        )
        if piece.strip() not in prompt:
            raise DetectorFailedError(f"the template of {self._name} leaves out part of the text")
        return str(prompt)

    def answer(self, piece: str) -> str:
        """The model's answer to one piece.

        Raises:
            DetectorFailedError: the template leaves out text, the prompt is longer than the model reads, or the
                answer does not come to an end.
        """
        tokens = self._tokenizer(self.prompt(piece), add_special_tokens=False, return_tensors="pt").to(
            self._model.device
        )
        given = tokens["input_ids"].shape[1]
        if given + self._described.answer_tokens > self._model.config.max_position_embeddings:
            raise DetectorFailedError(f"a piece has {given} tokens with its template, more than {self._name} reads")
        try:
            with torch.inference_mode():
                out = self._model.generate(
                    input_ids=tokens["input_ids"],
                    attention_mask=tokens["attention_mask"],
                    generation_config=self._settings,
                )[0, given:].tolist()
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise DetectorFailedError(f"the detector {self._name} could not judge ({reason})") from error
        if not out or out[-1] not in self._ends:
            raise DetectorFailedError(f"the answer of {self._name} does not end within its {len(out)} tokens")
        return str(self._tokenizer.decode(out[:-1], skip_special_tokens=False))


def create(folder: Path, manifest: ListedModel, device: str) -> TextClassifier:
    """The guard in `folder`, on `device`; bfloat16 on a GPU, float32 elsewhere.

    Raises:
        DetectorBrokenError: its files are not those of the manifest, or not those of a complete guard.
    """
    found = folders.verify(folder, manifest)
    described = descriptions.read(found, TextClassifierDescription)
    tokenizer = _tokenizer(found)
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    model = pretrained.network(found, transformers.AutoModelForCausalLM, dtype).to(device)
    guard = GuardModel(name=manifest.id, model=model, tokenizer=tokenizer, described=described)
    try:
        guard.prompt("a flower")
    except (TemplateError, DetectorFailedError) as error:
        raise found.broken(f"its chat template cannot be used ({error})") from error
    return TextClassifier(name=manifest.id, described=described, cut=guard.cut, answer=guard.answer)


def _tokenizer(folder: Folder) -> Any:
    """The guard's tokenizer, which also holds its instructions: the chat template."""
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            folder.path, local_files_only=True, trust_remote_code=False
        )
    except hub_folders.FAILURES as error:
        raise folder.broken(pretrained.first_line(error)) from error
    if not tokenizer.is_fast:
        raise folder.broken("its tokenizer does not tell where in a text its tokens lie (no tokenizer.json)")
    if not tokenizer.chat_template:
        raise folder.broken("its tokenizer has no chat template, which holds the guard's instructions")
    if tokenizer.eos_token_id is None:
        raise folder.broken("nothing says which token ends its answers")
    return tokenizer
