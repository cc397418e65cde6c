"""Why a workflow was refused or failed, in words of the person who made it.

ComfyUI answers with the numbers of nodes, names of inputs and lists of everything that is allowed. Here a node is
called by its title, and lists are cut short.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from tintype.comfy.errors import (
    ComfyError,
    ModelMissingError,
    NodeFailedError,
    NodeMissingError,
    OutOfMemoryError,
    Problem,
    PromptInterruptedError,
    WorkflowRefusedError,
)

Graph = Mapping[str, Mapping[str, Any]]
"""A workflow in ComfyUI's API format: what each node is (`class_type`) and gets (`inputs`), by its id."""

MODEL_FILES = (".safetensors", ".sft", ".ckpt", ".pt", ".pt2", ".pth", ".bin", ".gguf", ".onnx", ".pkl")
SHORTAGES = ("out of memory", "outofmemory", "can't allocate memory", "cublas_status_alloc_failed", "got an oom")
"""How a shortage of memory reads on CUDA, ROCm, MPS, on CPU and in nodes that catch it."""

NODE_ID = re.compile(r"#([^']+)'?$")
SHOWN_VALUES, SHOWN_CHARS = 5, 120


def name_node(graph: Graph, node: str) -> str:
    """What a person calls a node: its title and what it is; its id where it has no title."""
    found = graph.get(node, {})
    kind = str(found.get("class_type", "node"))
    title = str((found.get("_meta") or {}).get("title") or "")
    if not title:
        return f"{kind} (node {node})"
    return f"'{_short(title)}'" if title == kind else f"'{_short(title)}' ({kind})"


def refusal(answer: Mapping[str, Any], graph: Graph) -> WorkflowRefusedError:
    """The error that an answer to POST /prompt means: `error` says why, `node_errors` what is wrong with which node."""
    problems = tuple(_problems(answer.get("node_errors") or {}, graph))
    if problems:
        kind = ModelMissingError if all(each.kind == "model_missing" for each in problems) else WorkflowRefusedError
        sentences = list(dict.fromkeys(each.sentence for each in problems))
        more = f" (and {len(sentences) - 3} more)" if len(sentences) > 3 else ""
        return kind(" ".join(sentences[:3]) + more, problems)
    error = answer.get("error") or {}
    if not isinstance(error, Mapping):
        return WorkflowRefusedError(f"ComfyUI refused the workflow: {_short(error)}")
    return _refusal_of_all(error, graph)


def _refusal_of_all(error: Mapping[str, Any], graph: Graph) -> WorkflowRefusedError:
    said, details = str(error.get("message") or ""), str(error.get("details") or "")
    named = NODE_ID.search(details)
    node = named.group(1) if named else ""
    if error.get("type") == "prompt_no_outputs":
        return WorkflowRefusedError("The workflow stores nothing; add a node that does, such as Save Image.")
    if error.get("type") == "missing_node_type" or (node and "does not exist" in said):
        kind = str(graph.get(node, {}).get("class_type", "")) or "a node"
        sentence = f"This ComfyUI has no node {kind!r}; install its extension, or choose another workflow."
        problem = Problem(node=node, input="", kind="node_missing", sentence=sentence)
        return NodeMissingError(sentence, (problem,))
    if node and "class_type" in said:
        return WorkflowRefusedError(
            f"Node {node} of the workflow does not say what it is; export the workflow again, in API format."
        )
    rest = f" ({_short(details)})" if details and details != said else ""
    return WorkflowRefusedError(f"ComfyUI refused the workflow: {_short(said) or 'it gave no reason'}{rest}.")


def _problems(node_errors: Mapping[str, Any], graph: Graph) -> list[Problem]:
    return [
        _problem(str(node), error, graph) for node, about in node_errors.items() for error in about.get("errors") or ()
    ]


def _problem(node: str, error: Mapping[str, Any], graph: Graph) -> Problem:
    extra = error.get("extra_info") or {}
    details = str(error.get("details") or "")
    entry = str(extra.get("input_name") or re.split(",| - ", details, maxsplit=1)[0])
    kind = str(error.get("type") or "unknown")
    sent = extra.get("received_value")
    configuration = extra.get("input_config")
    name = name_node(graph, node)
    if kind == "value_not_in_list" and str(sent).lower().endswith(MODEL_FILES):
        kind = "model_missing"
        sentence = (
            f"{name}: this ComfyUI has no model file {_short(sent)!r} for {entry!r}; put it into its models folder, or "
            f"choose {_choices(configuration, details)}."
        )
    else:
        sentence = f"{name}: {_fault(kind, entry, sent, configuration, error)}"
    return Problem(node=node, input=entry, kind=kind, sentence=sentence)


