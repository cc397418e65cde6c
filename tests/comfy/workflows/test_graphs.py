"""A graph is read as ComfyUI exports it, and everything else is answered with what to do."""

import json

import pytest

from tests.comfy.workflows.given import graph_json
from tintype.comfy.workflows import graphs

EDITORS_OWN = {"last_node_id": 9, "nodes": [{"id": 3, "type": "KSampler", "widgets_values": [1]}], "links": []}


def test_a_graph_comes_back_as_it_was():
    before = graph_json("img2img")
    after = graphs.read(json.dumps(before)).as_prompt()
    assert {id_: (node["class_type"], node["inputs"]) for id_, node in after.items()} == {
        id_: (node["class_type"], node["inputs"]) for id_, node in before.items()
    }


def test_a_graph_may_be_wrapped_as_it_is_posted():
    assert set(graphs.parse({"prompt": graph_json("txt2img"), "client_id": "x"}).nodes) == set(graph_json("txt2img"))


def test_the_editors_own_format_is_answered_with_how_to_export():
    with pytest.raises(graphs.GraphError, match=r"Workflow, then Export \(API\)"):
        graphs.read(json.dumps(EDITORS_OWN))


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("{", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "JSON object of nodes"),
        ("{}", "has 0 nodes"),
        ('{"1": {"inputs": {}}}', "'1' is no node"),
        ('{"1": {"class_type": "X", "inputs": []}}', "'1' is no node"),
        ('{"1": 3}', "'1' is no node"),
        (json.dumps({"1": {"class_type": "X", "inputs": {"a": json.loads("[" * 30 + "]" * 30)}}}), "levels deep"),
        (json.dumps({str(n): {"class_type": "X", "inputs": {}} for n in range(graphs.MAX_NODES + 1)}), "2001 nodes"),
        (" " * (graphs.MAX_BYTES + 1), "nothing that large"),
    ],
)
def test_what_is_no_graph_is_refused_with_a_reason(data, says):
    with pytest.raises(graphs.GraphError, match=says):
        graphs.read(data)


def test_a_node_is_found_by_title_or_by_id():
    graph = graphs.parse(graph_json("txt2img"))
    assert graph.find("positive").id == graph.find("6").id == "6"
    assert graph.find("KSampler").id == "3"


def test_an_unknown_node_is_answered_with_those_there_are():
    with pytest.raises(graphs.NodeUnknownError, match=r"no node has the title or id 'prompt'; there are .*'positive'"):
        graphs.parse(graph_json("txt2img")).find("prompt")


def test_a_title_that_two_nodes_share_is_reported_with_their_ids():
    nodes = graph_json("txt2img")
    nodes["7"]["_meta"] = {"title": "positive"}
    with pytest.raises(graphs.NodeAmbiguousError, match=r"ids 6, 7"):
        graphs.parse(nodes).find("positive")


def test_nodes_that_depend_on_each_other_in_a_circle_do_not_hang():
    circle = {"1": {"class_type": "A", "inputs": {"x": ["2", 0]}}, "2": {"class_type": "B", "inputs": {"x": ["1", 0]}}}
    assert [node.id for node in graphs.parse(circle).upstream("1")] == ["1", "2"]
