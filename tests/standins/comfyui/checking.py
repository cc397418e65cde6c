"""What the stand-in refuses, and with which words: those that a real server was recorded with."""

from collections.abc import Callable, Mapping
from typing import Any

Nodes = Mapping[str, Mapping[str, Any]]
"""As `/object_info` describes them."""

CONVERSIONS = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


class Checked:
    """A workflow that was looked at: `outputs` may run; `error` is there if nothing may."""

    def __init__(self, graph: dict[str, Any], nodes: Nodes, has_file: Callable[[str], bool], version: str) -> None:
        self.outputs: list[str] = []
        self.node_errors: dict[str, Any] = {}
        self.error = self._error_of_all(graph, nodes, version)
        if self.error:
            return
        self._graph, self._nodes, self._has_file = graph, nodes, has_file
        self._known: dict[str, list[dict[str, Any]]] = {}
        for node in graph:
            if nodes[graph[node]["class_type"]].get("output_node"):
                self._check_output(node)
        if not self.outputs:
            self.error = _error("prompt_outputs_failed_validation", "Prompt outputs failed validation")

    def _error_of_all(self, graph: dict[str, Any], nodes: Nodes, version: str) -> dict[str, Any] | None:
        for node, about in graph.items():
            if "class_type" not in about:
                said = "Cannot execute because a node is missing the class_type property."
                return _error("invalid_prompt", said, f"Node ID '#{node}'")
            kind = about["class_type"]
            if kind not in nodes:
                missing = "invalid_prompt" if version.startswith("0.3.") else "missing_node_type"
                said = f"Cannot execute because node {kind} does not exist."
                return _error(missing, said, f"Node ID '#{node}'")
        if not any(nodes[about["class_type"]].get("output_node") for about in graph.values()):
            return _error("prompt_no_outputs", "Prompt has no outputs")
        return None

    def _check_output(self, output: str) -> None:
        reached = self._reached(output)
        wrong = [node for node in reached if self._errors(node)]
        for node in wrong:
            entry = self.node_errors.setdefault(
                node,
                {
                    "errors": self._errors(node),
                    "dependent_outputs": [],
                    "class_type": self._graph[node]["class_type"],
                },
            )
            entry["dependent_outputs"].append(output)
        if not wrong:
            self.outputs.append(output)

    def _reached(self, node: str) -> list[str]:
        found = [node]
        for each in found:
            links = [value[0] for value in self._graph[each]["inputs"].values() if is_link(value)]
            found += [link for link in dict.fromkeys(links) if link not in found]
        return found

    def _errors(self, node: str) -> list[dict[str, Any]]:
        if node not in self._known:
            kind = self._graph[node]["class_type"]
            wanted = self._nodes[kind]["input"]
            entries = [(name, entry, True) for name, entry in wanted.get("required", {}).items()]
            entries += [(name, entry, False) for name, entry in wanted.get("optional", {}).items()]
            found = [self._error_of(node, name, entry, is_required) for name, entry, is_required in entries]
            self._known[node] = [error for error in found if error]
        return self._known[node]

    def _error_of(self, node: str, name: str, entry: list[Any], is_required: bool) -> dict[str, Any] | None:
        kind, limits = entry[0], entry[1] if len(entry) > 1 else {}
        inputs = self._graph[node]["inputs"]
        if name not in inputs:
            said = "Required input is missing"
            return _error("required_input_missing", said, name, input_name=name) if is_required else None
        value = inputs[name]
        if is_link(value):
            return self._error_of_link(name, entry, value)
        if limits.get("image_upload"):
            if self._has_file(value):
                return None
            said = "Custom validation failed for node"
            return _error("custom_validation_failed", said, f"{name} - Invalid image file: {value}", input_name=name)
        if isinstance(kind, str) and kind in CONVERSIONS:
            return _error_of_number(inputs, name, entry)
        options = kind if isinstance(kind, list) else limits.get("options")
        if options is not None and value not in options:
            is_long = len(options) > 20
            shown = f"(list of length {len(options)})" if is_long else str(options)
            return _error(
                "value_not_in_list",
                "Value not in list",
                f"{name}: '{value}' not in {shown}",
                input_name=name,
                input_config=None if is_long else entry,
                received_value=value,
            )
        return None

    def _error_of_link(self, name: str, entry: list[Any], link: list[Any]) -> dict[str, Any] | None:
        given = self._nodes[self._graph[link[0]]["class_type"]]["output"][link[1]]
        if "*" in (given, entry[0]) or given == entry[0] or isinstance(entry[0], list):
            return None
        return _error(
            "return_type_mismatch",
            "Return type mismatch between linked nodes",
            f"{name}, received_type({given}) mismatch input_type({entry[0]})",
            input_name=name,
            input_config=entry,
            received_type=given,
            linked_node=link,
        )


def _error_of_number(inputs: dict[str, Any], name: str, entry: list[Any]) -> dict[str, Any] | None:
    """Numbers in quotes are turned into numbers, as the real server does."""
    kind, limits, value = entry[0], entry[1] if len(entry) > 1 else {}, inputs[name]
    about = {"input_name": name, "input_config": entry, "received_value": value}
    try:
        value = inputs[name] = CONVERSIONS[kind](value)
    except (TypeError, ValueError) as error:
        said = f"Failed to convert an input value to a {kind} value"
        details = f"{name}, {value}, {error}"
        return _error("invalid_input_type", said, details, **about, exception_message=str(error))
    if "min" in limits and value < limits["min"]:
        return _error("value_smaller_than_min", f"Value {value} smaller than min of {limits['min']}", name, **about)
    if "max" in limits and value > limits["max"]:
        return _error("value_bigger_than_max", f"Value {value} bigger than max of {limits['max']}", name, **about)
    return None


def is_link(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def _error(kind: str, message: str, details: str = "", **extra: Any) -> dict[str, Any]:
    return {"type": kind, "message": message, "details": details, "extra_info": extra}