def _fault(kind: str, entry: str, sent: object, configuration: Any, error: Mapping[str, Any]) -> str:  # noqa: PLR0911
    details = str(error.get("details") or "")
    limits = _limits(configuration)
    match kind:
        case "value_not_in_list":
            return f"{entry!r} cannot be {_short(sent)!r}; choose {_choices(configuration, details)}."
        case "required_input_missing":
            return f"{entry!r} is missing; connect it or give it a value."
        case "value_smaller_than_min":
            return f"{entry!r} is {_short(sent)}, and {limits.get('min', 'more')} is the least it takes."
        case "value_bigger_than_max":
            return f"{entry!r} is {_short(sent)}, and {limits.get('max', 'less')} is the most it takes."
        case "invalid_input_type":
            wanted = _type(configuration)
            return f"{entry!r} takes {wanted}, and {_short(sent)!r} was sent."
        case "return_type_mismatch":
            given = (error.get("extra_info") or {}).get("received_type", "something else")
            return f"{entry!r} takes {_type(configuration)}, and what is connected to it gives {_short(given)}."
        case "bad_linked_input":
            return f"{entry!r} is connected to nothing that makes sense; export the workflow again, in API format."
        case "custom_validation_failed":
            reason = details.partition(" - ")[2] or details
            return f"{entry!r} was refused: {_short(reason)}."
        case _:
            said = str(error.get("message") or kind)
            return f"{_short(said)}{': ' + _short(details) if details else ''}."


def _limits(configuration: Any) -> Mapping[str, Any]:
    if isinstance(configuration, Sequence) and len(configuration) > 1 and isinstance(configuration[1], Mapping):
        return configuration[1]
    return {}


def _type(configuration: Any) -> str:
    known = {"INT": "a whole number", "FLOAT": "a number", "STRING": "text", "BOOLEAN": "yes or no"}
    kind = configuration[0] if isinstance(configuration, Sequence) and configuration else "something else"
    return known.get(kind, kind) if isinstance(kind, str) else "one of a list"


def _choices(configuration: Any, details: str) -> str:
    """What may be chosen instead. A list of more than twenty is not sent along, only how long it is."""
    kind = configuration[0] if isinstance(configuration, Sequence) and configuration else None
    options = kind if isinstance(kind, list) else _limits(configuration).get("options")
    if not isinstance(options, list):
        length = re.search(r"list of length (\d+)", details)
        return f"one of the {length.group(1)} it lists" if length else "one that it lists"
    if not options:
        return "another; there is none yet"
    shown = ", ".join(f"{_short(option)!r}" for option in options[:SHOWN_VALUES])
    more = len(options) - SHOWN_VALUES
    return f"one of {shown} and {more} more" if more > 0 else f"one of {shown}" if len(options) > 1 else shown


def failure(entry: Mapping[str, Any], graph: Graph) -> ComfyError:
    """The error that an entry of the history means whose `status` is not success."""
    messages = (entry.get("status") or {}).get("messages") or ()
    said: dict[str, Mapping[str, Any]] = {str(kind): data for kind, data in messages}
    if "execution_interrupted" in said:
        node = str(said["execution_interrupted"].get("node_id", ""))
        return PromptInterruptedError(f"Somebody ended the prompt in ComfyUI, at {name_node(graph, node)}.")
    error = said.get("execution_error")
    if error is None:
        return NodeFailedError("ComfyUI says that the prompt failed, and not why; its log may tell more.")
    name = name_node(graph, str(error.get("node_id", "")))
    kind, text = str(error.get("exception_type", "")), str(error.get("exception_message", "")).strip()
    if any(term in f"{kind} {text}".lower() for term in SHORTAGES) or kind == "MemoryError":
        return OutOfMemoryError(
            f"{name}: the device of ComfyUI ran out of memory; ask for a smaller picture or fewer at once, or end "
            "other programs that use it."
        )
    reason = _short(text.splitlines()[0]) if text else "it gave no reason"
    return NodeFailedError(f"{name} failed: {reason} ({kind or 'no kind'}).")


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= SHOWN_CHARS else text[: SHOWN_CHARS - 1] + "…"
